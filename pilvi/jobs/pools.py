"""Warm pools: the place of an ended job is kept for a while, with a folder of its choice, for the next job that is alike.

    job ends -> its place stays reserved -> an equal job takes it over, in front of the queue      (reused)
                                         -> its time is over, somebody ends it, the server stops   (ended)
                                         -> another job waits, and nothing else is free            (ended)

Pools live as long as the server: what is written down of them is what happened.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pilvi.core.clock import Clock
from pilvi.jobs.host import remove_folder


@dataclass(slots=True)
class Pool:
    """One, named after the job whose place it is."""

    id: str
    key: str
    since: datetime
    timer: threading.Timer
    is_over: bool = False
    """Somebody has it or ends it; it goes from the list when that is written down."""


class Pools:
    def __init__(
        self,
        folder: Path,
        clock: Clock,
        note: Callable[[str, Callable[[dict[str, Any]], dict[str, Any]]], None],
        let_go: Callable[[str], None],
    ) -> None:
        """note: changes what is written down of a job's pool. let_go: gives a held place back."""
        self._folder = folder
        self._clock = clock
        self._note = note
        self._let_go = let_go
        self._pools: dict[str, Pool] = {}
        self._lock = threading.Lock()

    def folder(self, id: str) -> Path:
        """Where a pool keeps its files, one folder for each host."""
        return self._folder / id

    def holds(self, id: str) -> bool:
        return id in self._pools

    def keep(self, id: str, key: str, seconds: int) -> None:
        """The job is about to end; its place will be held."""
        now = self._clock.now()
        pool = Pool(id, key, now, self._timer(id, seconds))
        self._note(id, lambda _: {"since": now, "until": now + timedelta(seconds=seconds)})
        with self._lock:
            self._pools[id] = pool
        pool.timer.start()

    def claim(self, key: str, name: str) -> str | None:
        """The oldest pool of this kind, which from now on is the named job's; None when there is none."""
        with self._lock:
            pool = next((pool for pool in self._pools.values() if pool.key == key and not pool.is_over), None)
            if pool is None:
                return None
            pool.is_over = True
        self._finish(pool, by=name)
        return pool.id

    def change(self, id: str, seconds: int) -> bool:
        """Keep it for so long since it began; whether there was such a pool."""
        with self._lock:
            pool = self._pools.get(id)
            if pool is None or pool.is_over:
                return False
            pool.timer.cancel()
            until = pool.since + timedelta(seconds=seconds)
            self._note(id, lambda noted: {**noted, "until": until})
            left = (until - self._clock.now()).total_seconds()
            if left > 0:
                pool.timer = self._timer(id, left)
                pool.timer.start()
        if left <= 0:
            self.end(id)
        return True

    def end(self, id: str) -> None:
        """Its place is given back and its files go; nothing happens when it has ended already."""
        with self._lock:
            pool = self._pools.get(id)
            if pool is None or pool.is_over:
                return
            pool.is_over = True
        self._finish(pool)
        self._let_go(id)
        remove_folder(self.folder(id))

    def end_all(self) -> None:
        for id in list(self._pools):
            self.end(id)

    def _finish(self, pool: Pool, **facts: str) -> None:
        pool.timer.cancel()
        now = self._clock.now()
        self._note(pool.id, lambda noted: {**noted, "ended": now, **facts})
        with self._lock:
            del self._pools[pool.id]

    def _timer(self, id: str, seconds: float) -> threading.Timer:
        timer = threading.Timer(seconds, self.end, (id,))
        timer.daemon = True
        return timer
