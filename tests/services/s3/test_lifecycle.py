"""Lifecycle configurations: the document and its checks, and what rules do when the clock moves."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.services.s3.classes import WATERFALL
from pilvi.testing.server import Account, TestServer

DAY = 86400
LARGE = b"x" * (128 << 10)


@pytest.fixture(scope="module")
def aws(timed: TestServer) -> Account:
    return timed.account("123456789012")


def put(s3: Any, bucket: str, *rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    made = [{"ID": f"r{number}", "Status": "Enabled", "Filter": {"Prefix": ""}, **rule} for number, rule in enumerate(rules)]
    made = [{name: member for name, member in rule.items() if member is not None} for rule in made]
    return dict(s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": made}, **more))


def refusal(s3: Any, bucket: str, *rules: dict[str, Any]) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        put(s3, bucket, *rules)
    assert "NoSuchLifecycleConfiguration" in error_of(s3.get_bucket_lifecycle_configuration, Bucket=bucket)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def error_of(call: Any, **arguments: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return str(caught.value.response["Error"]["Code"])


def keys(s3: Any, bucket: str) -> list[str]:
    return [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]


def class_of(s3: Any, bucket: str, key: str, **more: Any) -> str:
    return str(s3.head_object(Bucket=bucket, Key=key, **more).get("StorageClass", "STANDARD"))


def move(days: int, class_: str) -> dict[str, Any]:
    return {"Days": days, "StorageClass": class_}


# -- the document ---------------------------------------------------------------------------------------------------------


def test_put_bucket_lifecycle_configuration_gives_the_same_document_back(s3: Any, bucket: str) -> None:
    rules = [
        {
            "ID": "logs",
            "Status": "Enabled",
            "Filter": {"And": {"Prefix": "logs/", "Tags": [{"Key": "a", "Value": "1"}], "ObjectSizeGreaterThan": 10}},
            "Transitions": [move(30, "STANDARD_IA"), move(365, "GLACIER")],
            "Expiration": {"Days": 400},
            "NoncurrentVersionTransitions": [{"NoncurrentDays": 30, "StorageClass": "GLACIER", "NewerNoncurrentVersions": 2}],
            "NoncurrentVersionExpiration": {"NoncurrentDays": 60, "NewerNoncurrentVersions": 3},
        },
        {
            "ID": "rest",
            "Status": "Disabled",
            "Prefix": "tmp/",
            "Expiration": {"Date": datetime(2030, 1, 1, tzinfo=UTC)},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
        },
    ]
    answer = s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})
    assert answer["TransitionDefaultMinimumObjectSize"] == "all_storage_classes_128K"
    found = s3.get_bucket_lifecycle_configuration(Bucket=bucket)
    assert found["Rules"] == rules
    assert found["TransitionDefaultMinimumObjectSize"] == "all_storage_classes_128K"


def test_put_bucket_lifecycle_of_old_clients(raw: Any, s3: Any, bucket: str) -> None:
    body = (
        b'<LifecycleConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Rule><Prefix>a/</Prefix><Status>Enabled</Status>'
        b"<Transition><Days>30</Days><StorageClass>GLACIER</StorageClass></Transition></Rule></LifecycleConfiguration>"
    )
    assert raw("PUT", f"/{bucket}?lifecycle", data=body).status_code == 200
    (rule,) = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert rule.pop("ID")
    assert rule == {"Prefix": "a/", "Status": "Enabled", "Transitions": [move(30, "GLACIER")]}


def test_delete_bucket_lifecycle_forgets(s3: Any, bucket: str) -> None:
    put(s3, bucket, {"Expiration": {"Days": 1}})
    s3.delete_bucket_lifecycle(Bucket=bucket)
    assert error_of(s3.get_bucket_lifecycle_configuration, Bucket=bucket) == "NoSuchLifecycleConfiguration"
    s3.delete_bucket_lifecycle(Bucket=bucket)


def test_lifecycle_needs_permission(aws: Account, s3: Any, bucket: str) -> None:
    reader = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "s3:GetLifecycleConfiguration", "Resource": "*"}],
    }
    limited = aws.user("lifecycle-reader", reader).client("s3")
    put(s3, bucket, {"Expiration": {"Days": 1}})
    assert limited.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert error_of(limited.delete_bucket_lifecycle, Bucket=bucket) == "AccessDenied"


EXPIRES = {"Expiration": {"Days": 5}}
TAG = {"Key": "a", "Value": "1"}


@pytest.mark.parametrize(
    ("rules", "code", "words"),
    [
        (
            [{"Transitions": [move(29, "STANDARD_IA")]}],
            "InvalidArgument",
            "greater than or equal to 30 for storageClass 'STANDARD_IA'",
        ),
        ([{"Transitions": [move(30, "GLACIER"), move(60, "STANDARD_IA")]}], "InvalidRequest", "'STANDARD_IA'"),
        ([{"Transitions": [move(30, "STANDARD_IA"), move(40, "GLACIER")]}], "InvalidArgument", "must be 30 days more than"),
        ([{"Transitions": [move(30, "GLACIER"), move(40, "GLACIER")]}], "InvalidRequest", "'StorageClass' must be different"),
        ([{"Transitions": [move(-1, "GLACIER")]}], "InvalidArgument", "nonnegative"),
        ([{"Transitions": [{"StorageClass": "GLACIER"}]}], "MalformedXML", ""),
        ([{"Transitions": [move(30, "GLACIER")], "Expiration": {"Days": 30}}], "InvalidArgument", "must be greater than 'Days'"),
        (
            [{"Transitions": [move(30, "GLACIER")], "Expiration": {"Date": datetime(2030, 1, 1, tzinfo=UTC)}}],
            "InvalidRequest",
            "Found mixed 'Date' and 'Days'",
        ),
        ([{"Expiration": {"Days": 0}}], "InvalidArgument", "'Days' for Expiration action must be a positive integer"),
        ([{"Expiration": {"Date": datetime(2030, 1, 1, 1, tzinfo=UTC)}}], "InvalidArgument", "'Date' must be at midnight GMT"),
        ([{"Expiration": {"Days": 1, "ExpiredObjectDeleteMarker": True}}], "MalformedXML", ""),
        ([{}], "InvalidRequest", "At least one action needs to be specified in a rule"),
        ([{"ID": "x", **EXPIRES}, {"ID": "x", **EXPIRES}], "InvalidArgument", "Rule ID must be unique"),
        ([{"ID": "x" * 256, **EXPIRES}], "InvalidArgument", "ID length should not exceed allowed limit of 255"),
        ([{"Filter": {"Prefix": "", "Tag": TAG}, **EXPIRES}], "MalformedXML", ""),
        ([{"Filter": {"And": {"Prefix": "a"}}, **EXPIRES}], "MalformedXML", ""),
        ([{"Filter": {"And": {"Tags": [TAG, TAG]}}, **EXPIRES}], "InvalidRequest", "Duplicate Tag Keys"),
        ([{"Filter": None, **EXPIRES}], "MalformedXML", ""),
        ([{"Prefix": "", **EXPIRES}], "MalformedXML", ""),
        (
            [{"Filter": {"Tag": TAG}, "Expiration": {"ExpiredObjectDeleteMarker": True}}],
            "InvalidRequest",
            "cannot be specified with Tags",
        ),
        (
            [{"Filter": {"Tag": TAG}, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}}],
            "InvalidRequest",
            "cannot be specified with Tags",
        ),
        ([{"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 0}}], "InvalidArgument", "positive integer"),
        (
            [{"NoncurrentVersionExpiration": {"NoncurrentDays": 1, "NewerNoncurrentVersions": 101}}],
            "InvalidArgument",
            "'NewerNoncurrentVersions'",
        ),
        ([{"NoncurrentVersionExpiration": {"NoncurrentDays": 0}}], "InvalidArgument", "positive integer"),
        (
            [{"NoncurrentVersionTransitions": [{"NoncurrentDays": 1, "StorageClass": "STANDARD_IA"}]}],
            "InvalidArgument",
            "greater than or equal to 30",
        ),
        (
            [{"Filter": None, "Prefix": "a", **EXPIRES}, {"Filter": None, "Prefix": "a/b", **EXPIRES}],
            "InvalidRequest",
            "Found overlapping prefixes 'a' and 'a/b' for same action type 'Expiration'",
        ),
        (
            [{"Filter": {"And": {"ObjectSizeGreaterThan": 10, "ObjectSizeLessThan": 5}}, **EXPIRES}],
            "InvalidRequest",
            "'ObjectSizeLessThan'",
        ),
    ],
)
def test_put_bucket_lifecycle_configuration_refuses(
    s3: Any, bucket: str, rules: list[dict[str, Any]], code: str, words: str
) -> None:
    found = refusal(s3, bucket, *rules)
    assert found[0] == code
    assert words in found[1]


def test_the_waterfall_has_no_way_up() -> None:
    for above, below in WATERFALL.items():
        for name in below:
            assert above not in WATERFALL[name]


# -- what rules do --------------------------------------------------------------------------------------------------------


def test_transitions_follow_the_clock(timed: TestServer, s3: Any, bucket: str) -> None:
    put(s3, bucket, {"Transitions": [move(30, "STANDARD_IA"), move(365, "GLACIER")]})
    s3.put_object(Bucket=bucket, Key="a", Body=LARGE)
    s3.put_object(Bucket=bucket, Key="small", Body=b"x")
    before = s3.head_object(Bucket=bucket, Key="a")
    timed.cloud.advance_clock(29 * DAY)
    assert class_of(s3, bucket, "a") == "STANDARD"
    timed.cloud.advance_clock(2 * DAY)
    after = s3.head_object(Bucket=bucket, Key="a")
    assert after["StorageClass"] == "STANDARD_IA"
    assert (after["LastModified"], after["ETag"]) == (before["LastModified"], before["ETag"])
    assert s3.get_object(Bucket=bucket, Key="a")["Body"].read() == LARGE
    assert class_of(s3, bucket, "small") == "STANDARD"
    timed.cloud.advance_clock(335 * DAY)
    assert class_of(s3, bucket, "a") == "GLACIER"
    assert error_of(s3.get_object, Bucket=bucket, Key="a") == "InvalidObjectState"


def test_a_year_in_one_step_takes_the_deepest_class(timed: TestServer, s3: Any, bucket: str) -> None:
    put(s3, bucket, {"Transitions": [move(30, "STANDARD_IA"), move(90, "GLACIER_IR"), move(365, "DEEP_ARCHIVE")]})
    s3.put_object(Bucket=bucket, Key="a", Body=LARGE)
    timed.cloud.advance_clock(200 * DAY)
    assert class_of(s3, bucket, "a") == "GLACIER_IR"


def test_immediate_archive_at_the_next_evaluation(timed: TestServer, s3: Any, bucket: str) -> None:
    put(s3, bucket, {"Transitions": [move(0, "GLACIER")]}, TransitionDefaultMinimumObjectSize="varies_by_storage_class")
    s3.put_object(Bucket=bucket, Key="record", Body=b"x")
    assert class_of(s3, bucket, "record") == "STANDARD"
    timed.cloud.advance_clock(DAY)
    assert class_of(s3, bucket, "record") == "GLACIER"


def test_filters_choose_by_prefix_tag_and_size(timed: TestServer, s3: Any, bucket: str) -> None:
    put(
        s3,
        bucket,
        {"Filter": {"Tag": {"Key": "temp", "Value": "yes"}}, **EXPIRES},
        {"Filter": {"And": {"Prefix": "logs/", "ObjectSizeLessThan": 3}}, **EXPIRES},
        {"Filter": {"Prefix": "all/"}, "Status": "Disabled", **EXPIRES},
    )
    for key, body, tagging in (
        ("kept", b"x", "temp=no"),
        ("tagged", b"x", "temp=yes"),
        ("logs/large", b"xxx", ""),
        ("logs/small", b"xx", ""),
        ("all/kept", b"x", ""),
    ):
        s3.put_object(Bucket=bucket, Key=key, Body=body, Tagging=tagging)
    timed.cloud.advance_clock(6 * DAY)
    assert keys(s3, bucket) == ["all/kept", "kept", "logs/large"]


def test_expiration_is_announced(timed: TestServer, s3: Any, bucket: str) -> None:
    put(s3, bucket, {"ID": "two words", "Filter": {"Prefix": "tmp/"}, "Expiration": {"Days": 3}})
    written = s3.put_object(Bucket=bucket, Key="tmp/a", Body=b"x")
    due = (timed.cloud.clock.now() + timedelta(days=4)).replace(hour=0, minute=0, second=0)
    text = f'expiry-date="{due:%a, %d %b %Y} 00:00:00 GMT", rule-id="two%20words"'
    assert written["Expiration"] == text
    assert s3.head_object(Bucket=bucket, Key="tmp/a")["Expiration"] == text
    assert s3.get_object(Bucket=bucket, Key="tmp/a")["Expiration"] == text
    assert s3.copy_object(Bucket=bucket, Key="tmp/b", CopySource=f"{bucket}/tmp/a")["Expiration"] == text
    assert "Expiration" not in s3.put_object(Bucket=bucket, Key="b", Body=b"x")


def test_expiration_at_a_date(timed: TestServer, s3: Any, bucket: str) -> None:
    date = (timed.cloud.clock.now() + timedelta(days=10)).replace(hour=0, minute=0, second=0, microsecond=0)
    put(s3, bucket, {"Expiration": {"Date": date}})
    s3.put_object(Bucket=bucket, Key="a", Body=b"x")
    timed.cloud.advance_clock(8 * DAY)
    assert keys(s3, bucket) == ["a"]
    timed.cloud.advance_clock(3 * DAY)
    assert keys(s3, bucket) == []


def test_expiration_puts_markers_and_clears_them_at_the_end(timed: TestServer, s3: Any, versioned: str) -> None:
    put(s3, versioned, {"Expiration": {"Days": 10}, "NoncurrentVersionExpiration": {"NoncurrentDays": 5}})
    s3.put_object(Bucket=versioned, Key="a", Body=b"x")
    timed.cloud.advance_clock(11 * DAY)
    listed = s3.list_object_versions(Bucket=versioned)
    assert [(marker["Key"], marker["IsLatest"]) for marker in listed["DeleteMarkers"]] == [("a", True)]
    assert len(listed["Versions"]) == 1
    timed.cloud.advance_clock(7 * DAY)
    assert "Versions" not in s3.list_object_versions(Bucket=versioned)
    timed.cloud.advance_clock(10 * DAY)
    assert "DeleteMarkers" not in s3.list_object_versions(Bucket=versioned)


def test_expired_delete_markers_go_when_asked(timed: TestServer, s3: Any, versioned: str) -> None:
    put(s3, versioned, {"Expiration": {"ExpiredObjectDeleteMarker": True}})
    s3.put_object(Bucket=versioned, Key="kept", Body=b"x")
    for key in ("kept", "gone"):
        s3.delete_object(Bucket=versioned, Key=key)
    timed.cloud.advance_clock(DAY)
    assert [marker["Key"] for marker in s3.list_object_versions(Bucket=versioned)["DeleteMarkers"]] == ["kept"]


def test_noncurrent_versions_keep_the_newest(timed: TestServer, s3: Any, versioned: str) -> None:
    put(s3, versioned, {"NoncurrentVersionExpiration": {"NoncurrentDays": 1, "NewerNoncurrentVersions": 2}})
    for number in range(6):
        s3.put_object(Bucket=versioned, Key="a", Body=str(number).encode())
    timed.cloud.advance_clock(3 * DAY)
    left = s3.list_object_versions(Bucket=versioned)["Versions"]
    bodies = [s3.get_object(Bucket=versioned, Key="a", VersionId=entry["VersionId"])["Body"].read() for entry in left]
    assert bodies == [b"5", b"4", b"3"]


def test_noncurrent_versions_move(timed: TestServer, s3: Any, versioned: str) -> None:
    put(s3, versioned, {"NoncurrentVersionTransitions": [{"NoncurrentDays": 30, "StorageClass": "GLACIER"}]})
    old = s3.put_object(Bucket=versioned, Key="a", Body=LARGE)["VersionId"]
    timed.cloud.advance_clock(40 * DAY)
    s3.put_object(Bucket=versioned, Key="a", Body=b"new")
    timed.cloud.advance_clock(29 * DAY)
    assert class_of(s3, versioned, "a", VersionId=old) == "STANDARD"
    timed.cloud.advance_clock(2 * DAY)
    assert class_of(s3, versioned, "a", VersionId=old) == "GLACIER"
    assert class_of(s3, versioned, "a") == "STANDARD"


def test_incomplete_uploads_are_aborted(timed: TestServer, s3: Any, bucket: str) -> None:
    put(s3, bucket, {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}})
    upload = s3.create_multipart_upload(Bucket=bucket, Key="a")["UploadId"]
    s3.upload_part(Bucket=bucket, Key="a", UploadId=upload, PartNumber=1, Body=LARGE)
    timed.cloud.advance_clock(6 * DAY)
    assert len(s3.list_multipart_uploads(Bucket=bucket)["Uploads"]) == 1
    timed.cloud.advance_clock(2 * DAY)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)
    assert error_of(s3.list_parts, Bucket=bucket, Key="a", UploadId=upload) == "NoSuchUpload"


def test_object_lock_outlives_rules(timed: TestServer, s3: Any, name: str) -> None:
    s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    put(s3, name, {"Expiration": {"Days": 1}, "NoncurrentVersionExpiration": {"NoncurrentDays": 1}})
    until = timed.cloud.clock.now() + timedelta(days=20)
    for key in ("locked", "free"):
        more = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until} if key == "locked" else {}
        s3.put_object(Bucket=name, Key=key, Body=b"x", ChecksumAlgorithm="CRC32", **more)
    for _ in range(2):
        timed.cloud.advance_clock(3 * DAY)
    assert [entry["Key"] for entry in s3.list_object_versions(Bucket=name)["Versions"]] == ["locked"]
    timed.cloud.advance_clock(20 * DAY)
    assert "Versions" not in s3.list_object_versions(Bucket=name)


def test_many_pages_are_walked(timed: TestServer, s3: Any, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilvi.services.s3.lifecycle_run.PAGE", 7)
    put(s3, bucket, {"Filter": {"Prefix": "old/"}, "Expiration": {"Days": 1}})
    for number in range(20):
        s3.put_object(Bucket=bucket, Key=f"old/{number:02}", Body=b"x")
        s3.put_object(Bucket=bucket, Key=f"new/{number:02}", Body=b"x")
    timed.cloud.advance_clock(2 * DAY)
    assert keys(s3, bucket) == [f"new/{number:02}" for number in range(20)]


def test_a_writer_wins_over_a_rule(timed: TestServer, s3: Any, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object that is replaced between the look at its page and the transaction stays."""
    from pilvi.services.s3.lifecycle_run import Run

    put(s3, bucket, {"Expiration": {"Days": 1}})
    for key in ("a", "b"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"old")
    together = Run._do_together

    def interrupted(self: Run, steps: Any) -> bool:
        if self._bucket.name == bucket:
            s3.put_object(Bucket=bucket, Key="a", Body=b"new")
        return together(self, steps)

    monkeypatch.setattr(Run, "_do_together", interrupted)
    timed.cloud.advance_clock(2 * DAY)
    assert keys(s3, bucket) == ["a"]
    assert s3.get_object(Bucket=bucket, Key="a")["Body"].read() == b"new"


