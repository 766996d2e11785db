"""Transfer acceleration: the flag, and the host that only buckets with it have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from pilvi.testing.server import Account, TestServer
from tests.services.s3.conftest import refused


@pytest.fixture
def fast(server: TestServer, aws: Account) -> Iterator[Any]:
    """A client that asks AWS's accelerated host, which the server's proxy leads here."""
    server.cloud.authority.prepare()
    session = boto3.Session(aws.access_key_id, aws.secret, region_name=aws.region)
    settings = Config(proxies={"https": aws.endpoint}, s3={"use_accelerate_endpoint": True}, retries={"total_max_attempts": 1})
    client = session.client("s3", config=settings, verify=str(server.cloud.authority.certificate_path))
    yield client
    client.close()


def test_put_bucket_accelerate_configuration_is_given_back(s3: Any, bucket: str) -> None:
    assert "Status" not in s3.get_bucket_accelerate_configuration(Bucket=bucket)
    for status in ("Enabled", "Suspended"):
        s3.put_bucket_accelerate_configuration(Bucket=bucket, AccelerateConfiguration={"Status": status})
        assert s3.get_bucket_accelerate_configuration(Bucket=bucket)["Status"] == status
    error = refused(s3.put_bucket_accelerate_configuration, Bucket=bucket, AccelerateConfiguration={"Status": "Fast"})
    assert error["Code"] == "MalformedXML"


def test_names_with_dots_are_not_accelerated(s3: Any, name: str) -> None:
    s3.create_bucket(Bucket=f"{name}.dots")
    error = refused(s3.put_bucket_accelerate_configuration, Bucket=f"{name}.dots", AccelerateConfiguration={"Status": "Enabled"})
    assert (error["Code"], error["Status"]) == ("InvalidRequest", 400)
    assert "periods" in error["Message"]


def test_the_accelerated_host_serves_enabled_buckets_only(s3: Any, fast: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"1")
    with pytest.raises(ClientError, match=r"InvalidRequest.*S3 Transfer Acceleration is not configured on this bucket"):
        fast.get_object(Bucket=bucket, Key="k")
    s3.put_bucket_accelerate_configuration(Bucket=bucket, AccelerateConfiguration={"Status": "Enabled"})
    fast.put_object(Bucket=bucket, Key="k", Body=b"2")
    assert fast.get_object(Bucket=bucket, Key="k")["Body"].read() == b"2"
    s3.put_bucket_accelerate_configuration(Bucket=bucket, AccelerateConfiguration={"Status": "Suspended"})
    with pytest.raises(ClientError, match=r"InvalidRequest.*S3 Transfer Acceleration is disabled on this bucket"):
        fast.get_object(Bucket=bucket, Key="k")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"2"
