"""S3's checksums against botocore's, the standard library's and each other."""

from __future__ import annotations

import base64
import hashlib
import zlib

import pytest
from botocore.httpchecksum import CrtCrc32cChecksum, CrtCrc32Checksum, CrtCrc64NvmeChecksum, Sha1Checksum, Sha256Checksum
from hypothesis import given
from hypothesis import strategies as st

from pilvi.auth import checksums

ORACLES = {
    "CRC32": CrtCrc32Checksum,
    "CRC32C": CrtCrc32cChecksum,
    "CRC64NVME": CrtCrc64NvmeChecksum,
    "SHA1": Sha1Checksum,
    "SHA256": Sha256Checksum,
}
CRCS = ["CRC32", "CRC32C", "CRC64NVME"]


@pytest.mark.parametrize("algorithm", checksums.ALGORITHMS)
@given(st.lists(st.binary(max_size=100), max_size=5))
def test_pieces_sum_up_as_botocore_sums_them(algorithm, pieces):
    hasher, oracle = checksums.new(algorithm), ORACLES[algorithm]()
    for piece in pieces:
        hasher.update(piece)
        oracle.update(piece)
    assert hasher.base64() == oracle.b64digest() == checksums.checksum(algorithm, b"".join(pieces))
    assert len(hasher.digest()) == checksums.SIZES[algorithm]
    assert hasher.algorithm == algorithm
    assert checksums.is_valid(algorithm, hasher.base64())


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [("CRC32", "y/Q5Jg=="), ("CRC32C", "4waSgw=="), ("CRC64NVME", "rosUhgp5mIg="), ("MD5", "JfnnlDI7RTiF9RgfG2JNCw==")],
)
def test_the_published_check_values(algorithm, expected):
    """Sources: the CRC catalogue's check values over "123456789"; MD5 of the same."""
    assert checksums.checksum(algorithm, b"123456789") == expected


@pytest.mark.parametrize("algorithm", CRCS)
@given(st.lists(st.binary(max_size=200), min_size=1, max_size=6))
def test_full_object_equals_the_whole(algorithm, parts):
    known = [(checksums.checksum(algorithm, part), len(part)) for part in parts]
    assert checksums.full_object(algorithm, known) == checksums.checksum(algorithm, b"".join(parts))


@pytest.mark.parametrize("algorithm", ["SHA1", "SHA256"])
def test_full_object_is_for_crcs_only(algorithm):
    with pytest.raises(KeyError):
        checksums.full_object(algorithm, [])


def test_composite():
    parts = [checksums.checksum("SHA256", part) for part in (b"a", b"b")]
    expected = base64.b64encode(hashlib.sha256(hashlib.sha256(b"a").digest() + hashlib.sha256(b"b").digest()).digest()).decode()
    assert checksums.composite("SHA256", parts) == expected + "-2"
    crc = zlib.crc32(zlib.crc32(b"a").to_bytes(4, "big"))
    assert checksums.composite("CRC32", [checksums.checksum("CRC32", b"a")]) == checksums.encode(crc.to_bytes(4, "big")) + "-1"


def test_etag_of_parts():
    one, two = hashlib.md5(b"a"), hashlib.md5(b"b")
    assert checksums.etag([one.hexdigest(), two.hexdigest()]) == hashlib.md5(one.digest() + two.digest()).hexdigest() + "-2"


@pytest.mark.parametrize(("algorithm", "text"), [("CRC32", "AAAA"), ("CRC32", "not base 64"), ("SHA1", "y/Q5Jg==")])
def test_malformed_checksums_are_told(algorithm, text):
    assert not checksums.is_valid(algorithm, text)


def test_unknown_algorithms():
    with pytest.raises(KeyError):
        checksums.new("CRC16")
    assert checksums.HEADERS["x-amz-checksum-crc64nvme"] == "CRC64NVME"
