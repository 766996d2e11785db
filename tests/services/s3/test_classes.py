"""Storage classes: at upload, by copy, in listings; archived objects and their restores, on the product's clock."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.services.s3.classes import ARCHIVED, CLASSES, STORABLE
from pilvi.services.s3.restore import DURATIONS_S
from pilvi.testing.server import Account, TestServer

MINUTE, HOUR, DAY = 60, 3600, 86400
LARGE = b"x" * (128 << 10)


@pytest.fixture(scope="module")
def aws(timed: TestServer) -> Account:
    return timed.account("123456789012")


def refused(call: Any, **arguments: Any) -> dict[str, Any]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return dict(caught.value.response)


def restore(s3: Any, bucket: str, key: str, *, days: int | None = 2, tier: str = "Standard", **more: Any) -> int:
    request: dict[str, Any] = {"GlacierJobParameters": {"Tier": tier}}
    if days is not None:
        request["Days"] = days
    answer = s3.restore_object(Bucket=bucket, Key=key, RestoreRequest=request, **more)
    return int(answer["ResponseMetadata"]["HTTPStatusCode"])


@pytest.mark.parametrize("class_", sorted(STORABLE))
def test_put_object_keeps_the_class(s3: Any, bucket: str, class_: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"x", StorageClass=class_)
    shown = None if class_ == "STANDARD" else class_
    assert s3.head_object(Bucket=bucket, Key="a").get("StorageClass") == shown
    assert s3.list_objects_v2(Bucket=bucket)["Contents"][0]["StorageClass"] == class_
    assert s3.list_objects(Bucket=bucket)["Contents"][0]["StorageClass"] == class_
    assert s3.list_object_versions(Bucket=bucket)["Versions"][0]["StorageClass"] == class_
    attributes = s3.get_object_attributes(Bucket=bucket, Key="a", ObjectAttributes=["StorageClass"])
    assert attributes["StorageClass"] == class_
    if class_ not in ARCHIVED:
        assert s3.get_object(Bucket=bucket, Key="a")["Body"].read() == b"x"


def test_put_object_refuses_what_is_no_class_here(s3: Any, bucket: str) -> None:
    for class_ in ("EXPRESS_ONEZONE", "OUTPOSTS", "COLD"):
        error = refused(s3.put_object, Bucket=bucket, Key="a", Body=b"x", StorageClass=class_)
        assert error["Error"]["Code"] == "InvalidStorageClass"


def test_copy_object_changes_the_class(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"x", Metadata={"m": "1"})
    s3.copy_object(Bucket=bucket, Key="a", CopySource=f"{bucket}/a", StorageClass="GLACIER")
    assert s3.list_objects_v2(Bucket=bucket)["Contents"][0]["StorageClass"] == "GLACIER"
    assert s3.head_object(Bucket=bucket, Key="a")["Metadata"] == {"m": "1"}


def test_multipart_upload_keeps_the_class(s3: Any, bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="a", StorageClass="DEEP_ARCHIVE")["UploadId"]
    part = s3.upload_part(Bucket=bucket, Key="a", UploadId=upload, PartNumber=1, Body=b"x")
    assert s3.list_parts(Bucket=bucket, Key="a", UploadId=upload)["StorageClass"] == "DEEP_ARCHIVE"
    assert s3.list_multipart_uploads(Bucket=bucket)["Uploads"][0]["StorageClass"] == "DEEP_ARCHIVE"
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s3.complete_multipart_upload(Bucket=bucket, Key="a", UploadId=upload, MultipartUpload=parts)
    assert s3.head_object(Bucket=bucket, Key="a")["StorageClass"] == "DEEP_ARCHIVE"


@pytest.mark.parametrize("class_", sorted(ARCHIVED))
def test_get_object_of_an_archived_object_is_refused(s3: Any, bucket: str, class_: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"x", StorageClass=class_)
    for call, arguments in (
        (s3.get_object, {"Bucket": bucket, "Key": "a"}),
        (s3.get_object, {"Bucket": bucket, "Key": "a", "Range": "bytes=0-0"}),
        (s3.copy_object, {"Bucket": bucket, "Key": "b", "CopySource": f"{bucket}/a"}),
    ):
        answer = refused(call, **arguments)
        assert answer["Error"]["Code"] == "InvalidObjectState"
        assert answer["Error"]["StorageClass"] == class_
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert "Restore" not in s3.head_object(Bucket=bucket, Key="a")


@pytest.mark.parametrize(("class_", "tier"), [(class_, tier) for class_ in sorted(ARCHIVED) for tier in DURATIONS_S[class_]])
def test_restore_object_takes_as_long_as_its_tier(timed: TestServer, s3: Any, bucket: str, class_: str, tier: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"x", StorageClass=class_)
    assert restore(s3, bucket, "a", tier=tier) == 202
    assert s3.head_object(Bucket=bucket, Key="a")["Restore"] == 'ongoing-request="true"'
    timed.cloud.advance_clock(DURATIONS_S[class_][tier] - 30)
    assert refused(s3.get_object, Bucket=bucket, Key="a")["Error"]["Code"] == "InvalidObjectState"
    timed.cloud.advance_clock(31)
    assert s3.get_object(Bucket=bucket, Key="a")["Body"].read() == b"x"
    head = s3.head_object(Bucket=bucket, Key="a")
    assert head["Restore"].startswith('ongoing-request="false", expiry-date="')
    assert head["Restore"].endswith(' 00:00:00 GMT"')
    assert head["StorageClass"] == class_
    timed.cloud.advance_clock(3 * DAY)
    assert refused(s3.get_object, Bucket=bucket, Key="a")["Error"]["Code"] == "InvalidObjectState"
    assert "Restore" not in s3.head_object(Bucket=bucket, Key="a")
    assert restore(s3, bucket, "a", tier=tier) == 202


def test_restore_object_again_counts_the_days_anew(timed: TestServer, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"x", StorageClass="GLACIER")
    restore(s3, bucket, "a", days=1)
    timed.cloud.advance_clock(5 * HOUR)
    before = s3.list_objects_v2(Bucket=bucket, OptionalObjectAttributes=["RestoreStatus"])["Contents"][0]["RestoreStatus"]
    assert before["IsRestoreInProgress"] is False
    assert restore(s3, bucket, "a", days=10) == 200
    after = s3.list_objects_v2(Bucket=bucket, OptionalObjectAttributes=["RestoreStatus"])["Contents"][0]["RestoreStatus"]
    assert after["RestoreExpiryDate"] - before["RestoreExpiryDate"] >= timedelta(days=8)
    assert s3.get_object(Bucket=bucket, Key="a")["Body"].read() == b"x"


def test_restore_object_in_progress_may_only_go_faster(timed: TestServer, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"x", StorageClass="GLACIER")
    restore(s3, bucket, "a", tier="Bulk")
    answer = refused(restore, s3=s3, bucket=bucket, key="a", tier="Bulk")
    assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == ("RestoreAlreadyInProgress", 409)
    listed = s3.list_object_versions(Bucket=bucket, OptionalObjectAttributes=["RestoreStatus"])["Versions"][0]
    assert listed["RestoreStatus"] == {"IsRestoreInProgress": True}
    assert "RestoreStatus" not in s3.list_objects_v2(Bucket=bucket)["Contents"][0]
    assert restore(s3, bucket, "a", tier="Expedited") == 202
    timed.cloud.advance_clock(5 * MINUTE)
    assert s3.get_object(Bucket=bucket, Key="a")["Body"].read() == b"x"


def test_restore_object_of_a_version(timed: TestServer, s3: Any, versioned: str) -> None:
    old = s3.put_object(Bucket=versioned, Key="a", Body=b"old", StorageClass="GLACIER")["VersionId"]
    s3.put_object(Bucket=versioned, Key="a", Body=b"new")
    assert restore(s3, versioned, "a", VersionId=old) == 202
    timed.cloud.advance_clock(5 * HOUR)
    assert s3.get_object(Bucket=versioned, Key="a", VersionId=old)["Body"].read() == b"old"


def test_restore_object_refusals(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="standard", Body=b"x")
    s3.put_object(Bucket=bucket, Key="deep", Body=b"x", StorageClass="DEEP_ARCHIVE")
    s3.put_object(Bucket=bucket, Key="tiered", Body=b"x", StorageClass="INTELLIGENT_TIERING")
    for key, days, tier, code in (
        ("standard", 1, "Standard", "InvalidObjectState"),
        ("deep", 1, "Expedited", "InvalidArgument"),
        ("deep", 0, "Standard", "InvalidArgument"),
        ("deep", None, "Standard", "MalformedXML"),
        ("tiered", None, "Standard", "ObjectAlreadyInActiveTierError"),
        ("missing", 1, "Standard", "NoSuchKey"),
    ):
        assert refused(restore, s3=s3, bucket=bucket, key=key, days=days, tier=tier)["Error"]["Code"] == code, key
    request = {"Type": "SELECT", "Tier": "Standard"}
    assert refused(s3.restore_object, Bucket=bucket, Key="deep", RestoreRequest=request)["Error"]["Code"] == "NotImplemented"


def test_a_restore_survives_a_restart(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("restart")
    with TestServer(folder) as server:
        s3 = server.account("123456789012").client("s3")
        s3.create_bucket(Bucket="archive")
        s3.put_object(Bucket="archive", Key="a", Body=b"x", StorageClass="GLACIER")
        restore(s3, "archive", "a")
    with TestServer(folder) as server:
        s3 = server.account("123456789012").client("s3")
        server.cloud.advance_clock(5 * HOUR)
        assert s3.get_object(Bucket="archive", Key="a")["Body"].read() == b"x"


def test_class_figures_name_every_class() -> None:
    assert {found.name for found in CLASSES} == STORABLE | {"EXPRESS_ONEZONE"}
    assert next(found for found in CLASSES if found.name == "ONEZONE_IA").zones == 1


def test_the_page_of_figures_says_what_the_cost_model_uses() -> None:
    page = (Path(__file__).parents[3] / "docs" / "storage-classes.md").read_text()
    rows = {
        cells[0].strip("`"): cells
        for line in page.splitlines()
        if line.startswith("| `") and len(cells := line.strip("| ").split(" | ")) == 9
    }
    for found in CLASSES:
        size = f"{found.minimum_bytes >> 10} KiB" if found.minimum_bytes else "0"
        figures = [found.title, found.durability, found.availability, str(found.zones), str(found.minimum_days), size]
        assert rows[found.name][1:] == [*figures, found.retrieval, found.first_byte]
