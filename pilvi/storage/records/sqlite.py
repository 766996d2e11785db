"""Records in SQLite: one file, readable with any SQLite tool, durable when acknowledged.

    submit, commit, write  ->  queue  ->  the writer's thread (sqlite_writer.py): group commit
    get                    ->  rows read lately (cache.py), else
    get, scan, body        ->  a small pool of read connections, each statement its own snapshot (WAL)

`shared=True` is for several processes on one file: nothing is then remembered between calls, and generations are kept in the
file. Otherwise the caller sees to it that this is the only process that writes (storage.lock).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from pilvi.core.errors import NotFound, Unavailable
from pilvi.storage.durable import sync_folder
from pilvi.storage.records import BodyNames, Change, Row, Table, body_names
from pilvi.storage.records.batch import Key, decode, key_range
from pilvi.storage.records.cache import ABSENT, BODIES_BYTES, BODY_BYTES, ROW_BYTES, RecordCache
from pilvi.storage.records.sqlite_copies import SqliteCopies, SqliteCopy, bring_up_to_date, go_on_alone, integrity, read_one
from pilvi.storage.records.sqlite_writer import FIND_ADDRESS, PAGE_BYTES, Writer
from pilvi.storage.records.submissions import Intake

FORMAT = 1
"""Grows when the tables below change; a newer server converts, an older one refuses."""

# Rows hang in one clustered tree, by table and id, so that a scan reads neighbours. Bodies have a rowid: rows of some KiB fill
# pages of such a tree well, while a clustered index would spill each of them to pages of its own. Small bodies under numbers
# lie in the order they came, without an index: one page takes several, and one that goes touches one page.
SCHEMA = """
CREATE TABLE IF NOT EXISTS format (version INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS address (
    id INTEGER PRIMARY KEY, account TEXT NOT NULL, region TEXT NOT NULL, service TEXT NOT NULL, noun TEXT NOT NULL,
    UNIQUE (account, region, service, noun)
);
CREATE TABLE IF NOT EXISTS row (
    address INTEGER NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL, value BLOB NOT NULL, PRIMARY KEY (address, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS small_body (number INTEGER PRIMARY KEY, data BLOB);
CREATE INDEX IF NOT EXISTS numbered_blob_in_use ON small_body (number) WHERE data IS NULL;
CREATE TABLE IF NOT EXISTS body (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, data BLOB);
CREATE INDEX IF NOT EXISTS blob_in_use ON body (name) WHERE data IS NULL;
CREATE TABLE IF NOT EXISTS generation (service TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
"""

GET = "SELECT version, value FROM row WHERE address = ? AND id = ?"
BODY = "SELECT data FROM body WHERE name = ?"
SMALL_BODY = "SELECT data FROM small_body WHERE number = ?"
TABLES = """SELECT account, region, service, noun FROM address
    WHERE (?1 = '' OR service = ?1) AND (?2 = '' OR noun = ?2) AND EXISTS (SELECT 1 FROM row WHERE row.address = address.id)
    ORDER BY account, region, service, noun"""

WRITER_CACHE_KIB = 4096
READER_CACHE_KIB = 1024
READERS = 8
BUSY_MS = 10_000
WAL_LIMIT_BYTES = 64 << 20
"""A WAL that outgrew this is cut when it starts again."""


class SqliteRecords:
    """The default store. Everything the port says, plus `shared`: other processes write the same file."""

    def __init__(
        self,
        path: Path | str,
        *,
        shared: bool = False,
        copies: Sequence[Path] | None = None,
        on_lost: Callable[[Path, str], None] | None = None,
    ) -> None:
        """copies: other files that every commit goes to as well (sqlite_copies.py), of the one process that writes; None says
        nothing of them. on_lost: told which of them failed, and why.
        """
        self._path = Path(path)
        self._shared = shared
        self._intake = Intake()
        self._readers: list[sqlite3.Cursor] = []
        self._addresses: dict[Table, int] = {}
        self._generations: dict[str, int] = {}
        self._cache: RecordCache[Key] = RecordCache()
        self._bodies: RecordCache[str] = RecordCache()
        self._larger: RecordCache[str] = RecordCache(BODY_BYTES, BODIES_BYTES)
        """Bodies, too; kept apart so that a few of them do not drive out many."""
        self._copies = tuple(copies or ())
        followers = _with_copies(self._path, copies, on_lost or _unheard)
        _create(self._path)
        self._watch = _Watch(self._connect(64)) if shared else None
        self._writer = writer = Writer(
            self._intake.queue,
            self._connect,
            self._addresses,
            None if shared else (self._cache, self._bodies, self._larger),
            self._generations,
            cache_kib=WRITER_CACHE_KIB,
            copies=followers,
        )
        self._writing = threading.Thread(target=writer.run, name="records-writer", daemon=True)
        self._writing.start()
        self._avoid_earlier_names()

    # -- reading ----------------------------------------------------------------------------------------------------

    def get(self, table: Table, id: str) -> Row | None:
        key = (table, id)
        stored = self._cache.find(key)
        if stored is None:
            address = self._addresses.get(table)
            if address is None and (address := self._find_address(table)) is None:
                return None
            ticket = self._cache.ticket
            reader = self._reader()
            stored = reader.execute(GET, (address, id)).fetchone() or ABSENT
            self._release(reader)
            if not self._shared:
                self._cache.offer(key, stored, ticket)
        version, data = stored
        return Row(id, decode(data), version) if version else None

    def peek(self, table: Table, id: str) -> Any:
        """Version and encoded value of a row that was read lately (version 0: there is none), None when nothing is known of it.

        While the row is not written, it is the same object each time: whoever made something of it may keep that and compare.
        """
        find: Any = self._cache.find
        return find((table, id))

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
        make: Any = tuple.__new__  # what Row(...) ends in: a page has a thousand of them
        return [make(Row, (id, decode(value), version)) for id, version, value in found]

    def tables(self, *, service: str = "", noun: str = "") -> list[Table]:
        reader = self._reader()
        found = reader.execute(TABLES, (service, noun)).fetchall()
        self._release(reader)
        return [Table(*names) for names in found]

    def body(self, name: str) -> bytes | None:
        stored = self._bodies.find(name) or self._larger.find(name)
        if stored is not None:
            return stored[1]
        number = BodyNames.number(name)
        statement, key = (BODY, name) if number is None else (SMALL_BODY, number)
        ticket, other_ticket = self._bodies.ticket, self._larger.ticket
        reader = self._reader()
        found = reader.execute(statement, (key,)).fetchone()
        self._release(reader)
        if found is None:
            raise NotFound(f"Body {name} does not exist.")
        data: bytes | None = found[0]
        if data is not None and not self._shared:
            if len(data) <= ROW_BYTES:
                self._bodies.offer(name, (1, data), ticket)
            else:
                self._larger.offer(name, (1, data), other_ticket)
        return data

    def body_names(self, *, blobs_only: bool = False) -> Iterator[str]:
        wanted = "data IS NULL AND" if blobs_only else ""
        yield from self._all_keys(f"SELECT name FROM body WHERE {wanted} name > ? ORDER BY name LIMIT 1000", "")
        for number in self._all_keys(f"SELECT number FROM small_body WHERE {wanted} number > ? ORDER BY number LIMIT 1000", -1):
            yield f"#{number:016x}"

    def generation(self, service: str) -> int:
        if self._watch is not None:
            return self._watch.generation(service)
        return self._generations.get(service, 0)

    # -- writing ----------------------------------------------------------------------------------------------------

    def submit(self, changes: Sequence[Change]) -> Future[None]:
        return self._intake.submit(changes)

    def commit(self, changes: Sequence[Change]) -> Awaitable[None]:
        return self._intake.commit(changes)

    def write(self, *changes: Change) -> None:
        self._intake.write(changes)

    def clear(self) -> None:
        self._intake.clear()

    def close(self) -> None:
        if not self._intake.close():
            return
        self._writing.join()
        while self._readers:
            self._readers.pop().connection.close()
        if self._watch is not None:
            self._watch.close()

    # -- looking for damage (storage.scrub) -----------------------------------------------------------------------------

    def damage(self) -> list[str]:
        """What is wrong with the file and its copies: pages, order, indexes."""
        found = []
        for path in (self._path, *self._copies):
            found += [f"{path}: {message}" for message in integrity(path)]
        return found

    def other_bodies(self, name: str) -> Iterator[bytes]:
        """What the copies hold under a name of small bytes."""
        number = BodyNames.number(name)
        statement, key = (BODY, name) if number is None else (SMALL_BODY, number)
        for path in self._copies:
            if (data := read_one(path, statement, key)) is not None:
                yield data

    # -- inside -----------------------------------------------------------------------------------------------------

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
            if self._intake.is_closed:
                raise Unavailable("The store is closed.") from None
            connection = self._connect(READER_CACHE_KIB)
            connection.execute("PRAGMA query_only=1")
            return connection.cursor()

    def _release(self, reader: sqlite3.Cursor) -> None:
        if len(self._readers) < READERS and not self._intake.is_closed:
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

    def _all_keys(self, statement: str, before_all: Any) -> Iterator[Any]:
        """One column, a thousand at a time, so that no snapshot is held for long."""
        found = [(before_all,)]
        while found:
            reader = self._reader()
            found = reader.execute(statement, found[-1]).fetchall()
            self._release(reader)
            for (key,) in found:
                yield key

    def _avoid_earlier_names(self) -> None:
        """Draw new body names from an epoch in which this store has none yet."""
        reader = self._reader()
        taken = "SELECT 1 FROM small_body WHERE number BETWEEN ? AND ? LIMIT 1"
        while reader.execute(taken, (body_names.first, body_names.first + (1 << 32) - 1)).fetchone():
            body_names.renew()
        self._release(reader)


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


def _with_copies(path: Path, copies: Sequence[Path] | None, on_lost: Callable[[Path, str], None]) -> SqliteCopies | None:
    """The copies, equal to the file and open; None when there are none."""
    if copies is None:
        return None
    if not copies:
        if path.exists():
            go_on_alone(path)
        return None
    if not any(one.exists() for one in (path, *copies)):
        _create(path)
    bring_up_to_date((path, *copies))
    for copy in copies:
        _create(copy)
    return SqliteCopies([SqliteCopy(copy) for copy in copies], on_lost)


def _unheard(path: Path, reason: str) -> None:
    """Nobody wants to know; the log says it."""


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


_SCANS = {
    (inclusive, bounded, reverse): "SELECT id, version, value FROM row WHERE address = ? AND id "
    + (">= ?" if inclusive else "> ?")
    + (" AND id < ?" if bounded else "")
    + (" ORDER BY id DESC LIMIT ?" if reverse else " ORDER BY id LIMIT ?")
    for inclusive in (True, False)
    for bounded in (True, False)
    for reverse in (True, False)
}
