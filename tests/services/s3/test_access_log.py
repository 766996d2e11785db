"""Server access logs: who may be the target, what a line says, when lines arrive."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from pilvi.auth.principals import canonical_id
from pilvi.testing.server import Account, TestServer
from tests.services.s3.conftest import refused

FIELD = re.compile(r'\[[^\]]*\]|"[^"]*"|\S+')


@pytest.fixture(scope="module")
def aws(timed: TestServer) -> Account:
    return timed.account("123456789012")


@pytest.fixture
def target(s3: Any, name: str) -> str:
    """A bucket that lets logs in."""
    s3.create_bucket(Bucket=f"logs-{name}")
    allow = {
        "Effect": "Allow",
        "Principal": {"Service": "logging.s3.amazonaws.com"},
        "Action": "s3:PutObject",
        "Resource": f"arn:aws:s3:::logs-{name}/*",
        "Condition": {"StringEquals": {"aws:SourceAccount": "123456789012"}},
    }
    s3.put_bucket_policy(Bucket=f"logs-{name}", Policy=json.dumps({"Version": "2012-10-17", "Statement": [allow]}))
    return f"logs-{name}"


def enable(s3: Any, bucket: str, target: str, **more: Any) -> None:
    enabled = {"TargetBucket": target, "TargetPrefix": "logs/", **more}
    s3.put_bucket_logging(Bucket=bucket, BucketLoggingStatus={"LoggingEnabled": enabled})


def delivered(timed: TestServer, s3: Any, target: str) -> list[list[str]]:
    """The fields of every line that has arrived, after some minutes."""
    timed.cloud.advance_clock(301)
    lines = []
    for entry in s3.list_objects_v2(Bucket=target).get("Contents", []):
        lines += s3.get_object(Bucket=target, Key=entry["Key"])["Body"].read().decode().splitlines()
    return [FIELD.findall(line) for line in lines]


def test_put_bucket_logging_writes_a_line_for_each_request(
    timed: TestServer, aws: Account, s3: Any, bucket: str, target: str
) -> None:
    everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
    user = aws.user("reader", everything)
    s3.put_object(Bucket=bucket, Key="a b.txt", Body=b"12345")
    enable(s3, bucket, target)
    assert s3.get_bucket_logging(Bucket=bucket)["LoggingEnabled"] == {"TargetBucket": target, "TargetPrefix": "logs/"}
    user.client("s3").get_object(Bucket=bucket, Key="a b.txt")["Body"].read()
    assert refused(s3.get_object, Bucket=bucket, Key="missing")["Code"] == "NoSuchKey"
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "a b.txt"}]})
    lines = {fields[6] + fields[7]: fields for fields in delivered(timed, s3, target)}
    got = lines["REST.GET.OBJECTa%20b.txt"]
    assert len(got) == 26
    assert got[0] == canonical_id("123456789012")
    assert got[1] == bucket
    assert re.fullmatch(r"\[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\]", got[2])
    assert got[4] == "arn:aws:iam::123456789012:user/reader"
    assert got[8] == f'"GET /{bucket}/a%20b.txt HTTP/1.1"'
    assert got[9:13] == ["200", "-", "5", "5"]
    assert "Boto3" in got[16]
    assert got[19:22] == ["SigV4", "-", "AuthHeader"]
    assert got[22].startswith("127.0.0.1:")
    missed = lines["REST.GET.OBJECTmissing"]
    assert missed[4] == canonical_id("123456789012")
    assert missed[9:11] == ["404", "NoSuchKey"]
    assert "REST.POST.MULTI_OBJECT_DELETE-" in lines
    assert lines["BATCH.DELETE.OBJECTa%20b.txt"][9] == "204"


def test_put_bucket_logging_hides_what_a_presigned_url_could_be_used_for(
    timed: TestServer, s3: Any, bucket: str, target: str, raw: Any
) -> None:
    enable(s3, bucket, target)
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"})
    raw("GET", url[url.index("/", 8) :], signed=False, headers={"User-Agent": 'odd" 200 "'})
    (line,) = (fields for fields in delivered(timed, s3, target) if "REST.GET.OBJECT" in fields)
    assert "Signature=REDACTED" in line[8]
    assert line[16] == '"odd%22 200 %22"'
    assert line[21] == "QueryString"


def test_put_bucket_logging_partitions_keys(timed: TestServer, s3: Any, bucket: str, target: str) -> None:
    enable(s3, bucket, target, TargetObjectKeyFormat={"PartitionedPrefix": {"PartitionDateSource": "EventTime"}})
    s3.head_bucket(Bucket=bucket)
    assert delivered(timed, s3, target)
    (key,) = [entry["Key"] for entry in s3.list_objects_v2(Bucket=target)["Contents"]]
    assert re.fullmatch(rf"logs/123456789012/us-east-1/{bucket}/\d{{4}}/\d\d/\d\d/\d{{4}}-\d\d-\d\d-00-00-00-[0-9A-F]{{16}}", key)


def test_put_bucket_logging_waits_for_the_target_to_let_logs_in(timed: TestServer, s3: Any, bucket: str, target: str) -> None:
    policy = s3.get_bucket_policy(Bucket=target)["Policy"]
    s3.delete_bucket_policy(Bucket=target)
    enable(s3, bucket, target)
    s3.head_bucket(Bucket=bucket)
    assert delivered(timed, s3, target) == []
    s3.put_bucket_policy(Bucket=target, Policy=policy)
    assert [fields[6] for fields in delivered(timed, s3, target)] == ["REST.HEAD.BUCKET"]


def test_put_bucket_logging_ends_with_an_empty_status(s3: Any, bucket: str, target: str) -> None:
    enable(s3, bucket, target)
    s3.put_bucket_logging(Bucket=bucket, BucketLoggingStatus={})
    assert "LoggingEnabled" not in s3.get_bucket_logging(Bucket=bucket)


def test_put_bucket_logging_delivers_to_the_log_delivery_group(timed: TestServer, s3: Any, bucket: str, name: str) -> None:
    s3.create_bucket(Bucket=f"l-{name}", ObjectOwnership="ObjectWriter")
    error = refused(enable, s3=s3, bucket=bucket, target=f"l-{name}")
    assert error["Code"] == "InvalidTargetBucketForLogging"
    assert "log-delivery group" in error["Message"]
    s3.put_bucket_acl(Bucket=f"l-{name}", ACL="log-delivery-write")
    enable(s3, bucket, f"l-{name}")
    s3.head_bucket(Bucket=bucket)
    assert "REST.HEAD.BUCKET" in [fields[6] for fields in delivered(timed, s3, f"l-{name}")]


def test_put_bucket_logging_refuses_wrong_targets(timed: TestServer, aws: Account, s3: Any, bucket: str, name: str) -> None:
    def code(target: str, **more: Any) -> tuple[str, int]:
        error = refused(enable, s3=s3, bucket=bucket, target=target, **more)
        return error["Code"], error["Status"]

    assert code("nowhere-at-all") == ("InvalidTargetBucketForLogging", 400)
    timed.account("210987654321").client("s3").create_bucket(Bucket=f"o-{name}")
    assert code(f"o-{name}") == ("InvalidTargetBucketForLogging", 400)
    place = {"LocationConstraint": "eu-west-1"}
    aws.client("s3", "eu-west-1").create_bucket(Bucket=f"e-{name}", CreateBucketConfiguration=place)
    assert code(f"e-{name}") == ("CrossLocationLoggingProhibited", 403)
    assert code(bucket, TargetObjectKeyFormat={"PartitionedPrefix": {}}) == ("MalformedXML", 400)
    grant = {"Grantee": {"Type": "CanonicalUser", "ID": canonical_id("123456789012")}, "Permission": "READ"}
    assert code(bucket, TargetGrants=[grant]) == ("InvalidArgument", 400)
    assert "LoggingEnabled" not in s3.get_bucket_logging(Bucket=bucket)
