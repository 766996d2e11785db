"""Signatures of plain requests: a yes is always one that the general verification gives as well."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from pilvi.auth.plain import is_signed, scope_of
from pilvi.auth.sigv4 import AuthError, read_claim, verify
from pilvi.core.http import Request

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
KEY_ID = "AKIAIOSFODNN7EXAMPLE"


def signed(method: str = "GET", path: str = "/bucket/key", body: bytes = b"", **headers: str) -> Request:
    """A request as botocore signs it."""
    request = AWSRequest(method, f"http://localhost:4566{path}", data=body, headers={"Host": "localhost:4566", **headers})
    S3SigV4Auth(Credentials(KEY_ID, SECRET), "s3", "us-east-1").add_auth(request)
    return Request(method, path, "", {name.lower(): value for name, value in request.headers.items()})


def is_plainly_signed(request: Request, now_s: float | None = None, secret: str = SECRET) -> bool:
    found = scope_of(request.headers.get("authorization", ""))
    if found is None:
        return False
    now_s = datetime.now(UTC).timestamp() if now_s is None else now_s
    payload = request.headers.get("x-amz-content-sha256", "")
    return is_signed(*found, request.method, request.raw_path, request.headers, payload, secret, now_s)


def is_verified(request: Request, secret: str = SECRET) -> bool:
    try:
        claim = read_claim(request)
        assert claim is not None
        body_hash = claim.payload_hash if claim.payload_hash != "UNSIGNED-PAYLOAD" else None
        verify(claim, request, secret, now=datetime.now(UTC), body_hash=body_hash)
    except AuthError:
        return False
    return True


@pytest.mark.parametrize("path", ["/bucket/key", "/bucket/a%3D1/b%20c", "/bucket//x/../y", "/bucket/%C3%A4", "/bucket/k~%281%29"])
def test_what_botocore_signs_is_signed(path: str) -> None:
    request = signed(path=path)
    assert is_plainly_signed(request)
    assert is_verified(request)


def test_bodies_and_headers_are_part_of_it() -> None:
    request = signed("PUT", body=b"bytes", **{"Content-Type": "text/plain", "x-amz-checksum-crc32": "AAAAAA=="})
    assert is_plainly_signed(request)
    assert request.headers["x-amz-content-sha256"] == sha256(b"bytes").hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        {"host": "localhost:4567"},
        {"x-amz-content-sha256": sha256(b"other").hexdigest()},
        {"x-amz-date": "20200101T000000Z"},
        {"x-amz-date": ""},
        {"x-amz-unsigned": "1"},
        {"authorization": ""},
        {"authorization": "AWS AKIA:abc"},
    ],
)
def test_what_was_changed_is_not_signed(change: dict[str, str]) -> None:
    request = signed()
    request.headers = {**request.headers, **change}
    assert not is_plainly_signed(request)


def test_another_method_path_or_secret_is_not_signed() -> None:
    request = signed()
    assert not is_plainly_signed(request, secret="other")
    request.method = "DELETE"
    assert not is_plainly_signed(request)
    request.method, request.raw_path = "GET", "/bucket/other"
    assert not is_plainly_signed(request)


def test_signatures_live_a_quarter_of_an_hour() -> None:
    request, now_s = signed(), datetime.now(UTC).timestamp()
    assert is_plainly_signed(request, now_s + 890)
    assert not is_plainly_signed(request, now_s + 910)
    assert not is_plainly_signed(request, now_s - 910)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("/s3/", "/sqs/"),
        ("us-east-1", "mars-east-1"),
        ("aws4_request", "aws5_request"),
        ("host;", ""),
        ("AWS4-HMAC-SHA256 ", "AWS4-ECDSA-P256-SHA256 "),
        ("Signature=", "Signature=0"),
        ("Credential=", "Credential=x/"),
        (", Signed", ",\t Signed"),
        (", Signed", ",\x01Signed"),
    ],
)
def test_other_scopes_are_not_read(old: str, new: str) -> None:
    header = signed().headers["authorization"]
    assert scope_of(header) is not None
    assert scope_of(header.replace(old, new)) is None


@pytest.mark.parametrize("value", ["a  b", " a", "a ", "a\tb"])
def test_white_space_that_is_folded_is_left_to_the_general_verification(value: str) -> None:
    request = signed(**{"x-amz-user-agent": value})
    request.headers = {**request.headers, "x-amz-user-agent": value}
    assert is_verified(request)
    assert not is_plainly_signed(request)


_values = st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)


@given(_values, st.sampled_from(["host", "x-amz-date", "x-amz-content-sha256", "x-amz-user-agent"]), st.booleans())
def test_a_yes_is_a_yes_of_the_general_verification(value: str, name: str, is_changed: bool) -> None:
    request = signed(**{"x-amz-user-agent": value})
    if is_changed:
        request.headers = {**request.headers, name: value}
    if is_plainly_signed(request):
        assert is_verified(request)
