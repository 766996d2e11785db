"""Blobs that other servers may be reading: what is deleted stays for a while, and goes when its time has come.

    delete(name)   a row in the store: this blob is to go at ...
    remove_due()   what a task of one of the servers does each minute

Within one server a reader holds what it reads; of the readers of others nobody knows. A reader that began before the deletion has
KEEP_S to come to its end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pilvi.core.errors import NotFound
from pilvi.core.streams import Piece
from pilvi.storage.blobs import PIECE_BYTES, Blobs, BlobWriter, nobody
from pilvi.storage.records import Delete, Put, Records, Table

log = logging.getLogger("pilvi.storage")

KEEP_S = 900.0
GOING = Table("", "", "storage", "GoingBlob")


class DeferredBlobs:
    """Around an adapter that several servers share."""

    def __init__(self, blobs: Blobs, store: Records, real_s: Callable[[], float], keep_s: float = KEEP_S) -> None:
        """real_s: the time of the world, which the servers have to agree on to some seconds."""
        self._inner = blobs
        self._store = store
        self._real_s = real_s
        self._keep_s = keep_s

    def delete(self, name: str) -> None:
        self._store.write(Put(GOING, name, {"at_s": self._real_s() + self._keep_s}))

    def remove_due(self) -> int:
        """Delete what is due; gives the number. For threads, of one server at a time."""
        removed, after = 0, ""
        while rows := self._store.scan(GOING, after=after):
            after = rows[-1].id
            for row in rows:
                if row.value["at_s"] <= self._real_s():
                    self._inner.delete(row.id)
                    try:
                        self._store.write(Delete(GOING, row.id))
                    except NotFound:
                        continue
                    removed += 1
        return removed

    def is_going(self, name: str) -> bool:
        return self._store.get(GOING, name) is not None

    def create(self) -> BlobWriter:
        return self._inner.create()

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        return self._inner.read(name, start, end)

    def stream(self, name: str, start: int = 0, end: int | None = None, piece_bytes: int = PIECE_BYTES) -> Iterator[Piece]:
        return self._inner.stream(name, start, end, piece_bytes)

    def path(self, name: str) -> Path | None:
        return self._inner.path(name)

    def size(self, name: str) -> int:
        return self._inner.size(name)

    def names(self) -> Iterator[str]:
        return self._inner.names()

    def sweep(self, keep: Iterable[str], spare: Callable[[str], bool] = nobody) -> int:
        return self._inner.sweep(keep, lambda name: spare(name) or self.is_going(name))

    def clear(self) -> None:
        self._inner.clear()
