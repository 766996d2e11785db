"""Inventory configurations, and the lists that come of them when the clock moves."""

from __future__ import annotations

import base64
import csv
import gzip
import hashlib
import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pilvi.services.s3.inventory_format import FIELDS
from pilvi.testing.server import Account, TestServer
from tests.services.s3.conftest import refused

DAY = 86400


@pytest.fixture(scope="module")
def aws(timed: TestServer) -> Account:
    return timed.account("123456789012")


@pytest.fixture
def target(s3: Any, name: str) -> str:
    """A bucket that lets inventories in."""
    s3.create_bucket(Bucket=f"lists-{name}")
    allow = {
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "s3:PutObject",
        "Resource": f"arn:aws:s3:::lists-{name}/*",
        "Condition": {"ArnLike": {"aws:SourceArn": f"arn:aws:s3:::{name}"}},
    }
    s3.put_bucket_policy(Bucket=f"lists-{name}", Policy=json.dumps({"Version": "2012-10-17", "Statement": [allow]}))
    return f"lists-{name}"


def given(target: str, form: str = "CSV", **more: Any) -> dict[str, Any]:
    destination = {"Bucket": f"arn:aws:s3:::{target}", "Format": form, "Prefix": "inv", **more.pop("to", {})}
    return {
        "Id": "all",
        "IsEnabled": True,
        "Destination": {"S3BucketDestination": destination},
        "IncludedObjectVersions": "Current",
        "Schedule": {"Frequency": "Daily"},
        **more,
    }


def put(s3: Any, bucket: str, configuration: dict[str, Any]) -> None:
    s3.put_bucket_inventory_configuration(Bucket=bucket, Id=configuration["Id"], InventoryConfiguration=configuration)


def keys(s3: Any, target: str, ending: str) -> list[str]:
    return [entry["Key"] for entry in s3.list_objects_v2(Bucket=target).get("Contents", []) if entry["Key"].endswith(ending)]


def manifests(s3: Any, target: str) -> list[dict[str, Any]]:
    return [json.loads(s3.get_object(Bucket=target, Key=key)["Body"].read()) for key in keys(s3, target, "manifest.json")]


def rows(s3: Any, target: str) -> list[dict[str, str]]:
    (manifest,) = manifests(s3, target)
    columns, found = manifest["fileSchema"].split(", "), []
    for file in manifest["files"]:
        data = s3.get_object(Bucket=target, Key=file["key"])["Body"].read()
        assert (len(data), hashlib.md5(data).hexdigest()) == (file["size"], file["MD5checksum"])
        found += [dict(zip(columns, row, strict=True)) for row in csv.reader(io.StringIO(gzip.decompress(data).decode()))]
    return found


