"""Checksums: what a client declares about its bytes, what the bytes turn out to be, and sums over the parts of an upload.

Source: Amazon S3 User Guide, "Checking object integrity". Values are base 64 of the big-endian sum.
"""

from __future__ import annotations

import binascii
import hashlib
import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from awscrt import checksums as crt

from pilvi.core.errors import ServiceError
from pilvi.core.streams import ByteStream
from pilvi.services.s3.errors import bad_digest, invalid_request

DEFAULT = "CRC64NVME"
"""What S3 computes when the client declares nothing."""

COMPOSITE, FULL_OBJECT = "COMPOSITE", "FULL_OBJECT"

Buffer = bytes | bytearray | memoryview


class Hash(Protocol):
    def update(self, data: Buffer, /) -> None: ...

    def digest(self) -> bytes: ...


class Crc:
    """A running cyclic redundancy check with hashlib's manners."""

    __slots__ = ("_advance", "_size", "value")

    def __init__(self, advance: Callable[[Any, int], int], size: int) -> None:
        self._advance = advance
        self._size = size
        self.value = 0

    def update(self, data: Buffer) -> None:
        self.value = self._advance(data, self.value)

    def digest(self) -> bytes:
        return self.value.to_bytes(self._size, "big")


class XxHash:
    """awscrt's XXHash with hashlib's manners."""

    __slots__ = ("_hash",)

    def __init__(self, hash_: Any) -> None:
        self._hash = hash_

    def update(self, data: Buffer) -> None:
        self._hash.update(data)

    def digest(self) -> bytes:
        return bytes(self._hash.finalize())


class Algorithm(NamedTuple):
    name: str
    size: int
    """Bytes of a sum."""
    new: Callable[[], Hash]
    types: tuple[str, ...]
    """What a multipart upload may ask for, the default first."""

    @property
    def member(self) -> str:
        return f"Checksum{self.name}"

    @property
    def header(self) -> str:
        return f"x-amz-checksum-{self.name.lower()}"


ALGORITHMS: dict[str, Algorithm] = {
    algorithm.name: algorithm
    for algorithm in (
        Algorithm(
            "CRC32",
            4,
            lambda: Crc(zlib.crc32, 4),  # twice as fast as awscrt's
            (COMPOSITE, FULL_OBJECT),
        ),
        Algorithm("CRC32C", 4, lambda: Crc(crt.crc32c, 4), (COMPOSITE, FULL_OBJECT)),
        Algorithm("CRC64NVME", 8, lambda: Crc(crt.crc64nvme, 8), (FULL_OBJECT,)),
        Algorithm("SHA1", 20, lambda: hashlib.sha1(usedforsecurity=False), (COMPOSITE,)),
        Algorithm("SHA256", 32, hashlib.sha256, (COMPOSITE,)),
        Algorithm("SHA512", 64, hashlib.sha512, (COMPOSITE,)),
        Algorithm("MD5", 16, lambda: hashlib.md5(usedforsecurity=False), (COMPOSITE,)),
        Algorithm("XXHASH64", 8, lambda: XxHash(crt.XXHash.new_xxhash64()), (COMPOSITE,)),
        Algorithm("XXHASH3", 8, lambda: XxHash(crt.XXHash.new_xxhash3_64()), (COMPOSITE,)),
        Algorithm("XXHASH128", 16, lambda: XxHash(crt.XXHash.new_xxhash3_128()), (COMPOSITE,)),
    )
}

_BY_MEMBER = {algorithm.member: algorithm for algorithm in ALGORITHMS.values()}

_BY_HEADER = {algorithm.header: algorithm for algorithm in ALGORITHMS.values()}

_COMBINERS: dict[str, Callable[[int, int, int], int]] = {
    "CRC32": crt.combine_crc32,
    "CRC32C": crt.combine_crc32c,
    "CRC64NVME": crt.combine_crc64nvme,
}


class Declared(NamedTuple):
    """What a client says about a body."""

    algorithm: Algorithm
    value: str
    """The sum it sent, '' when it sends none or sends it behind the body."""
    trailer: str
    """The name of the trailer that will carry it."""
    md5: str
    """Content-MD5."""
    kept: Algorithm | None = None
    """Another sum to compute and keep, where the one that was sent is only verified."""

    def verify(self, sum_: str, md5: bytes, body: ByteStream) -> None:
        """BadDigest when the bytes that came are not the bytes that were meant."""
        expected = self.value
        if self.trailer:
            expected = body.trailers.get(self.trailer, "")
            check_form(self.algorithm, expected)
        if expected and expected != sum_:
            raise bad_digest(self.algorithm.name)
        if self.md5 and b64decode(self.md5) != md5:
            raise bad_digest("Content-MD5", self.md5, b64encode(md5).decode())


