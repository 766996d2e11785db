"""SSE-KMS and DSSE-KMS: keys from KMS, asked for as the caller, and every way an object may pass through them."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config

from pilvi.testing.server import Account, TestServer, eventually
from tests.services.s3.conftest import refused
from tests.services.s3.test_access import fetch, identity, policy, statement
from tests.services.s3.test_sealing import FROM_C, MIB5, C, customer_headers, read


@pytest.fixture
def aws(new_account: Callable[[], Account]) -> Account:
    return new_account()


@pytest.fixture
def kms(aws: Account) -> Any:
    return aws.client("kms")


@pytest.fixture
def arn(kms: Any) -> str:
    return str(kms.create_key(Description="objects")["KeyMetadata"]["Arn"])


def kms_calls(server: TestServer, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What S3 asks of KMS from now on."""
    calls: list[tuple[str, dict[str, Any]]] = []
    acall = server.cloud.acall

    async def listening(ctx: Any, service: str, operation: str, params: Any) -> Any:
        if service == "kms":
            calls.append((operation, dict(params)))
        return await acall(ctx, service, operation, params)

    monkeypatch.setattr(server.cloud, "acall", listening)
    return calls


@pytest.mark.parametrize("size", [0, 1000, 300_000])
@pytest.mark.parametrize("method", ["aws:kms", "aws:kms:dsse"])
def test_put_object_under_a_key_is_read_again(s3: Any, bucket: str, arn: str, method: str, size: int) -> None:
    data = os.urandom(size)
    put = s3.put_object(Bucket=bucket, Key="k", Body=data, ServerSideEncryption=method, SSEKMSKeyId=arn)
    assert (put["ServerSideEncryption"], put["SSEKMSKeyId"]) == (method, arn)
    assert put["ETag"].strip('"') != hashlib.md5(data).hexdigest()
    for answer in (s3.head_object(Bucket=bucket, Key="k"), got := s3.get_object(Bucket=bucket, Key="k")):
        assert (answer["ServerSideEncryption"], answer["SSEKMSKeyId"], answer["ETag"]) == (method, arn, put["ETag"])
        assert "BucketKeyEnabled" not in answer
    assert got["Body"].read() == data
    if size:
        assert read(s3, bucket, "k", Range="bytes=-100") == data[-100:]


