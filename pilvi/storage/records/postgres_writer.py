"""The writer of the PostgreSQL store: a thread that makes one transaction of whatever has queued up.

    queue -> take -> BEGIN, lock the keys, look up versions -> decide (batch.py) -> write in bulk, COMMIT -> wake everybody

Several servers write at once: each locks what it is about to judge (advisory locks over a hash of the keys, always in the same
order, so nobody waits in a circle), looks at the versions only then, and keeps the locks until its commit is seen by all.

When the line breaks during COMMIT nobody knows what became of it, and to call it failed could lose what was replaced. So every
transaction leaves its number in a row of this writer's own, and the writer looks there, for as long as that takes, before it
tells anybody anything. (PostgreSQL's own transaction numbers would not do: after a crash it may give them a second time.)
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import zlib
from typing import TYPE_CHECKING, Any, Protocol

from pilvi.core.errors import Unavailable
from pilvi.storage.records import Table
from pilvi.storage.records.batch import Batch, Key
from pilvi.storage.records.submissions import Queue, Submission, Taking, wake

if TYPE_CHECKING:
    import psycopg

log = logging.getLogger(__name__)

CHANNEL = "pilvi_generation"
KEYS_LOCK = 0x70696C76
"""First half of the advisory locks over keys; the second is one of STRIPES."""
GENERATIONS_LOCK = 0x70696C77
STRIPES = 256
CONNECT_S = 10
TRIES = 3
ASK_AGAIN_S = 0.5

SYNCED = """SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') IN ('off', 'local')"""
"""Whatever the server's default: a commit that was answered is on its disk (and on its standbys', where it has been told so)."""
LOCK_KEYS = "SELECT pg_advisory_xact_lock(%s, stripe) FROM unnest(%s::integer[]) stripe"
LOCK_ALL = "SELECT pg_advisory_xact_lock(%s, stripe) FROM generate_series(0, %s) stripe"
LOOK_UP = """SELECT address, id, version FROM row
    WHERE (address, id) IN (SELECT * FROM unnest(%s::integer[], %s::bytea[]))"""
PUT_ROWS = """INSERT INTO row (address, id, version, value)
    SELECT * FROM unnest(%s::integer[], %s::bytea[], %s::bigint[], %s::bytea[])
    ON CONFLICT (address, id) DO UPDATE SET version = excluded.version, value = excluded.value"""
DELETE_ROWS = "DELETE FROM row WHERE (address, id) IN (SELECT * FROM unnest(%s::integer[], %s::bytea[]))"
PUT_BODIES = """INSERT INTO body (name, data) SELECT * FROM unnest(%s::bytea[], %s::bytea[])
    ON CONFLICT (name) DO UPDATE SET data = excluded.data"""
DELETE_BODIES = "DELETE FROM body WHERE name = ANY(%s::bytea[])"
MARK = """INSERT INTO writer (name, batch, at) VALUES (%s, %s, now())
    ON CONFLICT (name) DO UPDATE SET batch = excluded.batch, at = excluded.at"""
MARKED = "SELECT batch FROM writer WHERE name = %s FOR UPDATE"
"""Waits for a transaction of this writer that PostgreSQL has not ended yet."""
FORGET_WRITERS = "DELETE FROM writer WHERE at < now() - interval '30 days'"
TELL = f"""SELECT pg_notify('{CHANNEL}', service) FROM generation WHERE service = ANY(%s)"""


class Watch(Protocol):
    """Who wants to know of commits."""

    own_pid: int

    def moved(self, services: list[str]) -> None: ...


def load_driver() -> Any:
    """psycopg; Unavailable with the extra's name when it is not installed."""
    try:
        import psycopg
    except ImportError as error:
        raise Unavailable("PostgreSQL needs psycopg: pip install 'pilvi[postgres]'.") from error
    return psycopg


def connect(url: str) -> psycopg.Connection[Any]:
    """A connection in which each statement is its own transaction. Unavailable when nobody answers."""
    driver = load_driver()
    try:
        connection: psycopg.Connection[Any] = driver.connect(
            url, autocommit=True, connect_timeout=CONNECT_S, application_name="pilvi"
        )
        connection.execute(SYNCED)
    except driver.Error as error:
        raise Unavailable(f"The metadata store does not answer: {error}.") from error
    return connection


