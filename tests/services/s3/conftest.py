"""A bucket for every test that asks for one, and raw signed requests for what boto3 cannot say."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from botocore.httpsession import URLLib3Session

from pilvi.testing.server import Account, TestServer

BOTH_WAYS = frozenset(
    {"test_object", "test_errors", "test_access", "test_policy", "test_versioning", "test_integrity", "test_sealing"}
)
"""Files whose tests run twice: with the short way of plain requests (pilvi.gateway.shortcut) and without."""

_numbers = itertools.count(1)
_accounts = itertools.count(300000000001)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__.rpartition(".")[2] in BOTH_WAYS:
        metafunc.fixturenames.append("way")
        metafunc.parametrize("way", ("short", "general"), indirect=True)


@pytest.fixture
def way(request: pytest.FixtureRequest, server: TestServer) -> Iterator[str]:
    """Which way plain requests take."""
    shortcut = server.server.gateway.shortcut
    shortcut.is_open = request.param == "short"
    yield request.param
    shortcut.is_open = True


@pytest.fixture(scope="module")
def aws(server: TestServer) -> Account:
    """One account a file, because clients take long to make; files that look at whole accounts ask for fresh ones."""
    return server.account(str(next(_accounts)))


@pytest.fixture
def s3(aws: Account) -> Any:
    return aws.client("s3")


@pytest.fixture
def name(aws: Account) -> str:
    """A bucket name nobody uses."""
    return f"b{next(_numbers)}-{aws.account}"


@pytest.fixture
def bucket(s3: Any, name: str) -> str:
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def versioned(s3: Any, bucket: str) -> str:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return bucket


@pytest.fixture
def raw(aws: Account) -> Callable[..., Any]:
    """`raw("GET", "/bucket/key", headers={}, data=b"")` -> response with status_code, headers, content."""

    def send(method: str, path: str, *, headers: dict[str, str] | None = None, data: bytes = b"", signed: bool = True) -> Any:
        request = AWSRequest(method, f"{aws.endpoint}{path}", headers=headers or {}, data=data)
        if signed:
            S3SigV4Auth(Credentials(aws.access_key_id, aws.secret), "s3", aws.region).add_auth(request)
        return URLLib3Session().send(request.prepare())

    return send


def refused(call: Callable[..., Any], **params: Any) -> dict[str, Any]:
    """The error of a call that must fail: Code, Message and what else the element holds, with Status."""
    with pytest.raises(ClientError) as caught:
        call(**params)
    response = caught.value.response
    return {**response["Error"], "Status": response["ResponseMetadata"]["HTTPStatusCode"]}


def code_of(call: Callable[..., Any], **params: Any) -> str:
    """How a call that may fail in a race ended: '' or the error's code."""
    try:
        call(**params)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""
