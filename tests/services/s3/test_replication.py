"""Replication: rules and what is refused, versions that travel with all they carry, permissions, failures that heal."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pilvi.testing.server import Account, TestServer, eventually
from tests.services.s3.conftest import refused

EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
TRUST = "s3.amazonaws.com"


def role_for(aws: Account, name: str, *policies: dict[str, Any]) -> str:
    return aws.role(name, TRUST, *policies)


def enabled(s3: Any, name: str, **params: Any) -> str:
    s3.create_bucket(Bucket=name, **params)
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


def rule(target: str, **members: Any) -> dict[str, Any]:
    destination = {"Bucket": f"arn:aws:s3:::{target}", **members.pop("Destination", {})}
    return {
        "ID": "all",
        "Status": "Enabled",
        "Priority": 1,
        "Filter": {"Prefix": ""},
        "DeleteMarkerReplication": {"Status": "Enabled"},
        "Destination": destination,
        **members,
    }


def replicating(s3: Any, source: str, role: str, *rules: dict[str, Any]) -> None:
    s3.put_bucket_replication(Bucket=source, ReplicationConfiguration={"Role": role, "Rules": list(rules)})


def status(s3: Any, bucket: str, key: str, **params: Any) -> str:
    return str(s3.head_object(Bucket=bucket, Key=key, **params).get("ReplicationStatus"))


def arrives(s3: Any, bucket: str, key: str) -> None:
    eventually(lambda: status(s3, bucket, key) == "COMPLETED", within_s=15)


@pytest.fixture
def pair(aws: Account, s3: Any, name: str) -> tuple[str, str, str]:
    """Source, target, role."""
    role = role_for(aws, f"role-{name}", EVERYTHING)
    return enabled(s3, name), enabled(s3, f"{name}-target"), role


def test_a_new_version_arrives_with_all_it_carries(s3, pair):
    source, target, role = pair
    replicating(s3, source, role, rule(target))
    put = s3.put_object(
        Bucket=source,
        Key="k",
        Body=b"hello",
        Metadata={"a": "1"},
        ContentType="text/plain",
        Tagging="t=1",
        ChecksumAlgorithm="SHA256",
    )
    arrives(s3, source, "k")
    there = s3.get_object(Bucket=target, Key="k", ChecksumMode="ENABLED")
    assert there["Body"].read() == b"hello"
    assert there["ReplicationStatus"] == "REPLICA"
    assert (there["VersionId"], there["ETag"], there["ChecksumSHA256"]) == (put["VersionId"], put["ETag"], put["ChecksumSHA256"])
    assert (there["Metadata"], there["ContentType"], there["TagCount"]) == ({"a": "1"}, "text/plain", 1)
    assert s3.head_object(Bucket=source, Key="k")["LastModified"] == there["LastModified"]
    found = s3.get_bucket_replication(Bucket=source)["ReplicationConfiguration"]
    assert found == {"Role": role, "Rules": [rule(target)]}


def test_versions_multipart_and_large_objects_arrive_whole(s3, pair):
    source, target, role = pair
    replicating(s3, source, role, rule(target))
    for number in range(5):
        s3.put_object(Bucket=source, Key="k", Body=b"v%d" % number)
    large = bytes(range(256)) * 1000
    s3.put_object(Bucket=source, Key="large", Body=large)
    s3.put_object(Bucket=source, Key="empty")
    upload = s3.create_multipart_upload(Bucket=source, Key="parts")["UploadId"]
    pieces = [b"a" * (5 << 20), b"b" * 100]
    parts = [
        {"PartNumber": n, "ETag": s3.upload_part(Bucket=source, Key="parts", UploadId=upload, PartNumber=n, Body=piece)["ETag"]}
        for n, piece in enumerate(pieces, 1)
    ]
    s3.complete_multipart_upload(Bucket=source, Key="parts", UploadId=upload, MultipartUpload={"Parts": parts})
    for key in ("k", "large", "empty", "parts"):
        arrives(s3, source, key)
    eventually(lambda: len(s3.list_object_versions(Bucket=target, Prefix="k").get("Versions", ())) == 5)
    here, there = (
        [
            (version["Key"], version["VersionId"], version["ETag"], version["IsLatest"])
            for version in s3.list_object_versions(Bucket=bucket)["Versions"]
        ]
        for bucket in (source, target)
    )
    assert here == there
    assert s3.get_object(Bucket=target, Key="large")["Body"].read() == large
    assert s3.get_object(Bucket=target, Key="parts")["Body"].read() == b"".join(pieces)
    assert s3.head_object(Bucket=target, Key="parts", PartNumber=2)["ContentLength"] == 100


def test_delete_markers_follow_the_rule_and_deletions_for_good_never_do(s3, pair, name):
    source, target, role = pair
    other = enabled(s3, f"{name}-other")
    replicating(s3, source, role, rule(target), rule(other, ID="b", Priority=2, DeleteMarkerReplication={"Status": "Disabled"}))
    version = s3.put_object(Bucket=source, Key="k", Body=b"x")["VersionId"]
    arrives(s3, source, "k")
    marker = s3.delete_object(Bucket=source, Key="k")["VersionId"]
    found = eventually(lambda: s3.list_object_versions(Bucket=target).get("DeleteMarkers"))
    assert [(item["VersionId"], item["IsLatest"]) for item in found] == [(marker, True)]
    s3.delete_object(Bucket=source, Key="k", VersionId=version)
    s3.put_object(Bucket=source, Key="last", Body=b"x")
    arrives(s3, source, "last")
    assert s3.head_object(Bucket=target, Key="k", VersionId=version)["ReplicationStatus"] == "REPLICA"
    assert status(s3, other, "k") == "REPLICA"
    assert "DeleteMarkers" not in s3.list_object_versions(Bucket=other)


def test_rules_choose_by_prefix_tags_and_priority(s3, pair, name):
    source, target, role = pair
    tagged = {"And": {"Prefix": "docs/", "Tags": [{"Key": "keep", "Value": "yes"}]}}
    no_markers = {"Status": "Disabled"}
    replicating(
        s3,
        source,
        role,
        rule(target, Filter=tagged, DeleteMarkerReplication=no_markers, Destination={"StorageClass": "STANDARD_IA"}, Priority=9),
        rule(target, ID="b", Priority=2, Filter={"Prefix": "docs/a"}),
        rule(target, ID="c", Priority=3, Filter={"Prefix": ""}, Status="Disabled"),
    )
    s3.put_object(Bucket=source, Key="docs/a", Body=b"x", Tagging="keep=yes")
    s3.put_object(Bucket=source, Key="docs/a2", Body=b"x")
    s3.put_object(Bucket=source, Key="docs/b", Body=b"x", Tagging="keep=no")
    s3.put_object(Bucket=source, Key="other", Body=b"x", Tagging="keep=yes")
    arrives(s3, source, "docs/a")
    arrives(s3, source, "docs/a2")
    assert status(s3, source, "docs/b") == status(s3, source, "other") == "None"
    assert s3.head_object(Bucket=target, Key="docs/a")["StorageClass"] == "STANDARD_IA"
    assert "StorageClass" not in s3.head_object(Bucket=target, Key="docs/a2")
    assert refused(s3.head_object, Bucket=target, Key="other")["Status"] == 404


def test_what_was_there_before_and_replicas_stay(s3, pair, name):
    source, target, role = pair
    third = enabled(s3, f"{name}-third")
    s3.put_object(Bucket=source, Key="before", Body=b"x")
    replicating(s3, source, role, rule(target))
    replicating(s3, target, role, rule(third))
    s3.put_object(Bucket=source, Key="k", Body=b"x")
    s3.put_object(Bucket=target, Key="own", Body=b"x")
    arrives(s3, source, "k")
    arrives(s3, target, "own")
    assert status(s3, source, "before") == "None"
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=third)["Contents"]] == ["own"]


def test_changes_follow_and_come_back_where_wished(s3, pair):
    source, target, role = pair
    both_ways = {"ReplicaModifications": {"Status": "Enabled"}}
    replicating(s3, source, role, rule(target, SourceSelectionCriteria=both_ways))
    replicating(s3, target, role, rule(source, SourceSelectionCriteria=both_ways))
    s3.put_object(Bucket=source, Key="k", Body=b"x")
    arrives(s3, source, "k")

    def tags(bucket: str) -> list[dict[str, str]]:
        return list(s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"])

    first, second = [{"Key": "a", "Value": "1"}], [{"Key": "b", "Value": "2"}]
    s3.put_object_tagging(Bucket=source, Key="k", Tagging={"TagSet": first})
    eventually(lambda: tags(target) == first)
    arrives(s3, source, "k")
    s3.put_object_tagging(Bucket=target, Key="k", Tagging={"TagSet": second})
    eventually(lambda: tags(source) == second)
    assert status(s3, target, "k") == "REPLICA"


def test_another_region_and_another_account(aws, new_account, s3, pair, name):
    source, _, role = pair
    far = aws.client("s3", "eu-west-1")
    enabled(far, f"{name}-far", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    other = new_account()
    foreign = other.client("s3")
    enabled(foreign, f"{name}-foreign")
    replicating(s3, source, role, rule(f"{name}-far"), rule(f"{name}-foreign", ID="b", Priority=2))
    s3.put_object(Bucket=source, Key="k", Body=b"x")
    eventually(lambda: status(s3, source, "k") == "FAILED")
    assert status(far, f"{name}-far", "k") == "REPLICA"
    assert refused(foreign.head_object, Bucket=f"{name}-foreign", Key="k")["Status"] == 404
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": role},
                "Action": ["s3:ReplicateObject", "s3:ReplicateDelete"],
                "Resource": f"arn:aws:s3:::{name}-foreign/*",
            }
        ],
    }
    foreign.put_bucket_policy(Bucket=f"{name}-foreign", Policy=json.dumps(policy))
    arrives(s3, source, "k")
    assert status(foreign, f"{name}-foreign", "k") == "REPLICA"


@pytest.mark.parametrize(
    "lacking", ["s3:GetObjectVersionForReplication", "s3:ReplicateObject", "s3:ReplicateTags", "s3:GetReplicationConfiguration"]
)
def test_the_role_needs_each_permission_and_failures_heal(aws, s3, pair, name, lacking):
    source, target, _ = pair
    statement = {"Effect": "Allow", "NotAction": [lacking], "Resource": "*"}
    role = role_for(aws, f"poor-{name}", {"Version": "2012-10-17", "Statement": [statement]})
    replicating(s3, source, role, rule(target))
    s3.put_object(Bucket=source, Key="k", Body=b"x", Tagging="a=1")
    eventually(lambda: status(s3, source, "k") == "FAILED")
    assert refused(s3.head_object, Bucket=target, Key="k")["Status"] == 404
    aws.client("iam").put_role_policy(RoleName=f"poor-{name}", PolicyName="rest", PolicyDocument=json.dumps(EVERYTHING))
    arrives(s3, source, "k")


def test_locks_travel_to_a_bucket_with_object_lock(aws, s3, name):
    role = role_for(aws, f"role-{name}", EVERYTHING)
    s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    s3.create_bucket(Bucket=f"{name}-target", ObjectLockEnabledForBucket=True)
    enabled(s3, f"{name}-plain")
    bare = {"Role": role, "Rules": [rule(f"{name}-plain")]}
    assert refused(s3.put_bucket_replication, Bucket=name, ReplicationConfiguration=bare)["Code"] == "InvalidRequest"
    replicating(s3, name, role, rule(f"{name}-target"))
    version = s3.put_object(Bucket=name, Key="k", Body=b"x", ObjectLockLegalHoldStatus="ON")["VersionId"]
    arrives(s3, name, "k")
    assert s3.head_object(Bucket=f"{name}-target", Key="k")["ObjectLockLegalHoldStatus"] == "ON"
    assert refused(s3.delete_object, Bucket=f"{name}-target", Key="k", VersionId=version)["Code"] == "AccessDenied"
    s3.put_object_legal_hold(Bucket=name, Key="k", LegalHold={"Status": "OFF"})
    eventually(lambda: s3.head_object(Bucket=f"{name}-target", Key="k")["ObjectLockLegalHoldStatus"] == "OFF")


def test_a_lock_of_the_replica_holds_when_its_source_changes(aws, s3, name):
    target = f"{name}-target"
    for bucket in (name, target):
        s3.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    replicating(s3, name, role_for(aws, f"role-{name}", EVERYTHING), rule(target))
    version = s3.put_object(Bucket=name, Key="k", Body=b"x")["VersionId"]
    arrives(s3, name, "k")
    until = datetime.now(UTC) + timedelta(days=30)
    s3.put_object_retention(Bucket=target, Key="k", Retention={"Mode": "COMPLIANCE", "RetainUntilDate": until})
    s3.put_object_legal_hold(Bucket=target, Key="k", LegalHold={"Status": "ON"})
    s3.put_object_tagging(Bucket=name, Key="k", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    eventually(lambda: s3.get_object_tagging(Bucket=target, Key="k")["TagSet"] == [{"Key": "a", "Value": "b"}])
    assert s3.get_object_retention(Bucket=target, Key="k")["Retention"]["Mode"] == "COMPLIANCE"
    assert refused(s3.delete_object, Bucket=target, Key="k", VersionId=version)["Code"] == "AccessDenied"


def test_objects_under_kms_keys_travel_when_the_rule_takes_them(aws, s3, pair):
    source, target, role = pair
    kms = aws.client("kms")
    here, there = (kms.create_key()["KeyMetadata"]["Arn"] for _ in range(2))
    replicating(
        s3,
        source,
        role,
        rule(
            target,
            SourceSelectionCriteria={"SseKmsEncryptedObjects": {"Status": "Enabled"}},
            Destination={"EncryptionConfiguration": {"ReplicaKmsKeyID": there}},
        ),
    )
    s3.put_object(Bucket=source, Key="k", Body=b"secret", ServerSideEncryption="aws:kms", SSEKMSKeyId=here)
    arrives(s3, source, "k")
    found = s3.get_object(Bucket=target, Key="k")
    assert (found["Body"].read(), found["SSEKMSKeyId"]) == (b"secret", there)
    replicating(s3, source, role, rule(target))
    s3.put_object(Bucket=source, Key="left", Body=b"secret", ServerSideEncryption="aws:kms", SSEKMSKeyId=here)
    assert status(s3, source, "left") == "None"


NOT_AN_ARN = {"Bucket": "target"}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"Destination": {"Bucket": "target"}}, "InvalidArgument"),
        ({"Destination": {"Bucket": "arn:aws:s3:::no-such-bucket-anywhere"}}, "InvalidRequest"),
        ({"Destination": {"Bucket": "SOURCE"}}, "InvalidRequest"),
        ({"Status": "On"}, "MalformedXML"),
        ({"Priority": None}, "InvalidRequest"),
        ({"DeleteMarkerReplication": None}, "InvalidRequest"),
        ({"Filter": {"Tag": {"Key": "a", "Value": "b"}}}, "InvalidRequest"),
        ({"Filter": None}, "MalformedXML"),
        ({"ExistingObjectReplication": {"Status": "Enabled"}}, "NotImplemented"),
        ({"SourceSelectionCriteria": {"SseKmsEncryptedObjects": {"Status": "Enabled"}}}, "InvalidRequest"),
    ],
)
def test_put_bucket_replication_refuses(s3, pair, change, code):
    source, target, role = pair
    wrong = rule(target) | change
    if wrong["Destination"].get("Bucket") == "SOURCE":
        wrong["Destination"] = {"Bucket": f"arn:aws:s3:::{source}"}
    wrong = {name: value for name, value in wrong.items() if value is not None}
    error = refused(s3.put_bucket_replication, Bucket=source, ReplicationConfiguration={"Role": role, "Rules": [wrong]})
    assert error["Code"] == code
    assert refused(s3.get_bucket_replication, Bucket=source)["Code"] == "ReplicationConfigurationNotFoundError"


def test_put_bucket_replication_needs_versioning_and_pass_role(aws, s3, pair, name):
    source, target, role = pair
    configuration = {"Role": role, "Rules": [rule(target)]}
    s3.create_bucket(Bucket=f"{name}-bare")
    error = refused(s3.put_bucket_replication, Bucket=f"{name}-bare", ReplicationConfiguration=configuration)
    assert error["Message"] == "Versioning must be 'Enabled' on the bucket to apply a replication configuration"
    bare = {"Role": role, "Rules": [rule(f"{name}-bare")]}
    error = refused(s3.put_bucket_replication, Bucket=source, ReplicationConfiguration=bare)
    assert error["Message"] == "Destination bucket must have versioning enabled."
    s3_only = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
    user = aws.user(f"user-{name}", s3_only).client("s3")
    assert refused(user.put_bucket_replication, Bucket=source, ReplicationConfiguration=configuration)["Code"] == "AccessDenied"
    s3.put_bucket_replication(Bucket=source, ReplicationConfiguration=configuration)
    suspended = {"Status": "Suspended"}
    assert refused(s3.put_bucket_versioning, Bucket=source, VersioningConfiguration=suspended)["Code"] == "InvalidBucketState"
    s3.delete_bucket_replication(Bucket=source)
    s3.put_object(Bucket=source, Key="k", Body=b"x")
    assert status(s3, source, "k") == "None"


def test_the_first_form_of_rules(s3, pair):
    source, target, role = pair
    old = {"ID": "v1", "Status": "Enabled", "Prefix": "a", "Destination": {"Bucket": f"arn:aws:s3:::{target}"}}
    replicating(s3, source, role, old)
    s3.put_object(Bucket=source, Key="a1", Body=b"x")
    arrives(s3, source, "a1")
    s3.delete_object(Bucket=source, Key="a1")
    eventually(lambda: s3.list_object_versions(Bucket=target).get("DeleteMarkers"))
    overlapping = {"Role": role, "Rules": [old, old | {"ID": "v2", "Prefix": "ab"}]}
    error = refused(s3.put_bucket_replication, Bucket=source, ReplicationConfiguration=overlapping)
    assert error["Message"] == "Found overlapping prefixes 'a' and 'ab'"


def test_what_waits_survives_a_restart_and_is_measured(tmp_path: Path):
    folder = tmp_path / "cloud"
    with TestServer(folder) as server:
        account = server.account("320000000001")
        s3 = account.client("s3")
        enabled(s3, "waiting-source")
        enabled(s3, "waiting-target")
        nothing = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]}
        role = role_for(account, "late", nothing)
        threshold = {"Status": "Enabled", "EventThreshold": {"Minutes": 15}}
        replicating(s3, "waiting-source", role, rule("waiting-target", Destination={"Metrics": threshold}))
        s3.put_object(Bucket="waiting-source", Key="k", Body=b"12345")
        eventually(lambda: status(s3, "waiting-source", "k") == "FAILED")
        server.cloud.advance_clock(120)
        figures = figures_of(account)
        assert figures["OperationsPendingReplication"] == 1
        assert figures["BytesPendingReplication"] == 5
        assert figures["OperationsFailedReplication"] >= 1
        account.client("iam").put_role_policy(RoleName="late", PolicyName="p0", PolicyDocument=json.dumps(EVERYTHING))
    with TestServer(folder) as server:
        account = server.account("320000000001")
        s3 = account.client("s3")
        server.cloud.advance_clock(1800)
        arrives(s3, "waiting-source", "k")
        assert s3.get_object(Bucket="waiting-target", Key="k")["Body"].read() == b"12345"


def figures_of(account: Account) -> dict[str, float]:
    cloudwatch = account.client("cloudwatch")
    dimensions = [
        {"Name": "SourceBucket", "Value": "waiting-source"},
        {"Name": "DestinationBucket", "Value": "waiting-target"},
        {"Name": "RuleId", "Value": "all"},
    ]
    found: dict[str, float] = {}
    for metric in cloudwatch.list_metrics(Namespace="AWS/S3", Dimensions=dimensions)["Metrics"]:
        points: Callable[..., Any] = cloudwatch.get_metric_statistics
        answer = points(
            Namespace="AWS/S3",
            MetricName=metric["MetricName"],
            Dimensions=dimensions,
            StartTime="2020-01-01",
            EndTime="2040-01-01",
            Period=86_400 * 365,
            Statistics=["Maximum"],
        )
        found[metric["MetricName"]] = max(point["Maximum"] for point in answer["Datapoints"])
    return found
