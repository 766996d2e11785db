"""The pure parts: what a policy makes public, ranges, copy sources, sums over parts, folders in listings."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilvi.auth.public import is_public_policy
from pilvi.core.errors import ServiceError
from pilvi.services.s3.condition import names_etag, range_of
from pilvi.services.s3.content import Segment, overlaps
from pilvi.services.s3.copy_source import CopySource, copy_source_of
from pilvi.services.s3.digest import ALGORITHMS, combined, encoded
from pilvi.services.s3.listing import encoded_keys, percent


def allow(principal: Any, condition: dict[str, Any] | None = None, effect: str = "Allow") -> dict[str, Any]:
    statement = {"Effect": effect, "Principal": principal, "Action": "s3:GetObject", "Resource": "*"}
    return {"Version": "2012-10-17", "Statement": [statement | ({"Condition": condition} if condition else {})]}


@pytest.mark.parametrize(
    ("policy", "is_public"),
    [
        (allow("*"), True),
        (allow({"AWS": "*"}), True),
        (allow({"AWS": ["arn:aws:iam::111122223333:root", "*"]}), True),
        (allow({"AWS": "arn:aws:iam::111122223333:root"}), False),
        (allow({"Service": "cloudtrail.amazonaws.com"}), False),
        (allow("*", effect="Deny"), False),
        (allow("*", {"StringEquals": {"aws:SourceVpc": "vpc-1"}}), False),
        (allow("*", {"StringLike": {"aws:SourceVpc": "vpc-*"}}), True),
        (allow("*", {"StringEquals": {"aws:PrincipalOrgID": "o-1"}}), False),
        (allow("*", {"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}), False),
        (allow("*", {"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}}), True),
        (allow("*", {"StringEquals": {"aws:UserAgent": "me"}}), True),
    ],
)
def test_is_public_policy(policy: dict[str, Any], is_public: bool) -> None:
    assert is_public_policy(policy) is is_public


@given(st.integers(0, 50), st.integers(0, 60), st.integers(0, 60))
def test_range_of_is_pythons_slice(size: int, first: int, last: int) -> None:
    data = bytes(range(size))
    try:
        found = range_of(f"bytes={first}-{last}", size)
    except ServiceError as error:
        refused = error.code
        assert (refused, first >= size) == ("InvalidRange", True)
        return
    if first > last:
        assert found is None
    else:
        assert found is not None
        assert data[found[0] : found[1]] == data[first : last + 1]


@given(st.lists(st.integers(0, 9), max_size=8), st.integers(0, 40), st.integers(0, 40))
def test_overlaps_give_the_slice(sizes: list[int], start: int, end: int) -> None:
    pieces = [bytes([65 + number]) * size for number, size in enumerate(sizes)]
    segments = [Segment(str(number), size) for number, size in enumerate(sizes)]
    found = b"".join(pieces[int(name)][low:high] for name, low, high in overlaps(segments, start, end))
    assert found == b"".join(pieces)[start:end]


@pytest.mark.parametrize("name", ["CRC32", "CRC32C", "CRC64NVME"])
@given(parts=st.lists(st.binary(max_size=200), min_size=1, max_size=6))
def test_combined_sums_are_those_of_the_whole(name: str, parts: list[bytes]) -> None:
    def sum_of(data: bytes) -> str:
        running = ALGORITHMS[name].new()
        running.update(data)
        return encoded(running.digest())

    assert combined(name, [(sum_of(part), len(part)) for part in parts]) == sum_of(b"".join(parts))


@pytest.mark.parametrize(
    ("given_", "wanted"),
    [
        ("b/k", CopySource("b", "k", None)),
        ("/b/a%20b/%2Bc", CopySource("b", "a b/+c", None)),
        ("b/k+x?versionId=v1", CopySource("b", "k+x", "v1")),
        ({"Bucket": "b", "Key": "k", "VersionId": "v"}, CopySource("b", "k", "v")),
    ],
)
def test_copy_source_of(given_: Any, wanted: CopySource) -> None:
    assert copy_source_of({"CopySource": given_}) == wanted


def test_names_etag() -> None:
    assert names_etag('"a", W/"b"', "b")
    assert names_etag("*", "x")
    assert names_etag("bare", "bare")
    assert not names_etag('"a"', "b")


_keys = st.lists(st.text(st.sampled_from("ab/=ä.~ %"), min_size=1, max_size=8), max_size=8)


@given(_keys)
def test_keys_of_a_page_are_encoded_as_each_by_itself(keys: list[str]) -> None:
    keys.sort()
    assert encoded_keys(keys) == [percent(key) for key in keys]


@given(_keys)
def test_keys_of_one_folder_are_encoded_as_each_by_itself(keys: list[str]) -> None:
    keys = sorted(f"year=2000/{key}" for key in keys)
    assert encoded_keys(keys) == [percent(key) for key in keys]