def sums_of(data: bytes, md5: bytes, body: ByteStream, declared: Declared) -> tuple[tuple[str, str], tuple[str, str]]:
    """What `Sums.close` gives, for a body that is whole."""
    if declared.kept is None or declared.kept is declared.algorithm:
        running = declared.algorithm.new()
        running.update(data)
        sum_ = encoded(running.digest())
        declared.verify(sum_, md5, body)
        named = (declared.algorithm.name, sum_)
        return named, named
    sums = Sums(declared)
    sums.update(data)
    return sums.close(declared, md5, body)


class Sums:
    """The running sums over a body: the declared one, and another to keep where they differ."""

    __slots__ = ("_kept", "_names", "_running")

    def __init__(self, declared: Declared) -> None:
        kept = declared.kept or declared.algorithm
        self._names = (kept.name, declared.algorithm.name)
        self._running = declared.algorithm.new()
        self._kept = None if kept is declared.algorithm else kept.new()

    def update(self, data: Buffer) -> None:
        self._running.update(data)
        if self._kept is not None:
            self._kept.update(data)

    def close(self, declared: Declared, md5: bytes, body: ByteStream) -> tuple[tuple[str, str], tuple[str, str]]:
        """((algorithm, sum) to keep, the same of what was declared). BadDigest when the bytes are others than declared."""
        verified = encoded(self._running.digest())
        declared.verify(verified, md5, body)
        kept = verified if self._kept is None else encoded(self._kept.digest())
        return (self._names[0], kept), (self._names[1], verified)


def declared_by(req: Mapping[str, Any], body: ByteStream, default: str = DEFAULT) -> Declared:
    """Read Content-MD5, the checksum members and the announced trailers of a request.

    Errors: InvalidDigest - Content-MD5 is no MD5; InvalidRequest - a checksum of the wrong form, or several of them.
    """
    found: Algorithm | None = None
    value = trailer = ""
    for member in _BY_MEMBER.keys() & req.keys():
        if found is not None:
            raise invalid_request("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
        found, value = _BY_MEMBER[member], req[member]
        check_form(found, value)
    for name in body.trailer_names:
        if (announced := _BY_HEADER.get(name.lower())) is not None:
            if found is not None:
                raise invalid_request("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
            found, trailer = announced, name
    if found is None:
        found = algorithm_of(req) or ALGORITHMS[default]
    md5 = req.get("ContentMD5")
    if md5 is not None:
        check_content_md5(md5)
    return Declared(found, value, trailer, md5 or "")


def algorithm_of(req: Mapping[str, Any]) -> Algorithm | None:
    """The algorithm a request asks for.

    Errors: InvalidRequest - there is none of this name.
    """
    name = req.get("ChecksumAlgorithm")
    if name is None:
        return None
    if name.upper() not in ALGORITHMS:
        raise invalid_request(
            "Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]"
        )
    return ALGORITHMS[name.upper()]


def check_form(algorithm: Algorithm, value: str) -> None:
    if len(decoded(value)) != algorithm.size:
        raise invalid_request(f"Value for {algorithm.header} header is invalid.")


def check_content_md5(value: str) -> None:
    if len(decoded(value)) != 16:
        raise ServiceError("InvalidDigest", "The Content-MD5 you specified was invalid.", 400, **{"Content-MD5": value})


def decoded(value: str) -> bytes:
    """Base 64, or nothing when it is not."""
    try:
        return b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return b""


def encoded(digest: bytes) -> str:
    return b64encode(digest).decode()


def combined(algorithm: str, sums: Sequence[tuple[str, int]]) -> str:
    """The sum over a whole object from the (sum, size) of its parts, without reading a byte again."""
    combine = _COMBINERS[algorithm]
    total, *rest = [(int.from_bytes(b64decode(value), "big"), size) for value, size in sums]
    value = total[0]
    for following, size in rest:
        value = combine(value, following, size)
    return encoded(value.to_bytes(ALGORITHMS[algorithm].size, "big"))


def composite(algorithm: str, sums: Sequence[str]) -> str:
    """The sum of the sums of the parts, with their number."""
    total = ALGORITHMS[algorithm].new()
    for value in sums:
        total.update(b64decode(value))
    return f"{encoded(total.digest())}-{len(sums)}"


def multipart_etag(etags: Sequence[str]) -> str:
    """MD5 of the MD5s of the parts, with their number."""
    total = hashlib.md5(b"".join([bytes.fromhex(etag) for etag in etags]), usedforsecurity=False)
    return f"{total.hexdigest()}-{len(etags)}"
