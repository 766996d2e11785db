"""The writing half of the SQLite store: one thread that makes one transaction, and one fsync, of whatever has queued up.

    queue -> take -> BEGIN, look up versions, decide (batch.py), write in bulk, COMMIT -> wake everybody -> checkpoint when due

Why a batch is few statements: every step of Python's sqlite3 lets the interpreter go, and beside a busy event loop each costs a
handover between threads. A handful of steps a batch, whatever it holds, keeps a synced write at a few microseconds of its share.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from pilvi.core.errors import Unavailable
from pilvi.storage.records import BodyNames, Table
from pilvi.storage.records.batch import Batch, Key
from pilvi.storage.records.cache import RecordCache
from pilvi.storage.records.sqlite_copies import COUNT, SqliteCopies
from pilvi.storage.records.submissions import Queue, Submission, Taking, wake

T = TypeVar("T")
log = logging.getLogger(__name__)

PAGE_BYTES = 4096
CHECKPOINT_PAGES = 8000
"""Pages in the WAL (about 32 MiB) that start a checkpoint."""

FIND_ADDRESS = "SELECT id FROM address WHERE account = ? AND region = ? AND service = ? AND noun = ?"


class Writer:
    """Runs in its own thread until the queue says None. Owns the connection and the numbers of the tables."""

    def __init__(
        self,
        queue: Queue,
        connect: Callable[[int], sqlite3.Connection],
        addresses: dict[Table, int],
        caches: tuple[RecordCache[Key], RecordCache[str], RecordCache[str]] | None,
        generations: dict[str, int],
        *,
        cache_kib: int,
        copies: SqliteCopies | None = None,
    ) -> None:
        """`caches`, of rows, of small bodies and of the larger of them, are None when other processes write too."""
        self._copies = copies
        self._statements: list[tuple[str, Any]] = []
        self._taking = Taking(queue)
        self._connection = connect(cache_kib)
        self._cursor = self._connection.cursor()
        self._addresses = addresses
        self._addresses.update(known_addresses(self._connection))
        self._rows = caches[0] if caches is not None else None
        self._bodies = caches[1:] if caches is not None else ()
        self._generations = generations
        self._checkpoint = Checkpoint(self._connection, connect)

    def run(self) -> None:
        ended = False
        while not ended:
            taken, ended = self._taking.take()
            if taken:
                self._apply(taken)
                wake(taken)
                del taken
                self._checkpoint.step()
        self._checkpoint.close()
        self._connection.close()
        if self._copies is not None:
            self._copies.close()

    def _apply(self, taken: list[Submission]) -> None:
        """One transaction for all; when the disk refuses, all of them fail and nothing has happened."""
        try:
            services = self._transact(taken)
        except Exception as error:  # whatever it is, those who wait must hear of it, and the next batch be tried
            log.error("records: %d submissions failed: %s", len(taken), error, exc_info=not isinstance(error, sqlite3.Error))
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            known = known_addresses(self._connection)
            for table in [table for table in self._addresses if table not in known]:
                del self._addresses[table]
            for submission in taken:
                submission.error = submission.error or Unavailable(f"The metadata store cannot write: {error}.")
            return
        for service in services:
            self._generations[service] = self._generations.get(service, 0) + 1

    def _transact(self, taken: list[Submission]) -> Iterable[str]:
        """Decide and write; gives the services whose rows changed."""
        cursor = self._cursor
        self._statements = []
        cursor.execute("BEGIN IMMEDIATE")
        keys = dict.fromkeys([row[0] for submission in taken for row in submission.prepared.rows])
        batch = Batch(self._versions(keys))
        clears = False
        for submission in taken:
            if submission.clears:
                clears = True
                for table in ("row", "body", "small_body"):
                    self._run(f"DELETE FROM {table}", ())
                batch = Batch({})
            else:
                submission.error = batch.add(submission.prepared)
        if batch.rows:
            self._write_rows(batch)
        if batch.bodies:
            self._write_bodies(batch)
        services = {table.service for table, _ in batch.rows}
        if clears:
            services |= {table.service for table in self._addresses}
        if self._rows is None:
            for service in services:
                self._run(
                    "INSERT INTO generation VALUES (?, 1) ON CONFLICT (service) DO UPDATE SET number = number + 1", (service,)
                )
        copies = self._copies if self._statements else None
        if copies is not None:
            self._run(COUNT, ())
        cursor.execute("COMMIT")
        if copies is not None:
            for statement in copies.run(self._statements):
                cursor.execute(statement)
        if self._rows is not None:
            if clears:
                self._rows.clear()
                for bodies in self._bodies:
                    bodies.clear()
            self._rows.committed(batch.rows)
            for bodies in self._bodies:
                bodies.forget(batch.bodies)
        return services

    def _run(self, statement: str, parameters: Any) -> None:
        """Write, and remember it for the copies."""
        self._cursor.execute(statement, parameters)
        if self._copies is not None:
            self._statements.append((statement, parameters))

    def _versions(self, keys: Iterable[Key]) -> dict[Key, int]:
        """What is there now: from the cache, else by one answer row with a column for each key."""
        versions: dict[Key, int] = {}
        unknown: list[Key] = []
        find = self._rows.find if self._rows is not None else None
        for key in keys:
            if find is not None and (stored := find(key)) is not None:
                versions[key] = stored[0]
            else:
                unknown.append(key)
            if key[0] not in self._addresses:
                self._intern(key[0])
        for some in pieces(unknown):
            parameters: list[Any] = []
            for table, id in some:
                parameters += (self._addresses[table], id)
            found = self._cursor.execute(_LOOK_UP[len(some)], parameters).fetchone()
            versions.update((key, version) for key, version in zip(some, found, strict=True) if version)
        return versions

    def _intern(self, table: Table) -> None:
        self._run("INSERT OR IGNORE INTO address (account, region, service, noun) VALUES (?, ?, ?, ?)", table)
        self._addresses[table] = self._cursor.execute(FIND_ADDRESS, table).fetchone()[0]

    def _write_rows(self, batch: Batch) -> None:
        addresses = self._addresses
        written: list[tuple[int, str, int, bytes]] = []
        removed: list[tuple[int, str]] = []
        size = 0
        for (table, id), row in batch.rows.items():
            if row is None:
                removed.append((addresses[table], id))
            else:
                written.append((addresses[table], id, row[0], row[1]))
                size += len(row[1])
        self._checkpoint.add(len(batch.rows), size)
        written.sort()
        for some in pieces(written):
            self._run(_PUT_ROWS[len(some)], [value for row in some for value in row])
        for gone in pieces(removed):
            self._run(_DELETE_ROWS[len(gone)], [value for key in gone for value in key])

    def _write_bodies(self, batch: Batch) -> None:
        written: list[tuple[str, bytes | None]] = []
        removed: list[str] = []
        small: list[tuple[int, bytes | None]] = []
        small_removed: list[int] = []
        size = 0
        for name, body in batch.bodies.items():
            number = BodyNames.number(name)
            if body is None:
                if number is None:
                    removed.append(name)
                else:
                    small_removed.append(number)
                continue
            data = body[0]
            size += len(data) if data is not None else 0
            if number is None:
                written.append((name, data))
            else:
                small.append((number, data))
        self._checkpoint.add(len(written) + len(removed) + len(small_removed), size)
        for numbered in pieces(small):
            self._run(_PUT_SMALL[len(numbered)], [value for body in numbered for value in body])
        for some in pieces(written):
            self._run(_PUT_BODIES[len(some)], [value for body in some for value in body])
        for numbers in pieces(small_removed):
            self._run(_DELETE_SMALL[len(numbers)], numbers)
        for gone in pieces(removed):
            self._run(_DELETE_BODIES[len(gone)], gone)


class Checkpoint:
    """Keeps the WAL short, away from whoever waits for a write.

    A thread copies what is in it back into the database while writing goes on; then the writer, between two batches, copies
    the few pages that came meanwhile, so that the WAL starts again from its beginning.
    """

    def __init__(self, connection: sqlite3.Connection, connect: Callable[[int], sqlite3.Connection]) -> None:
        self._connection = connection
        self._connect = connect
        self._pages = 0
        self._copying: threading.Thread | None = None

    def add(self, changes: int, size_bytes: int) -> None:
        """Count what a batch wrote; an estimate is enough."""
        self._pages += changes + 2 + size_bytes // PAGE_BYTES

    def step(self) -> None:
        """Between two batches: begin to copy when the WAL is long, and finish what a copy has left."""
        if self._copying is None:
            if self._pages > CHECKPOINT_PAGES:
                self._pages = 0
                self._copying = threading.Thread(target=self._copy, name="records-checkpoint", daemon=True)
                self._copying.start()
        elif not self._copying.is_alive():
            self._copying = None
            checkpoint(self._connection)

    def close(self) -> None:
        if self._copying is not None:
            self._copying.join()

    def _copy(self) -> None:
        connection = self._connect(64)
        checkpoint(connection)
        connection.close()


def checkpoint(connection: sqlite3.Connection) -> None:
    """Copy what can be copied without waiting for anybody."""
    try:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    except sqlite3.Error as error:
        log.error("records: checkpoint failed, the WAL grows on: %s", error)


def known_addresses(connection: sqlite3.Connection) -> dict[Table, int]:
    """The number of every table there ever was; numbers are never given twice."""
    return {
        Table(*names): number for number, *names in connection.execute("SELECT id, account, region, service, noun FROM address")
    }


def pieces(items: list[T]) -> Iterator[list[T]]:
    """Cut into lengths that have a statement: powers of two, so that few statements serve every length."""
    start, left = 0, len(items)
    for size in _SIZES:
        while left >= size:
            yield items[start : start + size]
            start += size
            left -= size


_SIZES = (64, 32, 16, 8, 4, 2, 1)


def _for_sizes(head: str, item: str, tail: str = "") -> dict[int, str]:
    return {size: head + ", ".join([item] * size) + tail for size in _SIZES}


_LOOK_UP = _for_sizes("SELECT ", "(SELECT version FROM row WHERE address = ? AND id = ?)")
_PUT_ROWS = _for_sizes(
    "INSERT INTO row (address, id, version, value) VALUES ",
    "(?, ?, ?, ?)",
    " ON CONFLICT (address, id) DO UPDATE SET version = excluded.version, value = excluded.value",
)
# `(address, id) IN (VALUES ...)` would walk the whole table: SQLite seeks only for each side of an OR.
_DELETE_ROWS = {size: "DELETE FROM row WHERE " + " OR ".join(["(address = ? AND id = ?)"] * size) for size in _SIZES}
_PUT_BODIES = _for_sizes(
    "INSERT INTO body (name, data) VALUES ", "(?, ?)", " ON CONFLICT (name) DO UPDATE SET data = excluded.data"
)
_DELETE_BODIES = _for_sizes("DELETE FROM body WHERE name IN (", "?", ")")
_PUT_SMALL = _for_sizes(
    "INSERT INTO small_body (number, data) VALUES ", "(?, ?)", " ON CONFLICT (number) DO UPDATE SET data = excluded.data"
)
_DELETE_SMALL = _for_sizes("DELETE FROM small_body WHERE number IN (", "?", ")")
