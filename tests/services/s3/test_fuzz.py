"""Whatever headers and query parameters a PUT or GET carries, it is served or refused with one of S3's errors; the server never breaks."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any
from urllib.parse import quote

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilvi.testing.server import shared_loader

TELLING = (
    'AES256|aws:kms|COPY|REPLACE|*|"e"|bytes=0-|bytes=5-1|Wed, 21 Oct 2015 07:28:00 GMT|2015-10-21T07:28:00Z|id=x|uri="x"|'
    "a=1&a=2|%zz|GLACIER|url|private|ENABLED|true||0|-1|1|10001|99999999999999999999"
)
ASCII = st.one_of(st.sampled_from(TELLING.split("|")), st.text(string.printable[:95], max_size=300))
ANY = st.one_of(ASCII, st.text(max_size=40))
"""Headers stay in ASCII: botocore signs others as UTF-8 and sends them as Latin-1."""

FREE = {
    "Authorization",
    "Host",
    "Content-Length",
    "Transfer-Encoding",
    "Expect",
    "Connection",
    "x-amz-security-token",
    "x-amz-content-sha256",
}
"""Headers that are about the request itself: tests of signatures and of HTTP send them wrong."""


@cache
def names(place: str) -> list[str]:
    """Every header, or every query parameter, of S3's model."""
    model = shared_loader().load_service_model("s3", "service-2")
    shapes = [model["shapes"][entry["input"]["shape"]] for entry in model["operations"].values() if "input" in entry]
    members = [member for shape in shapes for member in shape["members"].values() if member.get("location") == place]
    flags = re.findall(r"[?&]([a-z-]+)", " ".join(entry["http"]["requestUri"] for entry in model["operations"].values()))
    found = {member["locationName"] for member in members} - FREE
    return sorted(found | set(flags) if place == "querystring" else found)


def headers() -> Any:
    return st.dictionaries(st.sampled_from([*names("header"), "x-amz-meta-a", "x-amz-copy-source"]), ASCII, max_size=5)


def queries() -> Any:
    return st.dictionaries(st.sampled_from(names("querystring")), ANY, max_size=3)


QUICK = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)


@QUICK
@given(
    method=st.sampled_from(["PUT", "GET", "HEAD", "DELETE", "POST"]),
    whole=st.booleans(),
    more=headers(),
    asked=queries(),
    body=st.binary(max_size=60),
)
def test_any_headers_and_parameters_are_served_or_refused(
    raw: Callable[..., Any],
    name: str,
    s3: Any,
    method: str,
    whole: bool,
    more: Mapping[str, str],
    asked: Mapping[str, str],
    body: bytes,
) -> None:
    s3.create_bucket(Bucket=name)
    query = "&".join(f"{key}={quote(value, safe='')}" for key, value in asked.items())
    path = f"/{name}" if whole else f"/{name}/k"
    sent = {key: value.strip() for key, value in more.items()}
    answer = raw(method, f"{path}?{query}", headers=sent, data=b"" if method in ("GET", "HEAD") else body)
    assert answer.status_code < 500 or answer.status_code == 501, (method, path, query, sent, body, answer.content[:500])
    if answer.status_code >= 400 and method != "HEAD" and answer.content:
        assert b"<Error><Code>" in answer.content