def test_an_object_asks_kms_for_a_data_key_a_layer(
    s3: Any, server: TestServer, bucket: str, arn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = kms_calls(server, monkeypatch)
    context = {"aws:s3:arn": f"arn:aws:s3:::{bucket}/k"}
    s3.put_object(Bucket=bucket, Key="k", Body=b"1", ServerSideEncryption="aws:kms:dsse", SSEKMSKeyId=arn)
    assert [name for name, _ in calls] == ["GenerateDataKey"] * 2
    assert all(params["EncryptionContext"] == context for _, params in calls)
    calls.clear()
    s3.head_object(Bucket=bucket, Key="k")
    assert calls == []
    s3.get_object(Bucket=bucket, Key="k")
    assert [(name, params["EncryptionContext"]) for name, params in calls] == [("Decrypt", context)] * 2
    assert calls[0][1]["CiphertextBlob"] != calls[1][1]["CiphertextBlob"]
    calls.clear()
    s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert {name for name, _ in calls} == {"Decrypt"}


def test_put_object_without_a_key_id_takes_the_key_aws_manages(s3: Any, kms: Any, bucket: str) -> None:
    put = s3.put_object(Bucket=bucket, Key="k", Body=b"1", ServerSideEncryption="aws:kms")
    described = kms.describe_key(KeyId="alias/aws/s3")["KeyMetadata"]
    assert (put["SSEKMSKeyId"], described["KeyManager"]) == (described["Arn"], "AWS")
    assert read(s3, bucket, "k") == b"1"


def test_the_context_of_the_caller_joins_that_of_the_object(
    s3: Any, server: TestServer, bucket: str, arn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = kms_calls(server, monkeypatch)
    context = base64.b64encode(json.dumps({"team": "blue"}).encode()).decode()
    under = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": arn, "SSEKMSEncryptionContext": context}
    assert s3.put_object(Bucket=bucket, Key="k", Body=b"1", **under)["SSEKMSEncryptionContext"] == context
    assert read(s3, bucket, "k") == b"1"
    wanted = {"team": "blue", "aws:s3:arn": f"arn:aws:s3:::{bucket}/k"}
    assert [params["EncryptionContext"] for _, params in calls] == [wanted, wanted]
    for bad in ("%%%", base64.b64encode(b"[1]").decode(), base64.b64encode(b'{"a": 1}').decode()):
        error = refused(s3.put_object, Bucket=bucket, Key="k", Body=b"1", **{**under, "SSEKMSEncryptionContext": bad})
        assert (error["Code"], error["ArgumentName"]) == ("InvalidArgument", "x-amz-server-side-encryption-context")


def test_put_object_refuses_what_does_not_fit(s3: Any, aws: Account, bucket: str, arn: str) -> None:
    put = {"Bucket": bucket, "Key": "k", "Body": b"1"}
    assert refused(s3.put_object, **put, SSEKMSKeyId=arn)["Code"] == "InvalidArgument"
    assert refused(s3.put_object, **put, SSEKMSKeyId=arn, ServerSideEncryption="AES256")["Code"] == "InvalidArgument"
    assert (
        refused(s3.put_object, **put, ServerSideEncryption="DES")["Message"] == "The encryption method specified is not supported"
    )
    kms_put = {**put, "ServerSideEncryption": "aws:kms"}
    error = refused(s3.put_object, **kms_put, SSEKMSKeyId="11111111-2222-4333-8444-555555555555")
    assert (error["Status"], error["Code"]) == (400, "KMS.NotFoundException")
    assert "11111111-2222-4333-8444-555555555555" in error["Message"]
    elsewhere = arn.replace("us-east-1", "eu-west-1")
    error = refused(s3.put_object, **kms_put, SSEKMSKeyId=elsewhere)
    assert (error["Code"], error["Message"]) == ("KMS.NotFoundException", "Invalid arn eu-west-1")
    assert refused(s3.head_object, Bucket=bucket, Key="k")["Status"] == 404


def test_a_disabled_key_and_one_that_goes_open_nothing(s3: Any, kms: Any, bucket: str, arn: str) -> None:
    under = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": arn}
    s3.put_object(Bucket=bucket, Key="k", Body=b"1", **under)
    kms.disable_key(KeyId=arn)
    for call, more in ((s3.get_object, {}), (s3.put_object, under)):
        error = refused(call, Bucket=bucket, Key="k", **more)
        assert (error["Status"], error["Code"], error["Message"]) == (400, "KMS.DisabledException", f"{arn} is disabled.")
    kms.enable_key(KeyId=arn)
    assert read(s3, bucket, "k") == b"1"
    kms.schedule_key_deletion(KeyId=arn, PendingWindowInDays=7)
    error = refused(s3.get_object, Bucket=bucket, Key="k")
    assert (error["Status"], error["Code"]) == (400, "KMS.KMSInvalidStateException")
    assert "pending deletion" in error["Message"]
    assert s3.head_object(Bucket=bucket, Key="k")["SSEKMSKeyId"] == arn
    kms.cancel_key_deletion(KeyId=arn)
    kms.enable_key(KeyId=arn)
    assert read(s3, bucket, "k") == b"1"


def test_who_may_not_decrypt_may_not_read(aws: Account, s3: Any, bucket: str, arn: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"1", ServerSideEncryption="aws:kms", SSEKMSKeyId=arn)
    reader = aws.user("reader", identity("s3:*")).client("s3")
    error = refused(reader.get_object, Bucket=bucket, Key="k")
    assert (error["Status"], error["Code"]) == (403, "AccessDenied")
    assert "kms:Decrypt" in error["Message"]
    assert arn in error["Message"]
    assert reader.head_object(Bucket=bucket, Key="k")["SSEKMSKeyId"] == arn
    under = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": arn}
    assert "kms:GenerateDataKey" in refused(reader.put_object, Bucket=bucket, Key="k", Body=b"2", **under)["Message"]
    opener = aws.user("opener", identity("s3:GetObject"), identity("kms:Decrypt", resource=arn)).client("s3")
    assert read(opener, bucket, "k") == b"1"
    through = {"StringEquals": {"kms:ViaService": "s3.us-east-1.amazonaws.com"}}
    within = {"StringEquals": {"kms:EncryptionContext:aws:s3:arn": f"arn:aws:s3:::{bucket}/k"}}
    bound = identity("kms:Decrypt", Condition={"StringEquals": {**through["StringEquals"], **within["StringEquals"]}})
    s3.copy_object(Bucket=bucket, Key="other", CopySource=f"{bucket}/k", **under)
    narrow = aws.user("narrow", identity("s3:GetObject"), bound).client("s3")
    assert read(narrow, bucket, "k") == b"1"
    assert refused(narrow.get_object, Bucket=bucket, Key="other")["Code"] == "AccessDenied"


def test_the_use_of_a_key_is_on_record(server: TestServer, aws: Account, s3: Any, bucket: str, arn: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"1", ServerSideEncryption="aws:kms", SSEKMSKeyId=arn)
    reader = aws.user("reader", identity("s3:*"))
    refused(reader.client("s3").get_object, Bucket=bucket, Key="k")
    records: list[dict[str, Any]] = []

    def both() -> bool:
        lines = [line for path in Path(server.config.data_dir, "audit").glob("*.jsonl") for line in path.read_text().splitlines()]
        records[:] = [
            record for line in lines if arn in line and (record := json.loads(line))["eventSource"] == "kms.amazonaws.com"
        ]
        return len(records) >= 2

    eventually(both)
    made, denied = records
    assert (made["eventName"], made["sourceIPAddress"]) == ("GenerateDataKey", "s3.amazonaws.com")
    assert made["requestParameters"]["encryptionContext"] == {"aws:s3:arn": f"arn:aws:s3:::{bucket}/k"}
    assert (denied["eventName"], denied["errorCode"]) == ("Decrypt", "AccessDeniedException")
    assert denied["userIdentity"]["accessKeyId"] == reader.access_key_id


def test_the_key_aws_manages_serves_every_user_of_the_account(aws: Account, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"1", ServerSideEncryption="aws:kms")
    assert read(aws.user("u", identity("s3:GetObject")).client("s3"), bucket, "k") == b"1"


def test_a_key_of_another_account_opens_when_its_policy_says_so(aws: Account, other_aws: Account, s3: Any, bucket: str) -> None:
    theirs = other_aws.client("kms")
    arn = theirs.create_key()["KeyMetadata"]["Arn"]
    put = {"Bucket": bucket, "Key": "k", "Body": b"1", "ServerSideEncryption": "aws:kms", "SSEKMSKeyId": arn}
    assert refused(s3.put_object, **put)["Code"] == "AccessDenied"
    root = {"AWS": f"arn:aws:iam::{other_aws.account}:root"}
    shared = {"AWS": f"arn:aws:iam::{aws.account}:root"}
    document = policy(
        {"Effect": "Allow", "Principal": root, "Action": "kms:*", "Resource": "*"},
        {"Effect": "Allow", "Principal": shared, "Action": ["kms:GenerateDataKey", "kms:Decrypt"], "Resource": "*"},
    )
    theirs.put_key_policy(KeyId=arn, PolicyName="default", Policy=document)
    assert s3.put_object(**put)["SSEKMSKeyId"] == arn
    assert read(s3, bucket, "k") == b"1"
    s3.put_bucket_policy(Bucket=bucket, Policy=policy(statement(bucket, shared | root, "s3:GetObject")))
    assert read(other_aws.client("s3"), bucket, "k") == b"1"


def test_nobody_reads_without_a_signature(aws: Account, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"1", ServerSideEncryption="aws:kms")
    s3.delete_public_access_block(Bucket=bucket)
    s3.put_bucket_policy(Bucket=bucket, Policy=policy(statement(bucket, "*", "s3:GetObject")))
    response = fetch(f"{aws.endpoint}/{bucket}/k")
    assert response.status_code == 400
    assert b"AWS Signature Version 4" in response.content


def test_a_presigned_url_of_the_first_days_opens_nothing(aws: Account, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"1", ServerSideEncryption="aws:kms")
    signed = {version: aws.client("s3", config=Config(signature_version=version)) for version in ("s3", "s3v4")}
    urls = {
        version: client.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "k"}) for version, client in signed.items()
    }
    assert b"AWS Signature Version 4" in fetch(urls["s3"]).content
    assert fetch(urls["s3v4"]).content == b"1"


