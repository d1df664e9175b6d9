"""The question in DuckDB's SQL, from newline JSON or from Parquet. The answer from JSON is what all others must have.

A statement runs in a process of its own, with two threads, in the environment that install.py made.
"""

EVENTS = "{event_id: 'VARCHAR', user_id: 'VARCHAR', ts: 'TIMESTAMPTZ', type: 'VARCHAR', amount_cents: 'BIGINT'}"
USERS = "{user_id: 'VARCHAR', region: 'VARCHAR', deleted: 'BOOLEAN', updated_at: 'TIMESTAMPTZ'}"
SETTINGS = "SET threads = 2; SET TimeZone = 'UTC'; SET temp_directory = '{folder}/spilled';"
FROM_JSON = """
    CREATE VIEW events AS FROM read_json('{data}/events/*.jsonl', format='newline_delimited', columns={events});
    CREATE VIEW users AS FROM read_json('{data}/users/*.jsonl', format='newline_delimited', columns={users});
"""
FROM_PARQUET = """
    CREATE VIEW events AS FROM read_parquet('{data}/events.parquet');
    CREATE VIEW users AS FROM read_parquet('{data}/users.parquet');
"""
# Copies are byte for byte the same, so any of them will do.
ANSWER = """
    COPY (
        WITH winners AS (
            SELECT any_value(user_id) AS user_id, any_value(ts) AS ts, any_value(type) AS step,
                   coalesce(any_value(amount_cents), 0) AS amount
            FROM events GROUP BY event_id
        ), newest AS (
            SELECT user_id,
                   arg_max({{'region': CASE WHEN deleted THEN NULL ELSE region END}}, updated_at).region AS region
            FROM users GROUP BY user_id
        )
        SELECT region, step, epoch_ms(date_trunc('hour', ts)) AS hour, count(*), count(DISTINCT user_id), sum(amount)
        FROM winners LEFT JOIN newest USING (user_id) GROUP BY ALL
    ) TO '{out}' (HEADER false);
"""
TO_PARQUET = """
    COPY events TO '{out}/events.parquet';
    COPY users TO '{out}/users.parquet';
"""
# Rows of an Iceberg table as ANSWER prints them: `region` is NULL where the table has ''.
OF_ICEBERG = """
    LOAD avro;
    LOAD iceberg;
    COPY (
        SELECT nullif(region, ''), step, epoch_ms(window_start), events, users, amount FROM iceberg_scan('{metadata}')
    ) TO '{out}' (HEADER false);
"""


def command(python, folder, sql, **names):
    """The command that runs statements with `names` filled in; DuckDB spills to `folder` if it must."""
    sql = (SETTINGS + sql).format(folder=folder, events=EVENTS, users=USERS, **names)
    return [python, "-c", f"import duckdb; duckdb.sql({sql!r})"]
