"""Speed and memory beside peers: server CPU per request, throughput, start-up time, resident memory.

CPU per request is what counts: on a shared machine it repeats within some 20 %, requests per second do not. It is taken over the
whole process tree of a server, from before to after a load of 16 connections (4 for the 64 MiB objects).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import servers
import tree
from load import BUCKET, LARGE_BYTES, LARGE_KEYS, SMALL_BYTES, SMALL_KEYS, replay, requests_for
from servers import Server

PARTS = {
    "put1k": "S3 PUT 1 KiB",
    "get1k": "S3 GET 1 KiB",
    "get64m": "S3 GET 64 MiB",
    "sts": "STS GetCallerIdentity",
}
CONNECTIONS = {"get64m": 4}
CONTENDERS: dict[str, tuple[Callable[[Path], Server], tuple[str, ...]]] = {
    "pilvi": (servers.pilvi, ("put1k", "get1k", "get64m", "sts")),
    "seaweedfs": (servers.seaweedfs, ("put1k", "get1k", "get64m")),
    "ministack": (servers.ministack, ("put1k", "get1k", "get64m", "sts")),
    "moto": (servers.moto, ("put1k", "get1k", "get64m", "sts")),
    "nginx": (servers.nginx, ("get1k", "get64m")),
}


@dataclass(frozen=True)
class Measured:
    cpu_us: float
    """Server CPU per request, whole tree."""
    per_s: float
    p50_us: int
    p99_us: int
    failed: int


@dataclass
class Report:
    name: str
    ready_s: float
    rss_ready_mib: float
    rss_after_mib: float
    parts: dict[str, Measured]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one second a part instead of four")
    parser.add_argument("--only", default=",".join(CONTENDERS), help=f"some of {','.join(CONTENDERS)}")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    arguments = parser.parse_args()
    seconds = 1.0 if arguments.quick else 4.0
    if shutil.which("wrk") is None:
        print("wrk is not there: the load comes from Python processes, throughput will be lower than what the servers can do")
    reports: dict[str, Report] = {}
    folder = Path(tempfile.mkdtemp(prefix="pilvi-bench-"))
    try:
        for key in arguments.only.split(","):
            print(f"measuring {key} ...", flush=True)
            try:
                reports[key] = measure(key, arguments.parts.split(","), seconds, folder)
            except (RuntimeError, OSError) as error:
                print(f"  skipped: {error}")
        starts = ready_times(folder) if "pilvi" in reports else []
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print_tables(reports)
    print_targets(reports, starts)
    if arguments.json:
        figures = {
            key: {**vars(report), "parts": {part: vars(m) for part, m in report.parts.items()}} for key, report in reports.items()
        }
        arguments.json.write_text(json.dumps({"servers": figures, "starts_s": starts}, indent=1))
    return 0


def measure(key: str, parts: list[str], seconds: float, folder: Path) -> Report:
    start, offered = CONTENDERS[key]
    server = start(folder)
    try:
        report = Report(server.name, server.ready_s, tree.rss_mib(server.pid), 0.0, {})
        fill(server, folder)
        for part in PARTS:
            if part in offered and part in parts:
                report.parts[part] = measure_part(server, part, seconds, folder)
        report.rss_after_mib = tree.rss_mib(server.pid)
        return report
    finally:
        server.stop()


def fill(server: Server, folder: Path) -> None:
    """The objects that are asked for."""
    if server.name == "nginx":
        home = folder / "nginx" / "files" / BUCKET
        (home / "small").mkdir(parents=True)
        for number in range(SMALL_KEYS):
            (home / "small" / f"{number:04}").write_bytes(os.urandom(SMALL_BYTES))
        for number in range(LARGE_KEYS):
            (home / f"large-{number}").write_bytes(os.urandom(LARGE_BYTES))
        return
    s3 = server.client("s3")
    s3.create_bucket(Bucket=BUCKET)  # type: ignore[attr-defined]
    for number in range(SMALL_KEYS):
        s3.put_object(Bucket=BUCKET, Key=f"small/{number:04}", Body=os.urandom(SMALL_BYTES))  # type: ignore[attr-defined]
    for number in range(LARGE_KEYS):
        s3.put_object(Bucket=BUCKET, Key=f"large-{number}", Body=os.urandom(LARGE_BYTES))  # type: ignore[attr-defined]


def measure_part(server: Server, part: str, seconds: float, folder: Path) -> Measured:
    connections = CONNECTIONS.get(part, 16)
    requests = requests_for(part, server.endpoint, server.credentials)
    replay(server.endpoint, requests, connections, 1.0, folder)
    before = tree.cpu_s(server.pid)
    result = replay(server.endpoint, requests, connections, seconds, folder)
    settle(server.pid)
    cpu = tree.cpu_s(server.pid) - before
    failed = result.refused + result.broken
    return Measured(cpu / max(1, result.requests) * 1e6, result.per_s, result.p50_us, result.p99_us, failed)


def settle(pid: int) -> None:
    """Work that a server put off belongs to its requests: wait (a little) until it is idle."""
    for _ in range(10):
        before = tree.cpu_s(pid)
        time.sleep(0.05)
        if tree.cpu_s(pid) - before < 0.01:
            return


def ready_times(folder: Path) -> list[float]:
    """Seconds from the command to the line `ready`: on an empty directory, then twice on the one that was used."""
    times = []
    (folder / "fresh").mkdir()
    for home in (folder / "fresh", folder, folder):
        server = servers.pilvi(home)
        times.append(server.ready_s)
        server.stop()
    return times


def print_tables(reports: dict[str, Report]) -> None:
    names = [report.name for report in reports.values()]
    width = max(22, *map(len, PARTS.values())) + 1
    for title, shown in (
        ("server CPU per request, microseconds (whole process tree)", lambda m: f"{m.cpu_us:,.0f}"),
        ("requests per second", lambda m: f"{m.per_s:,.0f}" if m.per_s > 100 else f"{m.per_s:,.1f}"),
        ("latency in microseconds, median / 99 %", lambda m: f"{m.p50_us:,}/{m.p99_us:,}"),
    ):
        print(f"\n{title}\n{'':{width}}" + "".join(f"{name:>17}" for name in names))
        for part, label in PARTS.items():
            cells = [shown(report.parts[part]) if part in report.parts else "-" for report in reports.values()]
            print(f"{label:{width}}" + "".join(f"{cell:>17}" for cell in cells))
    print(f"\n{'start and memory':{width}}" + "".join(f"{name:>17}" for name in names))
    print(f"{'ready after, s':{width}}" + "".join(f"{report.ready_s:>17.2f}" for report in reports.values()))
    print(f"{'resident at start, MiB':{width}}" + "".join(f"{report.rss_ready_mib:>17.0f}" for report in reports.values()))
    print(f"{'after the load, MiB':{width}}" + "".join(f"{report.rss_after_mib:>17.0f}" for report in reports.values()))
    for report in reports.values():
        for part, measured in report.parts.items():
            if measured.failed:
                print(f"note: {report.name}, {PARTS[part]}: {measured.failed} requests failed")


def print_targets(reports: dict[str, Report], starts: list[float]) -> None:
    ours = reports.get("pilvi")
    if ours is None:
        return
    print("\ntargets")
    for part, peer, most in (("get1k", "seaweedfs", 1 / 3), ("put1k", "seaweedfs", 1 / 3), ("sts", "ministack", 1 / 6)):
        theirs = reports.get(peer)
        if theirs and part in ours.parts and part in theirs.parts:
            ratio = ours.parts[part].cpu_us / theirs.parts[part].cpu_us
            say(
                ratio <= most, f"{PARTS[part]}: CPU {ratio:.2f} of {theirs.name}'s (at most {most:.2f}; {1 / ratio:.1f} times less)"
            )
    theirs = reports.get("seaweedfs")
    if theirs and "get64m" in ours.parts and "get64m" in theirs.parts:
        ratio = ours.parts["get64m"].per_s / theirs.parts["get64m"].per_s
        say(ratio > 1, f"{PARTS['get64m']}: throughput {ratio:.2f} times {theirs.name}'s (ahead: above 1)")
    if starts:
        say(
            max(starts) < 1,
            "ready in " + ", ".join(f"{start:.2f}" for start in starts) + " s: first start, then on used data (below 1 s)",
        )
    say(
        ours.rss_ready_mib < 100,
        f"resident at start {ours.rss_ready_mib:.0f} MiB (below 100), after the load {ours.rss_after_mib:.0f} MiB",
    )


def say(met: bool, line: str) -> None:
    print(f"  {'met   ' if met else 'MISSED'}  {line}")


if __name__ == "__main__":
    sys.exit(main())
