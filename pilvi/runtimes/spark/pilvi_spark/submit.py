"""smspark-submit: run a Spark application on the job's hosts.

    smspark-submit [--local-spark-event-logs-dir DIR] [--py-files A,B] [--jars A,B] [--files A,B] [--class NAME] APPLICATION [ARGS]

A folder among py-files, jars or files stands for the files in it. Options are those of AWS's container; others of spark-submit's are
passed on.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pilvi_spark import cluster
from pilvi_spark.settings import Settings, configuration_in, cores, memory_mib, settings

RESOURCES = Path("/opt/ml/config/resourceconfig.json")
_ENDINGS = {"jars": (".jar",), "py_files": (".py", ".zip", ".egg"), "files": ()}


def main(arguments: Sequence[str]) -> int:
    """The application's exit status, which is the job's."""
    options = parser().parse_args(arguments)
    me, hosts = hosts_in(RESOURCES)
    found = settings(configuration_in(), len(hosts), memory_mib(), cores())
    prepare(options, found)
    for note in found.notes:
        say(note)
    if len(hosts) == 1:
        return run(command(options, found), found)
    if me != hosts[0]:
        return cluster.serve(me, hosts[0], memory_mib(), environment(found))
    with cluster.Head(me, hosts, memory_mib(), environment(found)) as head:
        found.spark |= head.settings
        return head.ended(run(command(options, found), found))


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser("smspark-submit", allow_abbrev=False)
    made.add_argument("--local-spark-event-logs-dir", default="")
    made.add_argument("--spark-event-logs-s3-uri", default="")
    made.add_argument("--class", dest="main_class", default="")
    for name in _ENDINGS:
        made.add_argument(f"--{name.replace('_', '-')}", default="")
    made.add_argument("--conf", action="append", default=[])
    made.add_argument("--packages", default="")
    made.add_argument("-v", "--verbose", action="store_true")
    made.add_argument("application")
    made.add_argument("arguments", nargs=argparse.REMAINDER)
    return made


def hosts_in(path: Path) -> tuple[str, list[str]]:
    """This host's name, and all of them in order."""
    if not path.is_file():
        return "algo-1", ["algo-1"]
    config = json.loads(path.read_text())
    return config["current_host"], sorted(config["hosts"], key=lambda name: (len(name), name))


def prepare(options: argparse.Namespace, found: Settings) -> None:
    """Where event logs go; what is asked for and cannot be had is refused."""
    if options.packages:
        sys.exit("smspark-submit: --packages would download; give the files with --jars or --py-files.")
    folder = options.local_spark_event_logs_dir
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
    if folder or options.spark_event_logs_s3_uri:
        place = f"file://{Path(folder).absolute()}" if folder else options.spark_event_logs_s3_uri
        found.spark |= {"spark.eventLog.enabled": "true", "spark.eventLog.dir": place}


def command(options: argparse.Namespace, found: Settings) -> list[str]:
    """The spark-submit that carries it out."""
    made = [submit_program(), *found.arguments]
    for text in options.conf:
        made += ["--conf", text]
    for name, endings in _ENDINGS.items():
        if value := getattr(options, name):
            made += [f"--{name.replace('_', '-')}", ",".join(expanded(value, endings))]
    if options.main_class:
        made += ["--class", options.main_class]
    if options.verbose:
        made.append("--verbose")
    return [*made, options.application, *options.arguments]


def expanded(value: str, endings: tuple[str, ...]) -> list[str]:
    """Comma-separated places; a folder here is replaced by its files."""
    found = []
    for place in filter(None, value.split(",")):
        path = Path(place)
        if path.is_dir():
            found += sorted(str(file) for file in path.iterdir() if file.is_file() and (not endings or file.suffix in endings))
        else:
            found.append(place)
    return found


def run(line: list[str], found: Settings) -> int:
    """Run until it ends; a signal's end is told as shells tell it."""
    code = subprocess.run(line, env=environment(found), check=False).returncode
    return code if code >= 0 else 128 - code


def environment(found: Settings) -> dict[str, str]:
    """Spark listens on this host's own address: other jobs on this machine have theirs."""
    python = {"PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable}
    return {**os.environ, "SPARK_LOCAL_IP": socket.gethostbyname(socket.gethostname()), **python, **found.environment}


def submit_program() -> str:
    program = shutil.which("spark-submit")
    if program is None:
        sys.exit("smspark-submit: there is no Spark in this environment.")
    return program


def say(text: str) -> None:
    print(f"smspark-submit: {text}", flush=True)
