"""What EventBridge hears of a bucket: every kind of event, in AWS's form, through a rule of the default bus into a queue."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pilvi.testing.server import Account, TestServer, eventually

Hear = Callable[[int], list[dict[str, Any]]]


def listen(account: Account) -> Hear:
    """A queue that gets everything of S3."""
    sqs, events = account.client("sqs"), account.client("events")
    url = sqs.create_queue(QueueName="heard", Attributes={"MessageRetentionPeriod": "1209600"})["QueueUrl"]
    arn = f"arn:aws:sqs:us-east-1:{account.account}:heard"
    statement = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": arn}
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps({"Version": "2012-10-17", "Statement": [statement]})})
    events.put_rule(Name="all", EventPattern='{"source": ["aws.s3"]}')
    events.put_targets(Rule="all", Targets=[{"Id": "q", "Arn": arn}])

    def hear(count: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []

        def look() -> bool:
            for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", ()):
                found.append(json.loads(message["Body"]))
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            return len(found) >= count

        eventually(look)
        return sorted(found, key=lambda event: str(event["detail"]["object"]["sequencer"]))

    return hear


@pytest.fixture
def bucket(aws: Account) -> str:
    """One whose events go to EventBridge."""
    name = f"bridged-{aws.account}"
    s3 = aws.client("s3")
    s3.create_bucket(Bucket=name)
    s3.put_bucket_notification_configuration(Bucket=name, NotificationConfiguration={"EventBridgeConfiguration": {}})
    return name


def test_put_bucket_notification_configuration_with_event_bridge(aws: Account, bucket: str) -> None:
    s3 = aws.client("s3")
    assert s3.get_bucket_notification_configuration(Bucket=bucket)["EventBridgeConfiguration"] == {}
    hear = listen(aws)
    s3.put_object(Bucket=bucket, Key="in/a b.csv", Body=b"123")
    (event,) = hear(1)
    detail = event.pop("detail")
    assert {name: event[name] for name in ("version", "detail-type", "source", "account", "region", "resources")} == {
        "version": "0",
        "detail-type": "Object Created",
        "source": "aws.s3",
        "account": aws.account,
        "region": "us-east-1",
        "resources": [f"arn:aws:s3:::{bucket}"],
    }
    thing = detail["object"]
    assert (thing["key"], thing["size"], thing["etag"]) == ("in/a b.csv", 3, "202cb962ac59075b964b07152d234b70")
    assert thing["sequencer"]
    assert "version-id" not in thing
    assert (detail["version"], detail["bucket"], detail["reason"]) == ("0", {"name": bucket}, "PutObject")
    assert (detail["requester"], detail["source-ip-address"]) == (aws.account, "127.0.0.1")
    assert detail["request-id"]
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={})
    assert "EventBridgeConfiguration" not in s3.get_bucket_notification_configuration(Bucket=bucket)


def test_every_write_has_its_type_and_reason(aws: Account, bucket: str) -> None:
    s3 = aws.client("s3")
    hear = listen(aws)
    s3.put_object(Bucket=bucket, Key="k", Body=b"1")
    s3.copy_object(Bucket=bucket, Key="k", CopySource={"Bucket": bucket, "Key": "k"}, MetadataDirective="REPLACE")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    part = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=b"2")["ETag"]
    s3.complete_multipart_upload(
        Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": [{"ETag": part, "PartNumber": 1}]}
    )
    s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    s3.delete_object_tagging(Bucket=bucket, Key="k")
    s3.delete_object(Bucket=bucket, Key="k")
    found = hear(6)
    by_type = sorted((event["detail-type"], event["detail"].get("reason", "")) for event in found)
    assert by_type == [
        ("Object Created", "CompleteMultipartUpload"),
        ("Object Created", "CopyObject"),
        ("Object Created", "PutObject"),
        ("Object Deleted", "DeleteObject"),
        ("Object Tags Added", ""),
        ("Object Tags Deleted", ""),
    ]
    (deleted,) = [event for event in found if event["detail-type"] == "Object Deleted"]
    assert deleted["detail"]["deletion-type"] == "Permanently Deleted"


def test_versions_and_access_lists(aws: Account, bucket: str) -> None:
    s3 = aws.client("s3")
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls={"Rules": [{"ObjectOwnership": "ObjectWriter"}]})
    hear = listen(aws)
    version = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["VersionId"]
    s3.put_object_acl(Bucket=bucket, Key="k", ACL="private")
    s3.delete_object(Bucket=bucket, Key="k")
    found = {event["detail-type"]: event["detail"] for event in hear(3)}
    assert found["Object Created"]["object"]["version-id"] == version
    assert found["Object ACL Updated"]["object"]["version-id"] == version
    assert found["Object Deleted"]["deletion-type"] == "Delete Marker Created"


def test_restores_moves_and_expirations(tmp_path: Path) -> None:
    with TestServer(tmp_path) as server:
        account = server.account("200000000001")
        s3 = account.client("s3")
        s3.create_bucket(Bucket="archive")
        s3.put_bucket_notification_configuration(Bucket="archive", NotificationConfiguration={"EventBridgeConfiguration": {}})
        hear = listen(account)
        s3.put_object(Bucket="archive", Key="cold", Body=b"1", StorageClass="GLACIER")
        s3.restore_object(Bucket="archive", Key="cold", RestoreRequest={"Days": 1, "GlacierJobParameters": {"Tier": "Expedited"}})
        s3.put_object(Bucket="archive", Key="old", Body=b"1" * 200_000)
        rules = [
            {
                "ID": "move",
                "Status": "Enabled",
                "Filter": {"Prefix": "old"},
                "Transitions": [{"Days": 1, "StorageClass": "GLACIER_IR"}],
            },
            {"ID": "end", "Status": "Enabled", "Filter": {"Prefix": "old"}, "Expiration": {"Days": 3}},
        ]
        s3.put_bucket_lifecycle_configuration(Bucket="archive", LifecycleConfiguration={"Rules": rules})
        for _ in range(6):
            server.cloud.advance_clock(86_400)
        found = {(event["detail-type"], event["detail"]["object"]["key"]): event["detail"] for event in hear(7)}
    assert found["Object Restore Initiated", "cold"]["source-storage-class"] == "GLACIER"
    assert found["Object Restore Completed", "cold"]["restore-expiry-time"].endswith("Z")
    assert ("Object Restore Expired", "cold") in found
    assert found["Object Storage Class Changed", "old"]["destination-storage-class"] == "GLACIER_IR"
    expired = found["Object Deleted", "old"]
    assert (expired["reason"], expired["requester"]) == ("Lifecycle Expiration", "s3.amazonaws.com")
