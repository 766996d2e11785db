"""Default encryption of buckets, and policies that insist on a kind of encryption."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from pilvi.testing.server import Account
from tests.services.s3.conftest import refused
from tests.services.s3.test_access import policy, statement
from tests.services.s3.test_sealing import MIB5, C, read


@pytest.fixture
def aws(new_account: Callable[[], Account]) -> Account:
    return new_account()


@pytest.fixture
def arn(aws: Account) -> str:
    return str(aws.client("kms").create_key()["KeyMetadata"]["Arn"])


def rule(algorithm: str, key_id: str = "", **more: Any) -> dict[str, Any]:
    by_default = {"SSEAlgorithm": algorithm} | ({"KMSMasterKeyID": key_id} if key_id else {})
    return {"Rules": [{"ApplyServerSideEncryptionByDefault": by_default, **more}]}


def change(s3: Any, bucket: str, configuration: dict[str, Any]) -> None:
    s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration=configuration)


def test_get_bucket_encryption_gives_the_default(s3: Any, bucket: str) -> None:
    found = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]
    assert found == rule("AES256", BucketKeyEnabled=False)


@pytest.mark.parametrize("algorithm", ["aws:kms", "aws:kms:dsse"])
def test_put_bucket_encryption_holds_for_new_objects(s3: Any, bucket: str, arn: str, algorithm: str) -> None:
    s3.put_object(Bucket=bucket, Key="before", Body=b"1")
    change(s3, bucket, rule(algorithm, arn))
    found = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]
    assert found == rule(algorithm, arn, BucketKeyEnabled=False)
    put = s3.put_object(Bucket=bucket, Key="k", Body=b"1")
    assert (put["ServerSideEncryption"], put["SSEKMSKeyId"]) == (algorithm, arn)
    assert read(s3, bucket, "k") == b"1"
    assert s3.head_object(Bucket=bucket, Key="before")["ServerSideEncryption"] == "AES256"
    assert s3.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/before")["SSEKMSKeyId"] == arn
    upload = s3.create_multipart_upload(Bucket=bucket, Key="parts")
    assert (upload["ServerSideEncryption"], upload["SSEKMSKeyId"]) == (algorithm, arn)
    assert s3.put_object(Bucket=bucket, Key="own", Body=b"1", ServerSideEncryption="AES256")["ServerSideEncryption"] == "AES256"
    assert "SSEKMSKeyId" not in s3.head_object(Bucket=bucket, Key="own")
    assert s3.put_object(Bucket=bucket, Key="c", Body=b"1", **C)["SSECustomerAlgorithm"] == "AES256"
    s3.delete_bucket_encryption(Bucket=bucket)
    assert s3.put_object(Bucket=bucket, Key="after", Body=b"1")["ServerSideEncryption"] == "AES256"
    assert read(s3, bucket, "k") == b"1"


def test_put_bucket_encryption_with_a_bucket_key(s3: Any, bucket: str, arn: str) -> None:
    change(s3, bucket, rule("aws:kms", arn, BucketKeyEnabled=True))
    assert s3.put_object(Bucket=bucket, Key="k", Body=b"1")["BucketKeyEnabled"] is True
    assert s3.put_object(Bucket=bucket, Key="managed", Body=b"1", ServerSideEncryption="aws:kms")["BucketKeyEnabled"] is True
    assert "BucketKeyEnabled" not in s3.put_object(Bucket=bucket, Key="without", Body=b"1", BucketKeyEnabled=False)
    for key in ("k", "managed", "without"):
        assert read(s3, bucket, key) == b"1"


def test_put_bucket_encryption_may_block_customers_keys(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="there", Body=b"1", **C)
    change(s3, bucket, rule("AES256", BlockedEncryptionTypes={"EncryptionType": ["SSE-C"]}))
    found = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"][0]
    assert found["BlockedEncryptionTypes"] == {"EncryptionType": ["SSE-C"]}
    for call, more in ((s3.put_object, {}), (s3.create_multipart_upload, {}), (s3.copy_object, {"CopySource": f"{bucket}/k"})):
        s3.put_object(Bucket=bucket, Key="k", Body=b"1")
        assert refused(call, Bucket=bucket, Key="new", **more, **C)["Code"] == "AccessDenied"
    assert read(s3, bucket, "there", **C) == b"1"
    change(s3, bucket, rule("AES256", BlockedEncryptionTypes={"EncryptionType": ["NONE"]}))
    s3.put_object(Bucket=bucket, Key="new", Body=b"1", **C)


def test_put_bucket_encryption_refuses_what_makes_no_sense(s3: Any, bucket: str, arn: str) -> None:
    put = {"Bucket": bucket}
    for configuration in (rule("DES"), {"Rules": []}, {"Rules": rule("AES256")["Rules"] * 2}, {"Rules": [{}]}):
        assert refused(s3.put_bucket_encryption, **put, ServerSideEncryptionConfiguration=configuration)["Code"] == "MalformedXML"
    error = refused(s3.put_bucket_encryption, **put, ServerSideEncryptionConfiguration=rule("AES256", arn))
    assert error["Code"] == "InvalidArgument"
    assert refused(s3.delete_bucket_encryption, Bucket="not-there-" + bucket)["Code"] == "NoSuchBucket"


def test_a_policy_insists_on_kms(s3: Any, bucket: str, arn: str) -> None:
    other = {"StringNotEquals": {"s3:x-amz-server-side-encryption": "aws:kms"}}
    key = {"StringNotEqualsIfExists": {"s3:x-amz-server-side-encryption-aws-kms-key-id": arn}}
    denials = [statement(bucket, "*", "s3:PutObject", effect="Deny", Condition=condition) for condition in (other, key)]
    s3.put_bucket_policy(Bucket=bucket, Policy=policy(*denials))
    assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"1")["Code"] == "AccessDenied"
    assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"1", ServerSideEncryption="AES256")["Code"] == "AccessDenied"
    under = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": arn}
    another = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/aws/s3"}
    assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"1", **another)["Code"] == "AccessDenied"
    s3.put_object(Bucket=bucket, Key="k", Body=b"1", **under)
    assert refused(s3.create_multipart_upload, Bucket=bucket, Key="k")["Code"] == "AccessDenied"
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", **under)["UploadId"]
    part = {"Bucket": bucket, "Key": "k", "UploadId": upload}
    data = os.urandom(MIB5)
    one = s3.upload_part(**part, PartNumber=1, Body=data)
    s3.complete_multipart_upload(**part, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": one["ETag"]}]})
    assert read(s3, bucket, "k") == data


def test_a_policy_refuses_customers_keys(s3: Any, bucket: str) -> None:
    given = {"Null": {"s3:x-amz-server-side-encryption-customer-algorithm": "false"}}
    s3.put_bucket_policy(Bucket=bucket, Policy=policy(statement(bucket, "*", "s3:PutObject", effect="Deny", Condition=given)))
    assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"1", **C)["Code"] == "AccessDenied"
    s3.put_object(Bucket=bucket, Key="k", Body=b"1")
