"""Which program runs on which cores of this machine: those with the least to do, for as long as it runs.

A program that may see fewer cores than there are is bound to its own (sched_setaffinity, inherited by all it starts) and finds
them, and no others, in /sys/devices/system/cpu/online, which is where the C library counts.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pilvi.compute import Bind

_ONLINE = "/sys/devices/system/cpu/online"


class Cores:
    def __init__(self, folder: Path | None = None, available: Sequence[int] | None = None) -> None:
        """folder: for the small files that tell programs their cores. available: default those that this process may use."""
        self._folder = folder
        self._available = tuple(sorted(os.sched_getaffinity(os.getpid()) if available is None else available))
        self._is_all = len(self._available) == os.cpu_count()
        self._load = dict.fromkeys(self._available, 0)
        self._lock = threading.Lock()

    @contextmanager
    def taken(self, count: int | None) -> Iterator[tuple[int, ...]]:
        """Cores for a program that the calling thread starts inside; () for all of them. Kept until `give_back` unless it fails."""
        cores = self._take(count)
        try:
            if cores:
                before = os.sched_getaffinity(0)
                os.sched_setaffinity(0, cores)
            try:
                yield cores
            finally:
                if cores:
                    os.sched_setaffinity(0, before)
        except BaseException:
            self.give_back(cores)
            raise

    def binds(self, cores: Sequence[int]) -> tuple[Bind, ...]:
        """What shows a program its cores."""
        if not cores or self._folder is None:
            return ()
        text = ",".join(map(str, cores))
        path = self._folder / text
        if not path.is_file():
            self._folder.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")
        return (Bind(path, _ONLINE),)

    def give_back(self, cores: Sequence[int]) -> None:
        with self._lock:
            for core in cores:
                self._load[core] -= 1

    def _take(self, count: int | None) -> tuple[int, ...]:
        wanted = len(self._available) if count is None else max(1, count)
        if wanted >= len(self._available) and self._is_all:
            return ()
        with self._lock:
            chosen = sorted(self._available, key=lambda core: (self._load[core], core))[:wanted]
            for core in chosen:
                self._load[core] += 1
        return tuple(sorted(chosen))
