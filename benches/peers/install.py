"""What the peers need, fetched once into the cache folder: Flink with its connectors, DuckDB with its extensions.

Only the ordinary clients are asked: pip and Maven, with whatever registries they are set up for. A missing tool ends
the program with exit code 77.
"""

import hashlib
import importlib.util
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import typing

HERE = pathlib.Path(__file__).resolve().parent
FLINK = "2.1.3"
# The last DuckDB whose extension `iceberg` reads tables by path. `avro` is what that extension needs.
PINS = ["duckdb==1.5.5", "duckdb-extension-avro==1.5.5", "duckdb-extension-httpfs==1.5.5",
        "duckdb-extension-iceberg==1.5.5", "pytz"]
JDK = "apt-get install openjdk-17-jdk-headless"
MAVEN = "apt-get install maven"
MISSING = 77


class Peers(typing.NamedTuple):
    """Where the peers stand."""

    python: pathlib.Path   # an interpreter that has the package duckdb
    classpath: str | None  # Flink, its connectors and FlinkSql


def install(cache, flink):
    """Fetches what is not there yet; Flink only if asked for."""
    cache.mkdir(parents=True, exist_ok=True)
    python = environment(cache / "venv")
    return Peers(python, classes(cache, jars(cache, python)) if flink else None)


def environment(venv):
    """The Python environment, made once, and again when the pins change."""
    pins, python = venv / "pins", venv / "bin" / "python"
    wanted = " ".join(PINS)
    if not pins.exists() or pins.read_text() != wanted:
        if not importlib.util.find_spec("ensurepip"):
            missing("the module ensurepip of Python", "apt-get install python3-venv")
        say(f"installing {wanted}")
        check([sys.executable, "-m", "venv", "--clear", venv])
        check([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PINS])
        for extension in sorted(venv.rglob("*.duckdb_extension")):
            check([python, "-c", f"import duckdb; duckdb.sql(\"INSTALL '{extension}'\")"])
        pins.write_text(wanted)
    return python


def jars(cache, python):
    """The folder with the jars of Flink and its connectors; its name tells their versions."""
    pom = HERE / "pom.xml"
    lib = cache / f"flink-{FLINK}-{hashlib.sha256(pom.read_bytes()).hexdigest()[:12]}"
    if not lib.exists():
        need("mvn", MAVEN)
        say(f"fetching Flink {FLINK} (310 MB) and its connectors")
        with tempfile.TemporaryDirectory(dir=cache) as work:
            work = pathlib.Path(work)
            check([python, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                   "--no-binary", ":all:", "--dest", work, f"apache-flink-libraries=={FLINK}"])
            unpack(next(work.glob("apache*flink*libraries-*.tar.gz")), work / "lib")
            check(["mvn", "-q", "-B", "-f", pom, "dependency:copy-dependencies",
                   "-DincludeScope=runtime", f"-DoutputDirectory={work / 'lib'}"])
            (work / "lib").rename(lib)
    return lib


def unpack(archive, lib):
    lib.mkdir()
    with tarfile.open(archive) as package:
        for member in package:
            if re.fullmatch(r"[^/]+/deps/lib/[^/]+\.jar", member.name):
                with (lib / pathlib.PurePath(member.name).name).open("wb") as file:
                    shutil.copyfileobj(package.extractfile(member), file)


def classes(cache, lib):
    """The class path with FlinkSql, compiled when its source is another one than before."""
    source = HERE / "FlinkSql.java"
    out = cache / f"classes-{hashlib.sha256(source.read_bytes()).hexdigest()[:12]}"
    if not out.exists():
        need("javac", JDK)
        with tempfile.TemporaryDirectory(dir=cache) as work:
            made = pathlib.Path(work, "classes")
            check(["javac", "-cp", f"{lib}/*", "-d", made, source])
            made.rename(out)
    return f"{out}:{lib}/*"


def need(tool, remedy):
    if not shutil.which(tool):
        missing(tool, remedy)


def missing(what, remedy):
    say(f"{what} not found: {remedy}")
    sys.exit(MISSING)


def check(command):
    """Runs a command that must succeed."""
    code, _ = call(command, sys.stderr)
    if code != 0:
        sys.exit(f"benches/peers: {pathlib.Path(command[0]).name} failed, see above")


def call(command, stdout=subprocess.PIPE):
    """Runs a command; gives its exit code and what it printed. An interrupt ends it and the processes it started."""
    process = subprocess.Popen(command, stdout=stdout, stdin=subprocess.DEVNULL, text=True, start_new_session=True)
    try:
        printed, _ = process.communicate()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    return process.returncode, printed


def say(text):
    print(f"benches/peers: {text}", file=sys.stderr, flush=True)