def test_bucket_keys_spare_calls(
    s3: Any, aws: Account, server: TestServer, bucket: str, arn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = kms_calls(server, monkeypatch)
    under = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": arn, "BucketKeyEnabled": True}
    for number in range(10):
        put = s3.put_object(Bucket=bucket, Key=f"k{number}", Body=b"%d" % number, **under)
        assert put["BucketKeyEnabled"] is True
    for number in range(10):
        assert read(s3, bucket, f"k{number}") == b"%d" % number
    assert s3.head_object(Bucket=bucket, Key="k1")["BucketKeyEnabled"] is True
    assert [name for name, _ in calls] == ["GenerateDataKey", "Decrypt"]
    assert all(params["EncryptionContext"] == {"aws:s3:arn": f"arn:aws:s3:::{bucket}"} for _, params in calls)
    # Another caller has no use of what KMS gave to the first.
    reader = aws.user("reader", identity("s3:*")).client("s3")
    assert "kms:Decrypt" in refused(reader.get_object, Bucket=bucket, Key="k1")["Message"]


def test_a_bucket_key_ends_with_its_time(
    timed: TestServer, later_aws: Account, passes: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    s3 = later_aws.client("s3")
    arn = later_aws.client("kms").create_key()["KeyMetadata"]["Arn"]
    s3.create_bucket(Bucket="keyed-for-a-while")
    under = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": arn, "BucketKeyEnabled": True}
    s3.put_object(Bucket="keyed-for-a-while", Key="k", Body=b"1", **under)
    assert read(s3, "keyed-for-a-while", "k") == b"1"
    calls = kms_calls(timed, monkeypatch)
    assert read(s3, "keyed-for-a-while", "k") == b"1"
    assert calls == []
    passes(301)
    assert read(s3, "keyed-for-a-while", "k") == b"1"
    assert [name for name, _ in calls] == ["Decrypt"]


METHODS: dict[str, dict[str, Any]] = {
    "s3": {"ServerSideEncryption": "AES256"},
    "kms": {"ServerSideEncryption": "aws:kms"},
    "bucket key": {"ServerSideEncryption": "aws:kms", "BucketKeyEnabled": True},
    "dsse": {"ServerSideEncryption": "aws:kms:dsse"},
    "c": C,
}


@pytest.mark.parametrize("source", METHODS)
def test_copy_object_from_each_to_each(s3: Any, bucket: str, source: str) -> None:
    for size in (500, 200_000):
        data = os.urandom(size)
        s3.put_object(Bucket=bucket, Key="source", Body=data, **METHODS[source])
        for name, method in METHODS.items():
            opened = FROM_C if source == "c" else {}
            copied = s3.copy_object(Bucket=bucket, Key=name, CopySource=f"{bucket}/source", **method, **opened)
            assert copied.get("ServerSideEncryption") == method.get("ServerSideEncryption")
            assert read(s3, bucket, name, **(C if name == "c" else {})) == data


@pytest.mark.parametrize("method", ["kms", "bucket key", "dsse"])
def test_an_upload_in_parts_is_under_one_key(s3: Any, aws: Account, bucket: str, method: str) -> None:
    data = os.urandom(MIB5 + 70_000)
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", **METHODS[method])
    assert upload["ServerSideEncryption"] == METHODS[method]["ServerSideEncryption"]
    part = {"Bucket": bucket, "Key": "k", "UploadId": upload["UploadId"]}
    one = s3.upload_part(**part, PartNumber=1, Body=data[:MIB5])
    assert one["SSEKMSKeyId"] == upload["SSEKMSKeyId"]
    s3.put_object(Bucket=bucket, Key="source", Body=data[MIB5:], **C)
    two = s3.upload_part_copy(**part, PartNumber=2, CopySource=f"{bucket}/source", **FROM_C)
    parts = [{"PartNumber": 1, "ETag": one["ETag"]}, {"PartNumber": 2, "ETag": two["CopyPartResult"]["ETag"]}]
    done = s3.complete_multipart_upload(**part, MultipartUpload={"Parts": parts})
    assert done["SSEKMSKeyId"] == upload["SSEKMSKeyId"]
    assert read(s3, bucket, "k") == data
    assert read(s3, bucket, "k", Range=f"bytes={MIB5 - 5}-{MIB5 + 4}") == data[MIB5 - 5 : MIB5 + 5]


def test_upload_part_needs_to_decrypt(aws: Account, s3: Any, bucket: str, arn: str) -> None:
    writer = aws.user("writer", identity("s3:*"), identity("kms:GenerateDataKey")).client("s3")
    under = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": arn}
    upload = writer.create_multipart_upload(Bucket=bucket, Key="k", **under)["UploadId"]
    error = refused(writer.upload_part, Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=b"1")
    assert (error["Code"], "kms:Decrypt" in error["Message"]) == ("AccessDenied", True)


def post(s3: Any, bucket: str, key: str, data: str, fields: dict[str, str]) -> int:
    """Upload by a browser's form; gives the status."""
    form = s3.generate_presigned_post(bucket, key, fields, [{name: value} for name, value in fields.items()])
    boundary = "b" * 20
    parts = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in form["fields"].items()
    )
    body = f'{parts}--{boundary}\r\nContent-Disposition: form-data; name="file"\r\n\r\n{data}\r\n--{boundary}--\r\n'
    response = fetch(form["url"], "POST", body.encode(), {"Content-Type": f"multipart/form-data; boundary={boundary}"})
    return int(response.status_code)


def test_post_object_under_a_key(s3: Any, aws: Account, bucket: str, arn: str) -> None:
    prefix = "x-amz-server-side-encryption"
    under = {prefix: "aws:kms", f"{prefix}-aws-kms-key-id": arn, f"{prefix}-bucket-key-enabled": "true"}
    assert post(s3, bucket, "k", "data", under) == 400
    newer = aws.client("s3", config=Config(signature_version="s3v4"))
    assert post(newer, bucket, "k", "data", under) == 204
    head = s3.head_object(Bucket=bucket, Key="k")
    assert (head["SSEKMSKeyId"], head["BucketKeyEnabled"]) == (arn, True)
    assert post(s3, bucket, "c", "data", {name.lower(): value for name, value in customer_headers().items()}) == 204
    assert read(s3, bucket, "c", **C) == b"data"


def test_a_key_may_be_named_by_id_alias_and_arns(s3: Any, kms: Any, aws: Account, bucket: str, arn: str) -> None:
    kms.create_alias(AliasName="alias/data", TargetKeyId=arn)
    alias_arn = f"arn:aws:kms:us-east-1:{aws.account}:alias/data"
    for number, key_id in enumerate((arn.rpartition("/")[2], "alias/data", alias_arn, arn)):
        put = s3.put_object(Bucket=bucket, Key=f"k{number}", Body=b"1", ServerSideEncryption="aws:kms", SSEKMSKeyId=key_id)
        assert put["SSEKMSKeyId"] == arn
        assert read(s3, bucket, f"k{number}") == b"1"


def test_a_rotated_key_still_opens_what_it_sealed(s3: Any, kms: Any, bucket: str, arn: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"1", ServerSideEncryption="aws:kms", SSEKMSKeyId=arn)
    kms.rotate_key_on_demand(KeyId=arn)
    assert read(s3, bucket, "k") == b"1"
