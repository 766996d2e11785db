"""Blobs in memory: a full sibling of the files, for tests and for small clouds that forget."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pilvi.core.errors import NotFound
from pilvi.core.streams import Piece
from pilvi.storage.blobs import PIECE_BYTES, new_name, nobody


class MemoryBlobWriter:
    def __init__(self, blobs: MemoryBlobs) -> None:
        self.name = new_name()
        self._blobs = blobs
        self._data = bytearray()
        self._open = True
        blobs._stored[self.name] = b""

    def write(self, data: Piece | memoryview) -> None:
        self._data += data

    def finish(self) -> int:
        self._blobs._stored[self.name] = bytes(self._data)
        self._open = False
        return len(self._data)

    def abort(self) -> None:
        if self._open:
            self._open = False
            self._blobs._stored.pop(self.name, None)


class MemoryBlobs:
    def __init__(self) -> None:
        self._stored: dict[str, bytes] = {}

    def create(self) -> MemoryBlobWriter:
        return MemoryBlobWriter(self)

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        return self._find(name)[start:end]

    def stream(self, name: str, start: int = 0, end: int | None = None, piece_bytes: int = PIECE_BYTES) -> Iterator[Piece]:
        data = self._find(name)[start:end]
        return (data[at : at + piece_bytes] for at in range(0, len(data), piece_bytes))

    def path(self, name: str) -> Path | None:  # noqa: ARG002 - the port's signature
        return None

    def size(self, name: str) -> int:
        return len(self._find(name))

    def delete(self, name: str) -> None:
        self._stored.pop(name, None)

    def names(self) -> Iterator[str]:
        return iter(list(self._stored))

    def sweep(self, keep: Iterable[str], spare: Callable[[str], bool] = nobody) -> int:
        loose = {name for name in self._stored.keys() - set(keep) if not spare(name)}
        for name in loose:
            del self._stored[name]
        return len(loose)

    def clear(self) -> None:
        self._stored.clear()

    def _find(self, name: str) -> bytes:
        data = self._stored.get(name)
        if data is None:
            raise NotFound(f"Blob {name} does not exist.")
        return data
