"""One message of a queue, as it stands in memory and in the store.

A row holds what is told without opening the message, and the message (body, attributes, system attributes) sealed: in the row when
it is short, else in the store's side table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from pilvi.services.sqs.queues import Queue
from pilvi.storage.records import Change, Delete, DeleteBody, Insert, PutBody, new_body_name

ROW_BYTES: Final = 2048
"""Sealed messages up to this length lie in their row."""


class Content(NamedTuple):
    """What the sender said."""

    body: str
    attributes: Mapping[str, Mapping[str, Any]]
    system: Mapping[str, Mapping[str, Any]]


class Entry:
    """A message that a queue has in memory. Instants are milliseconds of the product's clock."""

    __slots__ = (
        "content",
        "duplicate_id",
        "first",
        "group",
        "has_state",
        "invisible_until",
        "last",
        "message_id",
        "receives",
        "row",
        "sent",
        "seq",
    )

    def __init__(self, seq: int, row: dict[str, Any], content: Content | None) -> None:
        self.seq = seq
        self.row = row
        """As it is stored; without the sealed message once it was received."""
        self.content = content
        """Opened; None where the store has to be asked."""
        self.message_id: str = row["m"]
        self.sent: int = row["t"]
        self.group: str = row.get("g", "")
        self.duplicate_id: str = row.get("u", "")
        self.invisible_until: int = row.get("d", 0)
        self.receives: int = row.get("c", 0)
        self.first: int = row.get("f", 0)
        self.last = 0
        self.has_state = False
        """There is a row that tells what became of it."""

    @property
    def id(self) -> str:
        return id_of(self.seq)

    @property
    def size(self) -> int:
        size: int = self.row["n"]
        return size

    def take_state(self, state: Mapping[str, Any]) -> None:
        """What was written down since it was sent."""
        self.receives, self.first, self.last, self.invisible_until = state["c"], state["f"], state["l"], state["d"]
        self.has_state = True

    def state(self) -> dict[str, Any]:
        return {"c": self.receives, "f": self.first, "l": self.last, "d": self.invisible_until}

    @property
    def sequence_number(self) -> str:
        return sequence_number(self.seq)


def id_of(seq: int) -> str:
    return f"{seq:016x}"


def sequence_number(seq: int) -> str:
    """Twenty digits that grow within a queue."""
    return str(18_000_000_000_000_000_000 + seq)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


def packed(content: Content) -> bytes:
    return _encode((content.body, content.attributes, content.system))


def unpacked(data: bytes) -> Content:
    return Content(*_decode(data))


def insertion(queue: Queue, seq: int, row: dict[str, Any], sealed: bytes) -> list[Change]:
    """The changes that keep a new message; completes its row."""
    changes: list[Change] = []
    if len(sealed) <= ROW_BYTES:
        row["p"] = sealed
    else:
        row["b"] = new_body_name()
        changes.append(PutBody(row["b"], sealed))
    changes.append(Insert(queue.messages, id_of(seq), row))
    return changes


def deletion(queue: Queue, entry: Entry, *, with_body: bool = True) -> list[Change]:
    changes: list[Change] = [Delete(queue.messages, entry.id)]
    if entry.has_state:
        changes.append(Delete(queue.states, entry.id))
    if with_body and "b" in entry.row:
        changes.append(DeleteBody(entry.row["b"]))
    return changes
