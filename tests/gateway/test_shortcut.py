"""The short way of plain requests, from outside: what takes it, what does not, and that both ways answer alike."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from pilvi.storage.records import PutBody, Table
from pilvi.testing.server import Account, TestServer, eventually

_buckets = itertools.count(1)


@pytest.fixture
def shortcut(server: TestServer) -> Iterator[Any]:
    found = server.server.gateway.shortcut
    yield found
    found.is_open = True


@pytest.fixture
def bucket(aws: Account) -> str:
    """A bucket that the server knows: its first request went the general way."""
    name = f"short{next(_buckets)}-{aws.account}"
    s3 = aws.client("s3")
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="first")
    return name


def took(shortcut: Any, call: Callable[[], Any]) -> tuple[bool, Any]:
    """Whether a call went the short way, and its answer."""
    before = shortcut.taken
    try:
        answer = call()
    except ClientError as error:
        answer = error.response
    return shortcut.taken > before, answer


def compared(answer: Any) -> dict[str, Any]:
    """An answer without what differs from request to request."""
    headers = dict(answer["ResponseMetadata"]["HTTPHeaders"])
    for name in ("date", "x-amz-request-id", "x-amz-id-2", "last-modified"):
        headers.pop(name, None)
    body = answer["Body"].read() if "Body" in answer else b""
    return {"status": answer["ResponseMetadata"]["HTTPStatusCode"], "headers": headers, "body": body, "error": answer.get("Error")}


def both(shortcut: Any, call: Callable[[], Any]) -> tuple[dict[str, Any], dict[str, Any], bool]:
    """The answers of the short and of the general way, and whether the first was the short one's."""
    is_short, first = took(shortcut, call)
    short = compared(first)
    shortcut.is_open = False
    _, second = took(shortcut, call)
    shortcut.is_open = True
    return short, compared(second), is_short


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"ChecksumMode": "ENABLED"},
        {"Range": "bytes=1-3"},
        {"Range": "bytes=-2"},
        {"Range": "bytes=4-"},
    ],
)
@pytest.mark.parametrize("size", [10, 70_000, 200_000])
def test_reads_are_answered_alike(aws: Account, bucket: str, shortcut: Any, request_: dict[str, str], size: int) -> None:
    s3 = aws.client("s3")
    body = bytes(range(250)) * (size // 250 + 1)
    s3.put_object(
        Bucket=bucket,
        Key="a b/c=1/ä",
        Body=body[:size],
        ContentType="text/plain",
        CacheControl="no-cache",
        Metadata={"author": "me"},
        Tagging="a=1",
    )
    for call in (s3.get_object, s3.head_object):
        short, general, is_short = both(shortcut, lambda call=call: call(Bucket=bucket, Key="a b/c=1/ä", **request_))
        assert short == general
        is_large = size > 128 << 10 and call == s3.get_object and request_.get("Range") in (None, "bytes=4-")
        assert is_short is not is_large


def test_empty_and_multipart_objects_are_answered_alike(aws: Account, bucket: str, shortcut: Any) -> None:
    s3 = aws.client("s3")
    s3.put_object(Bucket=bucket, Key="empty")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="parts")["UploadId"]
    where = {"Bucket": bucket, "Key": "parts", "UploadId": upload}
    parts = [
        {"PartNumber": number, "ETag": s3.upload_part(**where, PartNumber=number, Body=bytes([number]) * (5 << 20))["ETag"]}
        for number in (1, 2)
    ]
    s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
    for request in ({"Key": "empty"}, {"Key": "parts", "Range": "bytes=10-20"}, {"Key": "parts", "Range": "bytes=5242870-5242890"}):
        short, general, _ = both(shortcut, lambda request=request: s3.get_object(Bucket=bucket, **request))
        assert short == general
    assert took(shortcut, lambda: s3.get_object(Bucket=bucket, Key="parts", Range="bytes=6000000-6000009"))[0]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"ContentType": "text/csv"},
        {"ChecksumAlgorithm": "SHA256"},
        {"ContentMD5": "XrY7u+Ae7tCTyyK7j1rNww=="},
        {"ChecksumCRC32": "AAAAAA=="},
        {"ContentMD5": "AAAAAAAAAAAAAAAAAAAAAA=="},
        {"ContentMD5": "x"},
    ],
)
def test_writes_are_answered_alike(aws: Account, bucket: str, shortcut: Any, more: dict[str, str]) -> None:
    s3 = aws.client("s3")
    short, general, is_short = both(shortcut, lambda: s3.put_object(Bucket=bucket, Key="key", Body=b"hello world", **more))
    assert is_short
    assert short == general
    short, general, is_short = both(shortcut, lambda: s3.delete_object(Bucket=bucket, Key="key"))
    assert is_short
    assert short == general


