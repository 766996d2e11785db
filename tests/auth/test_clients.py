"""Signatures and policies as unmodified clients meet them, over HTTP."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import time
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from pilvi.auth import canonical, checksums
from pilvi.auth.sigv4 import read_claim
from pilvi.core.http import Request

KEY = "a key/ä~+.txt"


def send(aws, method, url, body=b"", headers=None):
    """One request by hand: to the server, whatever host the URL names."""
    parts, server = urlsplit(url), urlsplit(aws.endpoint)
    connection = http.client.HTTPConnection(server.hostname, server.port, timeout=10)
    try:
        connection.request(
            method, f"{parts.path}?{parts.query}" if parts.query else parts.path, body, {"Host": parts.netloc, **(headers or {})}
        )
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@pytest.fixture
def bucket(aws):
    name = f"auth-{aws.account}"
    aws.client("s3").create_bucket(Bucket=name)
    aws.client("s3").put_object(Bucket=name, Key=KEY, Body=b"hello")
    return name


@pytest.mark.parametrize("version", ["s3", "s3v4"])
@pytest.mark.parametrize("style", ["path", "virtual"])
def test_presigned_urls_work_and_cannot_be_bent(aws, bucket, version, style):
    client = boto3.client(
        "s3",
        "us-east-1",
        endpoint_url=aws.endpoint.replace("127.0.0.1", "localhost"),
        aws_access_key_id=aws.access_key_id,
        aws_secret_access_key=aws.secret,
        config=Config(signature_version=version, s3={"addressing_style": style}),
    )
    url = client.generate_presigned_url("get_object", {"Bucket": bucket, "Key": KEY})
    assert send(aws, "GET", url) == (200, b"hello")
    for bent in (url + "&versionId=null", url.replace("Signature=", "Signature=x"), url.replace("%2B.txt", "x.txt")):
        status, body = send(aws, "GET", bent)
        assert (status, b"<Code>SignatureDoesNotMatch</Code>" in body) == (403, True)
    assert send(aws, "DELETE", url)[0] == 403
    assert send(aws, "PUT", client.generate_presigned_url("put_object", {"Bucket": bucket, "Key": "new"}), b"data")[0] == 200
    assert aws.client("s3").get_object(Bucket=bucket, Key="new")["Body"].read() == b"data"


@pytest.mark.parametrize(
    ("service", "operation", "codes"),
    [
        ("s3", "list_buckets", ("SignatureDoesNotMatch", "InvalidAccessKeyId", "InvalidToken", "AuthorizationHeaderMalformed")),
        ("iam", "list_users", ("SignatureDoesNotMatch", "InvalidClientTokenId", "InvalidClientTokenId", "SignatureDoesNotMatch")),
        (
            "logs",
            "describe_log_groups",
            (
                "InvalidSignatureException",
                "UnrecognizedClientException",
                "UnrecognizedClientException",
                "InvalidSignatureException",
            ),
        ),
        (
            "lambda",
            "list_functions",
            (
                "InvalidSignatureException",
                "UnrecognizedClientException",
                "UnrecognizedClientException",
                "InvalidSignatureException",
            ),
        ),
    ],
)
def test_wrong_keys_get_the_services_own_words(aws, service, operation, codes):
    wrong = (
        aws.with_keys(aws.access_key_id, "wrong").client(service),
        aws.with_keys("AKIAUNKNOWN", aws.secret).client(service),
        aws.with_keys(aws.access_key_id, aws.secret, "token").client(service),
        aws.client(service, region="eu-east-1"),
    )
    for client, code in zip(wrong, codes, strict=True):
        with pytest.raises(ClientError) as caught:
            getattr(client, operation)()
        assert caught.value.response["Error"]["Code"] == code


def test_a_stale_request_is_refused(aws, monkeypatch):
    from datetime import UTC, datetime, timedelta

    for signer in ("botocore.auth", "botocore.crt.auth"):
        monkeypatch.setattr(f"{signer}.get_current_datetime", lambda **_: datetime.now(UTC) - timedelta(minutes=16))
    with pytest.raises(ClientError) as caught:
        aws.client("s3").list_buckets()
    assert caught.value.response["Error"]["Code"] == "RequestTimeTooSkewed"
    assert caught.value.response["Error"]["MaxAllowedSkewMilliseconds"] == "900000"


def chunked_put(aws, url, payload, *, spoil=False):
    """A signed aws-chunked upload with a signed trailer, as SDKs in other languages send it over plain HTTP."""
    checksum = checksums.checksum("CRC32C", payload)
    headers = {
        "x-amz-decoded-content-length": str(len(payload)),
        "content-encoding": "aws-chunked",
        "x-amz-trailer": "x-amz-checksum-crc32c",
    }
    request = AWSRequest("PUT", url, headers=headers)
    signer = S3SigV4Auth(Credentials(aws.access_key_id, aws.secret), "s3", "us-east-1")
    signer.payload = lambda _request: "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
    signer.add_auth(request)
    sent = dict(request.headers.items())
    claim = read_claim(Request("PUT", "/", "", {name.lower(): value for name, value in sent.items()}))
    key = canonical.signing_key(aws.secret, claim.date, claim.region, claim.service)
    last, body = claim.signature, b""
    for position in [*range(0, len(payload), 65536), None]:
        piece = b"" if position is None else payload[position : position + 65536]
        text = f"AWS4-HMAC-SHA256-PAYLOAD\n{claim.timestamp}\n{claim.scope}\n{last}\n{canonical.EMPTY_SHA256}\n{hashlib.sha256(piece).hexdigest()}"
        last = hmac.new(key, text.encode(), "sha256").hexdigest()
        body += b"%x;chunk-signature=%s\r\n%s%s" % (len(piece), last.encode(), piece, b"\r\n" if piece else b"")
    lines = f"x-amz-checksum-crc32c:{checksum}\n"
    text = f"AWS4-HMAC-SHA256-TRAILER\n{claim.timestamp}\n{claim.scope}\n{last}\n{hashlib.sha256(lines.encode()).hexdigest()}"
    body += (
        lines.replace("\n", "\r\n").encode()
        + b"x-amz-trailer-signature:"
        + hmac.new(key, text.encode(), "sha256").hexdigest().encode()
        + b"\r\n\r\n"
    )
    if spoil:
        body = body.replace(payload[70000:70010], b"tampered!!")
    return send(aws, "PUT", url, body, sent)


def test_signed_chunks_are_stored_and_tampered_ones_are_not(aws, bucket):
    payload = bytes(range(256)) * 600
    url = f"{aws.endpoint}/{bucket}/chunked"
    status, answer = chunked_put(aws, url, payload)
    assert status == 200, answer
    stored = aws.client("s3").get_object(Bucket=bucket, Key="chunked", ChecksumMode="ENABLED")
    assert stored["Body"].read() == payload
    assert stored["ChecksumCRC32C"] == checksums.checksum("CRC32C", payload)
    assert stored.get("ContentEncoding", "") == ""
    spoilt = payload[:70000] + b"9876543210" + payload[70010:]
    status, answer = chunked_put(aws, f"{aws.endpoint}/{bucket}/spoilt", spoilt, spoil=True)
    assert (status, b"<Code>SignatureDoesNotMatch</Code>" in answer) == (403, True), answer
    assert send(aws, "HEAD", aws.client("s3").generate_presigned_url("head_object", {"Bucket": bucket, "Key": "spoilt"}))[0] == 404


def test_refusals_name_caller_action_and_resource(aws, bucket):
    user = aws.user("anna", {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "*"}})
    with pytest.raises(ClientError) as caught:
        user.client("s3").get_object(Bucket=bucket, Key="k")
    assert caught.value.response["Error"]["Message"] == (
        f"User: arn:aws:iam::{aws.account}:user/anna is not authorized to perform: s3:GetObject on resource: "
        f'"arn:aws:s3:::{bucket}/k" because no identity-based policy allows the s3:GetObject action'
    )


def test_a_bucket_policy_lets_another_account_in_with_both_sides_willing(aws, other_aws, bucket):
    guest = other_aws.user("guest", {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}})
    with pytest.raises(ClientError):
        guest.client("s3").get_object(Bucket=bucket, Key=KEY)
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{other_aws.account}:root"},
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{bucket}/*",
    }
    aws.client("s3").put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    assert guest.client("s3").get_object(Bucket=bucket, Key=KEY)["Body"].read() == b"hello"
    with pytest.raises(ClientError):
        guest.client("s3").put_object(Bucket=bucket, Key="x", Body=b"")
    unwilling = other_aws.user("unwilling")
    with pytest.raises(ClientError):
        unwilling.client("s3").get_object(Bucket=bucket, Key=KEY)


def test_no_request_takes_long_to_refuse(aws):
    """A policy made to trip up backtracking matchers, and a request that meets it."""
    pattern = "arn:aws:s3:::" + "*a" * 400 + "b"
    user = aws.user(
        "slow", {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "s3:GetObject", "Resource": pattern}}
    )
    started = time.monotonic()
    with pytest.raises(ClientError):
        user.client("s3").get_object(Bucket="some-bucket", Key="a" * 900)
    assert time.monotonic() - started < 10
