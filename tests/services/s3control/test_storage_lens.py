"""Storage Lens configurations, and the exports that come of them when the clock moves."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from pilvi.testing.server import Account, TestServer
from tests.services.s3.conftest import refused

ACCOUNT = "123456789012"
DAY = 86400


@pytest.fixture(scope="module")
def server(timed: TestServer) -> TestServer:
    return timed


@pytest.fixture(scope="module")
def aws(timed: TestServer) -> Account:
    return timed.account(ACCOUNT)


@pytest.fixture
def control(aws: Account, reach: Callable[..., Any]) -> Any:
    return reach(aws, "s3control")


def given(id: str, **more: Any) -> dict[str, Any]:
    return {"Id": id, "AccountLevel": {"BucketLevel": {}}, "IsEnabled": True, **more}


def put(control: Any, configuration: dict[str, Any], **more: Any) -> None:
    control.put_storage_lens_configuration(
        AccountId=ACCOUNT, ConfigId=configuration["Id"], StorageLensConfiguration=configuration, **more
    )


def test_put_storage_lens_configuration_exports_every_day(timed: TestServer, aws: Account, control: Any) -> None:
    s3 = aws.client("s3")
    for name in ("lens-data", "lens-left-out", "lens-out"):
        s3.create_bucket(Bucket=name)
    arn = f"arn:aws:s3:us-east-1:{ACCOUNT}:storage-lens/all"
    allow = {
        "Effect": "Allow",
        "Principal": {"Service": "storage-lens.s3.amazonaws.com"},
        "Action": "s3:PutObject",
        "Resource": "arn:aws:s3:::lens-out/p/StorageLens/123456789012/*",
        "Condition": {"StringEquals": {"s3:x-amz-acl": "bucket-owner-full-control", "aws:SourceArn": arn}},
    }
    s3.put_bucket_policy(Bucket="lens-out", Policy=json.dumps({"Version": "2012-10-17", "Statement": [allow]}))
    s3.put_bucket_versioning(Bucket="lens-data", VersioningConfiguration={"Status": "Enabled"})
    for _ in range(2):
        s3.put_object(Bucket="lens-data", Key="a", Body=b"12345")
    s3.put_object(Bucket="lens-data", Key="b", Body=b"1234567", StorageClass="STANDARD_IA")
    s3.delete_object(Bucket="lens-data", Key="b")
    upload = s3.create_multipart_upload(Bucket="lens-data", Key="c")["UploadId"]
    s3.upload_part(Bucket="lens-data", Key="c", UploadId=upload, PartNumber=1, Body=b"123")
    to = {"Format": "CSV", "OutputSchemaVersion": "V_1", "AccountId": ACCOUNT, "Arn": "arn:aws:s3:::lens-out", "Prefix": "p"}
    buckets = ["arn:aws:s3:::lens-left-out", "arn:aws:s3:::lens-out"]
    put(control, given("all", DataExport={"S3BucketDestination": to}, Exclude={"Buckets": buckets}))
    timed.cloud.advance_clock(DAY)
    day = f"{timed.cloud.clock.now():%Y-%m-%d}"
    text = s3.get_object(Bucket="lens-out", Key=f"p/StorageLens/{ACCOUNT}/all/V_1/manifests/dt={day}/manifest.json")["Body"].read()
    (file,) = json.loads(text)["reportFiles"]
    data = s3.get_object(Bucket="lens-out", Key=file["key"])["Body"].read()
    assert (len(data), hashlib.md5(data).hexdigest()) == (file["size"], file["md5Checksum"])
    lines = list(csv.DictReader(io.StringIO(data.decode())))
    assert {line["bucket_name"] for line in lines} == {"", "lens-data"}
    found = {
        (line["storage_class"], line["metric_name"]): int(line["metric_value"]) for line in lines if line["record_type"] == "BUCKET"
    }
    assert found["STANDARD", "CurrentVersionStorageBytes"] == 5
    assert found["STANDARD", "NonCurrentVersionStorageBytes"] == 5
    assert found["STANDARD_IA", "NonCurrentVersionObjectCount"] == 1
    assert found["STANDARD", "DeleteMarkerObjectCount"] == 1
    assert found["STANDARD", "IncompleteMultipartUploadStorageBytes"] == 3
    assert found["STANDARD", "StorageBytes"] == 13
    control.delete_storage_lens_configuration(AccountId=ACCOUNT, ConfigId="all")


def test_get_storage_lens_configuration_knows_the_default(control: Any) -> None:
    found = control.get_storage_lens_configuration(AccountId=ACCOUNT, ConfigId="default-account-dashboard")
    assert found["StorageLensConfiguration"]["IsEnabled"]
    place = {"AccountId": ACCOUNT, "ConfigId": "default-account-dashboard"}
    assert refused(control.delete_storage_lens_configuration, **place)["Code"] == "InvalidRequest"
    put(control, given("default-account-dashboard", IsEnabled=False))
    (listed,) = control.list_storage_lens_configurations(AccountId=ACCOUNT)["StorageLensConfigurationList"]
    assert (listed["Id"], listed["HomeRegion"], listed["IsEnabled"]) == ("default-account-dashboard", "us-east-1", False)


def test_put_storage_lens_configuration_refuses_what_it_cannot_do(control: Any) -> None:
    def code(configuration: dict[str, Any], id: str = "x", **more: Any) -> str:
        place = {"AccountId": ACCOUNT, "ConfigId": id, "StorageLensConfiguration": configuration}
        return str(refused(control.put_storage_lens_configuration, **place, **more)["Code"])

    assert code(given("y")) == "InvalidRequest"
    assert code(given("x", Include={"Regions": ["us-east-1"]}, Exclude={"Regions": ["eu-west-1"]})) == "InvalidRequest"
    active = {"ActivityMetrics": {"IsEnabled": True}}
    assert code(given("x", AccountLevel={"BucketLevel": {}, **active})) == "NotImplemented"
    assert code(given("x", AccountLevel={"BucketLevel": active})) == "NotImplemented"
    assert code(given("x", DataExport={"CloudWatchMetrics": {"IsEnabled": True}})) == "NotImplemented"
    to = {"Format": "Parquet", "OutputSchemaVersion": "V_1", "AccountId": ACCOUNT, "Arn": "arn:aws:s3:::b"}
    assert code(given("x", DataExport={"S3BucketDestination": to})) == "NotImplemented"
    assert code(given("x", DataExport={"S3BucketDestination": {**to, "Format": "CSV", "Arn": "b"}})) == "InvalidRequest"
    assert code(given("x"), Tags=[{"Key": "a", "Value": "b"}] * 2) == "InvalidTag"
    missing = refused(control.get_storage_lens_configuration, AccountId=ACCOUNT, ConfigId="x")
    assert (missing["Code"], missing["Status"]) == ("NoSuchConfiguration", 404)


def test_put_storage_lens_configuration_has_a_limit(aws: Account, reach: Any) -> None:
    control = reach(aws, "s3control", region_name="eu-west-1")
    for number in range(20):
        put(control, given(f"l{number}"))
    assert refused(put, control=control, configuration=given("more"))["Code"] == "TooManyConfigurations"
    assert len(control.list_storage_lens_configurations(AccountId=ACCOUNT)["StorageLensConfigurationList"]) == 20
    assert refused(control.list_storage_lens_configurations, AccountId=ACCOUNT, NextToken="strange")["Code"] == "InvalidRequest"


def test_put_storage_lens_configuration_tagging_replaces_tags(control: Any) -> None:
    put(control, given("tagged"), Tags=[{"Key": "a", "Value": "1"}])
    place = {"AccountId": ACCOUNT, "ConfigId": "tagged"}
    assert control.get_storage_lens_configuration_tagging(**place)["Tags"] == [{"Key": "a", "Value": "1"}]
    control.put_storage_lens_configuration_tagging(**place, Tags=[{"Key": "b", "Value": "2"}])
    assert control.get_storage_lens_configuration_tagging(**place)["Tags"] == [{"Key": "b", "Value": "2"}]
    control.delete_storage_lens_configuration_tagging(**place)
    assert control.get_storage_lens_configuration_tagging(**place)["Tags"] == []
    control.delete_storage_lens_configuration(**place)
    for call in (control.get_storage_lens_configuration_tagging, control.delete_storage_lens_configuration):
        assert refused(call, **place)["Code"] == "NoSuchConfiguration"