class Writer:
    """Runs in its own thread until the queue says None."""

    def __init__(self, queue: Queue, url: str, addresses: dict[Table, int], watch: Watch) -> None:
        self._url = url
        self._driver = load_driver()
        self._taking = Taking(queue)
        self._addresses = addresses
        self._watch = watch
        self.is_closing = threading.Event()
        self._name = os.urandom(8)
        self._batch = 0
        self._open()
        self._connection.execute(FORGET_WRITERS)

    def run(self) -> None:
        ended = False
        while not ended:
            taken, ended = self._taking.take()
            if taken:
                self._apply(taken)
                wake(taken)
        with contextlib.suppress(self._driver.Error):
            self._connection.execute("DELETE FROM writer WHERE name = %s", (self._name,))
        self._connection.close()

    def _open(self) -> None:
        self._connection = connect(self._url)
        self._watch.own_pid = self._connection.info.backend_pid

    def _apply(self, taken: list[Submission]) -> None:
        """One transaction for all, tried again where it certainly did not happen; when it cannot be, all of them fail."""
        for left in reversed(range(TRIES)):
            try:
                if self._connection.closed:
                    self._open()
                services = self._transact(taken)
            except Exception as error:  # whatever it is, those who wait must hear of it, and the next batch be tried
                is_passing = isinstance(error, (self._driver.OperationalError, _NotCommitted))
                for submission in taken:
                    submission.error = None
                self._forget_addresses()
                if left and is_passing:
                    continue
                log.error("records: %d submissions failed: %s", len(taken), error, exc_info=not is_passing)
                for submission in taken:
                    submission.error = Unavailable(f"The metadata store cannot write: {error}.")
                return
            self._watch.moved(services)
            return

    def _transact(self, taken: list[Submission]) -> list[str]:
        """Decide and write; gives the services whose rows changed."""
        keys = list(dict.fromkeys([row[0] for submission in taken for row in submission.prepared.rows]))
        clears = any(submission.clears for submission in taken)
        for table in {key[0] for key in keys} - self._addresses.keys():
            self._intern(table)
        connection = self._connection
        is_written = False
        try:
            versions = self._begin(keys, clears)
            batch = Batch(versions)
            for submission in taken:
                if submission.clears:
                    connection.execute("TRUNCATE row, body")
                    batch = Batch({})
                else:
                    submission.error = batch.add(submission.prepared)
            services = {table.service for table, _ in batch.rows}
            if clears:
                services |= {table.service for table in self._addresses}
            if not batch.rows and not batch.bodies and not clears:
                connection.execute("ROLLBACK")
                return []
            with connection.pipeline():
                self._write(batch)
                connection.execute(TELL, (sorted(services),), prepare=True)
                self._batch += 1
                connection.execute(MARK, (self._name, self._batch), prepare=True)
            is_written = True
            connection.execute("COMMIT")
        except BaseException:
            if not is_written or not connection.closed:
                self._roll_back()
                raise
            if not self._is_committed():
                raise _NotCommitted("the connection was lost") from None
        return sorted(services)

    def _begin(self, keys: list[Key], clears: bool) -> dict[Key, int]:
        """Start, lock, and see what is there once the locks are held: three statements, one round trip."""
        connection = self._connection
        numbers = [self._addresses[table] for table, _ in keys]
        ids = [id.encode() for _, id in keys]
        with connection.pipeline():
            connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
            connection.execute("SELECT pg_advisory_xact_lock_shared(%s, 0)", (GENERATIONS_LOCK,), prepare=True)
            if clears:
                connection.execute(LOCK_ALL, (KEYS_LOCK, STRIPES - 1), prepare=True)
            else:
                stripes = sorted({stripe_of(number, id) for number, id in zip(numbers, ids, strict=True)})
                connection.execute(LOCK_KEYS, (KEYS_LOCK, stripes), prepare=True)
            found = connection.execute(LOOK_UP, (numbers, ids), prepare=True, binary=True)
        known = {(number, id): key for number, id, key in zip(numbers, ids, keys, strict=True)}
        return {known[number, id]: version for number, id, version in found.fetchall()}

    def _write(self, batch: Batch) -> None:
        connection = self._connection
        written = [(self._addresses[table], id.encode(), *row) for (table, id), row in batch.rows.items() if row is not None]
        removed = [(self._addresses[table], id.encode()) for (table, id), row in batch.rows.items() if row is None]
        kept = [(name.encode(), body[0]) for name, body in batch.bodies.items() if body is not None]
        forgotten = [name.encode() for name, body in batch.bodies.items() if body is None]
        if written:
            connection.execute(PUT_ROWS, [list(column) for column in zip(*sorted(written), strict=True)], prepare=True)
        if removed:
            connection.execute(DELETE_ROWS, [list(column) for column in zip(*removed, strict=True)], prepare=True)
        if kept:
            connection.execute(PUT_BODIES, [list(column) for column in zip(*kept, strict=True)], prepare=True)
        if forgotten:
            connection.execute(DELETE_BODIES, (forgotten,), prepare=True)

    def _intern(self, table: Table) -> None:
        """A number for a table, outside the transaction: it is nobody's loss when that fails."""
        self._connection.execute(
            "INSERT INTO address (account, region, service, noun) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING", table
        )
        found = self._connection.execute(
            "SELECT id FROM address WHERE (account, region, service, noun) = (%s, %s, %s, %s)", table
        ).fetchone()
        assert found is not None
        self._addresses[table] = found[0]

    def _forget_addresses(self) -> None:
        """The store may have been made anew behind a lost connection."""
        try:
            if self._connection.closed:
                self._open()
            known = known_addresses(self._connection)
        except (Unavailable, self._driver.Error):
            return
        for table in [table for table in self._addresses if table not in known]:
            del self._addresses[table]

    def _roll_back(self) -> None:
        try:
            if not self._connection.closed:
                self._connection.execute("ROLLBACK")
        except self._driver.Error:
            self._connection.close()

    def _is_committed(self) -> bool:
        """What became of a transaction whose COMMIT was not answered. Asks until somebody knows, or the store closes."""
        log.warning("records: the connection broke during COMMIT; asking what became of it")
        while True:
            try:
                self._open()
                found = self._connection.execute(MARKED, (self._name,)).fetchone()
                return found is not None and found[0] == self._batch
            except (Unavailable, self._driver.Error):
                if self.is_closing.is_set():
                    raise
            self.is_closing.wait(ASK_AGAIN_S)


class _NotCommitted(Exception):
    """The connection broke, and PostgreSQL says that nothing has happened."""


def known_addresses(connection: psycopg.Connection[Any]) -> dict[Table, int]:
    found = connection.execute("SELECT id, account, region, service, noun FROM address").fetchall()
    return {Table(*names): number for number, *names in found}


def stripe_of(address: int, id: bytes) -> int:
    return zlib.crc32(id, address) % STRIPES