def test_versions_are_told(aws: Account, bucket: str, shortcut: Any) -> None:
    s3 = aws.client("s3")
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.put_object(Bucket=bucket, Key="key", Body=b"0")
    is_short, put = took(shortcut, lambda: s3.put_object(Bucket=bucket, Key="key", Body=b"1"))
    assert is_short
    is_short, got = took(shortcut, lambda: s3.get_object(Bucket=bucket, Key="key"))
    assert is_short
    assert got["VersionId"] == put["VersionId"]
    is_short, gone = took(shortcut, lambda: s3.delete_object(Bucket=bucket, Key="key"))
    assert is_short
    assert gone["DeleteMarker"] is True
    assert gone["VersionId"] not in ("null", put["VersionId"])
    is_short, missing = took(shortcut, lambda: s3.get_object(Bucket=bucket, Key="key"))
    assert (is_short, missing["Error"]["Code"]) == (False, "NoSuchKey")
    assert missing["ResponseMetadata"]["HTTPHeaders"]["x-amz-delete-marker"] == "true"


def test_a_read_sees_every_write(aws: Account, bucket: str, shortcut: Any) -> None:
    s3 = aws.client("s3")
    for number in range(20):
        s3.put_object(Bucket=bucket, Key="key", Body=b"%d" % number, ContentType=f"text/{number}")
        is_short, got = took(shortcut, lambda: s3.get_object(Bucket=bucket, Key="key"))
        assert is_short
        assert (got["Body"].read(), got["ContentType"]) == (b"%d" % number, f"text/{number}")
    s3.delete_object(Bucket=bucket, Key="key")
    assert took(shortcut, lambda: s3.get_object(Bucket=bucket, Key="key"))[1]["Error"]["Code"] == "NoSuchKey"


def test_a_bucket_made_again_is_another_one(aws: Account, bucket: str) -> None:
    s3 = aws.client("s3")
    for content in (b"1", b"2"):
        s3.put_object(Bucket=bucket, Key="key", Body=content)
        for _ in range(2):
            assert s3.get_object(Bucket=bucket, Key="key")["Body"].read() == content
        s3.delete_object(Bucket=bucket, Key="key")
        s3.delete_object(Bucket=bucket, Key="first")
        s3.delete_bucket(Bucket=bucket)
        with pytest.raises(ClientError, match="NoSuchBucket"):
            s3.get_object(Bucket=bucket, Key="key")
        s3.create_bucket(Bucket=bucket)


# -- who may --------------------------------------------------------------------------------------------------------------


def allow(*actions: str, resource: str, **more: Any) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": resource, **more}]}


def test_users_go_the_short_way_where_their_policies_let_them(aws: Account, bucket: str, shortcut: Any) -> None:
    s3 = aws.client("s3")
    for key in ("mine/key", "other/key"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"1")
    user = aws.user("reader", allow("s3:GetObject", "s3:PutObject", resource=f"arn:aws:s3:::{bucket}/mine/*")).client("s3")
    assert took(shortcut, lambda: user.get_object(Bucket=bucket, Key="mine/key"))[0]
    assert took(shortcut, lambda: user.put_object(Bucket=bucket, Key="mine/new"))[0]
    for call in (user.get_object, user.put_object, user.delete_object):
        short, general, is_short = both(shortcut, lambda call=call: call(Bucket=bucket, Key="other/key"))
        assert not is_short
        assert short["error"]["Code"] == general["error"]["Code"] == "AccessDenied"


