"""Analytics configurations, and the figures by age that come of them when the clock moves."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from pilvi.testing.server import Account, TestServer
from tests.services.s3.conftest import refused

DAY = 86400


@pytest.fixture(scope="module")
def aws(timed: TestServer) -> Account:
    return timed.account("123456789012")


@pytest.fixture
def target(s3: Any, name: str) -> str:
    """A bucket that lets reports in, as AWS's own example of a policy does."""
    s3.create_bucket(Bucket=f"out-{name}")
    allow = {
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "s3:PutObject",
        "Resource": f"arn:aws:s3:::out-{name}/*",
        "Condition": {
            "ArnLike": {"aws:SourceArn": f"arn:aws:s3:::{name}"},
            "StringEquals": {"aws:SourceAccount": "123456789012", "s3:x-amz-acl": "bucket-owner-full-control"},
        },
    }
    s3.put_bucket_policy(Bucket=f"out-{name}", Policy=json.dumps({"Version": "2012-10-17", "Statement": [allow]}))
    return f"out-{name}"


def given(target: str, id: str = "heat", **chosen: Any) -> dict[str, Any]:
    to = {"Format": "CSV", "Bucket": f"arn:aws:s3:::{target}", "Prefix": "out/"}
    export = {"OutputSchemaVersion": "V_1", "Destination": {"S3BucketDestination": to}}
    return {"Id": id, "StorageClassAnalysis": {"DataExport": export}, **({"Filter": chosen} if chosen else {})}


def put(s3: Any, bucket: str, configuration: dict[str, Any]) -> None:
    s3.put_bucket_analytics_configuration(Bucket=bucket, Id=configuration["Id"], AnalyticsConfiguration=configuration)


def lines(s3: Any, bucket: str, target: str) -> list[dict[str, str]]:
    text = s3.get_object(Bucket=target, Key=f"out/{bucket}/heat.csv")["Body"].read().decode()
    return list(csv.DictReader(io.StringIO(text)))


def test_put_bucket_analytics_configuration_tells_access_by_age(timed: TestServer, s3: Any, bucket: str, target: str) -> None:
    s3.put_object(Bucket=bucket, Key="in/old", Body=b"x" * (1 << 20))
    s3.put_object(Bucket=bucket, Key="out", Body=b"x")
    timed.cloud.advance_clock(40 * DAY)
    put(s3, bucket, given(target, Prefix="in/"))
    s3.put_object(Bucket=bucket, Key="in/new", Body=b"y" * (1 << 20))
    for key in ("in/old", "in/old", "in/new", "out"):
        s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    timed.cloud.advance_clock(DAY)
    found = {line["ObjectAge"]: line for line in lines(s3, bucket, target)}
    assert set(found) == {"000-014", "030-044", "ALL"}
    old, new, both = found["030-044"], found["000-014"], found["ALL"]
    assert (old["ConfigId"], old["Filter"], old["StorageClass"]) == ("heat", "prefix=in/", "STANDARD")
    assert (old["ObjectCount"], old["GetRequestCount"], float(old["DataRetrieved_MB"])) == ("1", "2", 2.0)
    assert (new["GetRequestCount"], float(new["DataUploaded_MB"]), float(new["Storage_MB"])) == ("1", 1.0, 1.0)
    assert (both["ObjectCount"], both["GetRequestCount"], float(both["CumulativeAccessRatio"])) == ("2", "3", 1.5)
    timed.cloud.advance_clock(DAY)
    assert [line["GetRequestCount"] for line in lines(s3, bucket, target) if line["ObjectAge"] == "ALL"] == ["3", "0"]
    for _ in range(30):
        timed.cloud.advance_clock(DAY)
    assert lines(s3, bucket, target)[-1]["RecommendedObjectAgeForSIATransition"] == "45"


def test_put_bucket_analytics_configuration_refuses_bad_documents(s3: Any, bucket: str, target: str) -> None:
    def code(configuration: dict[str, Any], id: str = "heat") -> str:
        place = {"Bucket": bucket, "Id": id, "AnalyticsConfiguration": configuration}
        return str(refused(s3.put_bucket_analytics_configuration, **place)["Code"])

    assert code(given(target), "other") == "InvalidArgument"
    assert code(given("nowhere-at-all")) == "InvalidS3DestinationBucket"
    assert code(given(target, And={"Prefix": "a"})) == "MalformedXML"
    assert refused(s3.get_bucket_analytics_configuration, Bucket=bucket, Id="heat")["Code"] == "NoSuchConfiguration"


def test_list_bucket_analytics_configurations_tells_them(s3: Any, bucket: str, target: str) -> None:
    configuration = given(target, And={"Prefix": "a", "Tags": [{"Key": "k", "Value": "v"}]})
    put(s3, bucket, configuration)
    assert s3.list_bucket_analytics_configurations(Bucket=bucket)["AnalyticsConfigurationList"] == [configuration]
    assert s3.get_bucket_analytics_configuration(Bucket=bucket, Id="heat")["AnalyticsConfiguration"] == configuration
    s3.delete_bucket_analytics_configuration(Bucket=bucket, Id="heat")
    assert refused(s3.delete_bucket_analytics_configuration, Bucket=bucket, Id="heat")["Status"] == 404
