"""Requests signed by botocore: the oracle of this room."""

from __future__ import annotations

from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from botocore.auth import HmacV1Auth, HmacV1QueryAuth, S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.crt.auth import CrtS3SigV4Auth, CrtS3SigV4QueryAuth, CrtSigV4Auth, CrtSigV4QueryAuth
from hypothesis import HealthCheck, settings

from pilvi.auth import canonical
from pilvi.auth.sigv4 import read_claim, verify
from pilvi.core.http import Request
from pilvi.core.streams import ByteStream

# A busy machine is no failure.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
HOST = "http://127.0.0.1:4566"

SIGNERS = {
    "s3": lambda credentials, service, region: S3SigV4Auth(credentials, service, region),
    "v4": lambda credentials, service, region: SigV4Auth(credentials, service, region),
    "s3-query": lambda credentials, service, region: S3SigV4QueryAuth(credentials, service, region, expires=600),
    "v4-query": lambda credentials, service, region: SigV4QueryAuth(credentials, service, region, expires=600),
    "crt-s3": lambda credentials, service, region: CrtS3SigV4Auth(credentials, service, region),
    "crt-v4": lambda credentials, service, region: CrtSigV4Auth(credentials, service, region),
    "crt-s3-query": lambda credentials, service, region: CrtS3SigV4QueryAuth(credentials, service, region, expires=600),
    "crt-v4-query": lambda credentials, service, region: CrtSigV4QueryAuth(credentials, service, region, expires=600),
    "v2": lambda credentials, service, region: HmacV1Auth(credentials),
    "v2-query": lambda credentials, service, region: HmacV1QueryAuth(credentials, expires=600),
}


def sign(
    how,
    method="GET",
    path="/",
    headers=None,
    body=b"",
    *,
    service="s3",
    region="us-east-1",
    token=None,
    host=HOST,
    payload=None,
    auth_path=None,
):
    """What arrives after botocore signed a call: our own Request."""
    request = AWSRequest(method, host + path, headers=dict(headers or {}), data=body, auth_path=auth_path)
    request.context["client_config"] = None
    if payload is not None:
        request.headers["X-Amz-Content-SHA256"] = payload
    signer = SIGNERS[how](Credentials(KEY, SECRET, token), service, region)
    if payload is not None and how == "s3":
        signer.payload = lambda _request: payload
    signer.add_auth(request)
    parts = urlsplit(request.url)
    arrived = {name.lower(): value for name, value in request.headers.items()}
    arrived.setdefault("host", parts.netloc)
    if how == "v2-query":  # the signer leaves its Date behind, which never travels
        arrived = {name: value for name, value in arrived.items() if name == "host"}
    arrived = {name: as_decoded(value) for name, value in arrived.items()}
    return Request(method, as_decoded(parts.path), as_decoded(parts.query), arrived, ByteStream(body))


def as_decoded(text):
    """UTF-8 on the wire, as HTTP servers hand it over."""
    return text.encode().decode("latin-1")


def now_of(claim):
    """An instant at which the claim is fresh."""
    return canonical.seconds_of(claim.timestamp) if claim.timestamp else claim.expires_s - 10


def check(request, *, now=None, **options):
    """Read and verify; the claim."""
    claim = read_claim(request)
    verify(claim, request, options.pop("secret", SECRET), now=now_of(claim) if now is None else now, **options)
    return claim


@pytest.fixture(scope="session")
def oracle():
    return SimpleNamespace(sign=sign, check=check, now_of=now_of, key=KEY, secret=SECRET)
