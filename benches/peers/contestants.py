"""The contestants: each runs once as a whole process in a folder of its own, and gives its figures and its answer.

An answer is the rows (region, step, window start in milliseconds, events, users, amount) with how often each occurs;
all values are text, and a missing region is empty. Processes are started and measured by scripts/bench.
"""

import collections
import csv
import datetime
import importlib.machinery
import importlib.util
import io
import pathlib
import string
import subprocess
import typing

import duckdb_sql
import flink
import install

HERE = pathlib.Path(__file__).resolve().parent
SCRIPT = HERE.parent.parent / "scripts" / "bench"
loader = importlib.machinery.SourceFileLoader("bench", str(SCRIPT))
bench = importlib.util.module_from_spec(importlib.util.spec_from_loader("bench", loader))
loader.exec_module(bench)


class Setup(typing.NamedTuple):
    """What all rounds share."""

    peers: install.Peers
    data: pathlib.Path     # the generated directory
    brokers: str | None    # the broker that holds the same records in topics
    parquet: pathlib.Path  # the folder with the Parquet of `data`
    growing: pathlib.Path  # a generated directory that grows in each round, and its Parquet


def tidewater_kafka(setup, folder):
    return tidewater(bench.write_kafka_job(setup.data, folder, setup.brokers, bench.topics_of(setup.data)))


def tidewater_aggregate(setup, folder):
    job = folder / "job.toml"
    template = string.Template((HERE / "regional.toml").read_text())
    job.write_text(template.substitute(brokers=setup.brokers, **bench.topics_of(setup.data)))
    return tidewater(job)


def tidewater_files(setup, folder):
    return tidewater(bench.write_job(setup.data, folder, {}))


def tidewater_more(setup, _):
    return tidewater(setup.growing / "job.toml")


def tidewater(job):
    figures = bench.measure(job, 2)
    shown = subprocess.run([bench.BINARY, "show", job, "regional", "--output", "csv"], check=True,
                           stdout=subprocess.PIPE, text=True).stdout
    return figures, collections.Counter(
        (row["region"], row["step"], millis(row["window_start"]), row["events"], row["users"], row["amount"])
        for row in csv.DictReader(io.StringIO(shown)))


def millis(text):
    """Milliseconds since 1970 of a time as `show` prints it."""
    moment = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    moment = moment if moment.tzinfo else moment.replace(tzinfo=datetime.timezone.utc)
    return str(int(moment.timestamp() * 1000))


def flink_rocksdb(setup, folder):
    return flink_kafka(setup, folder, flink.ROCKSDB)


def flink_heap(setup, folder):
    return flink_kafka(setup, folder, flink.HEAP)


def flink_kafka(setup, folder, state):
    topics = bench.topics_of(setup.data)
    figures, _ = bench.timed(flink.command(setup.peers.classpath, folder, state, setup.brokers, topics))
    figures["table"] = flink.written(folder)
    out = folder / "answer.csv"
    duckdb(setup, folder, duckdb_sql.OF_ICEBERG, metadata=flink.metadata(folder), out=out)
    return figures, rows(out)


def duckdb_lines(setup, folder):
    return duckdb_answer(setup, folder, duckdb_sql.FROM_JSON, setup.data)


def duckdb_parquet(setup, folder):
    return duckdb_answer(setup, folder, duckdb_sql.FROM_PARQUET, setup.parquet)


def duckdb_more(setup, folder):
    return duckdb_answer(setup, folder, duckdb_sql.FROM_PARQUET, setup.growing)


def duckdb_answer(setup, folder, views, data):
    out = folder / "answer.csv"
    return duckdb(setup, folder, views + duckdb_sql.ANSWER, data=data, out=out), rows(out)


def duckdb(setup, folder, sql, **names):
    """The figures of statements of duckdb_sql."""
    return bench.timed(duckdb_sql.command(setup.peers.python, folder, sql, **names))[0]


def expected(setup, data, folder):
    """The answer that DuckDB finds in the lines of a directory, whoever takes part."""
    return duckdb_answer(setup, folder, duckdb_sql.FROM_JSON, data)[1]


def to_parquet(setup, data, folder):
    """Writes the lines of a directory as Parquet to a folder; nobody's time."""
    duckdb(setup, folder, duckdb_sql.FROM_JSON + duckdb_sql.TO_PARQUET, data=data, out=folder)


def grow(setup, events, number):
    """Adds events and ten users who move; `number` decides which."""
    bench.generate(setup.growing, "--append", "--events", str(events), "--moves", "10", "--duplicates", "0",
                   "--conflicts", "0", "--malformed", "0", "--seed", str(1000 + number))


def rows(file):
    with file.open() as lines:
        return collections.Counter(tuple(row) for row in csv.reader(lines))
