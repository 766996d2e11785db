"""Encryption at rest, the blobs: sealed chunk by chunk around any Blobs adapter, so that a range opens only what it needs.

    header (256 bytes)   magic, chunk size, the blob's own random key wrapped by the keyring for this blob's name;
                         or another magic and the number of layers, where keys that the server does not keep seal it (`under`);
                         then a CRC-64/NVME ends each chunk, so that whoever lacks the keys can still look for damage (`check`)
    chunk 0 .. n-1       `chunk size` bytes of AES-256-GCM ciphertext and a tag of 16 for each layer; nonce: the chunk's number;
                         the last one (which may be shorter) is sealed as the last, so a blob cut at a chunk's end does not pass

`PlainBlobs` is for people whose disk is encrypted already. Its names say so (storage.plain), so both kinds live side by side and
a server may be started with one or the other; what has keys of its own is sealed either way.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol

from awscrt.checksums import crc64nvme
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pilvi.core.errors import Invalid, NotFound, Unavailable
from pilvi.core.streams import Piece
from pilvi.storage.blobs import PIECE_BYTES, Blobs, BlobWriter, nobody
from pilvi.storage.keyring import TAG_BYTES, Keyring
from pilvi.storage.layers import Cipher, Keys, cipher_for
from pilvi.storage.plain import PlainFiles, damaged, is_plain, plain_name, stored_name

__all__ = ["AtRest", "Keyring", "PlainBlobs", "SealedBlobs"]

CHUNK_BYTES = 64 << 10
"""Plaintext in a chunk: a small range decrypts little, a large one runs at many GB/s (decisions/0008)."""
HEADER_BYTES = 256
SUM_BYTES = 8
OPENED = 4096
"""Blobs whose unwrapped keys are remembered."""

_HEADER = struct.Struct(">11sIH")
_MAGIC = b"pilvi-blob\x01"
_OWN_MAGIC = b"pilvi-blob\x02"
_INNER, _LAST = b"inner", b"last"


class AtRest(Blobs, Protocol):
    """Blobs as the services see them: protected on the disk in one way or the other."""

    def under(self, keys: Keys) -> Blobs:
        """The same blobs for what is sealed under keys of its own, one for each layer: create, read and stream."""

    def single(self) -> AtRest:
        """The same blobs for what is to be kept in one place only, where others are kept in several (blobs.mirrored)."""

    def read_now(self, name: str, start: int, end: int) -> bytes | None:
        """A short range for the event loop: None where it might have to wait for a disk or a network."""

    def check(self, name: str) -> None:
        """Read a blob from end to end: Unavailable when it is not what was written, NotFound when it is not there."""


class _Opened(NamedTuple):
    """What is known of a sealed blob once its header was read. A blob never changes, so neither does this."""

    decrypt_into: Callable[[bytes, memoryview, bytes, memoryview], int]
    chunk_bytes: int
    tag_bytes: int
    """Of all layers together, and of the sum behind them."""
    size: int
    last: int
    """The number of the last chunk."""


class SealedBlobWriter:
    """Seals whole chunks as they fill up; the last one waits for `finish`, which knows that it is the last."""

    def __init__(self, inner: BlobWriter, cipher: Cipher, header: bytes) -> None:
        self.name = inner.name
        self._inner = inner
        self._pending = bytearray()
        self._number = 0
        self._size = 0
        self._encrypt = cipher.encrypt
        self._header = header.ljust(HEADER_BYTES, b"\0")

    def write(self, data: Piece | memoryview) -> None:
        self._size += len(data)
        left = memoryview(data)
        if self._pending:
            missing = CHUNK_BYTES - len(self._pending)
            self._pending += left[:missing]
            left = left[missing:]
            if not left:
                return
            self._seal(self._pending, _INNER)
            self._pending = bytearray()
        while len(left) > CHUNK_BYTES:
            self._seal(left[:CHUNK_BYTES], _INNER)
            left = left[CHUNK_BYTES:]
        self._pending += left

    def finish(self) -> int:
        self._seal(self._pending, _LAST)
        self._inner.finish()
        return self._size

    def abort(self) -> None:
        self._inner.abort()

    def _seal(self, chunk: bytes | bytearray | memoryview, place: bytes) -> None:
        sealed = self._encrypt(self._number.to_bytes(12, "big"), chunk, place)
        if not self._number:
            sealed = self._header + sealed
        self._number += 1
        self._inner.write(sealed)


class SealedStream:
    """A range of a sealed blob, opened as its pieces arrive."""

    def __init__(self, name: str, opened: _Opened, source: Iterator[Piece], start: int, end: int) -> None:
        self._name = name
        self._opened = opened
        self._source = source
        self._pieces = _whole_chunks(source, opened.chunk_bytes + opened.tag_bytes)
        self._number, self._skip = divmod(start, opened.chunk_bytes)
        self._left = end - start

    def __iter__(self) -> SealedStream:
        return self

    def __next__(self) -> Piece:
        if self._left <= 0:
            self.close()
            raise StopIteration
        sealed = next(self._pieces, b"")
        plain = _open_chunks(self._name, self._opened, self._number, sealed)
        self._number += _chunks_in(self._opened, sealed)
        if self._skip or len(plain) > self._left:
            plain = plain[self._skip : self._skip + self._left]
            self._skip = 0
        self._left -= len(plain)
        return plain

    def close(self) -> None:
        self._left = 0
        close = getattr(self._source, "close", None)
        if close is not None:
            close()


class _Stored:
    """What does not depend on how a blob is protected."""

    _inner: Blobs

    def _fresh(self, name: str) -> Iterator[Piece]:
        """The whole blob, its header read again."""
        raise NotImplementedError

    def read_now(self, name: str, start: int, end: int) -> bytes | None:  # noqa: ARG002 - the port's signature
        return None

    def size(self, name: str) -> int:
        return PlainFiles(self._inner).size(name) if is_plain(name) else _layout(self._inner, name).size

    def path(self, name: str) -> Path | None:
        return PlainFiles(self._inner).path(name) if is_plain(name) else None

    def check(self, name: str) -> None:
        if is_plain(name):
            pieces = PlainFiles(self._inner).stream(name)
        else:
            layout = _layout(self._inner, name)
            pieces = _summed(self._inner, name, layout) if layout.layers else self._fresh(name)
        for _ in pieces:
            pass

    def delete(self, name: str) -> None:
        self._inner.delete(stored_name(name))

    def names(self) -> Iterator[str]:
        return _public_names(self._inner)

    def sweep(self, keep: Iterable[str], spare: Callable[[str], bool] = nobody) -> int:
        return self._inner.sweep((stored_name(name) for name in keep), spare)

    def clear(self) -> None:
        self._inner.clear()


class SealedBlobs(_Stored):
    """Blobs that reach the disk encrypted. Sizes and ranges are those of the plaintext."""

    def __init__(self, blobs: Blobs, keyring: Keyring) -> None:
        self._inner = blobs
        self._plain = PlainFiles(blobs)
        self._keyring = keyring
        self._opened = lru_cache(OPENED)(self._open)
        self._read_now: Callable[[str, int, int], Piece | None] | None = getattr(blobs, "read_now", None)
        """Not every adapter can."""

    def create(self) -> BlobWriter:
        inner = self._inner.create()
        try:
            key, wrapped = self._keyring.new_data_key(inner.name.encode())
            return SealedBlobWriter(inner, AESGCM(key), _HEADER.pack(_MAGIC, CHUNK_BYTES, len(wrapped)) + wrapped)
        except Exception:
            inner.abort()
            raise

    def under(self, keys: Keys) -> Blobs:
        return OwnBlobs(self._inner, keys)

    def single(self) -> AtRest:
        return self

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        if is_plain(name):
            return self._plain.read(name, start, end)
        return _read(self._inner, name, self._opened(name), start, end)

    def read_now(self, name: str, start: int, end: int) -> bytes | None:
        if self._read_now is None or is_plain(name):
            return None
        opened = self._opened(name)
        first, skip = divmod(start, opened.chunk_bytes)
        low, high = _stored_range(opened, start, end)
        stored_bytes = HEADER_BYTES + opened.size + (opened.last + 1) * opened.tag_bytes
        sealed = self._read_now(name, low, min(high, stored_bytes))
        if sealed is None:
            return None
        return bytes(memoryview(_open_chunks(name, opened, first, sealed))[skip : skip + end - start])

    def stream(self, name: str, start: int = 0, end: int | None = None, piece_bytes: int = PIECE_BYTES) -> Iterator[Piece]:
        if is_plain(name):
            return self._plain.stream(name, start, end, piece_bytes)
        return _stream(self._inner, name, self._opened(name), start, end, piece_bytes)

    def clear(self) -> None:
        self._inner.clear()
        self._opened.cache_clear()

    def _fresh(self, name: str) -> Iterator[Piece]:
        return _stream(self._inner, name, self._open(name), 0, None, PIECE_BYTES)

    def _open(self, name: str) -> _Opened:
        layout = _layout(self._inner, name)
        if layout.layers:
            raise Unavailable(f"Blob {name} is sealed under a key of its own.")
        try:
            key = self._keyring.unwrap(layout.wrapped, name.encode())
        except Invalid as error:
            raise damaged(name) from error
        return _opened_by(AESGCM(key), layout)


class OwnBlobs(_Stored):
    """Blobs under keys that only the caller has; one of these for each set of keys."""

    def __init__(self, blobs: Blobs, keys: Keys) -> None:
        self._inner = blobs
        self._keys = keys

    def create(self) -> BlobWriter:
        inner = self._inner.create()
        try:
            header = _HEADER.pack(_OWN_MAGIC, CHUNK_BYTES, len(self._keys))
            return SealedBlobWriter(inner, self._cipher_of(inner.name), header)
        except Exception:
            inner.abort()
            raise

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        return _read(self._inner, name, self._open(name), start, end)

    def stream(self, name: str, start: int = 0, end: int | None = None, piece_bytes: int = PIECE_BYTES) -> Iterator[Piece]:
        return _stream(self._inner, name, self._open(name), start, end, piece_bytes)

    def _open(self, name: str) -> _Opened:
        layout = _layout(self._inner, name)
        if layout.layers != len(self._keys):
            raise damaged(name)
        return _opened_by(self._cipher_of(name), layout)

    def _cipher_of(self, name: str) -> Cipher:
        return _Summed(cipher_for(self._keys, b"blob:" + name.encode()))


class PlainBlobs(_Stored):
    """Blobs as they are, checked by their sums, under names that say so. With a keyring it also reads what was sealed before."""

    def __init__(self, blobs: Blobs, keyring: Keyring | None = None) -> None:
        self._inner = blobs
        self._plain = PlainFiles(blobs)
        self._sealed = SealedBlobs(blobs, keyring) if keyring is not None else None

    def create(self) -> BlobWriter:
        return self._plain.create()

    def under(self, keys: Keys) -> Blobs:
        return OwnBlobs(self._inner, keys)

    def single(self) -> AtRest:
        return self

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        return self._plain.read(name, start, end) if is_plain(name) else self._before(name).read(name, start, end)

    def stream(self, name: str, start: int = 0, end: int | None = None, piece_bytes: int = PIECE_BYTES) -> Iterator[Piece]:
        if is_plain(name):
            return self._plain.stream(name, start, end, piece_bytes)
        return self._before(name).stream(name, start, end, piece_bytes)

    def _fresh(self, name: str) -> Iterator[Piece]:
        return self._before(name)._fresh(name)

    def _before(self, name: str) -> SealedBlobs:
        if self._sealed is None:
            raise Unavailable(f"Blob {name} was encrypted by an earlier start; it cannot be read without the keyring.")
        return self._sealed


class _Summed:
    """A cipher whose chunks end with a sum over what was sealed."""

    def __init__(self, cipher: Cipher) -> None:
        self._cipher = cipher

    def encrypt(self, nonce: bytes, data: bytes | bytearray | memoryview, associated_data: bytes | None, /) -> bytes:
        sealed = self._cipher.encrypt(nonce, data, associated_data)
        return sealed + _sum_of(sealed)

    def decrypt_into(
        self, nonce: bytes, data: bytes | bytearray | memoryview, associated_data: bytes | None, buf: bytearray | memoryview, /
    ) -> int:
        return self._cipher.decrypt_into(nonce, data[:-SUM_BYTES], associated_data, buf)


# -- the format -----------------------------------------------------------------------------------------------------------


class _Layout(NamedTuple):
    """What a header says."""

    chunk_bytes: int
    layers: int
    """Of keys of its own; 0 when the keyring seals it."""
    wrapped: bytes
    size: int
    """Of the plaintext."""


def _layout(inner: Blobs, name: str) -> _Layout:
    stored = inner.size(name)
    header = inner.read(name, 0, HEADER_BYTES)
    magic = header[: len(_MAGIC)]
    if stored < HEADER_BYTES + TAG_BYTES or magic not in (_MAGIC, _OWN_MAGIC):
        raise damaged(name)
    _, chunk_bytes, count = _HEADER.unpack_from(header)
    used = _HEADER.size + (count if magic == _MAGIC else 0)
    if not chunk_bytes or not count or header[used:].strip(b"\0"):
        raise damaged(name)
    if magic == _OWN_MAGIC:
        return _Layout(chunk_bytes, count, b"", _plain_size(stored, chunk_bytes, count * TAG_BYTES + SUM_BYTES))
    wrapped = header[_HEADER.size : _HEADER.size + count]
    return _Layout(chunk_bytes, 0, wrapped, _plain_size(stored, chunk_bytes, TAG_BYTES))


def _opened_by(cipher: Cipher, layout: _Layout) -> _Opened:
    tag_bytes = layout.layers * TAG_BYTES + SUM_BYTES if layout.layers else TAG_BYTES
    return _Opened(cipher.decrypt_into, layout.chunk_bytes, tag_bytes, layout.size, max(0, layout.size - 1) // layout.chunk_bytes)


def _read(inner: Blobs, name: str, opened: _Opened, start: int, end: int | None) -> bytes:
    end = opened.size if end is None else min(end, opened.size)
    if start >= end:
        return b""
    first, skip = divmod(start, opened.chunk_bytes)
    sealed = inner.read(name, *_stored_range(opened, start, end))
    plain = _open_chunks(name, opened, first, sealed)
    return bytes(memoryview(plain)[skip : skip + end - start])


def _stream(inner: Blobs, name: str, opened: _Opened, start: int, end: int | None, piece_bytes: int) -> SealedStream:
    end = opened.size if end is None else min(end, opened.size)
    chunks = max(1, piece_bytes // opened.chunk_bytes)
    source = inner.stream(name, *_stored_range(opened, start, max(start, end)), chunks * (opened.chunk_bytes + opened.tag_bytes))
    return SealedStream(name, opened, source, start, end)


def _open_chunks(name: str, opened: _Opened, first: int, sealed: Piece) -> bytearray:
    """The plaintext of chunks `first`, `first` + 1, ... that lie one behind the other in `sealed`.

    Opened in place, side by side: joining them afterwards cost more than opening them (70 us against 28 for 256 KiB).
    """
    count = _chunks_in(opened, sealed)
    if len(sealed) < count * opened.tag_bytes:
        raise damaged(name)
    size, step, decrypt_into = opened.chunk_bytes, opened.chunk_bytes + opened.tag_bytes, opened.decrypt_into
    plain = bytearray(len(sealed) - count * opened.tag_bytes)
    source, target = memoryview(sealed), memoryview(plain)
    try:
        for at in range(count):  # of the last one the slices hold what there is
            number = first + at
            place = _LAST if number == opened.last else _INNER
            chunk = source[at * step : (at + 1) * step]
            decrypt_into(number.to_bytes(12, "big"), chunk, place, target[at * size : (at + 1) * size])
    except (InvalidTag, ValueError):
        raise damaged(name) from None
    return plain


def _sum_of(sealed: bytes | memoryview) -> bytes:
    number: int = crc64nvme(sealed, 0)
    return number.to_bytes(SUM_BYTES, "big")


def _summed(inner: Blobs, name: str, layout: _Layout) -> Iterator[Piece]:
    """The sealed chunks of a blob, each seen to fit its sum."""
    step = layout.chunk_bytes + layout.layers * TAG_BYTES + SUM_BYTES
    expected = max(1, -(-layout.size // layout.chunk_bytes))
    for piece in _whole_chunks(inner.stream(name, HEADER_BYTES), step):
        view = memoryview(piece)
        for at in range(0, len(piece), step):
            chunk = view[at : at + step]
            if _sum_of(chunk[:-SUM_BYTES]) != chunk[-SUM_BYTES:]:
                raise damaged(name)
            expected -= 1
        yield piece
    if expected:
        raise damaged(name)


def _chunks_in(opened: _Opened, sealed: Piece) -> int:
    """How many chunks lie in sealed bytes; the empty blob has one, of nothing."""
    return max(1, -(-len(sealed) // (opened.chunk_bytes + opened.tag_bytes)))


def _whole_chunks(pieces: Iterator[Piece], sealed_chunk_bytes: int) -> Iterator[Piece]:
    """The same bytes cut between chunks, wherever the adapter cut them."""
    rest: Piece = b""
    for piece in pieces:
        joined = rest + piece if rest else piece
        cut = len(joined) - len(joined) % sealed_chunk_bytes
        rest = joined[cut:]
        if cut:
            yield joined[:cut]
    if rest:
        yield rest


def _stored_range(opened: _Opened, start: int, end: int) -> tuple[int, int]:
    """Where the chunks of a plaintext range lie in the stored blob."""
    step = opened.chunk_bytes + opened.tag_bytes
    first, last = start // opened.chunk_bytes, max(start, end - 1) // opened.chunk_bytes
    return HEADER_BYTES + first * step, HEADER_BYTES + (last + 1) * step


def _plain_size(stored: int, chunk_bytes: int, tag_bytes: int) -> int:
    sealed = max(0, stored - HEADER_BYTES)
    return max(0, sealed - tag_bytes * -(-sealed // (chunk_bytes + tag_bytes)))


def _public_names(inner: Blobs) -> Iterator[str]:
    """Every name as this room gives it out: what does not begin as a sealed blob is a plain one."""
    for name in inner.names():
        try:
            is_sealed = inner.read(name, 0, len(_MAGIC)) in (_MAGIC, _OWN_MAGIC)
        except NotFound:  # half-written, and nothing of it has arrived
            is_sealed = True
        yield name if is_sealed else plain_name(inner, name)
