"""A data set is published and read with pandas, by people who have no credentials and by one who has."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pandas as pd
import pytest

from pilvi.testing.server import Account, TestServer

CSV = b"name,age,city\nAda,36,London\nGrace,45,New York\nEmmy,53,Goettingen\n"
OFF = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), False)
READ_HTTPS = "import pandas, sys; sys.stdout.write(pandas.read_csv(sys.argv[1]).to_csv(index=False))"


@pytest.fixture
def published(aws: Account) -> str:
    """The bucket as it is first made: nothing is public."""
    bucket = f"mdaprojectdata-{aws.account}"
    s3 = aws.client("s3", "eu-central-1")
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    s3.put_object(Bucket=bucket, Key="example.csv", Body=CSV, ContentType="text/csv")
    return bucket


@pytest.fixture
def outside(server: TestServer) -> dict[str, str]:
    """The environment of somebody without credentials, for whom this server is AWS."""
    server.cloud.authority.prepare()
    trusted = str(server.cloud.authority.certificate_path)
    kept = {
        name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy") and not name.startswith("AWS_")
    }
    return kept | {
        "HTTPS_PROXY": server.endpoint,
        "https_proxy": server.endpoint,
        "SSL_CERT_FILE": trusted,
        "CURL_CA_BUNDLE": trusted,
    }


@pytest.fixture
def curl(outside: dict[str, str], tmp_path: Path) -> Callable[[str], tuple[int, bytes]]:
    """An unsigned `curl` of a URL: (status, body)."""

    def get(url: str) -> tuple[int, bytes]:
        body = tmp_path / "body"
        command = ["curl", "-sS", "-o", str(body), "-w", "%{http_code}", url]
        done = subprocess.run(command, env=outside, check=True, capture_output=True, text=True)
        return int(done.stdout), body.read_bytes()

    return get


def urls_of(aws: Account, bucket: str) -> list[str]:
    """The object by AWS's names, with the bucket in host and path, and at the server's own address."""
    return [
        f"https://{bucket}.s3.eu-central-1.amazonaws.com/example.csv",
        f"https://s3.eu-central-1.amazonaws.com/{bucket}/example.csv",
        f"{aws.endpoint}/{bucket}/example.csv",
    ]


def test_a_data_set_is_published_and_taken_back(
    aws: Account, published: str, curl: Callable[[str], tuple[int, bytes]], outside: dict[str, str]
) -> None:
    s3, bucket, urls = aws.client("s3", "eu-central-1"), published, urls_of(aws, published)
    everything = pd.read_csv(io.BytesIO(CSV))

    def read_https() -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", READ_HTTPS, urls[0]], env=outside, capture_output=True, text=True, check=False)

    # Blocked at first: new buckets have all four switches on.
    assert all(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values())
    for url in urls:
        status, body = curl(url)
        assert (status, b"<Code>AccessDenied</Code>" in body) == (403, True)
    assert "HTTP Error 403" in read_https().stderr
    with pytest.raises(HTTPError, match="403"):
        pd.read_csv(urls[2])

    # Opened, and granted by a list once ownership lets lists count.
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=OFF)
    s3.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls={"Rules": [{"ObjectOwnership": "ObjectWriter"}]})
    assert [curl(url)[0] for url in urls] == [403, 403, 403]
    s3.put_object_acl(Bucket=bucket, Key="example.csv", ACL="public-read")
    assert [curl(url) for url in urls] == [(200, CSV)] * 3
    done = read_https()
    assert done.returncode == 0, done.stderr
    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(done.stdout)), everything)
    pd.testing.assert_frame_equal(pd.read_csv(urls[2]), everything)

    # Blocked again.
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration={**OFF, "IgnorePublicAcls": True})
    assert [curl(url)[0] for url in urls] == [403, 403, 403]


def test_a_data_set_is_published_by_a_policy(aws: Account, published: str, curl: Callable[[str], tuple[int, bytes]]) -> None:
    s3, bucket, url = aws.client("s3", "eu-central-1"), published, urls_of(aws, published)[0]
    policy = (
        '{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"s3:GetObject",'
        f'"Resource":"arn:aws:s3:::{bucket}/*"}}}}'
    )
    with pytest.raises(s3.exceptions.ClientError, match="BlockPublicPolicy"):
        s3.put_bucket_policy(Bucket=bucket, Policy=policy)
    s3.delete_public_access_block(Bucket=bucket)
    s3.put_bucket_policy(Bucket=bucket, Policy=policy)
    assert s3.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"]["IsPublic"] is True
    assert curl(url) == (200, CSV)
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration={**OFF, "RestrictPublicBuckets": True})
    assert curl(url)[0] == 403


def test_the_same_frame_by_s3_with_credentials(aws: Account, published: str) -> None:
    options: dict[str, Any] = {
        "key": aws.access_key_id,
        "secret": aws.secret,
        "endpoint_url": aws.endpoint,
        "client_kwargs": {"region_name": "eu-central-1"},
    }
    frame = pd.read_csv(f"s3://{published}/example.csv", storage_options=options)
    pd.testing.assert_frame_equal(frame, pd.read_csv(io.BytesIO(CSV)))