def test_a_policy_that_changes_counts_at_once(aws: Account, bucket: str) -> None:
    s3 = aws.client("s3")
    s3.put_object(Bucket=bucket, Key="key", Body=b"1")
    user = aws.user("changing", allow("s3:GetObject", resource="*")).client("s3")
    for _ in range(2):
        user.get_object(Bucket=bucket, Key="key")
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/*"}
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [deny]}))
    for client in (user, s3):
        with pytest.raises(ClientError, match="explicit deny in a resource-based policy"):
            client.get_object(Bucket=bucket, Key="key")
    s3.delete_bucket_policy(Bucket=bucket)
    user.get_object(Bucket=bucket, Key="key")
    iam = aws.client("iam")
    for policy in iam.list_user_policies(UserName="changing")["PolicyNames"]:
        iam.delete_user_policy(UserName="changing", PolicyName=policy)
    with pytest.raises(ClientError, match="AccessDenied"):
        user.get_object(Bucket=bucket, Key="key")


def test_conditions_are_asked(aws: Account, bucket: str, shortcut: Any) -> None:
    s3 = aws.client("s3")
    s3.put_object(Bucket=bucket, Key="open", Body=b"1", Tagging="stage=public")
    s3.put_object(Bucket=bucket, Key="shut", Body=b"1", Tagging="stage=secret")
    condition = {"StringEquals": {"s3:ExistingObjectTag/stage": "public", "s3:authType": "REST-HEADER"}}
    user = aws.user("tagged", allow("s3:GetObject", resource="*", Condition=condition)).client("s3")
    assert took(shortcut, lambda: user.get_object(Bucket=bucket, Key="open"))[0]
    is_short, answer = took(shortcut, lambda: user.get_object(Bucket=bucket, Key="shut"))
    assert (is_short, answer["Error"]["Code"]) == (False, "AccessDenied")


def test_strangers_need_the_bucket_policy(aws: Account, other_aws: Account, bucket: str, shortcut: Any) -> None:
    s3, other = aws.client("s3"), other_aws.client("s3")
    s3.put_object(Bucket=bucket, Key="key", Body=b"1")
    for call in (other.get_object, other.put_object, other.delete_object):
        is_short, answer = took(shortcut, lambda call=call: call(Bucket=bucket, Key="key"))
        assert (is_short, answer["Error"]["Code"]) == (False, "AccessDenied")
    policy = allow("s3:GetObject", resource=f"arn:aws:s3:::{bucket}/*", Principal={"AWS": other_aws.account})
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    other.get_object(Bucket=bucket, Key="key")
    assert took(shortcut, lambda: other.get_object(Bucket=bucket, Key="key"))[0]


def test_keys_that_are_switched_off_or_wrong_are_refused(aws: Account, bucket: str, shortcut: Any) -> None:
    aws.client("s3").put_object(Bucket=bucket, Key="key", Body=b"1")
    user = aws.user("leaver", allow("s3:*", resource="*"))
    client = user.client("s3")
    client.get_object(Bucket=bucket, Key="key")
    wrong = boto3.client(
        "s3", "us-east-1", endpoint_url=aws.endpoint, aws_access_key_id=user.access_key_id, aws_secret_access_key="x" * 40
    )
    is_short, answer = took(shortcut, lambda: wrong.get_object(Bucket=bucket, Key="key"))
    assert (is_short, answer["Error"]["Code"]) == (False, "SignatureDoesNotMatch")
    aws.client("iam").update_access_key(UserName="leaver", AccessKeyId=user.access_key_id, Status="Inactive")
    is_short, answer = took(shortcut, lambda: client.get_object(Bucket=bucket, Key="key"))
    assert (is_short, answer["Error"]["Code"]) == (False, "InvalidAccessKeyId")


def test_sessions_go_the_short_way(aws: Account, bucket: str, shortcut: Any) -> None:
    aws.client("s3").put_object(Bucket=bucket, Key="key", Body=b"1")
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": aws.account}, "Action": "sts:AssumeRole"}],
    }
    iam = aws.client("iam")
    role = iam.create_role(RoleName="short", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    iam.put_role_policy(RoleName="short", PolicyName="p", PolicyDocument=json.dumps(allow("s3:*", resource="*")))
    user = aws.user("assumer", allow("sts:AssumeRole", resource="*"))
    narrowed = json.dumps(allow("s3:GetObject", resource="*"))
    keys = user.client("sts").assume_role(RoleArn=role, RoleSessionName="short", Policy=narrowed)["Credentials"]
    session = user.with_keys(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"]).client("s3")
    assert took(shortcut, lambda: session.get_object(Bucket=bucket, Key="key"))[0]
    is_short, answer = took(shortcut, lambda: session.put_object(Bucket=bucket, Key="key"))
    assert (is_short, answer["Error"]["Code"]) == (False, "AccessDenied")


# -- what stays general -----------------------------------------------------------------------------------------------------


def test_rare_buckets_and_objects_go_the_general_way(aws: Account, bucket: str, shortcut: Any) -> None:
    s3 = aws.client("s3")
    s3.put_object(Bucket=bucket, Key="cold", Body=b"1", StorageClass="STANDARD_IA")
    s3.put_object(Bucket=bucket, Key="key", Body=b"1")
    assert not took(shortcut, lambda: s3.get_object(Bucket=bucket, Key="cold"))[0]
    assert not took(shortcut, lambda: s3.get_object(Bucket=bucket, Key="key", IfNoneMatch="x"))[0]
    assert not took(shortcut, lambda: s3.put_object(Bucket=bucket, Key="key", Metadata={"a": "b"}))[0]
    assert took(shortcut, lambda: s3.get_object(Bucket=bucket, Key="key"))[0]
    rule = {"ID": "r", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})
    for _ in range(2):
        is_short, answer = took(shortcut, lambda: s3.get_object(Bucket=bucket, Key="key"))
        assert not is_short
        assert "Expiration" in answer


def test_every_request_is_audited(aws: Account, bucket: str, shortcut: Any, server: TestServer) -> None:
    s3 = aws.client("s3")
    s3.put_object(Bucket=bucket, Key="seen", Body=b"1")
    is_short, answer = took(shortcut, lambda: s3.get_object(Bucket=bucket, Key="seen"))
    assert is_short
    wanted = answer["ResponseMetadata"]["RequestId"]

    def records() -> list[dict[str, Any]]:
        files = sorted((server.config.data_dir / "audit").glob("*.jsonl"))
        lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        return [line for line in lines if line["requestID"] == wanted]

    (record,) = eventually(records)
    assert record["eventName"] == "GetObject"
    assert record["eventSource"] == "s3.amazonaws.com"
    assert record["resources"] == [{"ARN": f"arn:aws:s3:::{bucket}/seen"}]
    assert record["userIdentity"]["accountId"] == aws.account
    assert record["awsRegion"] == "us-east-1"
    assert "Boto3" in record["userAgent"]


def test_damage_is_found_on_the_short_way(aws: Account, bucket: str, server: TestServer, shortcut: Any) -> None:
    s3 = aws.client("s3")
    s3.put_object(Bucket=bucket, Key="key", Body=b"12345")
    assert took(shortcut, lambda: s3.get_object(Bucket=bucket, Key="key"))[0]
    store = server.cloud.store
    row = store.get(Table(aws.account, "us-east-1", "s3", f"Object:{bucket}"), "key")
    name = row.value["at"]
    sealed = bytearray(store.body(name))
    sealed[-1] ^= 1
    store.write(PutBody(name, bytes(sealed)))
    is_short, answer = took(shortcut, lambda: s3.get_object(Bucket=bucket, Key="key"))
    assert (is_short, answer["Error"]["Code"]) == (False, "InternalError")
