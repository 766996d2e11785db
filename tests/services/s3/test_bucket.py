"""Buckets: names, Regions, owners, life and death."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from typing import Any

import pytest

from pilvi.testing.server import Account
from tests.services.s3.conftest import code_of, refused


@pytest.fixture
def aws(new_account: Callable[[], Account]) -> Account:
    """A fresh account for every test."""
    return new_account()


def test_create_bucket_makes_a_bucket(s3: Any, name: str) -> None:
    answer = s3.create_bucket(Bucket=name)
    assert answer["Location"] == f"/{name}"
    assert name in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]


@pytest.mark.parametrize(
    "bad", ["Ab1", "a_b", "-ab", "ab-", "192.168.5.4", "a" * 64, "ab", "a..b", "xn--abc", "abc-s3alias", "a b"]
)
def test_create_bucket_refuses_bad_names(raw: Any, bad: str) -> None:
    answer = raw("PUT", f"/{bad.replace(' ', '%20')}")
    assert (answer.status_code, b"<Code>InvalidBucketName</Code>" in answer.content) == (400, True)


def test_create_bucket_in_another_region(aws: Account, name: str) -> None:
    s3 = aws.client("s3", "eu-central-1")
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    assert s3.get_bucket_location(Bucket=name)["LocationConstraint"] == "eu-central-1"
    assert aws.client("s3").get_bucket_location(Bucket=name)["LocationConstraint"] == "eu-central-1"


def test_create_bucket_from_us_east_1_in_another_region(s3: Any, name: str) -> None:
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "EU"})
    assert s3.get_bucket_location(Bucket=name)["LocationConstraint"] == "eu-west-1"


def test_create_bucket_refuses_us_east_1_as_constraint(s3: Any, name: str) -> None:
    error = refused(s3.create_bucket, Bucket=name, CreateBucketConfiguration={"LocationConstraint": "us-east-1"})
    assert (error["Code"], error["Message"], error["Status"]) == (
        "InvalidLocationConstraint",
        "The specified location-constraint is not valid",
        400,
    )


def test_create_bucket_refuses_unknown_regions(s3: Any, name: str) -> None:
    error = refused(s3.create_bucket, Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-east-1"})
    assert error["Code"] == "InvalidLocationConstraint"


@pytest.mark.parametrize("constraint", [None, "eu-west-1", "us-east-1"])
def test_create_bucket_refuses_constraints_of_another_endpoint(aws: Account, name: str, constraint: str | None) -> None:
    configuration = {"CreateBucketConfiguration": {"LocationConstraint": constraint}} if constraint else {}
    error = refused(aws.client("s3", "us-west-2").create_bucket, Bucket=name, **configuration)
    assert error["Code"] == "IllegalLocationConstraintException"
    assert error["Message"].startswith(f"The {constraint or 'unspecified'} location constraint is incompatible")


def test_create_bucket_again(aws: Account, other_aws: Account, name: str) -> None:
    s3 = aws.client("s3")
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="kept", Body=b"1")
    s3.create_bucket(Bucket=name)
    assert s3.get_object(Bucket=name, Key="kept")["Body"].read() == b"1"
    error = refused(other_aws.client("s3").create_bucket, Bucket=name)
    assert (error["Code"], error["Status"], error["BucketName"]) == ("BucketAlreadyExists", 409, name)


def test_create_bucket_again_elsewhere(aws: Account, name: str) -> None:
    s3 = aws.client("s3", "eu-west-1")
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    error = refused(s3.create_bucket, Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    assert (error["Code"], error["Status"]) == ("BucketAlreadyOwnedByYou", 409)


def test_create_bucket_refuses_what_is_not_built(s3: Any, name: str) -> None:
    assert refused(s3.create_bucket, Bucket=name, ACL="public-read")["Code"] == "InvalidBucketAclWithObjectOwnership"
    assert refused(s3.head_bucket, Bucket=name)["Status"] == 404


def test_create_bucket_race_has_one_owner(aws: Account, other_aws: Account, name: str) -> None:
    def create(account: Account) -> str:
        try:
            account.client("s3").create_bucket(Bucket=name)
        except account.client("s3").exceptions.BucketAlreadyExists:
            return "taken"
        return "mine"

    aws.client("s3"), other_aws.client("s3")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(create, [aws, other_aws] * 4))
    assert {tuple(outcomes[0::2]), tuple(outcomes[1::2])} == {("mine",) * 4, ("taken",) * 4}


def test_list_buckets_pages_to_the_end(s3: Any, aws: Account, name: str) -> None:
    names = [f"{name}-{letter}" for letter in "abcde"]
    for each in names:
        s3.create_bucket(Bucket=each)
    s3.create_bucket(Bucket=f"{name}-west", CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    pages = list(s3.get_paginator("list_buckets").paginate(PaginationConfig={"PageSize": 2}))
    assert [len(page["Buckets"]) for page in pages] == [2, 2, 2]
    assert [bucket["Name"] for page in pages for bucket in page["Buckets"]] == [*names, f"{name}-west"]
    assert [b["Name"] for b in s3.list_buckets(BucketRegion="us-west-2", MaxBuckets=10)["Buckets"]] == [f"{name}-west"]
    assert [b["Name"] for b in s3.list_buckets(Prefix=f"{name}-a", MaxBuckets=10)["Buckets"]] == [names[0]]
    assert refused(s3.list_buckets, ContinuationToken="nonsense")["Code"] == "InvalidArgument"


def test_list_buckets_shows_only_the_own(s3: Any, bucket: str, other_aws: Account) -> None:
    assert other_aws.client("s3").list_buckets()["Buckets"] == []


def test_head_bucket_tells_the_region(aws: Account, bucket: str, other_aws: Account) -> None:
    answer = aws.client("s3").head_bucket(Bucket=bucket)
    assert answer["BucketRegion"] == "us-east-1"
    assert refused(other_aws.client("s3").head_bucket, Bucket=bucket)["Message"] == "Forbidden"
    missing = refused(aws.client("s3").head_bucket, Bucket="nobody-has-this-bucket")
    assert (missing["Code"], missing["Message"], missing["Status"]) == ("404", "Not Found", 404)


def test_requests_signed_for_another_region_are_sent_on(aws: Account, name: str) -> None:
    east, west = aws.client("s3"), aws.client("s3", "us-west-2", verify=False)
    east.create_bucket(Bucket=name)
    west.put_object(Bucket=name, Key="k", Body=b"found")
    assert west.head_object(Bucket=name, Key="k")["ContentLength"] == 5
    fresh = aws.client("s3", "us-west-2", verify=False)
    assert fresh.head_bucket(Bucket=name)["BucketRegion"] == "us-east-1"


def test_expected_bucket_owner_is_checked(s3: Any, aws: Account, bucket: str, other_aws: Account) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"", ExpectedBucketOwner=aws.account)
    for call, more in ((s3.get_object, {"Key": "k"}), (s3.put_object, {"Key": "k"}), (s3.list_objects_v2, {})):
        error = refused(call, Bucket=bucket, ExpectedBucketOwner=other_aws.account, **more)
        assert (error["Code"], error["Status"]) == ("AccessDenied", 403)
    assert refused(s3.head_bucket, Bucket=bucket, ExpectedBucketOwner=other_aws.account)["Status"] == 403


def test_delete_bucket_wants_it_empty(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"1")
    error = refused(s3.delete_bucket, Bucket=bucket)
    assert (error["Code"], error["Status"]) == ("BucketNotEmpty", 409)
    s3.put_object(Bucket=bucket, Key="k", Body=b"still writable")
    s3.delete_object(Bucket=bucket, Key="k")
    s3.delete_bucket(Bucket=bucket)
    assert refused(s3.delete_bucket, Bucket=bucket)["Code"] == "NoSuchBucket"
    assert s3.list_buckets()["Buckets"] == []


def test_delete_bucket_keeps_versions_alive(s3: Any, versioned: str) -> None:
    s3.put_object(Bucket=versioned, Key="k", Body=b"1")
    s3.delete_object(Bucket=versioned, Key="k")
    assert refused(s3.delete_bucket, Bucket=versioned)["Code"] == "BucketNotEmpty"


def test_delete_bucket_ends_uploads(s3: Any, server: Any, bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=b"x" * 100_000)
    before = len(list(server.cloud.blobs.names()))
    s3.delete_bucket(Bucket=bucket)
    assert len(list(server.cloud.blobs.names())) == before - 1
    s3.create_bucket(Bucket=bucket)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_delete_bucket_never_loses_an_acknowledged_object(s3: Any, bucket: str) -> None:
    """Writers race the deletion: whatever was acknowledged keeps the bucket."""

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        deleting = [pool.submit(code_of, s3.delete_bucket, Bucket=bucket) for _ in range(4)]
        putting = [pool.submit(code_of, s3.put_object, Bucket=bucket, Key=f"k{number}", Body=b"1") for number in range(8)]
        deleted = "" in [future.result() for future in deleting]
        stored = [future.result() for future in putting]
    assert set(stored) <= {"", "NoSuchBucket", "OperationAborted"}
    if deleted:
        assert "" not in stored
    else:
        assert len(s3.list_objects_v2(Bucket=bucket).get("Contents", [])) == stored.count("")


def test_requests_to_a_missing_bucket(s3: Any) -> None:
    for call, more in (
        (s3.get_object, {"Key": "k"}),
        (s3.put_object, {"Key": "k", "Body": b"1"}),
        (s3.delete_object, {"Key": "k"}),
        (s3.list_objects_v2, {}),
        (s3.get_bucket_location, {}),
    ):
        error = refused(call, Bucket="nobody-has-this-bucket", **more)
        assert (error["Code"], error["Status"], error["BucketName"]) == ("NoSuchBucket", 404, "nobody-has-this-bucket")
