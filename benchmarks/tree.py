"""CPU time and resident memory of a process and all that descend from it, from /proc."""

from __future__ import annotations

import os
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def cpu_s(pid: int) -> float:
    """User and system seconds of the tree, children that have ended included."""
    return sum(sum(int(field) for field in fields(each)[11:15]) for each in tree(pid)) / TICKS


def rss_mib(pid: int) -> float:
    return sum(int(fields(each)[21]) for each in tree(pid)) * PAGE_BYTES / (1 << 20)


def tree(pid: int) -> list[int]:
    """The process and its descendants that live now."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                children.setdefault(int(fields(int(entry.name))[1]), []).append(int(entry.name))
            except OSError:
                continue
    found, left = [], [pid]
    while left:
        each = left.pop()
        found.append(each)
        left += children.get(each, [])
    return found


def fields(pid: int) -> list[str]:
    """Of /proc/PID/stat, from the state on (the name before it may hold blanks)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
