"""The leader rule: of several servers on one store, the one that holds the lease runs what is due; nobody else does meanwhile.

A lease is a row that is good until an instant of the real clock. It is taken only when something is due and given back when that
has run, so an idle server writes nothing; while a run takes long a thread renews it. Of a server that died it runs out.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pilvi.core.clock import Clock
from pilvi.core.errors import AlreadyExists, Conflict, NotFound, PilviError
from pilvi.storage.records import Delete, Insert, Records, Table, Update

TABLE = Table("", "", "schedules", "Leader")
ROW = "leader"

LEASE_S = 30.0
RENEW_S = 10.0


class Leader:
    """One server's side of the lease."""

    def __init__(self, store: Records, clock: Clock, name: str, lease_s: float = LEASE_S, renew_s: float = RENEW_S) -> None:
        self._store = store
        self._clock = clock
        self._name = name
        self._lease_s = lease_s
        self._renew_s = renew_s
        self._counting = threading.Lock()
        self._many = 0
        """How many of this server's threads lead: the last one gives the lease back."""

    def take(self) -> bool:
        """Whether this server leads now."""
        now, row = self._clock.real_s(), self._store.get(TABLE, ROW)
        value = {"name": self._name, "until_s": now + self._lease_s}
        if row is not None and row.value["name"] != self._name and now < row.value["until_s"] <= now + 2 * self._lease_s:
            return False
        try:
            self._store.write(Insert(TABLE, ROW, value) if row is None else Update(TABLE, ROW, value, row.version))
        except (AlreadyExists, Conflict):
            return False
        return True

    def give_back(self) -> None:
        row = self._store.get(TABLE, ROW)
        if row is not None and row.value["name"] == self._name:
            with suppress(Conflict, NotFound):
                self._store.write(Delete(TABLE, ROW, row.version))

    @contextmanager
    def leading(self) -> Iterator[bool]:
        """Within: True while nobody else runs anything; False when somebody else leads."""
        with self._counting:
            is_leader = self.take()
            self._many += is_leader
        if not is_leader:
            yield False
            return
        ended = threading.Event()
        renewing = threading.Thread(target=self._renew, args=(ended,), name="pilvi-schedules-lease", daemon=True)
        renewing.start()
        try:
            yield True
        finally:
            ended.set()
            renewing.join()
            with self._counting:
                self._many -= 1
                if not self._many:
                    self.give_back()

    def _renew(self, ended: threading.Event) -> None:
        while not ended.wait(self._renew_s):
            with (
                self._counting,
                suppress(PilviError),
            ):  # a store that does not answer now is asked again; the lease lasts three turns
                self.take()
