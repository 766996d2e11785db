"""Tags of objects and buckets, and policies that look at them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pilvi.testing.server import Account
from tests.services.s3.conftest import refused


@pytest.fixture
def aws(new_account: Callable[[], Account]) -> Account:
    """A fresh account for every test."""
    return new_account()


def tag_set(**tags: str) -> dict[str, Any]:
    return {"TagSet": [{"Key": key, "Value": value} for key, value in tags.items()]}


def test_put_object_tagging_replaces_all_tags(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"1", Tagging="a=1&b=x%20y%2B&c=")
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == tag_set(a="1", b="x y+", c="")["TagSet"]
    assert s3.head_object(Bucket=bucket, Key="k")["TagCount"] == 3
    s3.put_object_tagging(Bucket=bucket, Key="k", Tagging=tag_set(d="4"))
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == tag_set(d="4")["TagSet"]
    s3.delete_object_tagging(Bucket=bucket, Key="k")
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == []
    assert "TagCount" not in s3.head_object(Bucket=bucket, Key="k")


@pytest.mark.parametrize(
    ("tags", "code"),
    [
        ([(str(number), "v") for number in range(11)], "BadRequest"),
        ([("a", "1"), ("a", "2")], "InvalidTag"),
        ([("aws:x", "1")], "InvalidTag"),
        ([("k" * 129, "1")], "InvalidTag"),
        ([("k", "v" * 257)], "InvalidTag"),
        ([("k!", "v")], "InvalidTag"),
    ],
)
def test_put_object_tagging_limits(s3: Any, bucket: str, tags: list[tuple[str, str]], code: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"1", Tagging="kept=1")
    tagging = {"TagSet": [{"Key": key, "Value": value} for key, value in tags]}
    assert refused(s3.put_object_tagging, Bucket=bucket, Key="k", Tagging=tagging)["Code"] == code
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == tag_set(kept="1")["TagSet"]


def test_object_tagging_of_a_missing_object(s3: Any, bucket: str) -> None:
    for call, more in (
        (s3.get_object_tagging, {}),
        (s3.put_object_tagging, {"Tagging": tag_set()}),
        (s3.delete_object_tagging, {}),
    ):
        assert refused(call, Bucket=bucket, Key="k", **more)["Code"] == "NoSuchKey"


def test_put_object_refuses_bad_tags(s3: Any, bucket: str) -> None:
    too_many = "&".join(f"k{number}=v" for number in range(11))
    assert refused(s3.put_object, Bucket=bucket, Key="k", Tagging=too_many)["Code"] == "BadRequest"
    assert refused(s3.put_object, Bucket=bucket, Key="k", Tagging="a=1&a=2")["Code"] == "InvalidTag"
    assert refused(s3.put_object, Bucket=bucket, Key="k", Tagging="a=%FF")["Code"] == "InvalidArgument"


def test_put_object_takes_a_tag_without_a_value(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Tagging="novalue")
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == [{"Key": "novalue", "Value": ""}]


def test_a_policy_on_tags_blocks_reads(aws: Account, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="open", Body=b"1", Tagging="sensitive=FALSE")
    s3.put_object(Bucket=bucket, Key="shut", Body=b"1", Tagging="sensitive=TRUE")
    everything = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    blocked = {
        "Effect": "Deny",
        "Action": ["s3:GetObject", "s3:GetObjectVersion"],
        "Resource": "*",
        "Condition": {"StringEquals": {"s3:ExistingObjectTag/sensitive": "TRUE"}},
    }
    reader = aws.user("reader", {"Version": "2012-10-17", "Statement": [everything, blocked]}).client("s3")
    assert reader.get_object(Bucket=bucket, Key="open")["Body"].read() == b"1"
    assert refused(reader.get_object, Bucket=bucket, Key="shut")["Code"] == "AccessDenied"
    assert refused(reader.head_object, Bucket=bucket, Key="shut")["Status"] == 403
    assert refused(reader.copy_object, Bucket=bucket, Key="copy", CopySource=f"{bucket}/shut")["Code"] == "AccessDenied"


def test_writing_tags_is_a_permission_of_its_own(aws: Account, bucket: str) -> None:
    allowed = {"Effect": "Allow", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{bucket}/*"}
    writer = aws.user("writer", {"Version": "2012-10-17", "Statement": [allowed]}).client("s3")
    writer.put_object(Bucket=bucket, Key="k", Body=b"1")
    assert refused(writer.put_object, Bucket=bucket, Key="k", Body=b"1", Tagging="a=1")["Code"] == "AccessDenied"


def test_bucket_tagging(s3: Any, bucket: str) -> None:
    error = refused(s3.get_bucket_tagging, Bucket=bucket)
    assert (error["Code"], error["Status"]) == ("NoSuchTagSet", 404)
    s3.put_bucket_tagging(Bucket=bucket, Tagging=tag_set(team="ml", cost="1"))
    assert s3.get_bucket_tagging(Bucket=bucket)["TagSet"] == tag_set(team="ml", cost="1")["TagSet"]
    s3.delete_bucket_tagging(Bucket=bucket)
    assert refused(s3.get_bucket_tagging, Bucket=bucket)["Code"] == "NoSuchTagSet"
    many = {f"k{number}": "v" for number in range(51)}
    assert refused(s3.put_bucket_tagging, Bucket=bucket, Tagging=tag_set(**many))["Code"] == "BadRequest"
