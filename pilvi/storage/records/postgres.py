"""Records in PostgreSQL: for several servers on one store (extra `pilvi[postgres]`).

    submit, commit, write  ->  Intake: a queue  ->  the writer's thread (postgres_writer.py): group commit
    get, scan, body        ->  a small pool of connections, each statement its own snapshot
    generation             ->  counts of this process, moved by its own commits and by what NOTIFY tells of the others'

Ids and names are kept as bytes: PostgreSQL orders those as they are, and text cannot hold every character an id may have.
Nothing is remembered between calls, so a read sees what any server was told is written. A generation moves at once for this
server's own writes, and for those of others as soon as PostgreSQL's notice has come, which takes about a millisecond.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Awaitable, Iterator, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from pilvi.core.errors import NotFound, Unavailable
from pilvi.storage.records import Change, Row, Table, body_names
from pilvi.storage.records.batch import decode, key_range
from pilvi.storage.records.postgres_writer import CHANNEL, GENERATIONS_LOCK, Writer, connect, known_addresses, load_driver
from pilvi.storage.records.submissions import Intake

if TYPE_CHECKING:
    import psycopg

log = logging.getLogger(__name__)

FORMAT = 1
"""Grows when the tables below change; a newer server converts, an older one refuses."""

# Values are mostly ciphertext or short: compressing them costs and gains nothing (STORAGE EXTERNAL).
SCHEMA = """
CREATE TABLE IF NOT EXISTS format (version integer NOT NULL);
CREATE TABLE IF NOT EXISTS address (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account text NOT NULL, region text NOT NULL, service text NOT NULL, noun text NOT NULL,
    UNIQUE (account, region, service, noun)
);
CREATE TABLE IF NOT EXISTS row (
    address integer NOT NULL, id bytea NOT NULL, version bigint NOT NULL, value bytea NOT NULL, PRIMARY KEY (address, id)
);
ALTER TABLE row ALTER COLUMN value SET STORAGE EXTERNAL;
CREATE TABLE IF NOT EXISTS body (name bytea PRIMARY KEY, data bytea);
ALTER TABLE body ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE INDEX IF NOT EXISTS blob_in_use ON body (name) WHERE data IS NULL;
CREATE TABLE IF NOT EXISTS writer (name bytea PRIMARY KEY, batch bigint NOT NULL, at timestamptz NOT NULL);
CREATE TABLE IF NOT EXISTS generation (service text PRIMARY KEY, number bigint NOT NULL)
"""

GET = "SELECT version, value FROM row WHERE address = %s AND id = %s"
BODY = "SELECT data FROM body WHERE name = %s"
TABLES = """SELECT account, region, service, noun FROM address
    WHERE (%(service)s = '' OR service = %(service)s) AND (%(noun)s = '' OR noun = %(noun)s)
    AND EXISTS (SELECT 1 FROM row WHERE row.address = address.id)
    ORDER BY account COLLATE "C", region COLLATE "C", service COLLATE "C", noun COLLATE "C" """
READERS = 16


class PostgresRecords:
    """Everything the port says, for as many servers as have the address."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._driver = load_driver()
        self._readers: list[psycopg.Connection[Any]] = []
        self._addresses: dict[Table, int] = {}
        self._generations: dict[str, int] = {}
        self._intake = Intake()
        first = connect(url)
        _create(first)
        self._addresses.update(known_addresses(first))
        self._readers.append(first)
        self._watch = _Watch(url, self._generations)
        self._writer = Writer(self._intake.queue, url, self._addresses, self._watch)
        self._writing = threading.Thread(target=self._writer.run, name="records-writer", daemon=True)
        self._writing.start()
        self._avoid_earlier_names()

    # -- reading ----------------------------------------------------------------------------------------------------

    def get(self, table: Table, id: str) -> Row | None:
        address = self._address(table)
        if address is None:
            return None
        found = self._read(GET, (address, id.encode()))
        return Row(id, decode(found[0][1]), found[0][0]) if found else None

    def scan(
        self, table: Table, *, prefix: str = "", after: str = "", before: str = "", limit: int = 1000, reverse: bool = False
    ) -> list[Row]:
        address = self._address(table)
        if address is None:
            return []
        low, inclusive, high = key_range(prefix, after, before)
        bounds = [address, low.encode(), *([] if high is None else [high.encode()]), limit]
        found = self._read(_SCANS[inclusive, high is not None, reverse], bounds)
        return [Row(id.decode(), decode(value), version) for id, version, value in found]

    def tables(self, *, service: str = "", noun: str = "") -> list[Table]:
        return [Table(*names) for names in self._read(TABLES, {"service": service, "noun": noun})]

    def body(self, name: str) -> bytes | None:
        found = self._read(BODY, (name.encode(),))
        if not found:
            raise NotFound(f"Body {name} does not exist.")
        data: bytes | None = found[0][0]
        return data

    def body_names(self, *, blobs_only: bool = False) -> Iterator[str]:
        wanted = "data IS NULL AND" if blobs_only else ""
        statement = f"SELECT name FROM body WHERE {wanted} name > %s ORDER BY name LIMIT 1000"
        found: list[Any] = [(b"",)]
        if not blobs_only and self._read(BODY, (b"",)):
            yield ""
        while found:
            found = self._read(statement, found[-1])
            for (name,) in found:
                yield name.decode()

    def generation(self, service: str) -> int:
        return self._watch.generation(service)

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
        self._writer.is_closing.set()
        self._writing.join()
        while self._readers:
            self._readers.pop().close()
        self._watch.close()

    # -- inside -----------------------------------------------------------------------------------------------------

    def _read(self, statement: str, parameters: Any) -> list[Any]:
        """All rows; once more on a fresh connection when the one at hand turns out to be dead."""
        reader = self._reader()
        try:
            found: list[Any] = reader.execute(statement, parameters, prepare=True, binary=True).fetchall()
        except self._driver.OperationalError:
            reader.close()
            self._drop_readers()
            reader = self._reader()
            try:
                found = reader.execute(statement, parameters, prepare=True, binary=True).fetchall()
            except self._driver.Error as error:
                reader.close()
                raise Unavailable(f"The metadata store cannot be read: {error}.") from error
        self._release(reader)
        return found

    def _reader(self) -> psycopg.Connection[Any]:
        """A connection nobody else uses. Taking from and giving back to a list is atomic, so there is no lock."""
        try:
            return self._readers.pop()
        except IndexError:
            if self._intake.is_closed:
                raise Unavailable("The store is closed.") from None
            return connect(self._url)

    def _release(self, reader: psycopg.Connection[Any]) -> None:
        if len(self._readers) < READERS and not self._intake.is_closed:
            self._readers.append(reader)
        else:
            reader.close()

    def _drop_readers(self) -> None:
        """When one connection is dead, those that lay idle beside it are too."""
        while self._readers:
            self._readers.pop().close()

    def _address(self, table: Table) -> int | None:
        """The number of a table, which another server may have made."""
        number = self._addresses.get(table)
        if number is None:
            found = self._read("SELECT id FROM address WHERE (account, region, service, noun) = (%s, %s, %s, %s)", table)
            if not found:
                return None
            number = self._addresses[table] = found[0][0]
        return number

    def _avoid_earlier_names(self) -> None:
        """Draw new body names from an epoch in which this store has none yet."""
        taken = "SELECT 1 FROM body WHERE name BETWEEN %s AND %s LIMIT 1"
        while self._read(taken, (_small(body_names.first), _small(body_names.first + (1 << 32) - 1))):
            body_names.renew()