# -- the bill -------------------------------------------------------------------------------------------------------------


def usages(timed: TestServer, bucket: str) -> dict[str, float]:
    """Quantities by usage type of one bucket's lines."""
    from pilvi.metering import lines_between

    far = datetime(2100, 1, 1, tzinfo=UTC)
    found: dict[str, float] = {}
    for line in lines_between(timed.cloud.store, "123456789012", datetime(2020, 1, 1, tzinfo=UTC), far):
        if line.meter.resource == f"arn:aws:s3:::{bucket}":
            found[line.meter.usage] = found.get(line.meter.usage, 0) + line.quantity / line.meter.per_unit
    return found


def test_reading_infrequent_access_adds_a_retrieval_line(timed: TestServer, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=LARGE, StorageClass="STANDARD_IA")
    s3.put_object(Bucket=bucket, Key="b", Body=LARGE)
    assert "Retrieval-SIA" not in usages(timed, bucket)
    for _ in range(3):
        s3.get_object(Bucket=bucket, Key="a")["Body"].read()
    s3.get_object(Bucket=bucket, Key="a", Range="bytes=0-1023")["Body"].read()
    s3.get_object(Bucket=bucket, Key="b")["Body"].read()
    timed.cloud.store.write()
    assert usages(timed, bucket)["Retrieval-SIA"] == (3 * len(LARGE) + 1024) / (1 << 30)


