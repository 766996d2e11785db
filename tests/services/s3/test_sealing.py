"""Objects under keys of their own: SSE-C, SSE-KMS, DSSE-KMS, between them and through every operation that moves bytes."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable
from typing import Any

import pytest

from pilvi.core.errors import ServiceError
from pilvi.services.s3.sealing import customer_key
from pilvi.testing.server import Account, TestServer
from tests.services.s3.conftest import refused

KEY = bytes(range(32))
OTHER = bytes(range(1, 33))
C = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": KEY}
D = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": OTHER}
FROM_C = {"CopySourceSSECustomerAlgorithm": "AES256", "CopySourceSSECustomerKey": KEY}
SIZES = [0, 1, 1000, 40_000, 300_000]
MIB5 = 5 << 20


def read(s3: Any, bucket: str, key: str, **more: Any) -> bytes:
    return bytes(s3.get_object(Bucket=bucket, Key=key, **more)["Body"].read())


def md5(key: bytes) -> str:
    return base64.b64encode(hashlib.md5(key).digest()).decode()


def customer_headers(secret: bytes = KEY, **changed: str | None) -> dict[str, str]:
    prefix = "x-amz-server-side-encryption-customer-"
    headers = {"algorithm": "AES256", "key": base64.b64encode(secret).decode(), "key-MD5": md5(secret), **changed}
    return {prefix + name: value for name, value in headers.items() if value is not None}


# -- SSE-C ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_put_object_with_a_customers_key_is_read_with_it_alone(s3: Any, bucket: str, size: int) -> None:
    data = os.urandom(size)
    put = s3.put_object(Bucket=bucket, Key="k", Body=data, **C)
    assert put["SSECustomerAlgorithm"] == "AES256"
    assert put["SSECustomerKeyMD5"] == md5(KEY)
    assert "ServerSideEncryption" not in put
    assert put["ETag"].strip('"') != hashlib.md5(data).hexdigest()
    got = s3.get_object(Bucket=bucket, Key="k", **C)
    assert got["Body"].read() == data
    assert got["SSECustomerKeyMD5"] == md5(KEY)
    assert "ServerSideEncryption" not in got
    head = s3.head_object(Bucket=bucket, Key="k", **C)
    assert (head["SSECustomerAlgorithm"], head["ETag"]) == ("AES256", put["ETag"])
    if size:
        assert read(s3, bucket, "k", Range="bytes=1-", **C) == data[1:] if size > 1 else True
    missing = refused(s3.get_object, Bucket=bucket, Key="k")
    assert (missing["Status"], missing["Code"]) == (400, "InvalidRequest")
    assert missing["Message"].startswith("The object was stored using a form of Server Side Encryption.")
    wrong = refused(s3.get_object, Bucket=bucket, Key="k", **D)
    assert (wrong["Status"], wrong["Code"], wrong["Message"]) == (403, "AccessDenied", "Access Denied")


def test_head_object_of_a_customers_key_wants_it(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"1", **C)
    assert refused(s3.head_object, Bucket=bucket, Key="k")["Status"] == 400
    assert refused(s3.head_object, Bucket=bucket, Key="k", **D)["Status"] == 403
    attributes = {"Bucket": bucket, "Key": "k", "ObjectAttributes": ["ObjectSize"]}
    assert refused(s3.get_object_attributes, **attributes)["Code"] == "InvalidRequest"
    # Of this operation botocore does not encode the key itself.
    encoded = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": base64.b64encode(KEY).decode(), "SSECustomerKeyMD5": md5(KEY)}
    assert s3.get_object_attributes(**attributes, **encoded)["ObjectSize"] == 1


def test_get_object_refuses_a_customers_key_that_is_not_applicable(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"1")
    error = refused(s3.get_object, Bucket=bucket, Key="k", **C)
    assert (error["Code"], error["Message"]) == ("InvalidRequest", "The encryption parameters are not applicable to this object.")


BAD: dict[str, tuple[dict[str, str], str]] = {
    "no algorithm": (customer_headers(algorithm=None), "must provide a valid encryption algorithm."),
    "another algorithm": (customer_headers(algorithm="AES128"), "must provide a valid encryption algorithm."),
    "no key": (customer_headers(key=None), "must provide an appropriate secret key."),
    "no md5": (customer_headers(**{"key-MD5": None}), "must provide the client calculated MD5"),
    "short key": (customer_headers(b"short"), "The secret key was invalid for the specified algorithm."),
    "not base 64": (customer_headers() | {"x-amz-server-side-encryption-customer-key": "?"}, "The secret key was invalid"),
    "another md5": (customer_headers(**{"key-MD5": md5(OTHER)}), "The calculated MD5 hash of the key did not match"),
    "with SSE-S3": (customer_headers() | {"x-amz-server-side-encryption": "AES256"}, "is incompatible with the encryption method"),
}


@pytest.mark.parametrize("case", BAD)
def test_put_object_refuses_unfit_headers(raw: Callable[..., Any], s3: Any, bucket: str, case: str) -> None:
    headers, message = BAD[case]
    response = raw("PUT", f"/{bucket}/k", headers=headers, data=b"1")
    assert response.status_code == 400
    assert b"<Code>InvalidArgument</Code>" in response.content
    assert message.encode() in response.content
    assert refused(s3.head_object, Bucket=bucket, Key="k")["Status"] == 404


@pytest.mark.parametrize("size", [1000, 300_000])
def test_copy_object_moves_between_keys(s3: Any, bucket: str, size: int) -> None:
    data = os.urandom(size)
    source = {"Bucket": bucket, "CopySource": f"{bucket}/c"}
    s3.put_object(Bucket=bucket, Key="c", Body=data, Metadata={"a": "b"}, **C)
    assert refused(s3.copy_object, **source, Key="plain")["Code"] == "InvalidRequest"
    wrong = {"CopySourceSSECustomerAlgorithm": "AES256", "CopySourceSSECustomerKey": OTHER}
    assert refused(s3.copy_object, **source, Key="plain", **wrong)["Code"] == "AccessDenied"
    copied = s3.copy_object(**source, Key="plain", **FROM_C)
    assert copied["ServerSideEncryption"] == "AES256"
    assert read(s3, bucket, "plain") == data
    assert s3.head_object(Bucket=bucket, Key="plain")["Metadata"] == {"a": "b"}
    copied = s3.copy_object(**source, Key="d", **FROM_C, **D)
    assert copied["SSECustomerKeyMD5"] == md5(OTHER)
    assert read(s3, bucket, "d", **D) == data
    s3.copy_object(**source, Key="c", **FROM_C, **D)
    assert read(s3, bucket, "c", **D) == data
    assert refused(s3.copy_object, Bucket=bucket, Key="x", CopySource=f"{bucket}/plain", **FROM_C)["Code"] == "InvalidRequest"


def test_an_upload_under_a_customers_key_wants_it_with_each_part(s3: Any, bucket: str) -> None:
    data = os.urandom(MIB5 + 1000)
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", **C)
    assert upload["SSECustomerKeyMD5"] == md5(KEY)
    part = {"Bucket": bucket, "Key": "k", "UploadId": upload["UploadId"]}
    missing = refused(s3.upload_part, **part, PartNumber=1, Body=b"1")
    assert missing["Message"].startswith("The multipart upload initiate requested encryption.")
    other = refused(s3.upload_part, **part, PartNumber=1, Body=b"1", **D)
    assert (other["Code"], other["Message"]) == (
        "InvalidRequest",
        "The provided encryption parameters did not match the ones used originally.",
    )
    one = s3.upload_part(**part, PartNumber=1, Body=data[:MIB5], **C)
    assert one["SSECustomerKeyMD5"] == md5(KEY)
    s3.put_object(Bucket=bucket, Key="source", Body=data[MIB5:], **C)
    two = s3.upload_part_copy(**part, PartNumber=2, CopySource=f"{bucket}/source", **C, **FROM_C)
    parts = [{"PartNumber": 1, "ETag": one["ETag"]}, {"PartNumber": 2, "ETag": two["CopyPartResult"]["ETag"]}]
    s3.complete_multipart_upload(**part, MultipartUpload={"Parts": parts})
    assert read(s3, bucket, "k", **C) == data
    assert read(s3, bucket, "k", PartNumber=2, **C) == data[MIB5:]
    assert read(s3, bucket, "k", Range=f"bytes={MIB5 - 10}-{MIB5 + 9}", **C) == data[MIB5 - 10 : MIB5 + 10]
    assert refused(s3.get_object, Bucket=bucket, Key="k")["Code"] == "InvalidRequest"
    plain = s3.create_multipart_upload(Bucket=bucket, Key="p")["UploadId"]
    error = refused(s3.upload_part, Bucket=bucket, Key="p", UploadId=plain, PartNumber=1, Body=b"1", **C)
    assert error["Code"] == "InvalidRequest"


def test_versions_have_keys_of_their_own(s3: Any, versioned: str) -> None:
    first = s3.put_object(Bucket=versioned, Key="k", Body=b"first", **C)["VersionId"]
    s3.put_object(Bucket=versioned, Key="k", Body=b"second", **D)
    assert read(s3, versioned, "k", **D) == b"second"
    assert read(s3, versioned, "k", VersionId=first, **C) == b"first"
    assert refused(s3.get_object, Bucket=versioned, Key="k", VersionId=first, **D)["Code"] == "AccessDenied"


def test_a_customers_key_travels_over_tls_but_on_this_machine(server: TestServer, aws: Account) -> None:
    request = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": base64.b64encode(KEY).decode(), "SSECustomerKeyMD5": md5(KEY)}
    principal = server.cloud.identities.find(aws.access_key_id, None).principal
    ctx = server.cloud.context(principal, "s3")
    assert customer_key(ctx, request) == KEY
    ctx.source_ip = "10.1.2.3"
    with pytest.raises(ServiceError, match="must be made over a secure connection"):
        customer_key(ctx, request)
    ctx.secure = True
    assert customer_key(ctx, request) == KEY
