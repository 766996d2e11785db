"""The checksums of S3, by AWS's names: hashers that take bytes as they come, and checksums of multipart uploads.

An object made of parts has either a COMPOSITE checksum (the hash of the parts' hashes, with `-N` after it) or, for the CRCs,
a FULL_OBJECT one, which is worked out from the parts' checksums and lengths without reading a byte again.

Source: S3 User Guide, "Checking object integrity".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal, Protocol

from awscrt import checksums as crt

Algorithm = Literal["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256", "MD5"]

ALGORITHMS: Final[tuple[Algorithm, ...]] = ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256")
"""What a client may ask for; MD5 has its own header."""

SIZES: Final[dict[str, int]] = {"CRC32": 4, "CRC32C": 4, "CRC64NVME": 8, "SHA1": 20, "SHA256": 32, "MD5": 16}
"""Length of each digest in bytes."""

HEADERS: Final[dict[str, Algorithm]] = {f"x-amz-checksum-{name.lower()}": name for name in ALGORITHMS}
"""The header or trailer that carries a checksum, and its algorithm."""

_CRCS: Final[dict[str, Callable[[bytes, int], int]]] = {"CRC32": zlib.crc32, "CRC32C": crt.crc32c, "CRC64NVME": crt.crc64nvme}
_COMBINE: Final[dict[str, Callable[[int, int, int], int]]] = {
    "CRC32": crt.combine_crc32,
    "CRC32C": crt.combine_crc32c,
    "CRC64NVME": crt.combine_crc64nvme,
}


class Hasher(Protocol):
    """A checksum in the making."""

    algorithm: str

    def update(self, data: bytes, /) -> None:
        """Take in more bytes. Large pieces let go of the interpreter meanwhile (call it in a thread)."""

    def digest(self) -> bytes:
        """The checksum of everything so far, as bytes (CRCs in network order)."""

    def base64(self) -> str:
        """The same as S3 shows it."""


class _Crc:
    __slots__ = ("_crc", "_value", "algorithm")

    def __init__(self, algorithm: str) -> None:
        self.algorithm = algorithm
        self._crc = _CRCS[algorithm]
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = self._crc(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(SIZES[self.algorithm], "big")

    def base64(self) -> str:
        return encode(self.digest())


class _Hash:
    __slots__ = ("_hash", "algorithm", "update")

    def __init__(self, algorithm: str) -> None:
        self.algorithm = algorithm
        self._hash = hashlib.new(algorithm.lower(), usedforsecurity=False)
        self.update: Callable[[bytes], None] = self._hash.update

    def digest(self) -> bytes:
        return self._hash.digest()

    def base64(self) -> str:
        return encode(self.digest())


def new(algorithm: str) -> Hasher:
    """A hasher by AWS's name of it (CRC32, CRC32C, CRC64NVME, SHA1, SHA256, MD5). KeyError when there is no such."""
    if algorithm in _CRCS:
        return _Crc(algorithm)
    if algorithm not in SIZES:
        raise KeyError(algorithm)
    return _Hash(algorithm)


def checksum(algorithm: str, data: bytes) -> str:
    """The checksum of bytes at hand, as S3 shows it."""
    hasher = new(algorithm)
    hasher.update(data)
    return hasher.base64()


def encode(digest: bytes) -> str:
    """A digest as S3 shows it."""
    return base64.b64encode(digest).decode()


def is_valid(algorithm: str, text: str) -> bool:
    """Whether a text has the form of such a checksum."""
    try:
        return len(base64.b64decode(text, validate=True)) == SIZES[algorithm]
    except binascii.Error:
        return False


def composite(algorithm: str, parts: Sequence[str]) -> str:
    """The COMPOSITE checksum of parts: the checksum of their digests, and how many they are."""
    hasher = new(algorithm)
    for part in parts:
        hasher.update(base64.b64decode(part))
    return f"{hasher.base64()}-{len(parts)}"


def etag(part_md5s: Iterable[str]) -> str:
    """The ETag of a multipart object, without quotes: MD5 of the parts' MD5s (hexadecimal), and how many they are."""
    digests = [bytes.fromhex(md5) for md5 in part_md5s]
    return f"{hashlib.md5(b''.join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"


def full_object(algorithm: str, parts: Iterable[tuple[str, int]]) -> str:
    """The FULL_OBJECT checksum from (checksum, length in bytes) of each part. KeyError for algorithms that cannot (SHA)."""
    combine = _COMBINE[algorithm]
    value = 0
    for part, length in parts:
        value = combine(value, int.from_bytes(base64.b64decode(part), "big"), length)
    return encode(value.to_bytes(SIZES[algorithm], "big"))