def test_kept_bytes_are_charged_by_class(timed: TestServer, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=LARGE)
    s3.put_object(Bucket=bucket, Key="b", Body=b"x", StorageClass="STANDARD_IA")
    s3.put_object(Bucket=bucket, Key="c", Body=LARGE, StorageClass="DEEP_ARCHIVE")
    timed.cloud.advance_clock(30 * DAY)
    found = usages(timed, bucket)
    months = 30 * 24 / 730
    assert found["TimedStorage-ByteHrs"] == pytest.approx(months * len(LARGE) / (1 << 30), rel=0.05)
    assert found["TimedStorage-SIA-ByteHrs"] == pytest.approx(found["TimedStorage-ByteHrs"], rel=0.01)
    assert found["TimedStorage-GDA-ByteHrs"] > found["TimedStorage-ByteHrs"] * 1.2


def test_leaving_a_class_early_is_charged(timed: TestServer, s3: Any, bucket: str) -> None:
    for key in ("deleted", "replaced"):
        s3.put_object(Bucket=bucket, Key=key, Body=LARGE, StorageClass="STANDARD_IA")
    s3.delete_object(Bucket=bucket, Key="deleted")
    s3.put_object(Bucket=bucket, Key="replaced", Body=b"x")
    assert usages(timed, bucket)["EarlyDelete-SIA"] == pytest.approx(2 * len(LARGE) / (1 << 30) * 30 * 24 / 730, rel=0.01)


