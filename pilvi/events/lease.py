"""Who delivers, where several servers share one store: a row that says so for a few seconds at a time.

A server that holds its data directory alone needs none. The holder renews the row well before it ends; a holder that died on this
machine is succeeded at once, one elsewhere when its time is over. Two who both believe for a moment that they hold it deliver
twice, which consumers must bear anyway.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from pilvi.core.errors import AlreadyExists, Conflict
from pilvi.core.ids import Ids
from pilvi.events.embedded import SERVICE
from pilvi.storage.records import Delete, Insert, Records, Row, Table, Update

LEASES = Table("", "", SERVICE, "Lease")
NAME = "deliverer"
LEASE_S = 15.0


class Lease:
    """One server's claim. `real_s` is the machine's clock: the product's may be moved."""

    def __init__(self, store: Records, ids: Ids, real_s: Callable[[], float], may_hold: Callable[[], bool] = lambda: True) -> None:
        """may_hold: only the server that leads may, where consumers call services that live in one server's memory (queues, functions)."""
        self._store = store
        self._real_s = real_s
        self._may_hold = may_hold
        self._claim = {"host": socket.gethostname(), "pid": os.getpid(), "run": ids.hex(16)}
        self._until = 0.0

    async def hold(self) -> bool:
        """Take or keep the lease; False while somebody else has it."""
        if not self._may_hold():
            if self._until:
                await self.release()
            return False
        now = self._real_s()
        if now < self._until - LEASE_S * 2 / 3:
            return True
        row = self._store.get(LEASES, NAME)
        if row is not None and not self._may_take(row.value, now):
            return False
        value: dict[str, Any] = {**self._claim, "until": now + LEASE_S}
        try:
            await self._store.commit([Insert(LEASES, NAME, value) if row is None else Update(LEASES, NAME, value, row.version)])
        except (AlreadyExists, Conflict):
            return False
        self._until = value["until"]
        return True

    @property
    def is_held(self) -> bool:
        """Whether it is this server's for sure, without asking the store."""
        return self._may_hold() and self._real_s() < self._until

    async def release(self) -> None:
        """Let the next one begin at once."""
        self._until = 0.0
        row: Row | None = self._store.get(LEASES, NAME)
        if row is not None and row.value["run"] == self._claim["run"]:
            try:
                await self._store.commit([Delete(LEASES, NAME, row.version)])
            except Conflict:
                return

    def _may_take(self, holder: dict[str, Any], now: float) -> bool:
        if holder["run"] == self._claim["run"] or holder["until"] <= now:
            return True
        return bool(holder["host"] == self._claim["host"] and not is_running(holder["pid"]))


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
