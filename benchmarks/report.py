"""What came of it: tables, and the targets that were met or missed."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from parts import PARTS, SIZES, Measured

CPU_TARGETS = (
    ("get1k", "seaweedfs", 1 / 6),
    ("get64k", "seaweedfs", 1 / 6),
    ("put1k", "seaweedfs", 1 / 5),
    ("range64k", "seaweedfs", 1 / 4),
    ("list", "seaweedfs", 1 / 6),
    ("listdeep", "seaweedfs", 1 / 6),
    ("sts", "ministack", 1 / 6),
)
MANY = 16
PEERS = ("seaweedfs", "ministack", "moto")


@dataclass
class Report:
    name: str
    ready_s: float
    rss_ready_mib: float
    keys: int = 0
    fill_s: float = 0.0
    rss_after_mib: float = 0.0
    parts: dict[str, dict[int, Measured]] = field(default_factory=dict)
    """By part, then by the number of connections."""

    def at(self, part: str, connections: int) -> Measured | None:
        return self.parts.get(part, {}).get(connections)


Reports = dict[str, Report]


def print_tables(reports: Reports, connections: list[int]) -> None:
    names = [report.name for report in reports.values()]
    width = max(map(len, PARTS.values())) + 2
    tables: tuple[tuple[str, Callable[[Measured], str]], ...] = (
        ("server CPU per request, microseconds (whole process tree)", lambda m: f"{m.cpu_us:,.0f}"),
        ("requests per second", lambda m: f"{m.per_s:,.0f}" if m.per_s > 100 else f"{m.per_s:,.2f}"),
        ("latency in microseconds, median / 99 %", lambda m: f"{m.p50_us:,}/{m.p99_us:,}"),
    )
    for title, shown in tables:
        for count in connections:
            said = f"{title}, {count} connection{'s' if count > 1 else ''}"
            print(f"\n{said}\n{'':{width}}" + "".join(f"{name:>19}" for name in names))
            for part, label in PARTS.items():
                found = [report.at(part, count) for report in reports.values()]
                if any(found):
                    print(f"{label:{width}}" + "".join(f"{shown(each) if each else '-':>19}" for each in found))
    print(f"\n{'start and memory':{width}}" + "".join(f"{name:>19}" for name in names))
    rows: tuple[tuple[str, Callable[[Report], str]], ...] = (
        ("ready after, s", lambda r: f"{r.ready_s:.2f}"),
        ("resident at start, MiB", lambda r: f"{r.rss_ready_mib:.0f}"),
        ("after the load, MiB", lambda r: f"{r.rss_after_mib:.0f}"),
        ("keys in the listing", lambda r: f"{r.keys:,}" if r.fill_s else "-"),
        ("stored per second", lambda r: f"{r.keys / r.fill_s:,.0f}" if r.fill_s else "-"),
    )
    for label, told in rows:
        print(f"{label:{width}}" + "".join(f"{told(report):>19}" for report in reports.values()))
    for report in reports.values():
        for part, measured in report.parts.items():
            for count, each in measured.items():
                if each.failed:
                    print(f"note: {report.name}, {PARTS[part]}, {count} connections: {each.failed} requests failed")


def print_targets(reports: Reports, starts: list[float]) -> bool:
    """Whether all were met."""
    ours = reports.get("pilvi")
    if ours is None:
        return True
    print("\ntargets")
    met = True
    for part, peer, most in CPU_TARGETS:
        mine, theirs = ours.at(part, MANY), reports[peer].at(part, MANY) if peer in reports else None
        if mine and theirs:
            ratio = mine.cpu_us / theirs.cpu_us
            name = f"{PARTS[part]}: CPU {ratio:.3f} of {reports[peer].name}'s"
            met &= say(ratio <= most, f"{name} (at most {most:.3f}; {1 / ratio:.1f} times less)")
    met &= against_md5(ours)
    met &= against_nginx(reports)
    met &= ahead_everywhere(reports)
    if starts:
        said = ", ".join(f"{start:.2f}" for start in starts)
        met &= say(max(starts) < 1, f"ready in {said} s: first start, then on used data (below 1 s)")
    met &= say(
        ours.rss_ready_mib < 100 and ours.rss_after_mib < 200,
        f"resident {ours.rss_ready_mib:.0f} MiB at start (below 100), {ours.rss_after_mib:.0f} after everything (below 200)",
    )
    return met


def against_md5(ours: Report) -> bool:
    """One upload of 64 MiB cannot be faster than its MD5, which S3's ETag asks for."""
    mine = ours.at("put64m", 1)
    if mine is None:
        return True
    allowed = md5_per_s(SIZES["64m"])
    ratio = mine.per_s / allowed
    return say(
        ratio >= 0.8, f"{PARTS['put64m']}: {mine.per_s:.1f} a second on one connection, {ratio:.2f} of what MD5 allows (0.8)"
    )


def md5_per_s(size: int) -> float:
    data, best = os.urandom(size), 1e9
    for _ in range(5):
        begun = time.perf_counter()
        hashlib.md5(data, usedforsecurity=False).digest()
        best = min(best, time.perf_counter() - begun)
    return 1 / best


def against_nginx(reports: Reports) -> bool:
    met = True
    ours, theirs = reports.get("pilvi-disk"), reports.get("nginx")
    if ours is None or theirs is None:
        return True
    for count, mine in ours.parts.get("get64m", {}).items():
        if (other := theirs.at("get64m", count)) is not None:
            ratio = mine.per_s / other.per_s
            what = f"{PARTS['get64m']} with --at-rest disk, {count} connections"
            met &= say(
                ratio >= 0.7, f"{what}: {ratio:.2f} of nginx's throughput (0.7), {mine.cpu_us / other.cpu_us:.2f} of its CPU"
            )
    return met


def ahead_everywhere(reports: Reports) -> bool:
    """In each line less CPU than each peer."""
    ours = reports["pilvi"]
    behind, slower, lines = [], [], 0
    for peer in PEERS:
        if peer not in reports:
            continue
        for part, measured in ours.parts.items():
            for count, mine in measured.items():
                if (other := reports[peer].at(part, count)) is None or other.failed:
                    continue
                lines += 1
                line = f"{PARTS[part]} at {count}: {reports[peer].name}"
                if mine.cpu_us >= other.cpu_us:
                    behind.append(f"{line} {other.cpu_us:,.0f} us against {mine.cpu_us:,.0f}")
                if mine.per_s <= other.per_s:
                    slower.append(f"{line} {other.per_s:,.1f} a second against {mine.per_s:,.1f}")
    if not lines:
        return True
    met = say(
        not behind, f"less CPU in {lines - len(behind)} of {lines} lines" + "".join(f"\n            {line}" for line in behind)
    )
    return met & say(
        not slower,
        f"more requests per second in {lines - len(slower)} of {lines} lines" + "".join(f"\n            {line}" for line in slower),
    )


def say(met: bool, line: str) -> bool:
    print(f"  {'met   ' if met else 'MISSED'}  {line}")
    return met