def test_moves_and_restores_are_charged(timed: TestServer, s3: Any, bucket: str) -> None:
    put(s3, bucket, {"Transitions": [move(0, "GLACIER")]})
    for number in range(3):
        s3.put_object(Bucket=bucket, Key=str(number), Body=LARGE)
    timed.cloud.advance_clock(DAY)
    s3.restore_object(Bucket=bucket, Key="0", RestoreRequest={"Days": 1, "GlacierJobParameters": {"Tier": "Expedited"}})
    found = usages(timed, bucket)
    assert found["Requests-Tier3"] == 3
    assert found["Expedited-Retrieval-Bytes"] == len(LARGE) / (1 << 30)


# -- what listeners hear --------------------------------------------------------------------------------------------------


@pytest.fixture
def heard(timed: TestServer, s3: Any, versioned: str) -> Iterator[str]:
    """A versioned bucket to which somebody listens."""
    from pilvi.services.s3.bucket import change_bucket
    from pilvi.services.s3.catalog import LISTENERS

    LISTENERS["HeardHere"] = "nobody/here"
    principal = timed.cloud.identities.root("123456789012")
    change_bucket(timed.cloud.context(principal, "s3"), versioned, HeardHere=True)
    yield versioned
    del LISTENERS["HeardHere"]


