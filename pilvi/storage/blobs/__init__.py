"""The blobs port: large bytes under unique names, written once, read in ranges.

A blob is written under a fresh name and becomes part of the world when a records transaction claims it
(`PutBody(name, None)`); until then a crash leaves only a file that the sweep removes. Names are never reused.
Encryption is not the port's business: `storage.sealed` puts it around any adapter.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

from pilvi.core.streams import Piece

PIECE_BYTES = 1 << 20


def nobody(name: str) -> bool:  # noqa: ARG001
    """No other server writes."""
    return False


class BlobWriter(Protocol):
    """One blob being written; use it from one thread at a time."""

    name: str

    def write(self, data: Piece | memoryview) -> None:
        """Append."""

    def finish(self) -> int:
        """Sync to the disk and close; gives the stored size in bytes."""

    def abort(self) -> None:
        """Remove what was written. Harmless after finish or twice."""


class Blobs(Protocol):
    """Every adapter keeps these promises; pilvi.testing.contracts.blobs proves them."""

    def create(self) -> BlobWriter:
        """A writer under a new unique name."""

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        """The bytes from start up to (not including) end. NotFound when the name is unknown."""

    def stream(self, name: str, start: int = 0, end: int | None = None, piece_bytes: int = PIECE_BYTES) -> Iterator[Piece]:
        """The same range in pieces of at most about `piece_bytes`, for bodies too large to hold. Blocks: for threads.

        Opens at once (NotFound comes from this call, and a later delete does no harm); `close()` it when it is left early.
        """

    def path(self, name: str) -> Path | None:
        """The file that holds exactly these bytes, for the kernel to send; None when there is none (sealed, or in memory)."""

    def size(self, name: str) -> int:
        """Bytes stored. NotFound when the name is unknown."""

    def delete(self, name: str) -> None:
        """Remove; nothing happens when it is not there. A reader that already opened it may finish."""

    def names(self) -> Iterator[str]:
        """Every name, half-written ones included."""

    def sweep(self, keep: Iterable[str], spare: Callable[[str], bool] = nobody) -> int:
        """Remove every blob not named in `keep`; gives their number. Only at start, before anything writes.

        `keep` is asked after the names have been listed. spare: says of a name that another server may be writing it.
        """

    def clear(self) -> None:
        """Remove everything."""


class _Names:
    """Unique names: a random word for each process, then a count, so that neighbours in time are neighbours in an index."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self.word = os.urandom(8).hex()
        self.numbers = itertools.count(1)


_names = _Names()
os.register_at_fork(after_in_child=_names.renew)


def word_of_this_process() -> str:
    """How the names begin that this process gives: the first 16 digits."""
    return _names.word


def new_name() -> str:
    """A name nothing has: 28 hexadecimal digits. For blobs, and for small bodies kept in records."""
    return f"{_names.word}{next(_names.numbers):012x}"
