"""The records port: small dicts under (table, id), written in durable transactions.

    Table(account, region, service, noun)  ->  id  ->  Row(id, value, version)
    body name                              ->  bytes or None      (the side table, see below)

A table keeps its rows in the order of their ids' UTF-8 bytes, which is S3's listing order. A value is a dict of None, bool,
int, float, str, bytes, aware datetimes, lists and dicts; what comes back equals what went in and is the reader's own copy.

The side table holds opaque bytes by name, outside the ordered tables so that scans stay fast. A name with bytes is a small
body; a name with None says that a file of this name in `blobs` is in use (a blob file that no row names is rubbish from a
crash and is swept at start). Any name will do; small bodies that come and go by the thousand are cheapest under names from
`new_body_name`, which a store keeps by number.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple, Protocol

from pilvi.core.errors import Conflict, NotFound
from pilvi.core.paging import decode_token, encode_token


class Table(NamedTuple):
    """An address. Account or region are '' for what is not bound to one (IAM has no region, bucket names no account)."""

    account: str
    region: str
    service: str
    noun: str


class Row(NamedTuple):
    id: str
    value: dict[str, Any]
    version: int
    """Starts at 1, grows by 1 with every write of the row."""


class Insert(NamedTuple):
    """Create; AlreadyExists when the id is taken."""

    table: Table
    id: str
    value: dict[str, Any]


class Put(NamedTuple):
    """Create or replace."""

    table: Table
    id: str
    value: dict[str, Any]


class Update(NamedTuple):
    """Replace what was read: Conflict when the row is gone or no longer has `version`."""

    table: Table
    id: str
    value: dict[str, Any]
    version: int


class Delete(NamedTuple):
    """Remove; NotFound when there is nothing, Conflict when `version` is given and differs."""

    table: Table
    id: str
    version: int | None = None


class Expect(NamedTuple):
    """Change nothing, but fail with Conflict unless the row has `version` (0: unless it is absent)."""

    table: Table
    id: str
    version: int


class PutBody(NamedTuple):
    """Keep small bytes under a name, or (None) claim the blob file of that name."""

    name: str
    data: bytes | None


class DeleteBody(NamedTuple):
    """Forget a body; nothing happens when it is not there."""

    name: str


Change = Insert | Put | Update | Delete | Expect | PutBody | DeleteBody


class Records(Protocol):
    """Every adapter keeps these promises; pilvi.testing.contracts.records proves them."""

    def get(self, table: Table, id: str) -> Row | None:
        """The row, or None. Sees every acknowledged write."""

    def scan(
        self, table: Table, *, prefix: str = "", after: str = "", before: str = "", limit: int = 1000, reverse: bool = False
    ) -> list[Row]:
        """Rows whose id starts with `prefix`, lies beyond `after` and short of `before` (both exclusive; '' is no bound).

        At most `limit`, ascending, or descending when `reverse` (then `before` is where it starts). Seeks; never walks what
        it does not return.
        """

    def tables(self, *, service: str = "", noun: str = "") -> list[Table]:
        """Tables that hold at least one row, in every account and region."""

    def body(self, name: str) -> bytes | None:
        """The small bytes under a name. NotFound when the name is unknown; None when it names a blob file."""

    def body_names(self, *, blobs_only: bool = False) -> Iterable[str]:
        """Every name in the side table, or only those that name blob files (for the sweep at start)."""

    def submit(self, changes: Sequence[Change]) -> Future[None]:
        """Apply all or none, durably: the future ends when the bytes are synced to the disk, or with the error.

        Many submissions share one commit (group commit); each stands or falls alone.
        """

    def commit(self, changes: Sequence[Change]) -> Awaitable[None]:
        """`submit` for the event loop: `await store.commit([...])`. Waiters of one batch are woken together, so it is cheaper."""

    def write(self, *changes: Change) -> None:
        """`submit` and wait. For threads; on the event loop it would stop the world."""

    def generation(self, service: str) -> int:
        """A number that changes whenever any row of this service was written, by whichever process. Cheap: for caches."""

    def clear(self) -> None:
        """Remove everything."""

    def close(self) -> None:
        """Finish what was submitted and let go."""


class BodyNames:
    """Names of small bodies: '#' and a number of 63 bits as 16 hexadecimal digits, growing within a process.

    The upper half is a random epoch for each process, so that two runs do not draw the same number; a store that finds
    bodies of an earlier run in the present epoch asks for another one (`renew`) when it opens.
    """

    MARK = "#"

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self.first = int.from_bytes(os.urandom(4), "big") >> 1 << 32
        self._numbers = itertools.count(self.first + 1)

    def new(self) -> str:
        number = next(self._numbers)
        if number >> 32 != self.first >> 32:
            self.renew()
            return self.new()
        return f"#{number:016x}"

    @staticmethod
    def number(name: str) -> int | None:
        """The number behind a name of this form."""
        if len(name) != 17 or name[0] != "#":
            return None
        try:
            number = int(name[1:], 16)
        except ValueError:
            return None
        return number if f"#{number:016x}" == name and number < 1 << 63 else None


body_names = BodyNames()
os.register_at_fork(after_in_child=body_names.renew)


def new_body_name() -> str:
    """A name nothing has, for `PutBody(name, data)`."""
    return body_names.new()


class Rows:
    """One table of a Records store: what services work with (`ctx.records("WorkGroup")`).

    Reads give plain dicts. Writes are durable on return. The `...ion` methods make Changes for a transaction of several:
    `ctx.write(users.insertion(name, user), keys.deletion(key_id))`.
    """

    __slots__ = ("_store", "table")

    def __init__(self, store: Records, table: Table) -> None:
        self._store = store
        self.table = table

    def find(self, id: str) -> dict[str, Any] | None:
        """The value, or None."""
        row = self._store.get(self.table, id)
        return None if row is None else row.value

    def get(self, id: str) -> dict[str, Any]:
        """The value; NotFound when there is none."""
        row = self._store.get(self.table, id)
        if row is None:
            raise NotFound(f"{self.table.noun} {id} does not exist.")
        return row.value

    def row(self, id: str) -> Row | None:
        return self._store.get(self.table, id)

    def scan(self, *, prefix: str = "", after: str = "", before: str = "", limit: int = 1000, reverse: bool = False) -> list[Row]:
        return self._store.scan(self.table, prefix=prefix, after=after, before=before, limit=limit, reverse=reverse)

    def all(self, *, prefix: str = "") -> list[dict[str, Any]]:
        """Every value, in id order; for tables known to be small."""
        found: list[dict[str, Any]] = []
        after = ""
        while rows := self.scan(prefix=prefix, after=after, limit=1000):
            found += [row.value for row in rows]
            after = rows[-1].id
        return found

    def page(self, token: str | None, limit: int, *, prefix: str = "") -> tuple[list[dict[str, Any]], str | None]:
        """One page of values and the token of the next, None at the end. Invalid for a foreign token."""
        rows = self.scan(prefix=prefix, after=decode_token(token), limit=limit + 1)
        more = encode_token(rows[limit - 1].id) if len(rows) > limit else None
        return [row.value for row in rows[:limit]], more

    def insert(self, id: str, value: dict[str, Any]) -> None:
        """AlreadyExists when the id is taken."""
        self._store.write(Insert(self.table, id, value))

    def put(self, id: str, value: dict[str, Any]) -> None:
        self._store.write(Put(self.table, id, value))

    def update(
        self,
        id: str,
        change: Callable[[dict[str, Any]], dict[str, Any] | None],
        also: Callable[[dict[str, Any]], Sequence[Change]] | None = None,
    ) -> dict[str, Any]:
        """Read, change, write as one call; NotFound when absent.

        `change` gets the value and returns the new one (or edits it in place and returns None). It may run again when
        somebody else wrote in between, and may raise to leave everything as it was. `also` gives what is written with it.
        """
        while True:
            row = self._store.get(self.table, id)
            if row is None:
                raise NotFound(f"{self.table.noun} {id} does not exist.")
            value = change(row.value)
            value = row.value if value is None else value
            try:
                self._store.write(Update(self.table, id, value, row.version), *(also(value) if also is not None else ()))
            except Conflict:
                continue
            return value

    def delete(self, id: str) -> None:
        """NotFound when absent."""
        self._store.write(Delete(self.table, id))

    def insertion(self, id: str, value: dict[str, Any]) -> Insert:
        return Insert(self.table, id, value)

    def replacement(self, id: str, value: dict[str, Any]) -> Put:
        return Put(self.table, id, value)

    def revision(self, id: str, value: dict[str, Any], version: int) -> Update:
        return Update(self.table, id, value, version)

    def deletion(self, id: str, version: int | None = None) -> Delete:
        return Delete(self.table, id, version)
