"""Intelligent-Tiering: configurations, and tiers that follow the reads of objects on the product's clock."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.services.s3.tiers import tier_of
from pilvi.testing.server import Account, TestServer, eventually

HOUR, DAY = 3600, 86400
LARGE = b"x" * (128 << 10)


@pytest.fixture(scope="module")
def aws(timed: TestServer) -> Account:
    return timed.account("123456789012")


def configure(s3: Any, bucket: str, id: str = "all", **more: Any) -> dict[str, Any]:
    configuration = {
        "Id": id,
        "Status": "Enabled",
        "Tierings": [{"AccessTier": "ARCHIVE_ACCESS", "Days": 90}, {"AccessTier": "DEEP_ARCHIVE_ACCESS", "Days": 180}],
        **more,
    }
    s3.put_bucket_intelligent_tiering_configuration(Bucket=bucket, Id=id, IntelligentTieringConfiguration=configuration)
    return configuration


def error_of(call: Any, **arguments: Any) -> dict[str, Any]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return dict(caught.value.response["Error"])


def tier(timed: TestServer, bucket: str, key: str) -> str:
    """The tier that the bill counts an object in."""
    from pilvi.storage.records import Table

    row = timed.cloud.store.get(Table("123456789012", "us-east-1", "s3", f"Object:{bucket}"), key)
    return tier_of(row.value, timed.cloud.clock.time_s())


def test_configurations_are_kept_listed_and_deleted(s3: Any, bucket: str) -> None:
    made = configure(s3, bucket, Filter={"And": {"Prefix": "a/", "Tags": [{"Key": "k", "Value": "v"}]}})
    found = s3.get_bucket_intelligent_tiering_configuration(Bucket=bucket, Id="all")
    assert found["IntelligentTieringConfiguration"] == made
    for number in range(101):
        configure(s3, bucket, f"n{number:03}")
    first = s3.list_bucket_intelligent_tiering_configurations(Bucket=bucket)
    assert first["IsTruncated"]
    assert len(first["IntelligentTieringConfigurationList"]) == 100
    rest = s3.list_bucket_intelligent_tiering_configurations(Bucket=bucket, ContinuationToken=first["NextContinuationToken"])
    assert [entry["Id"] for entry in rest["IntelligentTieringConfigurationList"]] == ["n099", "n100"]
    s3.delete_bucket_intelligent_tiering_configuration(Bucket=bucket, Id="all")
    for call in (s3.get_bucket_intelligent_tiering_configuration, s3.delete_bucket_intelligent_tiering_configuration):
        assert error_of(call, Bucket=bucket, Id="all")["Code"] == "NoSuchConfiguration"


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"Tierings": [{"AccessTier": "ARCHIVE_ACCESS", "Days": 89}]}, "InvalidArgument"),
        ({"Tierings": [{"AccessTier": "DEEP_ARCHIVE_ACCESS", "Days": 179}]}, "InvalidArgument"),
        ({"Tierings": [{"AccessTier": "ARCHIVE_ACCESS", "Days": 731}]}, "InvalidArgument"),
        ({"Tierings": [{"AccessTier": "ARCHIVE_ACCESS", "Days": 90}] * 2}, "MalformedXML"),
        ({"Tierings": []}, "MalformedXML"),
        ({"Id": "other"}, "MalformedXML"),
        ({"Filter": {"Prefix": "a", "Tag": {"Key": "a", "Value": "b"}}}, "MalformedXML"),
    ],
)
def test_put_configuration_refuses(s3: Any, bucket: str, more: dict[str, Any], code: str) -> None:
    configuration = {"Id": "all", "Status": "Enabled", "Tierings": [{"AccessTier": "ARCHIVE_ACCESS", "Days": 90}], **more}
    error = error_of(
        s3.put_bucket_intelligent_tiering_configuration, Bucket=bucket, Id="all", IntelligentTieringConfiguration=configuration
    )
    assert error["Code"] == code


def test_an_unread_object_changes_tier_and_comes_back_on_read(timed: TestServer, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=LARGE, StorageClass="INTELLIGENT_TIERING")
    s3.put_object(Bucket=bucket, Key="small", Body=b"x", StorageClass="INTELLIGENT_TIERING")
    assert tier(timed, bucket, "a") == "FREQUENT"
    timed.cloud.advance_clock(31 * DAY)
    assert (tier(timed, bucket, "a"), tier(timed, bucket, "small")) == ("INFREQUENT", "FREQUENT")
    timed.cloud.advance_clock(60 * DAY)
    assert tier(timed, bucket, "a") == "ARCHIVE_INSTANT"
    assert "ArchiveStatus" not in s3.head_object(Bucket=bucket, Key="a")
    modified = s3.head_object(Bucket=bucket, Key="a")["LastModified"]
    assert s3.get_object(Bucket=bucket, Key="a")["Body"].read() == LARGE
    eventually(lambda: tier(timed, bucket, "a") == "FREQUENT")
    assert s3.head_object(Bucket=bucket, Key="a")["LastModified"] == modified


def test_archive_tiers_are_restored_before_they_are_read(timed: TestServer, s3: Any, bucket: str) -> None:
    configure(s3, bucket, Filter={"Prefix": "cold/"})
    for key in ("cold/a", "warm/a"):
        s3.put_object(Bucket=bucket, Key=key, Body=LARGE, StorageClass="INTELLIGENT_TIERING")
    timed.cloud.advance_clock(91 * DAY)
    assert s3.head_object(Bucket=bucket, Key="cold/a")["ArchiveStatus"] == "ARCHIVE_ACCESS"
    assert s3.get_object(Bucket=bucket, Key="warm/a")["Body"].read() == LARGE
    error = error_of(s3.get_object, Bucket=bucket, Key="cold/a")
    assert (error["Code"], error["StorageClass"], error["AccessTier"]) == (
        "InvalidObjectState",
        "INTELLIGENT_TIERING",
        "ARCHIVE_ACCESS",
    )
    s3.delete_bucket_intelligent_tiering_configuration(Bucket=bucket, Id="all")
    assert error_of(s3.restore_object, Bucket=bucket, Key="cold/a", RestoreRequest={"Days": 1})["Code"] == "MalformedXML"
    request = {"GlacierJobParameters": {"Tier": "Standard"}}
    assert s3.restore_object(Bucket=bucket, Key="cold/a", RestoreRequest=request)["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert s3.head_object(Bucket=bucket, Key="cold/a")["Restore"] == 'ongoing-request="true"'
    timed.cloud.advance_clock(5 * HOUR)
    head = s3.head_object(Bucket=bucket, Key="cold/a")
    assert "ArchiveStatus" not in head
    assert "Restore" not in head
    assert s3.get_object(Bucket=bucket, Key="cold/a")["Body"].read() == LARGE
    assert tier(timed, bucket, "cold/a") == "FREQUENT"
    error = error_of(s3.restore_object, Bucket=bucket, Key="cold/a", RestoreRequest=request)
    assert error["Code"] == "ObjectAlreadyInActiveTierError"


def test_deep_archive_follows_archive(timed: TestServer, s3: Any, bucket: str) -> None:
    configure(s3, bucket)
    s3.put_object(Bucket=bucket, Key="a", Body=LARGE, StorageClass="INTELLIGENT_TIERING")
    timed.cloud.advance_clock(91 * DAY)
    assert s3.head_object(Bucket=bucket, Key="a")["ArchiveStatus"] == "ARCHIVE_ACCESS"
    timed.cloud.advance_clock(90 * DAY)
    assert s3.head_object(Bucket=bucket, Key="a")["ArchiveStatus"] == "DEEP_ARCHIVE_ACCESS"


def test_put_bucket_intelligent_tiering_configuration_by_several_at_once_loses_none(s3: Any, bucket: str) -> None:
    def put_one(number: int) -> None:
        configuration = {
            "Id": f"c{number}",
            "Status": "Enabled",
            "Tierings": [{"Days": 90, "AccessTier": "ARCHIVE_ACCESS"}],
        }
        s3.put_bucket_intelligent_tiering_configuration(
            Bucket=bucket, Id=configuration["Id"], IntelligentTieringConfiguration=configuration
        )

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(put_one, range(24)))
    found = s3.list_bucket_intelligent_tiering_configurations(Bucket=bucket)["IntelligentTieringConfigurationList"]
    assert len(found) == 24
