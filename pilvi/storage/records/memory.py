"""Records in memory: for tests, and for whoever wants a cloud that forgets. Keeps every promise but durability."""

from __future__ import annotations

import asyncio
import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Awaitable, Iterable, Sequence
from concurrent.futures import Future

from pilvi.core.errors import NotFound, PilviError, Unavailable
from pilvi.storage.records import Change, Row, Table
from pilvi.storage.records.batch import Batch, decode, key_range, prepare


class _Rows:
    """One table: its ids in order beside their versions and encoded values."""

    __slots__ = ("ids", "stored")

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.stored: dict[str, tuple[int, bytes]] = {}

    def put(self, id: str, stored: tuple[int, bytes]) -> None:
        if id not in self.stored:
            insort(self.ids, id)
        self.stored[id] = stored

    def remove(self, id: str) -> None:
        if self.stored.pop(id, None) is not None:
            del self.ids[bisect_left(self.ids, id)]


class MemoryRecords:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tables: dict[Table, _Rows] = {}
        self._bodies: dict[str, bytes | None] = {}
        self._generations: dict[str, int] = {}
        self._clears = 0
        self._closed = False

    def get(self, table: Table, id: str) -> Row | None:
        with self._lock:
            rows = self._tables.get(table)
            stored = rows.stored.get(id) if rows else None
        return None if stored is None else Row(id, decode(stored[1]), stored[0])

    def scan(
        self, table: Table, *, prefix: str = "", after: str = "", before: str = "", limit: int = 1000, reverse: bool = False
    ) -> list[Row]:
        low, inclusive, high = key_range(prefix, after, before)
        with self._lock:
            rows = self._tables.get(table)
            if rows is None:
                return []
            start = bisect_left(rows.ids, low) if inclusive else bisect_right(rows.ids, low)
            end = len(rows.ids) if high is None else bisect_left(rows.ids, high)
            if reverse:
                start = max(start, end - limit)
            else:
                end = min(end, start + limit)
            found = [(id, *rows.stored[id]) for id in rows.ids[start : max(start, end)]]
        if reverse:
            found.reverse()
        return [Row(id, decode(data), version) for id, version, data in found]

    def tables(self, *, service: str = "", noun: str = "") -> list[Table]:
        with self._lock:
            return sorted(
                table
                for table, rows in self._tables.items()
                if rows.ids and service in ("", table.service) and noun in ("", table.noun)
            )

    def body(self, name: str) -> bytes | None:
        with self._lock:
            if name not in self._bodies:
                raise NotFound(f"Body {name} does not exist.")
            return self._bodies[name]

    def body_names(self, *, blobs_only: bool = False) -> Iterable[str]:
        with self._lock:
            return [name for name, data in self._bodies.items() if data is None or not blobs_only]

    def submit(self, changes: Sequence[Change]) -> Future[None]:
        done: Future[None] = Future()
        error = self._apply(changes)
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)
        return done

    def commit(self, changes: Sequence[Change]) -> Awaitable[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        error = self._apply(changes)
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)
        return done

    def write(self, *changes: Change) -> None:
        if (error := self._apply(changes)) is not None:
            raise error

    def generation(self, service: str) -> int:
        return self._clears + self._generations.get(service, 0)

    def clear(self) -> None:
        with self._lock:
            self._tables.clear()
            self._bodies.clear()
            self._clears += 1

    def close(self) -> None:
        self._closed = True

    def _apply(self, changes: Sequence[Change]) -> PilviError | None:
        if self._closed:
            raise Unavailable("The store is closed.")
        submission = prepare(changes)
        with self._lock:
            batch = Batch({key: self._version(*key) for key, *_ in submission.rows})
            if (error := batch.add(submission)) is not None:
                return error
            for (table, id), stored in batch.rows.items():
                rows = self._tables.setdefault(table, _Rows())
                if stored is None:
                    rows.remove(id)
                else:
                    rows.put(id, stored)
            for name, body in batch.bodies.items():
                if body is None:
                    self._bodies.pop(name, None)
                else:
                    self._bodies[name] = body[0]
            for service in {table.service for table, _ in batch.rows}:
                self._generations[service] = self._generations.get(service, 0) + 1
        return None

    def _version(self, table: Table, id: str) -> int:
        rows = self._tables.get(table)
        stored = rows.stored.get(id) if rows else None
        return stored[0] if stored else 0
