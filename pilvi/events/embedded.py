"""The embedded log: entries are rows of the records store, so they commit with what they tell of, and survive what it survives.

("", "", "events", "Queue:CONSUMER")   lane NUL sequence   -> an entry
("", "", "events", "Dead:CONSUMER")    the same            -> a dead letter
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from pilvi.core.clock import Clock
from pilvi.core.errors import AlreadyExists, NotFound
from pilvi.core.ids import Ids
from pilvi.events import Entry, Fact
from pilvi.storage.records import Change, Delete, Insert, Put, Records, Row, Table

SERVICE = "events"
QUEUE = "Queue:"
DEAD = "Dead:"


def queue_of(consumer: str) -> Table:
    return Table("", "", SERVICE, QUEUE + consumer)


def dead_of(consumer: str) -> Table:
    return Table("", "", SERVICE, DEAD + consumer)


class EmbeddedLog:
    """The default adapter of `pilvi.events.Log`."""

    is_remote = False

    def __init__(self, store: Records, clock: Clock, ids: Ids) -> None:
        self._store = store
        self._clock = clock
        self._run = ids.hex(8)
        self._last = 0
        self._lock = threading.Lock()

    # -- writing with the record ------------------------------------------------------------------------------------

    def recording(self, consumer: str, lane: str, key: str, fact: Fact) -> Change:
        now = self._clock.time_s()
        value = {"key": key, "fact": fact, "at": now, "tries": 0, "due": 0.0, "error": ""}
        return Insert(queue_of(consumer), f"{lane}\0{self._next(now):016x}{self._run}", value)

    def _next(self, now: float) -> int:
        """Microseconds, made to grow within this process: whoever records later comes later."""
        with self._lock:
            self._last = max(int(now * 1_000_000), self._last + 1)
            return self._last

    # -- reading ----------------------------------------------------------------------------------------------------

    def consumers(self) -> list[str]:
        tables = self._store.tables(service=SERVICE)
        return [table.noun.removeprefix(QUEUE) for table in tables if table.noun.startswith(QUEUE)]

    def dead_consumers(self) -> list[str]:
        return [table.noun.removeprefix(DEAD) for table in self._store.tables(service=SERVICE) if table.noun.startswith(DEAD)]

    def lanes(self, consumer: str) -> list[str]:
        found: list[str] = []
        after = ""
        while rows := self._store.scan(queue_of(consumer), after=after, limit=1):
            found.append(rows[0].id.partition("\0")[0])
            after = f"{found[-1]}\1"
        return found

    def read(self, consumer: str, lane: str, limit: int, after: str = "") -> list[Entry]:
        rows = self._store.scan(queue_of(consumer), prefix=f"{lane}\0", after=after, limit=limit)
        return [entry_of(row) for row in rows]

    def dead(self, consumer: str, *, after: str = "", limit: int = 100) -> list[Entry]:
        return [entry_of(row) for row in self._store.scan(dead_of(consumer), after=after, limit=limit)]

    # -- what became of an entry ------------------------------------------------------------------------------------

    async def done(self, consumer: str, entry: Entry) -> None:
        await self._commit([Delete(queue_of(consumer), entry.id)])

    async def postpone(self, consumer: str, entry: Entry, due: float, error: str) -> None:
        value = value_of(entry) | {"tries": entry.tries + 1, "due": due, "error": error}
        row = self._store.get(queue_of(consumer), entry.id)
        if row is not None:
            await self._commit([Put(queue_of(consumer), entry.id, value)])

    async def bury(self, consumer: str, entry: Entry, error: str) -> None:
        await self._commit([Delete(queue_of(consumer), entry.id), self.burial(consumer, entry, error)])

    def burial(self, consumer: str, entry: Entry, error: str) -> Change:
        """The dead letter that an entry becomes."""
        value = value_of(entry) | {"tries": entry.tries + 1, "error": error, "buried": self._clock.time_s()}
        return Put(dead_of(consumer), entry.id, value)

    async def revive(self, consumer: str, entry: Entry) -> None:
        fresh = self.recording(consumer, entry.lane, entry.key, entry.fact)
        await self._commit([Delete(dead_of(consumer), entry.id), fresh])

    async def forget(self, consumer: str, entry: Entry) -> None:
        await self._commit([Delete(dead_of(consumer), entry.id)])

    # -- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Nothing to begin: the store is open."""

    def close(self) -> None:
        """The store belongs to others."""

    def clear(self) -> None:
        """Nothing lies elsewhere."""

    def status(self) -> Mapping[str, Any]:
        return {"log": "embedded"}

    async def _commit(self, changes: Sequence[Change]) -> None:
        try:
            await self._store.commit(changes)
        except (NotFound, AlreadyExists):
            return  # somebody else has dealt with it


def entry_of(row: Row) -> Entry:
    value = row.value
    lane = row.id.partition("\0")[0]
    buried = value.get("buried", 0.0)
    return Entry(row.id, lane, value["key"], value["fact"], value["at"], value["tries"], value["due"], value["error"], buried)


def value_of(entry: Entry) -> dict[str, Any]:
    return {
        "key": entry.key,
        "fact": dict(entry.fact),
        "at": entry.at,
        "tries": entry.tries,
        "due": entry.due,
        "error": entry.error,
    }
