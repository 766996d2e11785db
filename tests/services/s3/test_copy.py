"""CopyObject: bytes, metadata, tags, conditions, versions."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import pytest

from pilvi.testing.server import Account
from tests.services.s3.conftest import refused

LARGE = os.urandom(3_000_000)


@pytest.mark.parametrize("body", [b"", b"small", LARGE])
def test_copy_object_takes_everything_along(s3: Any, bucket: str, body: bytes) -> None:
    put = s3.put_object(
        Bucket=bucket, Key="ä +&", Body=body, Metadata={"a": "1"}, ContentType="x/y", Tagging="t=1", CacheControl="no-cache"
    )
    copied = s3.copy_object(Bucket=bucket, Key="to", CopySource={"Bucket": bucket, "Key": "ä +&"})
    assert copied["CopyObjectResult"]["ETag"] == put["ETag"]
    assert copied["CopyObjectResult"]["ChecksumCRC32"] == put["ChecksumCRC32"]
    got = s3.get_object(Bucket=bucket, Key="to")
    assert got["Body"].read() == body
    assert (got["Metadata"], got["ContentType"], got["CacheControl"], got["TagCount"]) == ({"a": "1"}, "x/y", "no-cache", 1)
    s3.delete_object(Bucket=bucket, Key="ä +&")
    assert s3.get_object(Bucket=bucket, Key="to")["Body"].read() == body


def test_copy_object_replaces_metadata_and_tags(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"1", Metadata={"a": "1"}, ContentType="x/y", Tagging="t=1")
    source = {"Bucket": bucket, "Key": "k"}
    s3.copy_object(Bucket=bucket, Key="to", CopySource=source, Metadata={"b": "2"}, MetadataDirective="REPLACE")
    head = s3.head_object(Bucket=bucket, Key="to")
    assert (head["Metadata"], head["ContentType"]) == ({"b": "2"}, "binary/octet-stream")
    assert s3.get_object_tagging(Bucket=bucket, Key="to")["TagSet"] == [{"Key": "t", "Value": "1"}]
    s3.copy_object(Bucket=bucket, Key="to", CopySource=source, Tagging="u=2", TaggingDirective="REPLACE")
    assert s3.get_object_tagging(Bucket=bucket, Key="to")["TagSet"] == [{"Key": "u", "Value": "2"}]
    assert s3.head_object(Bucket=bucket, Key="to")["Metadata"] == {"a": "1"}


def test_copy_object_onto_itself(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=LARGE)
    source = {"Bucket": bucket, "Key": "k"}
    assert refused(s3.copy_object, Bucket=bucket, Key="k", CopySource=source)["Code"] == "InvalidRequest"
    s3.copy_object(Bucket=bucket, Key="k", CopySource=source, MetadataDirective="REPLACE", Metadata={"new": "1"})
    got = s3.get_object(Bucket=bucket, Key="k")
    assert (got["Metadata"], got["Body"].read()) == ({"new": "1"}, LARGE)


def test_copy_object_conditions(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["ETag"]
    time = s3.head_object(Bucket=bucket, Key="k")["LastModified"]

    def code(**conditions: Any) -> str:
        return str(refused(s3.copy_object, Bucket=bucket, Key="to", CopySource=f"{bucket}/k", **conditions)["Code"])

    assert code(CopySourceIfMatch='"x"') == "PreconditionFailed"
    assert code(CopySourceIfNoneMatch=etag) == "PreconditionFailed"
    assert code(CopySourceIfModifiedSince=time) == "PreconditionFailed"
    s3.copy_object(Bucket=bucket, Key="to", CopySource=f"/{bucket}/k", CopySourceIfMatch=etag, CopySourceIfUnmodifiedSince=time)
    assert code(IfNoneMatch="*") == "PreconditionFailed"


def test_copy_object_refusals(s3: Any, bucket: str) -> None:
    missing = {"Bucket": bucket, "Key": "missing"}
    assert refused(s3.copy_object, Bucket=bucket, Key="k", CopySource=missing)["Code"] == "NoSuchKey"
    gone = {"Bucket": "nobody-has-this-bucket", "Key": "k"}
    assert refused(s3.copy_object, Bucket=bucket, Key="k", CopySource=gone)["Code"] == "NoSuchBucket"
    assert refused(s3.copy_object, Bucket=bucket, Key="k", CopySource="nothing")["Code"] == "InvalidArgument"


def test_copy_object_of_a_version_brings_it_back(s3: Any, versioned: str) -> None:
    first = s3.put_object(Bucket=versioned, Key="k", Body=b"1")["VersionId"]
    s3.put_object(Bucket=versioned, Key="k", Body=b"2")
    source = {"Bucket": versioned, "Key": "k", "VersionId": first}
    copied = s3.copy_object(Bucket=versioned, Key="k", CopySource=source)
    assert copied["CopySourceVersionId"] == first
    assert copied["VersionId"] not in (first, None)
    assert s3.get_object(Bucket=versioned, Key="k")["Body"].read() == b"1"


def test_copy_object_of_a_multipart_object_is_one_piece(s3: Any, bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    etags = [
        s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=number, Body=body)["ETag"]
        for number, body in ((1, LARGE * 2), (2, b"end"))
    ]
    parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
    s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": parts})
    copied = s3.copy_object(Bucket=bucket, Key="to", CopySource=f"{bucket}/k")["CopyObjectResult"]
    assert copied["ETag"] == f'"{hashlib.md5(LARGE * 2 + b"end").hexdigest()}"'
    assert copied["ChecksumType"] == "FULL_OBJECT"


def test_copy_object_needs_both_permissions(aws: Account, bucket: str) -> None:
    aws.client("s3").put_object(Bucket=bucket, Key="in/k", Body=b"1")

    def allowing(action: str, where: str) -> dict[str, Any]:
        statement = {"Effect": "Allow", "Action": action, "Resource": f"arn:aws:s3:::{bucket}/{where}/*"}
        return {"Version": "2012-10-17", "Statement": [statement]}

    reads, writes = allowing("s3:GetObject", "in"), allowing("s3:PutObject", "out")
    for number, policies in enumerate(((reads,), (writes,))):
        half = aws.user(f"half{number}", *policies).client("s3")
        assert refused(half.copy_object, Bucket=bucket, Key="out/k", CopySource=f"{bucket}/in/k")["Code"] == "AccessDenied"
    aws.user("whole", reads, writes).client("s3").copy_object(Bucket=bucket, Key="out/k", CopySource=f"{bucket}/in/k")
