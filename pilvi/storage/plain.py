"""Blobs as they are, for disks that are encrypted already: nothing is hidden, but a flipped bit is still found.

    data       as it came
    sums       CRC-64/NVME of every 64 KiB of it
    footer     magic, the data's size, and a CRC of both and of the blob's name

Names end with a mark that no sealed blob's name has: "s" for these, "p" for those of earlier days, which have no sums.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from pathlib import Path
from sys import byteorder

from awscrt.checksums import crc64nvme

from pilvi.core.errors import Unavailable
from pilvi.core.streams import Piece
from pilvi.storage.blobs import PIECE_BYTES, Blobs, BlobWriter

SPAN_BYTES = 64 << 10
"""What one sum covers: a small range reads little more than itself."""

_SUM_BYTES = 8
_FOOTER = struct.Struct(">11sQQ")
_MAGIC = b"pilvi-sums\x01"
_MARK, _OLD_MARK = "s", "p"
MARKS = (_MARK, _OLD_MARK)


def is_plain(name: str) -> bool:
    """A hexadecimal name never ends with a mark."""
    return name[-1:] in (_MARK, _OLD_MARK)


def stored_name(name: str) -> str:
    """The name the adapter knows."""
    return name[:-1] if is_plain(name) else name


def plain_name(inner: Blobs, stored: str) -> str:
    """The name of a blob that is not sealed, half-written ones included."""
    size = inner.size(stored)
    footer = inner.read(stored, max(0, size - _FOOTER.size), size)
    return stored + (_OLD_MARK if len(footer) == _FOOTER.size and not footer.startswith(_MAGIC) else _MARK)


class PlainWriter:
    """Writes through, and sums up span by span on the way."""

    def __init__(self, inner: BlobWriter) -> None:
        self.name = inner.name + _MARK
        self._inner = inner
        self._sums = array("Q")
        self._running = 0
        self._size = 0

    def write(self, data: Piece | memoryview) -> None:
        left = memoryview(data)
        while left:
            span = left[: SPAN_BYTES - self._size % SPAN_BYTES]
            self._running = crc64nvme(span, self._running)
            self._size += len(span)
            if self._size % SPAN_BYTES == 0:
                self._sums.append(self._running)
                self._running = 0
            left = left[len(span) :]
        self._inner.write(data)

    def finish(self) -> int:
        if self._size % SPAN_BYTES:
            self._sums.append(self._running)
        if byteorder == "little":
            self._sums.byteswap()
        self._inner.write(self._sums.tobytes() + _footer(self.name, self._size))
        self._inner.finish()
        return self._size

    def abort(self) -> None:
        self._inner.abort()


class PlainFiles:
    """Reads and writes the plain blobs of an adapter. Names are those with the mark."""

    def __init__(self, blobs: Blobs) -> None:
        self._inner = blobs

    def create(self) -> BlobWriter:
        return PlainWriter(self._inner.create())

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        if name[-1] == _OLD_MARK:
            return self._inner.read(name[:-1], start, end)
        return b"".join(self.stream(name, start, end))

    def stream(self, name: str, start: int = 0, end: int | None = None, piece_bytes: int = PIECE_BYTES) -> Iterator[Piece]:
        if name[-1] == _OLD_MARK:
            return self._inner.stream(name[:-1], start, end, piece_bytes)
        size = self.size(name)
        end = size if end is None else min(end, size)
        first, last = start // SPAN_BYTES, -(-end // SPAN_BYTES)
        if start >= end:
            return iter(())
        stored = name[:-1]
        sums = array("Q", self._inner.read(stored, size + first * _SUM_BYTES, size + last * _SUM_BYTES))
        if byteorder == "little":
            sums.byteswap()
        low, high = first * SPAN_BYTES, min(last * SPAN_BYTES, size)
        pieces = max(1, piece_bytes // SPAN_BYTES) * SPAN_BYTES
        return PlainStream(name, self._inner.stream(stored, low, high, pieces), sums, start - low, end - start, high - low)

    def size(self, name: str) -> int:
        stored = self._inner.size(name[:-1])
        if name[-1] == _OLD_MARK:
            return stored
        footer = self._inner.read(name[:-1], max(0, stored - _FOOTER.size), stored)
        size = _FOOTER.unpack(footer)[1] if len(footer) == _FOOTER.size else -1
        if footer != _footer(name, size) or stored != size - -size // SPAN_BYTES * _SUM_BYTES + _FOOTER.size:
            raise damaged(name)
        return int(size)

    def path(self, name: str) -> Path | None:
        """Only where the file holds nothing else."""
        return self._inner.path(name[:-1]) if name[-1] == _OLD_MARK else None


class PlainStream:
    """A range of a plain blob; no byte is given out before its span was checked."""

    def __init__(self, name: str, source: Iterator[Piece], sums: array[int], skip: int, left: int, stored: int) -> None:
        """skip: bytes before the range in its first span. left: bytes of the range. stored: bytes that `source` must give."""
        self._name = name
        self._source = source
        self._sums = sums
        self._skip = skip
        self._left = left
        self._stored = stored
        self._number = 0
        self._rest: Piece = b""

    def __iter__(self) -> PlainStream:
        return self

    def __next__(self) -> Piece:
        if self._left <= 0:
            self.close()
            raise StopIteration
        piece = self._checked(self._whole_spans())
        if self._skip or len(piece) > self._left:
            piece = piece[self._skip : self._skip + self._left]
            self._skip = 0
        self._left -= len(piece)
        return piece

    def _whole_spans(self) -> Piece:
        """The next bytes, cut between spans, wherever the adapter cut them."""
        piece = self._rest
        self._rest = b""
        while len(piece) < self._stored and (not piece or len(piece) % SPAN_BYTES):
            more = next(self._source, b"")
            if not more:
                raise damaged(self._name)
            piece = piece + more if piece else more
            if len(piece) > SPAN_BYTES and len(piece) % SPAN_BYTES and len(piece) < self._stored:
                cut = len(piece) - len(piece) % SPAN_BYTES
                piece, self._rest = piece[:cut], piece[cut:]
        self._stored -= len(piece)
        return piece

    def _checked(self, piece: Piece) -> Piece:
        view = memoryview(piece)
        for at in range(0, len(piece), SPAN_BYTES):
            if self._number >= len(self._sums) or crc64nvme(view[at : at + SPAN_BYTES], 0) != self._sums[self._number]:
                raise damaged(self._name)
            self._number += 1
        return piece

    def close(self) -> None:
        self._left = 0
        close = getattr(self._source, "close", None)
        if close is not None:
            close()


def _footer(name: str, size: int) -> bytes:
    sized = size.to_bytes(8, "big", signed=True)
    return _FOOTER.pack(_MAGIC, max(0, size), crc64nvme(_MAGIC + sized + name.encode(), 0))


def damaged(name: str) -> Unavailable:
    return Unavailable(f"Blob {name} is damaged: its bytes are not those that were written.")
