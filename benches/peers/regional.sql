-- The hourly aggregate of the job that `tidewater generate --job` writes, as a Flink job. flink.py fills in the names
-- of the addresses, topics and folders.

CREATE TEMPORARY TABLE events (
    event_id STRING,
    user_id STRING,
    ts TIMESTAMP_LTZ(3),
    `type` STRING,
    amount_cents BIGINT,
    arrival AS PROCTIME()
) WITH (
    'connector' = 'kafka',
    'properties.bootstrap.servers' = '${brokers}',
    'properties.group.id' = 'peers',
    'properties.fetch.max.bytes' = '52428800',
    'properties.max.partition.fetch.bytes' = '4194304',
    'properties.max.poll.records' = '5000',
    'topic' = '${events}',
    'scan.startup.mode' = 'earliest-offset',
    'scan.bounded.mode' = 'latest-offset',
    'format' = 'json',
    'json.ignore-parse-errors' = 'true',
    'json.timestamp-format.standard' = 'ISO-8601'
);

-- A record without a value deletes its user.
CREATE TEMPORARY TABLE users (
    user_id STRING,
    region STRING,
    PRIMARY KEY (user_id) NOT ENFORCED
) WITH (
    'connector' = 'upsert-kafka',
    'properties.bootstrap.servers' = '${brokers}',
    'properties.group.id' = 'peers',
    'properties.fetch.max.bytes' = '52428800',
    'properties.max.partition.fetch.bytes' = '4194304',
    'properties.max.poll.records' = '5000',
    'topic' = '${users}',
    'scan.bounded.mode' = 'latest-offset',
    'key.format' = 'raw',
    'value.format' = 'json',
    'value.fields-include' = 'EXCEPT_KEY',
    'value.json.ignore-parse-errors' = 'true'
);

CREATE CATALOG lake WITH ('type' = 'iceberg', 'catalog-type' = 'hadoop', 'warehouse' = 'file://${warehouse}');

CREATE DATABASE lake.peers;

-- Columns of a primary key are never NULL: '' stands for the region of a user who is not known.
CREATE TABLE lake.peers.regional (
    region STRING,
    step STRING,
    window_start TIMESTAMP_LTZ(6),
    events BIGINT,
    users BIGINT,
    amount BIGINT,
    PRIMARY KEY (region, step, window_start) NOT ENFORCED
) WITH ('format-version' = '2', 'write.upsert.enabled' = 'true');

-- The first copy of an event counts.
CREATE TEMPORARY VIEW winners AS
SELECT user_id, ts, `type`, amount_cents
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY event_id ORDER BY arrival) AS copy FROM events)
WHERE copy = 1;

-- Distinct users are counted without a set of them: the rows of a user, step and hour become one row before the join.
CREATE TEMPORARY VIEW by_user AS
SELECT user_id, step, window_start, COUNT(*) AS events, SUM(amount) AS amount
FROM (
    SELECT
        user_id,
        `type` AS step,
        CAST(FLOOR(ts TO HOUR) AS TIMESTAMP_LTZ(6)) AS window_start,
        COALESCE(amount_cents, 0) AS amount
    FROM winners
)
GROUP BY user_id, step, window_start;

INSERT INTO lake.peers.regional
SELECT region, step, window_start, SUM(events), COUNT(*), SUM(amount)
FROM (
    SELECT COALESCE(u.region, '') AS region, b.step, b.window_start, b.events, b.amount
    FROM by_user AS b LEFT JOIN users AS u ON b.user_id = u.user_id
)
GROUP BY region, step, window_start;
