"""What a batch of submissions does: decided in order against the versions on disk, as data; adapters carry it out.

    Change, ...  -- prepare -->  Prepared  -- Batch.add -->  None, or the error it earns  ...  Batch.rows, Batch.bodies

Each submission stands or falls alone: one that is refused leaves no trace in the batch, and the next is judged by what the
accepted ones before it have done. So an adapter needs one look-up of versions, one bulk write and one commit, whatever
the submissions hold; nothing has to be undone in the database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from pilvi.core.errors import AlreadyExists, Conflict, Invalid, NotFound, PilviError
from pilvi.storage.records import Change, Delete, DeleteBody, Expect, Insert, Put, PutBody, Table, Update

Key = tuple[Table, str]

ANY = -1
"""A row change that asks nothing of what is there (Put)."""
PRESENT = -2
"""A row change that asks for any version (Delete)."""

NEVER = -3
"""A version no row has: the first is 1, and 0 only stands for absence where that may be wished for."""

decode = msgspec.msgpack.decode
"""A stored value as a dict: aware datetimes come back in UTC, bytes as bytes."""

_encode = msgspec.msgpack.Encoder().encode


RowChange = tuple[Key, int, bytes | None, Change]
"""Key; the version that must be there (0: none), ANY, PRESENT or NEVER; the encoded value, None to remove; the change itself."""


class Prepared(NamedTuple):
    """A submission, encoded: from here on the caller's dicts may change without harm."""

    rows: list[RowChange]
    bodies: list[tuple[str, bytes | None, bool]]
    """(name, bytes or None for a blob file, whether it is kept or forgotten)"""
    size_bytes: int


def prepare(changes: Sequence[Change]) -> Prepared:
    """Encode a submission. Invalid when an id or a value cannot be kept."""
    rows: list[RowChange] = []
    bodies: list[tuple[str, bytes | None, bool]] = []
    size = 0
    try:
        for change in changes:
            if type(change) is PutBody:
                bodies.append((change.name, change.data, True))
                size += len(change.data or b"")
            elif type(change) is DeleteBody:
                bodies.append((change.name, None, False))
            else:
                row = _prepare_row(change)  # type: ignore[arg-type]
                size += len(row[2] or b"")
                rows.append(row)
    except (UnicodeEncodeError, OverflowError) as error:
        raise Invalid(f"This cannot be stored: {error}.") from error
    return Prepared(rows, bodies, size)


def _prepare_row(change: Insert | Put | Update | Delete | Expect) -> RowChange:
    key = (change.table, change.id)
    if not change.id.isascii():
        change.id.encode()
    if type(change) is Put:
        return key, ANY, _encode(change.value), change
    if type(change) is Update:
        return key, change.version or NEVER, _encode(change.value), change
    if type(change) is Insert:
        return key, 0, _encode(change.value), change
    if type(change) is Delete:
        return key, PRESENT if change.version is None else change.version or NEVER, None, change
    assert isinstance(change, Expect)
    return key, change.version, None, change


class Batch:
    """The joint effect of the submissions accepted so far."""

    __slots__ = ("bodies", "rows", "versions")

    def __init__(self, versions: Mapping[Key, int]) -> None:
        self.versions = dict(versions)
        """Of every row the submissions touch; rows that are absent may be left out."""
        self.rows: dict[Key, tuple[int, bytes] | None] = {}
        """Version and value to write, or None to remove."""
        self.bodies: dict[str, tuple[bytes | None] | None] = {}
        """(bytes or None for a blob file,) to write, or None to remove."""

    def add(self, submission: Prepared) -> PilviError | None:
        """Take a submission in, or say why it is refused."""
        rows = submission.rows
        if len(rows) == 1:
            if (error := self._add_row(rows[0])) is not None:
                return error
        elif rows:
            before = [(key, self.versions.get(key, 0), self.rows.get(key, ())) for key, *_ in rows]
            for row in rows:
                if (error := self._add_row(row)) is not None:
                    self._restore(before)
                    return error
        for name, data, kept in submission.bodies:
            self.bodies[name] = (data,) if kept else None
        return None

    def _add_row(self, row: RowChange) -> PilviError | None:
        key, expected, data, change = row
        version = self.versions.get(key, 0)
        if version != expected and expected != ANY and not (expected == PRESENT and version):
            return refusal(change, version)
        if data is not None:
            self.versions[key] = version = version + 1
            self.rows[key] = (version, data)
        elif not isinstance(change, Expect):
            self.versions[key] = 0
            self.rows[key] = None
        return None

    def _restore(self, before: list[tuple[Key, int, tuple[int, bytes] | tuple[()] | None]]) -> None:
        for key, version, row in reversed(before):
            self.versions[key] = version
            if row == ():
                self.rows.pop(key, None)
            else:
                self.rows[key] = row  # type: ignore[assignment]


def refusal(change: Change, version: int) -> PilviError:
    """The error of a change that found another version (0: nothing) than it needs."""
    assert not isinstance(change, (PutBody, DeleteBody, Put))
    name = f"{change.table.noun} {change.id}"
    if isinstance(change, Insert):
        return AlreadyExists(f"{name} already exists.")
    if isinstance(change, Delete) and not version:
        return NotFound(f"{name} does not exist.")
    return Conflict(f"{name} was changed by somebody else.")


def key_range(prefix: str, after: str, before: str) -> tuple[str, bool, str | None]:
    """A scan's bounds as (lowest id, whether it is included, first id beyond or None).

    Ids are ordered by their UTF-8 bytes, which is the order of their code points, which is how Python compares strings.
    """
    low, inclusive = (after, False) if after and after >= prefix else (prefix, True)
    high = _beyond(prefix)
    if before and (high is None or before < high):
        high = before
    return low, inclusive, high


def _beyond(prefix: str) -> str | None:
    """The first string after all that start with `prefix`; None when there is none."""
    while prefix:
        last = ord(prefix[-1])
        if last < 0x10FFFF:
            following = last + 1
            return prefix[:-1] + chr(0xE000 if 0xD800 <= following <= 0xDFFF else following)
        prefix = prefix[:-1]
    return None