def told(timed: TestServer, bucket: str) -> list[dict[str, Any]]:
    from pilvi.events.embedded import queue_of

    rows = timed.cloud.store.scan(queue_of("nobody/here"), prefix=f"{bucket}\0", limit=1000)
    return [row.value["fact"] for row in rows]


def test_rules_tell_what_they_do(timed: TestServer, s3: Any, heard: str) -> None:
    put(
        s3,
        heard,
        {"Transitions": [move(0, "GLACIER")], "Expiration": {"Days": 20}, "NoncurrentVersionExpiration": {"NoncurrentDays": 1}},
    )
    s3.put_object(Bucket=heard, Key="a", Body=LARGE)
    timed.cloud.advance_clock(DAY)
    timed.cloud.advance_clock(21 * DAY)
    timed.cloud.advance_clock(3 * DAY)
    facts = told(timed, heard)
    assert [fact["eventName"] for fact in facts] == [
        "ObjectCreated:Put",
        "LifecycleTransition",
        "LifecycleExpiration:DeleteMarkerCreated",
        "LifecycleExpiration:Delete",
    ]
    assert facts[1]["lifecycleEventData"] == {"transitionEventData": {"destinationStorageClass": "GLACIER"}}
    assert facts[1]["requester"] == "s3.amazonaws.com"


