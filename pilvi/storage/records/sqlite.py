"""Records in SQLite: one file, readable with any SQLite tool, durable when acknowledged.

    submit, commit, write  ->  queue  ->  one writer thread: a batch = look up versions, decide (batch.py), write in bulk,
                                          COMMIT (one fsync for all), wake everybody
    get, scan, body        ->  a small pool of read connections, each statement its own snapshot (WAL)

Why a batch is few statements: every step of Python's sqlite3 lets the GIL go, and beside a busy event loop each costs a
handover between threads. Six steps a batch, whatever it holds, keep a synced write to a few microseconds of its share.

Checkpoints copy the WAL back beside the writers, in a thread of their own; the writer only finishes the last pages between
two batches so that the WAL starts again from its beginning. `shared=True` is for several processes on one file.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
import threading
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from pilvi.core.errors import NotFound, PilviError, Unavailable
from pilvi.storage.blobs.files import sync_folder
from pilvi.storage.records import Change, Row, Table
from pilvi.storage.records.batch import Batch, Key, Prepared, decode, key_range, prepare

T = TypeVar("T")

log = logging.getLogger(__name__)

FORMAT = 1
"""Grows when the tables below change; a newer server converts, an older one refuses."""

# Rows hang in one clustered tree, by table and id, so that a scan reads neighbours. Bodies have a rowid: rows of some KiB fill
# pages of such a tree well, while a clustered index would spill each of them to pages of its own.
SCHEMA = """
CREATE TABLE IF NOT EXISTS format (version INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS address (
    id INTEGER PRIMARY KEY, account TEXT NOT NULL, region TEXT NOT NULL, service TEXT NOT NULL, noun TEXT NOT NULL,
    UNIQUE (account, region, service, noun)
);
CREATE TABLE IF NOT EXISTS row (
    address INTEGER NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL, value BLOB NOT NULL, PRIMARY KEY (address, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS body (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, data BLOB);
CREATE TABLE IF NOT EXISTS generation (service TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
"""

GET = "SELECT version, value FROM row WHERE address = ? AND id = ?"
BODY = "SELECT data FROM body WHERE name = ?"
TABLES = """SELECT account, region, service, noun FROM address
    WHERE (?1 = '' OR service = ?1) AND (?2 = '' OR noun = ?2) AND EXISTS (SELECT 1 FROM row WHERE row.address = address.id)
    ORDER BY account, region, service, noun"""
FIND_ADDRESS = "SELECT id FROM address WHERE account = ? AND region = ? AND service = ? AND noun = ?"

PAGE_BYTES = 4096
WRITER_CACHE_KIB = 4096
READER_CACHE_KIB = 1024
READERS = 8
BATCH_SUBMISSIONS = 512
BATCH_BYTES = 8 << 20
BUSY_MS = 10_000
CHECKPOINT_PAGES = 4000
"""Pages in the WAL (about 16 MiB) that start a checkpoint."""
WAL_LIMIT_BYTES = 64 << 20
"""A WAL that outgrew this is cut when it starts again."""


class _Submission:
    """A prepared submission and whoever waits for it: a future of either kind, or a thread on a lock."""

    __slots__ = ("clears", "error", "future", "lock", "loop", "prepared", "waiter")

    def __init__(self, prepared: Prepared) -> None:
        self.prepared = prepared
        self.clears = False
        self.error: PilviError | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.waiter: asyncio.Future[None] | None = None
        self.future: Future[None] | None = None
        self.lock: threading.Lock | None = None


class SqliteRecords:
    """The default store. Everything the port says, plus `shared`: other processes write the same file."""

    def __init__(self, path: Path | str, *, shared: bool = False) -> None:
        self._path = Path(path)
        self._shared = shared
        self._queue: SimpleQueue[_Submission | None] = SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._generations: dict[str, int] = {}
        self._clears = 0
        self._readers: list[sqlite3.Cursor] = []
        _create(self._path)
        connection = self._connect(WRITER_CACHE_KIB)
        self._addresses = _addresses(connection)
        self._watch = _Watch(self._connect(64)) if shared else None
        self._writer = _Writer(self, connection)
        self._thread = threading.Thread(target=self._writer.run, name="records-writer", daemon=True)
        self._thread.start()

    # -- reading ----------------------------------------------------------------------------------------------------

    def get(self, table: Table, id: str) -> Row | None:
        address = self._addresses.get(table)
        if address is None and (address := self._find_address(table)) is None:
            return None
        reader = self._reader()
        found = reader.execute(GET, (address, id)).fetchone()
        self._release(reader)
        return None if found is None else Row(id, decode(found[1]), found[0])

    def scan(
        self, table: Table, *, prefix: str = "", after: str = "", before: str = "", limit: int = 1000, reverse: bool = False
    ) -> list[Row]:
        address = self._addresses.get(table)
        if address is None and (address := self._find_address(table)) is None:
            return []
        low, inclusive, high = key_range(prefix, after, before)
        reader = self._reader()
        if high is None:
            found = reader.execute(_SCANS[inclusive, False, reverse], (address, low, limit)).fetchall()
        else:
            found = reader.execute(_SCANS[inclusive, True, reverse], (address, low, high, limit)).fetchall()
        self._release(reader)
        return [Row(id, decode(value), version) for id, version, value in found]

    def tables(self, *, service: str = "", noun: str = "") -> list[Table]:
        reader = self._reader()
        found = reader.execute(TABLES, (service, noun)).fetchall()
        self._release(reader)
        return [Table(*names) for names in found]

    def body(self, name: str) -> bytes | None:
        reader = self._reader()
        found = reader.execute(BODY, (name,)).fetchone()
        self._release(reader)
        if found is None:
            raise NotFound(f"Body {name} does not exist.")
        data: bytes | None = found[0]
        return data

    def body_names(self) -> Iterator[str]:
        found: list[tuple[str]] = [("",)]
        statement = "SELECT name FROM body WHERE name >= ? ORDER BY name LIMIT 1000"
        while found:
            reader = self._reader()
            found = reader.execute(statement, found[-1]).fetchall()
            self._release(reader)
            statement = statement.replace(">=", ">")
            for (name,) in found:
                yield name

    def generation(self, service: str) -> int:
        if self._watch is not None:
            return self._watch.generation(service)
        return self._clears + self._generations.get(service, 0)

    # -- writing ----------------------------------------------------------------------------------------------------

    def submit(self, changes: Sequence[Change]) -> Future[None]:
        submission = _Submission(prepare(changes))
        submission.future = Future()
        self._enqueue(submission)
        return submission.future

    def commit(self, changes: Sequence[Change]) -> Awaitable[None]:
        submission = _Submission(prepare(changes))
        submission.loop = loop = asyncio.get_running_loop()
        submission.waiter = waiter = loop.create_future()
        self._enqueue(submission)
        return waiter

    def write(self, *changes: Change) -> None:
        self._wait(_Submission(prepare(changes)))

    def clear(self) -> None:
        submission = _Submission(prepare(()))
        submission.clears = True
        self._wait(submission)

    def close(self) -> None:
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        self._thread.join()
        while self._readers:
            self._readers.pop().connection.close()
        if self._watch is not None:
            self._watch.close()

    # -- inside -----------------------------------------------------------------------------------------------------

    def _wait(self, submission: _Submission) -> None:
        submission.lock = lock = threading.Lock()
        lock.acquire()
        self._enqueue(submission)
        lock.acquire()
        if submission.error is not None:
            raise submission.error

    def _enqueue(self, submission: _Submission) -> None:
        with self._closing:
            if self._closed:
                raise Unavailable("The store is closed.")
            self._queue.put(submission)

    def _connect(self, cache_kib: int) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA cache_size=-{cache_kib}")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute(f"PRAGMA journal_size_limit={WAL_LIMIT_BYTES}")
        return connection

    def _reader(self) -> sqlite3.Cursor:
        """A cursor nobody else uses. Taking from and giving back to a list is atomic, so there is no lock."""
        try:
            return self._readers.pop()
        except IndexError:
            if self._closed:
                raise Unavailable("The store is closed.") from None
            connection = self._connect(READER_CACHE_KIB)
            connection.execute("PRAGMA query_only=1")
            return connection.cursor()

    def _release(self, reader: sqlite3.Cursor) -> None:
        if len(self._readers) < READERS and not self._closed:
            self._readers.append(reader)
        else:
            reader.connection.close()

    def _find_address(self, table: Table) -> int | None:
        """The number of a table another process may have made."""
        if not self._shared:
            return None
        reader = self._reader()
        found = reader.execute(FIND_ADDRESS, table).fetchone()
        self._release(reader)
        if found is None:
            return None
        number: int = found[0]
        self._addresses[table] = number
        return number


class _Writer:
    """The one thread that writes: takes what has queued up, makes one transaction of it, wakes those who wait."""

    def __init__(self, store: SqliteRecords, connection: sqlite3.Connection) -> None:
        self._store = store
        self._queue = store._queue
        self._addresses = store._addresses
        self._connection = connection
        self._cursor = connection.cursor()
        self._checkpoint = _Checkpoint(store, connection)

    def run(self) -> None:
        ended = False
        while not ended:
            taken, ended = self._take()
            if taken:
                self._apply(taken)
                self._wake(taken)
                del taken
                self._checkpoint.step()
        self._checkpoint.close()
        self._connection.close()

    def _take(self) -> tuple[list[_Submission], bool]:
        """Everything that waits, up to the limits of a batch; whether the store is closing."""
        queue = self._queue
        first = queue.get()
        if first is None:
            return [], True
        taken, size = [first], first.prepared.size_bytes
        for _ in range(min(queue.qsize(), BATCH_SUBMISSIONS)):
            submission = queue.get()
            if submission is None:
                return taken, True
            taken.append(submission)
            size += submission.prepared.size_bytes
            if size > BATCH_BYTES:
                break
        return taken, False

    def _apply(self, taken: list[_Submission]) -> None:
        """One transaction for all; when the disk refuses, all of them fail and nothing has happened."""
        try:
            services = self._transact(taken)
        except sqlite3.Error as error:
            log.error("records: %d submissions failed: %s", len(taken), error)
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            known = _addresses(self._connection)
            for table in [table for table in self._addresses if table not in known]:
                del self._addresses[table]
            for submission in taken:
                submission.error = submission.error or Unavailable(f"The metadata store cannot write: {error}.")
            return
        generations = self._store._generations
        for service in services:
            generations[service] = generations.get(service, 0) + 1

    def _transact(self, taken: list[_Submission]) -> Iterable[str]:
        """Decide and write; gives the services whose rows changed."""
        cursor = self._cursor
        cursor.execute("BEGIN IMMEDIATE")
        keys = list({row.key for submission in taken for row in submission.prepared.rows})
        for table in {table for table, _ in keys if table not in self._addresses}:
            self._intern(table)
        batch = Batch(self._versions(keys))
        clears = False
        for submission in taken:
            if submission.clears:
                clears = True
                cursor.execute("DELETE FROM row")
                cursor.execute("DELETE FROM body")
                batch = Batch({})
            else:
                submission.error = batch.add(submission.prepared)
        self._write_rows(batch)
        self._write_bodies(batch)
        services = {table.service for table, _ in batch.rows}
        if clears:
            services |= {table.service for table in self._addresses}
        if self._store._shared:
            for service in services:
                cursor.execute(
                    "INSERT INTO generation VALUES (?, 1) ON CONFLICT (service) DO UPDATE SET number = number + 1", (service,)
                )
        cursor.execute("COMMIT")
        return services

    def _intern(self, table: Table) -> None:
        self._cursor.execute("INSERT OR IGNORE INTO address (account, region, service, noun) VALUES (?, ?, ?, ?)", table)
        self._addresses[table] = self._cursor.execute(FIND_ADDRESS, table).fetchone()[0]

    def _versions(self, keys: list[Key]) -> dict[Key, int]:
        """What is there now: one answer row with a column for each key."""
        versions: dict[Key, int] = {}
        addresses = self._addresses
        for some in _pieces(keys):
            parameters: list[Any] = []
            for table, id in some:
                parameters += (addresses[table], id)
            found = self._cursor.execute(_LOOK_UP[len(some)], parameters).fetchone()
            versions.update((key, version) for key, version in zip(some, found, strict=True) if version)
        return versions

    def _write_rows(self, batch: Batch) -> None:
        addresses = self._addresses
        written = [(addresses[table], id, *row) for (table, id), row in batch.rows.items() if row is not None]
        if len(written) > 1:
            written.sort(key=_row_order)
        self._checkpoint.add(len(written) + sum(len(row[3]) for row in written) // PAGE_BYTES)
        for some in _pieces(written):
            self._cursor.execute(_PUT_ROWS[len(some)], [value for row in some for value in row])
        if len(written) < len(batch.rows):
            removed = [(addresses[table], id) for (table, id), row in batch.rows.items() if row is None]
            self._checkpoint.add(len(removed))
            for gone in _pieces(removed):
                self._cursor.execute(_DELETE_ROWS[len(gone)], [value for row in gone for value in row])

    def _write_bodies(self, batch: Batch) -> None:
        written = [(name, body[0]) for name, body in batch.bodies.items() if body is not None]
        self._checkpoint.add(len(written) + sum(len(data) for _, data in written if data is not None) // PAGE_BYTES)
        for some in _pieces(written):
            self._cursor.execute(_PUT_BODIES[len(some)], [value for body in some for value in body])
        if len(written) < len(batch.bodies):
            removed = [name for name, body in batch.bodies.items() if body is None]
            self._checkpoint.add(len(removed))
            for gone in _pieces(removed):
                self._cursor.execute(_DELETE_BODIES[len(gone)], gone)

    def _wake(self, taken: list[_Submission]) -> None:
        """Tell everybody: one call into each event loop, however many wait in it."""
        loops: dict[asyncio.AbstractEventLoop, list[_Submission]] = {}
        for submission in taken:
            if submission.loop is not None:
                loops.setdefault(submission.loop, []).append(submission)
            elif submission.lock is not None:
                submission.lock.release()
            elif submission.future is not None and submission.future.set_running_or_notify_cancel():
                if submission.error is None:
                    submission.future.set_result(None)
                else:
                    submission.future.set_exception(submission.error)
        for loop, waiting in loops.items():
            try:
                loop.call_soon_threadsafe(_settle, waiting)
            except RuntimeError:
                log.debug("records: %d waiters are gone with their event loop", len(waiting))


class _Checkpoint:
    """Keeps the WAL short, away from whoever waits for a write."""

    def __init__(self, store: SqliteRecords, connection: sqlite3.Connection) -> None:
        self._store = store
        self._connection = connection
        self._pages = 0
        self._copying: threading.Thread | None = None

    def add(self, pages: int) -> None:
        """Count what a batch wrote (an estimate is enough)."""
        self._pages += pages + 1

    def step(self) -> None:
        """Between two batches: begin to copy when the WAL is long, and finish what a copy has left."""
        if self._copying is None:
            if self._pages > CHECKPOINT_PAGES:
                self._pages = 0
                self._copying = threading.Thread(target=self._copy, name="records-checkpoint", daemon=True)
                self._copying.start()
        elif not self._copying.is_alive():
            self._copying = None
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def close(self) -> None:
        if self._copying is not None:
            self._copying.join()

    def _copy(self) -> None:
        connection = self._store._connect(64)
        try:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.Error as error:
            log.error("records: checkpoint failed, the WAL grows on: %s", error)
        finally:
            connection.close()


class _Watch:
    """Generations that other processes move too: counters in the file, read again when the file's version changed."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._cursor = connection.cursor()
        self._lock = threading.Lock()
        self._version = -1
        self._numbers: dict[str, int] = {}

    def generation(self, service: str) -> int:
        with self._lock:
            version = self._cursor.execute("PRAGMA data_version").fetchone()[0]
            if version != self._version:
                self._numbers = dict(self._cursor.execute("SELECT service, number FROM generation").fetchall())
                self._version = version
            return self._numbers.get(service, 0)

    def close(self) -> None:
        self._cursor.connection.close()


def _create(path: Path) -> None:
    """Make or open the file: WAL before anybody else comes (its PRAGMA does not wait for locks), format checked."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, timeout=BUSY_MS / 1000, isolation_level=None)
    try:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "format" in tables:
            (version,) = connection.execute("SELECT max(version) FROM format").fetchone()
            if version is not None and version > FORMAT:
                raise Unavailable(
                    f"{path} was written by a newer Pilvi (format {version}; this one knows up to {FORMAT}). Start the newer one."
                )
        connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("BEGIN IMMEDIATE")
        for statement in SCHEMA.strip().split(";\n"):
            connection.execute(statement)
        connection.execute("INSERT INTO format SELECT ? WHERE NOT EXISTS (SELECT 1 FROM format)", (FORMAT,))
        connection.execute("COMMIT")
    except sqlite3.DatabaseError as error:
        raise Unavailable(f"{path} cannot be opened as the metadata store: {error}.") from error
    finally:
        connection.close()
    sync_folder(path.parent)


def _addresses(connection: sqlite3.Connection) -> dict[Table, int]:
    """The number of every table there ever was; numbers are never given twice."""
    return {
        Table(*names): number for number, *names in connection.execute("SELECT id, account, region, service, noun FROM address")
    }


def _settle(waiting: list[_Submission]) -> None:
    """On the event loop: end the futures of a batch."""
    for submission in waiting:
        waiter = submission.waiter
        if waiter is not None and not waiter.done():
            if submission.error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(submission.error)


def _row_order(row: tuple[Any, ...]) -> Any:
    """Neighbours in the tree are written one after the other."""
    return row[:2]


def _pieces(items: list[T]) -> Iterator[list[T]]:
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
_DELETE_ROWS = _for_sizes("DELETE FROM row WHERE (address, id) IN (VALUES ", "(?, ?)", ")")
_PUT_BODIES = _for_sizes(
    "INSERT INTO body (name, data) VALUES ", "(?, ?)", " ON CONFLICT (name) DO UPDATE SET data = excluded.data"
)
_DELETE_BODIES = _for_sizes("DELETE FROM body WHERE name IN (", "?", ")")
_SCANS = {
    (inclusive, bounded, reverse): "SELECT id, version, value FROM row WHERE address = ? AND id "
    + (">= ?" if inclusive else "> ?")
    + (" AND id < ?" if bounded else "")
    + (" ORDER BY id DESC LIMIT ?" if reverse else " ORDER BY id LIMIT ?")
    for inclusive in (True, False)
    for bounded in (True, False)
    for reverse in (True, False)
}
