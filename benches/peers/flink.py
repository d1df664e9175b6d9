"""Flink SQL as a peer: one process with a cluster inside, from the topics into an Iceberg table.

Owns the settings of Flink and of its JVM; what each is for stands in README.md. The SQL is regional.sql.
"""

import json
import pathlib
import string
import typing

HERE = pathlib.Path(__file__).resolve().parent
SETTINGS = {
    "parallelism.default": "2",
    "taskmanager.numberOfTaskSlots": "2",
    "taskmanager.memory.network.min": "128m",
    "taskmanager.memory.network.max": "128m",
    "execution.checkpointing.interval": "10 s",
    "execution.checkpointing.mode": "EXACTLY_ONCE",
    "pipeline.object-reuse": "true",
    "table.exec.mini-batch.enabled": "true",
    "table.exec.mini-batch.allow-latency": "2 s",
    "table.exec.mini-batch.size": "50000",
    "table.optimizer.agg-phase-strategy": "TWO_PHASE",
    "table.local-time-zone": "UTC",
}
# Flink looks into classes of the JDK that Java 17 keeps closed.
OPENS = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in (
    "java.lang", "java.lang.invoke", "java.lang.reflect", "java.net", "java.nio", "java.text", "java.time", "java.util",
    "java.util.concurrent", "java.util.concurrent.atomic", "java.util.concurrent.locks", "sun.nio.ch")]


class State(typing.NamedTuple):
    """Where Flink keeps its state."""

    jvm: list[str]  # options of the JVM
    settings: dict[str, str]


ROCKSDB = State(["-Xmx3g", "-XX:+UseParallelGC"], {
    "state.backend.type": "rocksdb",
    "state.backend.rocksdb.memory.managed": "true",
    "taskmanager.memory.managed.size": "4g",
    "state.backend.rocksdb.use-bloom-filter": "true",
    "execution.checkpointing.incremental": "true",
})
HEAP = State(["-Xmx10g", "-XX:+UseParallelGC"], {"state.backend.type": "hashmap"})


def command(classpath, folder, state, brokers, topics):
    """The command of one run in `folder`, which it fills: settings, SQL, checkpoints and the lake."""
    local = {"execution.checkpointing.dir": f"file://{folder}/checkpoints", "io.tmp.dirs": f"{folder}/tmp"}
    (folder / "tmp").mkdir()
    settings = folder / "flink.properties"
    settings.write_text("".join(f"{name}={value}\n" for name, value in (SETTINGS | state.settings | local).items()))
    template = string.Template((HERE / "regional.sql").read_text())
    sql = folder / "regional.sql"
    sql.write_text(template.substitute(brokers=brokers, warehouse=folder / "lake", **topics))
    return ["java", *state.jvm, *OPENS, f"-Djava.io.tmpdir={folder}/tmp", "-Dlog4j2.level=ERROR",
            "-cp", classpath, "FlinkSql", settings, sql]


def written(folder):
    """How many rows and deletes the files of the table hold, by the summary of its last snapshot."""
    table = json.loads(metadata(folder).read_text())
    now = next(of for of in table["snapshots"] if of["snapshot-id"] == table["current-snapshot-id"])
    names = ("total-records", "total-equality-deletes", "total-position-deletes", "total-data-files")
    return {name: int(now["summary"].get(name, 0)) for name in names} | {"snapshots": len(table["snapshots"])}


def metadata(folder):
    """The newest metadata file of the table."""
    return max((folder / "lake" / "peers" / "regional" / "metadata").glob("v*.metadata.json"),
               key=lambda file: int(file.name[1:].split(".")[0]))