def test_restores_tell_their_stages(timed: TestServer, s3: Any, heard: str) -> None:
    s3.put_object(Bucket=heard, Key="a", Body=LARGE, StorageClass="GLACIER")
    s3.restore_object(Bucket=heard, Key="a", RestoreRequest={"Days": 1, "GlacierJobParameters": {"Tier": "Expedited"}})
    timed.cloud.advance_clock(300)
    timed.cloud.advance_clock(3 * DAY)
    facts = told(timed, heard)
    assert [fact["eventName"] for fact in facts] == [
        "ObjectCreated:Put",
        "ObjectRestore:Post",
        "ObjectRestore:Completed",
        "ObjectRestore:Delete",
    ]
    restored = facts[2]["glacierEventData"]["restoreEventData"]
    assert restored["lifecycleRestoreStorageClass"] == "GLACIER"
    assert restored["lifecycleRestorationExpiryTime"].endswith("T00:00:00.000Z")


def test_archiving_tells_the_tier(timed: TestServer, s3: Any, heard: str) -> None:
    configuration = {"Id": "a", "Status": "Enabled", "Tierings": [{"AccessTier": "ARCHIVE_ACCESS", "Days": 90}]}
    s3.put_bucket_intelligent_tiering_configuration(Bucket=heard, Id="a", IntelligentTieringConfiguration=configuration)
    s3.put_object(Bucket=heard, Key="a", Body=LARGE, StorageClass="INTELLIGENT_TIERING")
    timed.cloud.advance_clock(92 * DAY)
    assert [fact["eventName"] for fact in told(timed, heard)] == ["ObjectCreated:Put", "IntelligentTiering"]
    assert told(timed, heard)[1]["intelligentTieringEventData"] == {"destinationAccessTier": "ARCHIVE_ACCESS"}


def test_rules_of_a_deleted_bucket_are_not_those_of_its_namesake(timed: TestServer, s3: Any, name: str) -> None:
    for prefix in ("old/", "new/"):
        s3.create_bucket(Bucket=name)
        put(s3, name, {"Filter": {"Prefix": prefix}, "Expiration": {"Days": 1}})
        for key in ("old/a", "new/a"):
            s3.put_object(Bucket=name, Key=key, Body=b"x")
        timed.cloud.advance_clock(3 * DAY)
        assert keys(s3, name) == [key for key in ("new/a", "old/a") if not key.startswith(prefix)]
        if prefix == "old/":
            s3.delete_object(Bucket=name, Key="new/a")
            s3.delete_bucket(Bucket=name)