def test_put_bucket_inventory_configuration_lists_every_object(timed: TestServer, s3: Any, bucket: str, target: str) -> None:
    s3.put_object(Bucket=bucket, Key="a b/ü.txt", Body=b"12345", ChecksumAlgorithm="SHA256")
    s3.put_object(Bucket=bucket, Key="cold", Body=b"1", StorageClass="GLACIER")
    put(s3, bucket, given(target, OptionalFields=list(FIELDS)))
    timed.cloud.advance_clock(DAY)
    found = {row["Key"]: row for row in rows(s3, target)}
    assert set(found) == {"a+b/%C3%BC.txt", "cold"}
    first = found["a+b/%C3%BC.txt"]
    assert (first["Bucket"], first["Size"], first["StorageClass"]) == (bucket, "5", "STANDARD")
    assert (first["IsMultipartUploaded"], first["EncryptionStatus"], first["ChecksumAlgorithm"]) == ("false", "SSE-S3", "SHA256")
    assert first["ETag"] == hashlib.md5(b"12345").hexdigest()
    assert json.loads(base64.b64decode(first["ObjectAccessControlList"]))["grants"][0]["permission"] == "FULL_CONTROL"
    assert found["cold"]["StorageClass"] == "GLACIER"
    midnight = datetime.fromtimestamp(timed.cloud.clock.time_s() // DAY * DAY, UTC)
    folder = f"inv/{bucket}/all/{midnight:%Y-%m-%dT%H-%MZ}"
    text = s3.get_object(Bucket=target, Key=f"{folder}/manifest.json")["Body"].read()
    assert s3.get_object(Bucket=target, Key=f"{folder}/manifest.checksum")["Body"].read().decode() == hashlib.md5(text).hexdigest()
    (link,) = keys(s3, target, "symlink.txt")
    data = s3.get_object(Bucket=target, Key=link)["Body"].read().decode()
    assert data == f"s3://{target}/{json.loads(text)['files'][0]['key']}"
    timed.cloud.advance_clock(DAY)
    assert len(manifests(s3, target)) == 2


def test_put_bucket_inventory_configuration_lists_versions_under_a_prefix(
    timed: TestServer, s3: Any, versioned: str, target: str
) -> None:
    for _ in range(2):
        s3.put_object(Bucket=versioned, Key="in/a", Body=b"1")
    s3.delete_object(Bucket=versioned, Key="in/a")
    s3.put_object(Bucket=versioned, Key="out", Body=b"1")
    put(s3, versioned, given(target, IncludedObjectVersions="All", Filter={"Prefix": "in/"}, to={"Encryption": {"SSES3": {}}}))
    timed.cloud.advance_clock(DAY)
    found = [(row["Key"], row["IsLatest"], row["IsDeleteMarker"], len(row["VersionId"])) for row in rows(s3, target)]
    assert found == [("in/a", "true", "true", 32), ("in/a", "false", "false", 32), ("in/a", "false", "false", 32)]


@pytest.mark.parametrize("form", ["Parquet", "ORC"])
def test_put_bucket_inventory_configuration_writes_columns(
    timed: TestServer, s3: Any, bucket: str, target: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    import pyarrow.orc
    import pyarrow.parquet

    monkeypatch.setattr("pilvi.services.s3.inventory_format.ROWS_A_FILE", 2)
    for key in ("a", "b", "c"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"123")
    put(s3, bucket, given(target, form, OptionalFields=["Size", "LastModifiedDate", "ETag", "IsMultipartUploaded"]))
    timed.cloud.advance_clock(DAY)
    (manifest,) = manifests(s3, target)
    assert manifest["fileFormat"] == form
    read = pyarrow.parquet.read_table if form == "Parquet" else pyarrow.orc.read_table
    tables = [read(io.BytesIO(s3.get_object(Bucket=target, Key=file["key"])["Body"].read())) for file in manifest["files"]]
    assert [len(table) for table in tables] == [2, 1]
    found = tables[0].to_pylist()[0]
    assert (found["key"], found["size"], found["is_multipart_uploaded"]) == ("a", 3, False)
    assert abs(found["last_modified_date"].replace(tzinfo=UTC) - datetime.now(UTC)) < timedelta(days=30)


def test_put_bucket_inventory_configuration_weekly_comes_on_sundays(timed: TestServer, s3: Any, bucket: str, target: str) -> None:
    s3.put_object(Bucket=bucket, Key="a")
    put(s3, bucket, given(target, Schedule={"Frequency": "Weekly"}))
    for _ in range(15):
        timed.cloud.advance_clock(DAY)
    days = [datetime.fromtimestamp(int(made["creationTimestamp"]) / 1000, UTC).weekday() for made in manifests(s3, target)]
    assert 3 <= len(days) <= 4
    assert days.count(6) >= 2


def test_put_bucket_inventory_configuration_needs_the_destinations_leave(
    timed: TestServer, s3: Any, bucket: str, target: str
) -> None:
    s3.put_object(Bucket=bucket, Key="a")
    s3.delete_bucket_policy(Bucket=target)
    put(s3, bucket, given(target))
    timed.cloud.advance_clock(DAY)
    assert manifests(s3, target) == []
    put(s3, bucket, given(target, IsEnabled=False))


def test_put_bucket_inventory_configuration_refuses_bad_documents(timed: TestServer, s3: Any, bucket: str, target: str) -> None:
    def code(configuration: dict[str, Any], id: str = "all") -> str:
        place = {"Bucket": bucket, "Id": id, "InventoryConfiguration": configuration}
        return str(refused(s3.put_bucket_inventory_configuration, **place)["Code"])

    assert code(given(target), "other") == "InvalidArgument"
    assert code(given(target, to={"Bucket": "no-arn"})) == "InvalidArgument"
    assert code(given("nowhere-at-all")) == "InvalidS3DestinationBucket"
    assert code(given(target, to={"AccountId": "210987654321"})) == "InvalidS3DestinationBucket"
    assert code(given(target, OptionalFields=["Size", "Size"])) == "MalformedXML"
    assert code(given(target, OptionalFields=["ObjectLockEventHoldStatus"])) == "NotImplemented"
    assert refused(s3.get_bucket_inventory_configuration, Bucket=bucket, Id="all")["Code"] == "NoSuchConfiguration"


def test_list_bucket_inventory_configurations_tells_them(s3: Any, bucket: str, target: str) -> None:
    configuration = given(target, OptionalFields=["Size"], IsEnabled=False)
    put(s3, bucket, configuration)
    assert s3.list_bucket_inventory_configurations(Bucket=bucket)["InventoryConfigurationList"] == [configuration]
    assert s3.get_bucket_inventory_configuration(Bucket=bucket, Id="all")["InventoryConfiguration"] == configuration
    s3.delete_bucket_inventory_configuration(Bucket=bucket, Id="all")
    assert refused(s3.delete_bucket_inventory_configuration, Bucket=bucket, Id="all")["Code"] == "NoSuchConfiguration"
