"""Speed and memory beside peers: server CPU per request, throughput, start-up time, resident memory.

CPU per request is what counts: on a shared machine it repeats within some 20 %, requests per second do not. It is taken over the
whole process tree of a server, from before to after a load of 16 connections, and of one.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import servers
import tree
from botocore.exceptions import BotoCoreError, ClientError
from parts import PARTS, READS, Bench
from report import Report, Reports, print_tables, print_targets
from servers import Server

EVERYTHING = tuple(PARTS)
CONTENDERS: dict[str, tuple[Callable[[Path], Server], tuple[str, ...], int]] = {
    "pilvi": (servers.pilvi, EVERYTHING, 1_000_000),
    "pilvi-disk": (servers.pilvi_on_disk, ("put64m", "get64m", "range64k"), 0),
    "seaweedfs": (servers.seaweedfs, tuple(part for part in PARTS if part != "sts"), 100_000),
    "ministack": (servers.ministack, EVERYTHING, 10_000),
    "moto": (servers.moto, EVERYTHING, 10_000),
    "nginx": (servers.nginx, READS, 0),
}
"""How each is started, what it is asked, and how many keys its listings have: as many as it stores within a minute or two."""

QUICK_KEYS = 5_000
SERVER_S = 900.0
"""After this no further part of a server is begun."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"one second a part instead of two, listings of {QUICK_KEYS} keys")
    parser.add_argument("--only", default=",".join(CONTENDERS), help=f"some of {','.join(CONTENDERS)}")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--connections", default="16,1", help="how many at once; the targets look at 16")
    parser.add_argument("--keys", type=int, help="keys in the bucket that is listed, the same for every server")
    parser.add_argument("--seconds", type=float, help="how long each part of small requests lasts")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    arguments = parser.parse_args()
    seconds = arguments.seconds or (1.0 if arguments.quick else 2.0)
    connections = [int(count) for count in arguments.connections.split(",")]
    parts = arguments.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    if shutil.which("wrk") is None:
        print("wrk is not there: the load comes from Python processes, throughput will be lower than what the servers can do")
    reports: Reports = {}
    folder = Path(tempfile.mkdtemp(prefix="pilvi-bench-"))
    try:
        for key in arguments.only.split(","):
            begun = time.perf_counter()
            print(f"measuring {key} ...", end="", flush=True)
            keys = arguments.keys or (min(QUICK_KEYS, CONTENDERS[key][2]) if arguments.quick else CONTENDERS[key][2])
            try:
                reports[key] = measure(key, parts, connections, seconds, keys, folder)
            except (RuntimeError, OSError, BotoCoreError, ClientError) as error:
                print(f" skipped: {error}")
            else:
                print(f" {time.perf_counter() - begun:.0f} s", flush=True)
        starts = ready_times(folder) if "pilvi" in reports else []
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print_tables(reports, connections)
    print_targets(reports, starts)
    if arguments.json:
        figures = {key: {**vars(report), "parts": plain(report)} for key, report in reports.items()}
        arguments.json.write_text(json.dumps({"servers": figures, "starts_s": starts}, indent=1))
    return 0


def measure(key: str, parts: list[str], connections: list[int], seconds: float, keys: int, folder: Path) -> Report:
    start, offered, _ = CONTENDERS[key]
    begun = time.perf_counter()
    server = start(folder)
    try:
        report = Report(server.name, server.ready_s, tree.rss_mib(server.pid), keys)
        wanted = [part for part in PARTS if part in offered and part in parts]
        bench = Bench(server, seconds, keys, folder)
        bench.make_buckets()
        bench.fill(wanted)
        report.keys, report.fill_s = bench.keys, bench.fill_s
        for part in wanted:
            if time.perf_counter() - begun > SERVER_S:
                print(f" {part} and what comes after it left out: too slow ...", end="", flush=True)
                break
            try:
                report.parts[part] = {count: bench.measure(part, count) for count in connections}
            except (RuntimeError, OSError, BotoCoreError, ClientError) as error:
                print(f" {part} left out: {str(error)[:200]} ...", end="", flush=True)
        report.rss_after_mib = tree.rss_mib(server.pid)
        return report
    finally:
        server.stop()
        if key != "pilvi":
            shutil.rmtree(folder / key, ignore_errors=True)


def plain(report: Report) -> dict[str, dict[str, object]]:
    return {part: {str(count): vars(each) for count, each in found.items()} for part, found in report.parts.items()}


def ready_times(folder: Path) -> list[float]:
    """Seconds from the command to the line `ready`: on an empty directory, then twice on the one that was used."""
    times = []
    (folder / "fresh").mkdir()
    for home in (folder / "fresh", folder, folder):
        server = servers.pilvi(home)
        times.append(server.ready_s)
        server.stop()
    return times


if __name__ == "__main__":
    sys.exit(main())
