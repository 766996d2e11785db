"""Object lock: configuration, retention, legal hold, and every way in which a locked version must not go."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pilvi.testing.server import TestServer
from tests.services.s3.conftest import refused

PROTECTED = "Access Denied because object protected by object lock."


def soon(days: float = 1) -> datetime:
    return (datetime.now(UTC) + timedelta(days=days)).replace(microsecond=0)


@pytest.fixture
def locked(s3: Any, name: str) -> str:
    """A bucket with object lock."""
    s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    return name


def put(s3: Any, bucket: str, key: str = "k", **params: Any) -> str:
    return str(s3.put_object(Bucket=bucket, Key=key, Body=b"x", **params)["VersionId"])


def lock(s3: Any, bucket: str, version: str, mode: str, until: datetime, **params: Any) -> None:
    s3.put_object_retention(Bucket=bucket, Key="k", VersionId=version, Retention={"Mode": mode, "RetainUntilDate": until}, **params)


def test_create_bucket_with_object_lock_is_versioned_for_good(s3, locked):
    assert s3.get_bucket_versioning(Bucket=locked)["Status"] == "Enabled"
    assert s3.get_object_lock_configuration(Bucket=locked)["ObjectLockConfiguration"] == {"ObjectLockEnabled": "Enabled"}
    error = refused(s3.put_bucket_versioning, Bucket=locked, VersioningConfiguration={"Status": "Suspended"})
    assert (error["Code"], error["Status"]) == ("InvalidBucketState", 409)


def test_get_object_lock_configuration_without_one(s3, bucket):
    error = refused(s3.get_object_lock_configuration, Bucket=bucket)
    assert (error["Code"], error["Status"]) == ("ObjectLockConfigurationNotFoundError", 404)


def test_put_object_lock_configuration_needs_versioning(s3, bucket):
    configuration = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}}
    error = refused(s3.put_object_lock_configuration, Bucket=bucket, ObjectLockConfiguration=configuration)
    assert (error["Code"], error["Status"]) == ("InvalidBucketState", 409)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=configuration)
    assert s3.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"] == configuration


@pytest.mark.parametrize(
    ("configuration", "code"),
    [
        ({"Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}}, "MalformedXML"),
        ({"ObjectLockEnabled": "Disabled"}, "MalformedXML"),
        ({"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "governance", "Days": 1}}}, "MalformedXML"),
        ({"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE"}}}, "MalformedXML"),
        (
            {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1, "Years": 1}}},
            "MalformedXML",
        ),
        (
            {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 0}}},
            "InvalidRetentionPeriod",
        ),
        (
            {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Years": -1}}},
            "InvalidRetentionPeriod",
        ),
        (
            {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Years": 101}}},
            "InvalidRetentionPeriod",
        ),
    ],
)
def test_put_object_lock_configuration_refuses(s3, locked, configuration, code):
    error = refused(s3.put_object_lock_configuration, Bucket=locked, ObjectLockConfiguration=configuration)
    assert (error["Code"], error["Status"]) == (code, 400)


def test_new_objects_get_the_default_retention(s3, locked):
    rule = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Years": 1}}}
    s3.put_object_lock_configuration(Bucket=locked, ObjectLockConfiguration=rule)
    version = put(s3, locked)
    head = s3.head_object(Bucket=locked, Key="k")
    assert head["ObjectLockMode"] == "COMPLIANCE"
    assert timedelta(days=364) < head["ObjectLockRetainUntilDate"] - datetime.now(UTC) <= timedelta(days=365)
    assert refused(s3.delete_object, Bucket=locked, Key="k", VersionId=version)["Message"] == PROTECTED
    own = put(s3, locked, ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=soon())
    assert s3.head_object(Bucket=locked, Key="k", VersionId=own)["ObjectLockMode"] == "GOVERNANCE"
    s3.copy_object(Bucket=locked, Key="copy", CopySource=f"{locked}/k")
    assert s3.head_object(Bucket=locked, Key="copy")["ObjectLockMode"] == "COMPLIANCE"
    upload = s3.create_multipart_upload(Bucket=locked, Key="parts")["UploadId"]
    part = s3.upload_part(Bucket=locked, Key="parts", UploadId=upload, PartNumber=1, Body=b"x")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s3.complete_multipart_upload(Bucket=locked, Key="parts", UploadId=upload, MultipartUpload=parts)
    assert s3.head_object(Bucket=locked, Key="parts")["ObjectLockMode"] == "COMPLIANCE"


def test_lock_headers_of_put_copy_and_multipart(s3, locked):
    until = soon()
    asked = {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": until, "ObjectLockLegalHoldStatus": "ON"}
    put(s3, locked, **asked)
    s3.copy_object(Bucket=locked, Key="copy", CopySource=f"{locked}/k", **asked)
    s3.copy_object(Bucket=locked, Key="bare", CopySource=f"{locked}/k")
    upload = s3.create_multipart_upload(Bucket=locked, Key="parts", **asked)["UploadId"]
    part = s3.upload_part(Bucket=locked, Key="parts", UploadId=upload, PartNumber=1, Body=b"x")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s3.complete_multipart_upload(Bucket=locked, Key="parts", UploadId=upload, MultipartUpload=parts)
    for key in ("k", "copy", "parts"):
        head = s3.head_object(Bucket=locked, Key=key)
        assert {name: head[name] for name in asked} == asked
    assert "ObjectLockMode" not in s3.head_object(Bucket=locked, Key="bare")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"ObjectLockMode": "GOVERNANCE"}, "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied"),
        (
            {"ObjectLockRetainUntilDate": soon()},
            "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied",
        ),
        ({"ObjectLockMode": "OPEN", "ObjectLockRetainUntilDate": soon()}, "Unknown wormMode directive."),
        ({"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": soon(-1)}, "The retain until date must be in the future!"),
        ({"ObjectLockLegalHoldStatus": "maybe"}, "Legal hold must be either of 'ON' or 'OFF'"),
    ],
)
def test_put_object_refuses_lock_headers(s3, locked, params, message):
    error = refused(put, s3=s3, bucket=locked, **params)
    assert (error["Code"], error["Message"]) == ("InvalidArgument", message)


def test_lock_in_a_bucket_without_object_lock(s3, versioned):
    version = put(s3, versioned)
    text = "Bucket is missing Object Lock Configuration"
    where = {"Bucket": versioned, "Key": "k", "VersionId": version}
    for call, params in (
        (s3.put_object, {"Bucket": versioned, "Key": "k", "ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": soon()}),
        (s3.put_object_retention, {**where, "Retention": {"Mode": "GOVERNANCE", "RetainUntilDate": soon()}}),
        (s3.get_object_retention, where),
        (s3.put_object_legal_hold, {**where, "LegalHold": {"Status": "ON"}}),
        (s3.get_object_legal_hold, where),
    ):
        error = refused(call, **params)
        assert (error["Code"], error["Message"], error["Status"]) == ("InvalidRequest", text, 400)


def test_put_object_retention_and_get_it(s3, locked):
    version, until = put(s3, locked), soon()
    error = refused(s3.get_object_retention, Bucket=locked, Key="k")
    assert (error["Code"], error["Status"]) == ("NoSuchObjectLockConfiguration", 404)
    lock(s3, locked, version, "GOVERNANCE", until)
    assert s3.get_object_retention(Bucket=locked, Key="k")["Retention"] == {"Mode": "GOVERNANCE", "RetainUntilDate": until}
    assert s3.get_object(Bucket=locked, Key="k")["ObjectLockRetainUntilDate"] == until
    error = refused(lock, s3=s3, bucket=locked, version=version, mode="GOVERNANCE", until=soon(-1))
    assert error["Code"] == "InvalidArgument"
    error = refused(lock, s3=s3, bucket=locked, version=version, mode="abc", until=until)
    assert error["Code"] == "MalformedXML"
    assert refused(s3.get_object_retention, Bucket=locked, Key="none")["Code"] == "NoSuchKey"


def test_governance_lock_grows_for_all_and_shrinks_with_a_bypass(s3, locked):
    version = put(s3, locked)
    lock(s3, locked, version, "GOVERNANCE", soon(2))
    lock(s3, locked, version, "GOVERNANCE", soon(3))
    change = {"s3": s3, "bucket": locked, "version": version}
    assert refused(lock, **change, mode="GOVERNANCE", until=soon(1))["Message"] == PROTECTED
    assert refused(lock, **change, mode="COMPLIANCE", until=soon(9))["Code"] == "AccessDenied"
    lock(s3, locked, version, "GOVERNANCE", soon(1), BypassGovernanceRetention=True)
    s3.put_object_retention(Bucket=locked, Key="k", VersionId=version, Retention={}, BypassGovernanceRetention=True)
    s3.delete_object(Bucket=locked, Key="k", VersionId=version)


def test_compliance_lock_only_grows(s3, locked):
    version = put(s3, locked)
    lock(s3, locked, version, "COMPLIANCE", soon(2))
    lock(s3, locked, version, "COMPLIANCE", soon(3))
    change = {"s3": s3, "bucket": locked, "version": version, "BypassGovernanceRetention": True}
    assert refused(lock, **change, mode="COMPLIANCE", until=soon(1))["Message"] == PROTECTED
    assert refused(lock, **change, mode="GOVERNANCE", until=soon(9))["Code"] == "AccessDenied"
    where = {"Bucket": locked, "Key": "k", "VersionId": version, "BypassGovernanceRetention": True}
    assert refused(s3.delete_object, **where)["Message"] == PROTECTED


def test_delete_of_a_locked_version(s3, locked):
    version = put(s3, locked, ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=soon())
    error = refused(s3.delete_object, Bucket=locked, Key="k", VersionId=version)
    assert (error["Code"], error["Message"], error["Status"]) == ("AccessDenied", PROTECTED, 403)
    answer = s3.delete_objects(Bucket=locked, Delete={"Objects": [{"Key": "k", "VersionId": version}]})
    assert [(item["Code"], item["Message"]) for item in answer["Errors"]] == [("AccessDenied", PROTECTED)]
    marker = s3.delete_object(Bucket=locked, Key="k")
    assert marker["DeleteMarker"] is True
    s3.delete_object(Bucket=locked, Key="k", VersionId=marker["VersionId"])
    assert s3.get_object(Bucket=locked, Key="k")["VersionId"] == version
    objects = {"Objects": [{"Key": "k", "VersionId": version}]}
    assert len(s3.delete_objects(Bucket=locked, Delete=objects, BypassGovernanceRetention=True)["Deleted"]) == 1


def test_legal_hold_stays_until_it_is_lifted(s3, locked):
    version = put(s3, locked)
    assert refused(s3.get_object_legal_hold, Bucket=locked, Key="k")["Code"] == "NoSuchObjectLockConfiguration"
    s3.put_object_legal_hold(Bucket=locked, Key="k", LegalHold={"Status": "ON"})
    assert s3.get_object_legal_hold(Bucket=locked, Key="k")["LegalHold"] == {"Status": "ON"}
    where = {"Bucket": locked, "Key": "k", "VersionId": version, "BypassGovernanceRetention": True}
    assert refused(s3.delete_object, **where)["Message"] == PROTECTED
    assert refused(s3.put_object_legal_hold, Bucket=locked, Key="k", LegalHold={"Status": "on"})["Code"] == "MalformedXML"
    s3.put_object_legal_hold(Bucket=locked, Key="k", LegalHold={"Status": "OFF"})
    s3.delete_object(Bucket=locked, Key="k", VersionId=version)


def allow(action: str | list[str], condition: dict[str, Any] | None = None, effect: str = "Allow") -> dict[str, Any]:
    statement: dict[str, Any] = {"Effect": effect, "Action": action, "Resource": "*"}
    return {"Version": "2012-10-17", "Statement": [statement | ({"Condition": condition} if condition else {})]}


def test_bypass_and_headers_need_their_permissions(aws, s3, locked):
    version = put(s3, locked, ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=soon())
    user = aws.user("bypasser", allow(["s3:DeleteObject*", "s3:GetObject", "s3:PutObject"])).client("s3")
    where = {"Bucket": locked, "Key": "k", "VersionId": version, "BypassGovernanceRetention": True}
    assert refused(user.delete_object, **where)["Code"] == "AccessDenied"
    assert "ObjectLockMode" not in user.head_object(Bucket=locked, Key="k")
    asked = {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": soon()}
    assert refused(put, s3=user, bucket=locked, **asked)["Code"] == "AccessDenied"
    assert refused(put, s3=user, bucket=locked, ObjectLockLegalHoldStatus="ON")["Code"] == "AccessDenied"
    iam = aws.client("iam")
    iam.put_user_policy(UserName="bypasser", PolicyName="b", PolicyDocument=json.dumps(allow("s3:BypassGovernanceRetention")))
    user.delete_object(**where)


def test_conditions_on_locks(aws, s3, locked):
    version = put(s3, locked)
    limit = {"NumericLessThan": {"s3:object-lock-remaining-retention-days": "10"}}
    user = aws.user("careful", allow("s3:PutObjectRetention", limit)).client("s3")
    lock(user, locked, version, "GOVERNANCE", soon(3))
    assert refused(lock, s3=user, bucket=locked, version=version, mode="GOVERNANCE", until=soon(30))["Code"] == "AccessDenied"


def test_a_lock_ends_at_its_date(tmp_path: Path):
    with TestServer(tmp_path / "cloud") as server:
        s3 = server.account("310000000001").client("s3")
        s3.create_bucket(Bucket="ending", ObjectLockEnabledForBucket=True)
        version = put(s3, "ending", ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=soon(2))
        server.cloud.advance_clock(86_400)
        assert refused(s3.delete_object, Bucket="ending", Key="k", VersionId=version)["Message"] == PROTECTED
        server.cloud.advance_clock(86_400)
        s3.delete_object(Bucket="ending", Key="k", VersionId=version)
        assert "Versions" not in s3.list_object_versions(Bucket="ending")


def test_lifecycle_rules_leave_locked_versions(tmp_path: Path):
    with TestServer(tmp_path / "cloud") as server:
        s3 = server.account("310000000001").client("s3")
        s3.create_bucket(Bucket="expiring", ObjectLockEnabledForBucket=True)
        rule = {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": ""}, "NoncurrentVersionExpiration": {"NoncurrentDays": 1}}
        s3.put_bucket_lifecycle_configuration(Bucket="expiring", LifecycleConfiguration={"Rules": [rule]})
        held = put(s3, "expiring", ObjectLockLegalHoldStatus="ON")
        locked = put(s3, "expiring", ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=soon(20))
        put(s3, "expiring")
        last = put(s3, "expiring")
        server.cloud.advance_clock(4 * 86_400)
        assert [version["VersionId"] for version in s3.list_object_versions(Bucket="expiring")["Versions"]] == [last, locked, held]
        server.cloud.advance_clock(30 * 86_400)
        assert [version["VersionId"] for version in s3.list_object_versions(Bucket="expiring")["Versions"]] == [last, held]
