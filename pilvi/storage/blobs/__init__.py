"""The blobs port: large bytes under unique names, written once, read in ranges.

A blob is written under a fresh name and becomes part of the world when a records transaction claims it
(`PutBody(name, None)`); until then a crash leaves only a file that the sweep removes. Names are never reused.
Encryption is not the port's business: `storage.sealed` puts it around any adapter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol


class BlobWriter(Protocol):
    """One blob being written; use it from one thread at a time."""

    name: str

    def write(self, data: bytes | memoryview) -> None:
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

    def size(self, name: str) -> int:
        """Bytes stored. NotFound when the name is unknown."""

    def delete(self, name: str) -> None:
        """Remove; nothing happens when it is not there. A reader that already opened it may finish."""

    def names(self) -> Iterator[str]:
        """Every name, half-written ones included."""

    def sweep(self, keep: Iterable[str]) -> int:
        """Remove every blob not named in `keep`; gives their number. Only at start, before anything writes."""

    def clear(self) -> None:
        """Remove everything."""
