"""Directory buckets: boto3 makes sessions by itself; what there is not is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.httpsession import URLLib3Session

from pilvi.testing.server import Account
from tests.services.s3.conftest import refused

ZONE = "use1-az4"


def configuration(zone: str = ZONE) -> dict[str, Any]:
    return {
        "Location": {"Type": "AvailabilityZone", "Name": zone},
        "Bucket": {"DataRedundancy": "SingleAvailabilityZone", "Type": "Directory"},
    }


@pytest.fixture
def directory(s3: Any, name: str) -> str:
    bucket = f"{name}--{ZONE}--x-s3"
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration=configuration())
    return bucket


def test_objects_of_a_directory_bucket(s3, directory):
    put = s3.put_object(Bucket=directory, Key="a/b", Body=b"hello", Metadata={"m": "1"})
    assert "VersionId" not in put
    found = s3.get_object(Bucket=directory, Key="a/b")
    assert (found["Body"].read(), found["StorageClass"], found["Metadata"]) == (b"hello", "EXPRESS_ONEZONE", {"m": "1"})
    assert s3.head_bucket(Bucket=directory)["ResponseMetadata"]["HTTPStatusCode"] == 200
    s3.copy_object(Bucket=directory, Key="a/c", CopySource={"Bucket": directory, "Key": "a/b"})
    upload = s3.create_multipart_upload(Bucket=directory, Key="parts")["UploadId"]
    part = s3.upload_part(Bucket=directory, Key="parts", UploadId=upload, PartNumber=1, Body=b"x")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s3.complete_multipart_upload(Bucket=directory, Key="parts", UploadId=upload, MultipartUpload=parts)
    listed = s3.list_objects_v2(Bucket=directory, Delimiter="/")
    assert [item["Key"] for item in listed["Contents"]] == ["parts"]
    assert listed["Contents"][0]["StorageClass"] == "EXPRESS_ONEZONE"
    assert [item["Prefix"] for item in listed["CommonPrefixes"]] == ["a/"]
    objects = {"Objects": [{"Key": "a/b"}, {"Key": "a/c"}, {"Key": "parts"}]}
    assert len(s3.delete_objects(Bucket=directory, Delete=objects)["Deleted"]) == 3
    s3.delete_bucket(Bucket=directory)
    assert directory not in [item["Name"] for item in s3.list_directory_buckets()["Buckets"]]


def test_list_directory_buckets_pages_and_list_buckets_knows_none(new_account):
    account = new_account()
    s3 = account.client("s3")
    names = [f"d{number}-{account.account}--{ZONE}--x-s3" for number in range(3)]
    for bucket in names:
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration=configuration())
    first = s3.list_directory_buckets(MaxDirectoryBuckets=2)
    assert [item["Name"] for item in first["Buckets"]] == names[:2]
    rest = s3.list_directory_buckets(ContinuationToken=first["ContinuationToken"])
    assert [item["Name"] for item in rest["Buckets"]] == names[2:]
    assert "ContinuationToken" not in rest
    assert s3.list_buckets()["Buckets"] == []
    assert account.client("s3", "eu-west-1").list_directory_buckets()["Buckets"] == []


@pytest.mark.parametrize(
    ("suffix", "change", "code"),
    [
        ("--use1-az4--x-s3", {}, ""),
        ("--use1-az5--x-s3", {}, "InvalidRequest"),
        ("--usw2-az1--x-s3", {"Location": {"Type": "AvailabilityZone", "Name": "usw2-az1"}}, "InvalidRequest"),
        ("--x-s3", {}, "InvalidBucketName"),
        (".dot--use1-az4--x-s3", {}, "InvalidBucketName"),
        ("--use1-az4--x-s3", {"Bucket": {"DataRedundancy": "SingleAvailabilityZone"}}, "MalformedXML"),
        ("--use1-az4--x-s3", {"Location": {"Type": "LocalZone", "Name": ZONE}}, "NotImplemented"),
    ],
)
def test_create_bucket_checks_names_and_zones(s3, name, suffix, change, code):
    params = {"Bucket": name + suffix, "CreateBucketConfiguration": configuration() | change}
    if code:
        assert refused(s3.create_bucket, **params)["Code"] == code
    else:
        assert s3.create_bucket(**params)["BucketArn"].endswith(f":bucket/{name}{suffix}")
        assert refused(s3.create_bucket, **params)["Code"] == "BucketAlreadyOwnedByYou"


def test_create_session_is_for_one_bucket_and_one_mode(aws, s3, directory, name):
    other = f"{name}-other--{ZONE}--x-s3"
    s3.create_bucket(Bucket=other, CreateBucketConfiguration=configuration())
    s3.put_object(Bucket=directory, Key="k", Body=b"x")
    made = s3.create_session(Bucket=directory, SessionMode="ReadOnly")["Credentials"]
    send = sender(aws, made)
    assert send("GET", f"/{directory}/k").content == b"x"
    assert send("GET", f"/{directory}?list-type=2").status_code == 200
    assert send("PUT", f"/{directory}/k", b"y").status_code == 403
    assert send("GET", f"/{other}?list-type=2").status_code == 403
    assert send("DELETE", f"/{directory}").status_code == 403
    full = sender(aws, s3.create_session(Bucket=directory)["Credentials"])
    assert full("PUT", f"/{directory}/k", b"y").status_code == 200
    assert refused(s3.create_session, Bucket=directory, SessionMode="WriteOnly")["Code"] == "InvalidArgument"
    thief = aws.with_keys(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"]).client("s3")
    assert refused(thief.list_buckets)["Code"] == "InvalidToken"
    assert refused(thief.create_bucket, Bucket=f"{name}-stolen")["Code"] == "InvalidToken"
    assert full("GET", "/").status_code == full("PUT", f"/{name}-stolen").status_code == 403
    account = {"x-amz-account-id": aws.account}
    assert b"<Code>InvalidToken" in full("GET", "/v20180820/accesspoint", headers=account).content


def sender(aws: Account, keys: dict[str, Any]) -> Callable[..., Any]:
    """Requests signed as the SDKs sign them with a session: service s3express, token in x-amz-s3session-token."""

    def send(method: str, path: str, data: bytes = b"", headers: dict[str, str] | None = None) -> Any:
        headers = {"x-amz-s3session-token": keys["SessionToken"], **(headers or {})}
        request = AWSRequest(method, f"{aws.endpoint}{path}", headers=headers, data=data)
        S3SigV4Auth(Credentials(keys["AccessKeyId"], keys["SecretAccessKey"]), "s3express", aws.region).add_auth(request)
        return URLLib3Session().send(request.prepare())

    return send


def test_zonal_hosts_name_the_bucket(aws, s3, directory):
    s3.put_object(Bucket=directory, Key="k", Body=b"x")
    made = s3.create_session(Bucket=directory)["Credentials"]
    host = f"{directory}.s3express-{ZONE}.us-east-1.amazonaws.com"
    headers = {"x-amz-s3session-token": made["SessionToken"], "Host": host}
    request = AWSRequest("GET", f"{aws.endpoint}/k", headers=headers)
    S3SigV4Auth(Credentials(made["AccessKeyId"], made["SecretAccessKey"]), "s3express", aws.region).add_auth(request)
    assert URLLib3Session().send(request.prepare()).content == b"x"


def test_create_session_needs_its_permission(aws, s3, directory):
    s3.put_object(Bucket=directory, Key="k", Body=b"x")
    statement = {"Effect": "Allow", "Action": "s3express:CreateSession", "Resource": "*"}
    only_reading = statement | {"Condition": {"StringEquals": {"s3express:SessionMode": "ReadOnly"}}}
    reader = aws.user("reader", {"Version": "2012-10-17", "Statement": [only_reading]}).client("s3")
    assert reader.get_object(Bucket=directory, Key="k")["Body"].read() == b"x"
    assert refused(reader.put_object, Bucket=directory, Key="k", Body=b"y")["Code"] == "AccessDenied"
    s3_only = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
    nobody = aws.user("nobody", s3_only).client("s3")
    assert refused(nobody.get_object, Bucket=directory, Key="k")["Code"] == "AccessDenied"
    assert refused(nobody.create_bucket, Bucket=directory, CreateBucketConfiguration=configuration())["Code"] == "AccessDenied"


def test_another_account_comes_in_by_the_buckets_policy(aws, new_account, s3, directory):
    s3.put_object(Bucket=directory, Key="k", Body=b"x")
    other = new_account()
    foreign = other.client("s3")
    assert refused(foreign.get_object, Bucket=directory, Key="k")["Code"] == "AccessDenied"
    arn = f"arn:aws:s3express:us-east-1:{aws.account}:bucket/{directory}"
    statement = {"Effect": "Allow", "Principal": {"AWS": other.account}, "Action": "s3express:CreateSession", "Resource": arn}
    s3.put_bucket_policy(Bucket=directory, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    fresh = other.client("s3", config=Config(retries={"total_max_attempts": 1}))
    assert fresh.get_object(Bucket=directory, Key="k")["Body"].read() == b"x"


def test_what_directory_buckets_have_not(s3, directory):
    s3.put_object(Bucket=directory, Key="k", Body=b"x")
    where = {"Bucket": directory, "Key": "k"}
    for call, params, code in (
        (s3.put_bucket_versioning, {"Bucket": directory, "VersioningConfiguration": {"Status": "Enabled"}}, "MethodNotAllowed"),
        (s3.put_object_tagging, {**where, "Tagging": {"TagSet": []}}, "MethodNotAllowed"),
        (s3.list_objects, {"Bucket": directory}, "MethodNotAllowed"),
        (s3.get_object_acl, where, "MethodNotAllowed"),
        (s3.put_object, {**where, "Tagging": "a=1"}, "NotImplemented"),
        (s3.put_object, {**where, "ServerSideEncryption": "aws:kms"}, "NotImplemented"),
        (s3.put_object, {**where, "StorageClass": "STANDARD_IA"}, "InvalidStorageClass"),
        (s3.get_object, {**where, "VersionId": "1" * 32}, "InvalidArgument"),
        (s3.list_objects_v2, {"Bucket": directory, "Delimiter": "-"}, "InvalidArgument"),
        (s3.list_objects_v2, {"Bucket": directory, "Prefix": "no-slash"}, "InvalidArgument"),
    ):
        assert refused(call, **params)["Code"] == code
    assert s3.get_object(**where)["Body"].read() == b"x"


def test_general_purpose_buckets_have_neither_sessions_nor_the_class(s3, bucket):
    assert refused(s3.put_object, Bucket=bucket, Key="k", StorageClass="EXPRESS_ONEZONE")["Code"] == "InvalidStorageClass"
    assert refused(s3.create_session, Bucket=bucket)["Code"] == "InvalidRequest"


def test_copies_between_both_kinds(s3, bucket, directory):
    s3.put_object(Bucket=bucket, Key="k", Body=b"general")
    s3.copy_object(Bucket=directory, Key="k", CopySource={"Bucket": bucket, "Key": "k"})
    assert s3.get_object(Bucket=directory, Key="k")["Body"].read() == b"general"
    s3.copy_object(Bucket=bucket, Key="back", CopySource={"Bucket": directory, "Key": "k"})
    assert "StorageClass" not in s3.head_object(Bucket=bucket, Key="back")


def test_rename_object_moves_without_copying(s3, directory, bucket):
    s3.put_object(Bucket=directory, Key="old", Body=b"a" * 100_000)
    s3.put_object(Bucket=directory, Key="taken", Body=b"b" * 100_000)
    etag = s3.head_object(Bucket=directory, Key="old")["ETag"]
    error = refused(s3.rename_object, Bucket=directory, Key="new", RenameSource="old", SourceIfMatch='"other"')
    assert error["Code"] == "PreconditionFailed"
    s3.rename_object(Bucket=directory, Key="new", RenameSource="old", SourceIfMatch=etag)
    assert refused(s3.head_object, Bucket=directory, Key="old")["Status"] == 404
    error = refused(s3.rename_object, Bucket=directory, Key="taken", RenameSource="new", DestinationIfNoneMatch="*")
    assert error["Code"] == "PreconditionFailed"
    s3.rename_object(Bucket=directory, Key="taken", RenameSource="new")
    assert s3.get_object(Bucket=directory, Key="taken")["Body"].read() == b"a" * 100_000
    assert refused(s3.rename_object, Bucket=directory, Key="x", RenameSource="none")["Code"] == "NoSuchKey"
    assert refused(s3.rename_object, Bucket=directory, Key="taken", RenameSource="taken")["Code"] == "InvalidRequest"
