#!/usr/bin/env python3
"""Whether a job's tables, as PyIceberg reads them, hold what follows from a dump of its topics.

    answers.py EXPECTED DUMPS JOB LAKE

DUMPS/ROUND/TOPIC/N.jsonl has the records of Kafka partition N that came in a round, a line each, and
N.offsets, for each line, the byte at which it begins and the record's offset. EXPECTED is scripts/expected,
whose reading of records and whose SQL are used. Prints what was compared; exits with 1 and the first rows
that differ.
"""

import importlib.machinery
import importlib.util
import json
import multiprocessing
import sys
import tomllib
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from pyiceberg.catalog.sql import SqlCatalog

LETTERS = pa.schema([("_topic", pa.string()), ("_partition", pa.int32()), ("_offset", pa.int64())])


def load_expected(path):
    sys.dont_write_bytecode = True
    loader = importlib.machinery.SourceFileLoader("expected", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("expected", loader))
    sys.modules["expected"] = module
    loader.exec_module(module)
    return module


def read_file(job, fields, file):
    """A partition of a round: the records that decode, with Kafka's offsets, and where the others are."""
    import expected

    table, letters, _ = expected.read_file(job, getattr(expected, fields), file)
    sides = pa.csv.ReadOptions(column_names=["start", "offset"])
    if not file.stat().st_size:
        return table, []
    places = pa.csv.read_csv(file.with_suffix(".offsets"), read_options=sides)
    offset_at = dict(zip(places["start"].to_pylist(), places["offset"].to_pylist()))
    offsets = pa.array([offset_at[start] for start in table["_offset"].to_pylist()], pa.int64())
    table = table.set_column(table.schema.get_field_index("_offset"), "_offset", offsets)
    return table, [(topic, partition, offset_at[start]) for topic, partition, start, _ in letters]


def read_round(job, fields, folder):
    """All partitions of a topic in a round, read once: the result is kept beside them."""
    good, bad = folder / "good.parquet", folder / "bad.parquet"
    if not bad.exists():
        files = sorted(folder.glob("*.jsonl"), key=lambda file: int(file.stem))
        with ProcessPoolExecutor(mp_context=multiprocessing.get_context("fork")) as pool:
            parts = list(pool.map(partial(read_file, job, fields), files))
        pa.parquet.write_table(pa.concat_tables([table for table, _ in parts]), good)
        letters = [letter for _, part in parts for letter in part]
        columns = list(zip(*letters)) or [[], [], []]
        arrays = [pa.array(column, field.type) for column, field in zip(columns, LETTERS)]
        pa.parquet.write_table(pa.table(arrays, LETTERS), bad)
    return str(good), str(bad)


def load(database, expected, dumps, job):
    """Fills copies, versions and letters with all rounds, and computes events and dimension from them."""
    topics = [job[part]["source"]["kafka"]["topic"] for part in ("events", "dimension")]
    rounds = sorted(dumps.iterdir(), key=lambda folder: int(folder.name))
    bad = []
    for table, topic, fields in (
        ("copies", topics[0], "event_fields"),
        ("versions", topics[1], "dimension_fields"),
    ):
        files = [read_round(job, fields, folder / topic) for folder in rounds]
        good = [good for good, _ in files]
        database.execute(f"CREATE TABLE {table} AS SELECT * FROM read_parquet({good})")
        bad.extend(bad for _, bad in files)
    database.execute(f"CREATE TABLE letters AS SELECT * FROM read_parquet({bad})")
    database.execute(expected.RANKED)
    return topics[0]


def load_tables(database, lake, namespace):
    """Makes the tables known as t_NAME."""
    catalog = SqlCatalog("tidewater", uri=f"sqlite:///{lake / 'catalog.db'}", warehouse=lake.as_uri())
    for _, name in catalog.list_tables(namespace):
        database.register(f"t_{name}", catalog.load_table((namespace, name)).scan().to_arrow())


