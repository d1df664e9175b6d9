"""Reads every table of a namespace at every snapshot, by PyIceberg and by DuckDB, and compares the two.

    read.py CATALOG.db NAMESPACE

Prints one JSON object: how many tables and snapshots were read, and for some tables how many data files they have and
how many a selective filter leaves.
"""

import glob
import json
import os
import sys
from datetime import timedelta

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.catalog import load_catalog
from pyiceberg.expressions import And, EqualTo, GreaterThanOrEqual, LessThan


def connect():
    """DuckDB with its Iceberg extension, from the installed packages alone."""
    database = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    database.execute("SET TimeZone = 'UTC'")
    for name in ["avro", "httpfs", "iceberg"]:
        package = __import__(f"duckdb_extension_{name}")
        found = glob.glob(os.path.join(os.path.dirname(package.__file__), "**", "*.duckdb_extension*"), recursive=True)
        database.execute(f"INSTALL '{found[0]}'")
        database.execute(f"LOAD {name}")
    return database


def compare(database, table, snapshot):
    """The rows that PyIceberg reads must be those that DuckDB reads, each as often."""
    ours = table.scan(snapshot_id=snapshot.snapshot_id).to_arrow()
    names = ", ".join(f'"{name}"' for name in ours.column_names)
    theirs = f"SELECT {names} FROM iceberg_scan('{table.metadata_location}', snapshot_from_id => {snapshot.snapshot_id})"
    database.execute(f"CREATE OR REPLACE TEMP TABLE theirs AS {theirs}")
    database.register("ours", ours)
    summary = snapshot.summary.additional_properties
    where = f"{'.'.join(table.name())} at commit {summary['tidewater.commit']}"
    assert int(summary["total-records"]) == ours.num_rows, f"{where}: total-records"
    here = database.execute(f"SELECT {names} FROM ours EXCEPT ALL SELECT {names} FROM theirs").fetchall()
    there = database.execute(f"SELECT {names} FROM theirs EXCEPT ALL SELECT {names} FROM ours").fetchall()
    if here or there:
        sys.exit(f"{where}: only PyIceberg has {here[:3]}, only DuckDB has {there[:3]}")
    return ours.num_rows


def planned(table, expression):
    return len(list(table.scan(row_filter=expression).plan_files()))


def check_filter(database, table, column, low, high, expression):
    """A filter gives the same rows with and without skipping files, and in both programs."""
    whole = table.scan().to_arrow()
    mask = pc.and_(pc.greater_equal(whole[column], pa.scalar(low)), pc.less(whole[column], pa.scalar(high)))
    want = whole.filter(mask).num_rows
    got = table.scan(row_filter=expression).to_arrow().num_rows
    query = f"SELECT count(*) FROM iceberg_scan('{table.metadata_location}') WHERE {column} >= ? AND {column} < ?"
    theirs = database.execute(query, [low, high]).fetchone()[0]
    assert want == got == theirs > 0, f"{table.name()} {low} to {high}: {want}, {got}, {theirs} rows"


def main():
    path, namespace = sys.argv[1:]
    catalog = load_catalog("tidewater", type="sql", uri=f"sqlite:///{path}")
    database = connect()
    answer = {"tables": 0, "snapshots": 0, "rows": 0, "files": {}, "planned": {}}
    for name in sorted(catalog.list_tables(namespace)):
        table = catalog.load_table(name)
        answer["tables"] += 1
        for snapshot in table.snapshots():
            answer["snapshots"] += 1
            answer["rows"] += compare(database, table, snapshot)
        column = {"events": "event_time", "regional": "window_start"}.get(name[1])
        if column is None:
            continue
        times = sorted(set(table.scan(selected_fields=(column,)).to_arrow()[column].to_pylist()))
        low = times[len(times) // 2].replace(minute=0, second=0, microsecond=0)
        high = low + timedelta(hours=1)
        expression = And(GreaterThanOrEqual(column, low.isoformat()), LessThan(column, high.isoformat()))
        check_filter(database, table, column, low, high, expression)
        if name[1] == "regional":
            region = table.scan(row_filter=expression).to_arrow()["region"].to_pylist()[0]
            assert region is None or planned(table, And(expression, EqualTo("region", region))) >= 1
        answer["files"][name[1]] = len(list(table.scan().plan_files()))
        answer["planned"][name[1]] = planned(table, expression)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