class _Watch:
    """Generations: counted here, moved by this server's writer and by the notices of others.

    A service is only told about once somebody asked for its generation (its row in the table `generation`): a notice costs
    PostgreSQL a lock that all commits share, and most writes are of services that nobody caches.
    """

    def __init__(self, url: str, numbers: dict[str, int]) -> None:
        self._url = url
        self._numbers = numbers
        self._lock = threading.Lock()
        self._driver = load_driver()
        self.own_pid = 0
        """The backend of this server's writer, whose notices tell nothing new."""
        self._listen()

    def generation(self, service: str) -> int:
        with self._lock:
            self._hear()
            number = self._numbers.get(service)
            if number is None:
                self._ask_for(service)
                number = self._numbers[service] = 1
            return number + self._numbers.get("", 0)

    def moved(self, services: Sequence[str]) -> None:
        """This server's writer has committed changes of these."""
        with self._lock:
            for service in services:
                if service in self._numbers:
                    self._numbers[service] += 1

    def close(self) -> None:
        self._connection.close()

    def _hear(self) -> None:
        """What has been told since the last call; no waiting. After a break nothing that was known can be trusted."""
        try:
            socket = self._connection.pgconn
            socket.consume_input()
            while (notice := socket.notifies()) is not None:
                if notice.be_pid != self.own_pid:
                    service = notice.extra.decode()
                    if service in self._numbers or not service:
                        self._numbers[service] = self._numbers.get(service, 0) + 1
        except self._driver.Error as error:
            log.warning("records: lost the line that tells of other servers' changes: %s", error)
            self._listen()
            self._numbers[""] = self._numbers.get("", 0) + 1

    def _listen(self) -> None:
        self._connection = connect(self._url)
        self._connection.execute(f"LISTEN {CHANNEL}")

    def _ask_for(self, service: str) -> None:
        """From now on every server tells of this service: none has a transaction under way that does not know of it."""
        with connect(self._url) as connection, connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s, 0)", (GENERATIONS_LOCK,))
            connection.execute("INSERT INTO generation VALUES (%s, 1) ON CONFLICT DO NOTHING", (service,))


def _create(connection: psycopg.Connection[Any]) -> None:
    """Make or open the tables, one server after the other."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s, 1)", (GENERATIONS_LOCK,))
        if connection.execute("SELECT to_regclass('format')").fetchall() != [(None,)]:
            found = connection.execute("SELECT max(version) FROM format").fetchone()
            version = found[0] if found else None
            if version is not None and version > FORMAT:
                raise Unavailable(
                    f"The metadata store was written by a newer Pilvi (format {version}; this one knows up to {FORMAT})."
                    " Start the newer one."
                )
            if version == FORMAT:
                return
        for statement in SCHEMA.split(";\n"):
            connection.execute(statement)
        connection.execute("INSERT INTO format SELECT %s WHERE NOT EXISTS (SELECT 1 FROM format)", (FORMAT,))


def _small(number: int) -> bytes:
    return f"#{number:016x}".encode()


_SCANS = {
    (inclusive, bounded, reverse): "SELECT id, version, value FROM row WHERE address = %s AND id "
    + (">= %s" if inclusive else "> %s")
    + (" AND id < %s" if bounded else "")
    + (" ORDER BY id DESC LIMIT %s" if reverse else " ORDER BY id LIMIT %s")
    for inclusive in (True, False)
    for bounded in (True, False)
    for reverse in (True, False)
}