def same(one, other):
    """The rows that only one of two queries has."""
    return (f"(SELECT 'missing', * FROM (({one}) EXCEPT ALL ({other})))"
            f" UNION ALL (SELECT 'too many', * FROM (({other}) EXCEPT ALL ({one})))")


def current_checks(expected, name, query, columns):
    """A current table is the answer, and the sum of its changes."""
    window = f"strftime(make_timestamp(epoch_us(window_start)), {expected.TIME_FORMAT}) AS window_start"
    columns = ", ".join(window if column == "window_start" else f'"{column}"' for column in columns)
    summed = f"SELECT {columns}, sum(_diff)::BIGINT AS n FROM t_{name}_changes GROUP BY ALL HAVING n <> 0"
    yield name, same(f"SELECT * FROM ({query})", f"SELECT {columns} FROM t_{name}")
    yield f"{name}_changes", same(f"SELECT {columns}, 1 FROM t_{name}", summed)


def checks(expected, job, topic):
    """Queries that give no row where all is well."""
    columns = ["event_id", "user_id", "event_time", *job["events"]["columns"], "_partition", "_offset"]
    columns = ", ".join(columns)
    yield "the ids of events", same("SELECT event_id FROM events", "SELECT event_id FROM t_events")
    yield "events are records", f"SELECT {columns} FROM t_events EXCEPT ALL SELECT {columns} FROM copies"
    yield "the first copy of its partition", """
        SELECT event_id, _partition, t._offset, c._offset
        FROM t_events t JOIN copies c USING (event_id, _partition) WHERE c._offset < t._offset"""
    places = "_topic, _partition, _offset"
    yield "dead letters", same(f"SELECT {places} FROM letters", f"SELECT {places} FROM t_dead_letters")
    key = job["dimension"]["key"].removeprefix("/")
    names = ", ".join(job["dimension"]["columns"])
    newest = f"""
        SELECT {key}, {names} FROM t_users_changes
        QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY _partition DESC, _offset DESC) = 1
        AND NOT coalesce(_deleted, false)"""
    yield "the dimension", same(f"SELECT _key, {names} FROM dimension", f"SELECT * FROM ({newest})")
    for part in job["aggregate"]:
        shown = ["window_start", *part["group_by"], *part["measures"]]
        yield from current_checks(expected, part["name"], expected.aggregate_sql(part), shown)
    for part in job["funnel"]:
        shown = [*part["group_by"], "step", "step_name", "users"]
        yield from current_checks(expected, part["name"], expected.funnel_sql(part), shown)
    of_topic = f"WHERE topic = '{topic}'"
    yield "the sums of cuts", same(
        f"""SELECT (SELECT count(*) FROM copies) + (SELECT count(*) FROM letters WHERE _topic = '{topic}'),
            (SELECT count(*) FROM letters WHERE _topic = '{topic}'), (SELECT count(*) FROM losers)""",
        f"SELECT sum(records), sum(dead_letters), sum(duplicates) FROM t_cuts {of_topic}")
    yield "cuts without gaps", """
        SELECT * FROM (
          SELECT *, lag(end_offset, 1, 0) OVER (PARTITION BY topic, partition ORDER BY _commit) AS before
          FROM t_cuts
        ) WHERE start_offset <> before"""


def main():
    script, dumps, job, lake = (Path(argument).resolve() for argument in sys.argv[1:])
    expected = load_expected(str(script))
    job = tomllib.loads(job.read_text())
    database = duckdb.connect()
    database.execute("SET TimeZone = 'UTC'")
    topic = load(database, expected, dumps, job)
    load_tables(database, lake, job["lake"]["namespace"])
    good = True
    for name, query in checks(expected, job, topic):
        differing = database.execute(f"SELECT * FROM ({query}) LIMIT 5").fetchall()
        if differing:
            good = False
            print(f"{name}: these rows differ", *differing, sep="\n  ")
    tables = ("copies", "events", "losers", "letters", "versions", "dimension")
    print(json.dumps({name: database.table(name).count("*").fetchone()[0] for name in tables}))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
