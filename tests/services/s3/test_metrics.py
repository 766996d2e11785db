"""Metrics configurations, what requests become in CloudWatch, and the daily figures of storage."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pilvi.testing.server import Account, TestServer
from tests.services.s3.conftest import refused

DAY = 86400


@pytest.fixture(scope="module")
def aws(timed: TestServer) -> Account:
    return timed.account("123456789012")


def put(s3: Any, bucket: str, id: str, **chosen: Any) -> None:
    configuration = {"Id": id, **({"Filter": chosen} if chosen else {})}
    s3.put_bucket_metrics_configuration(Bucket=bucket, Id=id, MetricsConfiguration=configuration)


def total(timed: TestServer, aws: Account, name: str, statistic: str = "Sum", **dimensions: str) -> float:
    now = datetime.fromtimestamp(timed.cloud.clock.time_s(), UTC)
    points = aws.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/S3",
        MetricName=name,
        Dimensions=[{"Name": key, "Value": value} for key, value in dimensions.items()],
        StartTime=now - timedelta(days=1),
        EndTime=now + timedelta(minutes=1),
        Period=DAY,
        Statistics=[statistic],
    )["Datapoints"]
    return sum(point[statistic] for point in points)


def test_put_bucket_metrics_configuration_counts_requests(timed: TestServer, aws: Account, s3: Any, bucket: str) -> None:
    put(s3, bucket, "all")
    put(s3, bucket, "some", Prefix="in/")
    nobody = aws.user("nobody").client("s3")
    s3.put_object(Bucket=bucket, Key="in/a", Body=b"x" * 1000)
    for _ in range(10):
        assert refused(nobody.get_object, Bucket=bucket, Key="out")["Code"] == "AccessDenied"
    s3.get_object(Bucket=bucket, Key="in/a")["Body"].read()
    s3.list_objects_v2(Bucket=bucket)
    s3.head_object(Bucket=bucket, Key="in/a")
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "none"}]})
    timed.cloud.advance_clock(61)

    def figure(name: str, id: str = "all", statistic: str = "Sum") -> float:
        return total(timed, aws, name, statistic, BucketName=bucket, FilterId=id)

    assert figure("4xxErrors") == 10
    assert figure("GetRequests") == 11
    assert figure("ListRequests") == 1
    assert figure("PutRequests") == 1
    assert (figure("HeadRequests"), figure("DeleteRequests"), figure("PostRequests")) == (1, 1, 0)
    assert figure("AllRequests") >= 13
    assert figure("BytesUploaded") >= 1000
    assert figure("AllRequests", "some") == 3
    assert figure("4xxErrors", "some") == 0
    assert figure("BytesDownloaded", "some") == 1000
    assert figure("FirstByteLatency", "some", "SampleCount") == 3
    assert figure("TotalRequestLatency", "some", "Maximum") > 0


def test_denied_gets_ring_an_alarm(timed: TestServer, aws: Account, s3: Any, bucket: str) -> None:
    put(s3, bucket, "all")
    cloudwatch = aws.client("cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName=bucket,
        Namespace="AWS/S3",
        MetricName="4xxErrors",
        Dimensions=[{"Name": "BucketName", "Value": bucket}, {"Name": "FilterId", "Value": "all"}],
        Statistic="Sum",
        Period=300,
        EvaluationPeriods=1,
        Threshold=9,
        ComparisonOperator="GreaterThanThreshold",
    )
    stranger = aws.user("stranger").client("s3")
    for _ in range(10):
        assert refused(stranger.get_object, Bucket=bucket, Key="out")["Code"] == "AccessDenied"
    for _ in range(2):  # what is told in one minute is looked at with the next
        timed.cloud.advance_clock(60)
    (alarm,) = cloudwatch.describe_alarms(AlarmNames=[bucket])["MetricAlarms"]
    assert alarm["StateValue"] == "ALARM"
    assert "[10.0 (" in alarm["StateReason"]


def test_put_bucket_metrics_configuration_filters_by_tag(timed: TestServer, aws: Account, s3: Any, bucket: str) -> None:
    put(s3, bucket, "red", And={"Prefix": "a", "Tags": [{"Key": "color", "Value": "red"}]})
    for key, color in (("a1", "red"), ("a2", "blue"), ("b1", "red")):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x", Tagging=f"color={color}")
        s3.get_object(Bucket=bucket, Key=key)
    timed.cloud.advance_clock(61)
    assert total(timed, aws, "GetRequests", BucketName=bucket, FilterId="red") == 1
    assert total(timed, aws, "PutRequests", BucketName=bucket, FilterId="red") == 1


def test_put_bucket_metrics_configuration_refuses_bad_documents(s3: Any, bucket: str) -> None:
    def code(**arguments: Any) -> str:
        return str(refused(s3.put_bucket_metrics_configuration, Bucket=bucket, **arguments)["Code"])

    tag = {"Key": "a", "Value": "b"}
    assert code(Id="a", MetricsConfiguration={"Id": "b"}) == "InvalidArgument"
    assert code(Id="a", MetricsConfiguration={"Id": "a", "Filter": {"Prefix": "p", "Tag": tag}}) == "MalformedXML"
    assert code(Id="a", MetricsConfiguration={"Id": "a", "Filter": {"And": {"Prefix": "p"}}}) == "MalformedXML"
    assert refused(s3.get_bucket_metrics_configuration, Bucket=bucket, Id="a")["Code"] == "NoSuchConfiguration"


def test_put_bucket_metrics_configuration_has_a_limit(s3: Any, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilvi.services.s3.configurations.LIMIT", 1)
    put(s3, bucket, "first")
    put(s3, bucket, "first", Prefix="p")
    assert refused(put, s3=s3, bucket=bucket, id="second")["Code"] == "TooManyConfigurations"


def test_put_bucket_metrics_configuration_needs_its_permission(aws: Account, s3: Any, bucket: str) -> None:
    allow = {"Effect": "Allow", "Action": "s3:GetMetricsConfiguration", "Resource": f"arn:aws:s3:::{bucket}"}
    reader = aws.user(f"metrics-{bucket}", {"Version": "2012-10-17", "Statement": [allow]}).client("s3")
    assert refused(put, s3=reader, bucket=bucket, id="m")["Code"] == "AccessDenied"
    assert not reader.list_bucket_metrics_configurations(Bucket=bucket)["IsTruncated"]


def test_list_bucket_metrics_configurations_pages(s3: Any, bucket: str) -> None:
    for number in range(101):
        put(s3, bucket, f"m{number:03d}")
    first = s3.list_bucket_metrics_configurations(Bucket=bucket)
    assert (first["IsTruncated"], len(first["MetricsConfigurationList"])) == (True, 100)
    rest = s3.list_bucket_metrics_configurations(Bucket=bucket, ContinuationToken=first["NextContinuationToken"])
    assert [found["Id"] for found in rest["MetricsConfigurationList"]] == ["m100"]
    assert not rest["IsTruncated"]


def test_delete_bucket_metrics_configuration_forgets_it(s3: Any, bucket: str) -> None:
    put(s3, bucket, "m", Prefix="p")
    assert s3.get_bucket_metrics_configuration(Bucket=bucket, Id="m")["MetricsConfiguration"] == {
        "Id": "m",
        "Filter": {"Prefix": "p"},
    }
    s3.delete_bucket_metrics_configuration(Bucket=bucket, Id="m")
    assert refused(s3.delete_bucket_metrics_configuration, Bucket=bucket, Id="m")["Status"] == 404
    assert s3.list_bucket_metrics_configurations(Bucket=bucket).get("MetricsConfigurationList", []) == []


def test_storage_metrics_come_once_a_day(timed: TestServer, aws: Account, s3: Any, versioned: str) -> None:
    for _ in range(2):
        s3.put_object(Bucket=versioned, Key="a", Body=b"12345")
    s3.put_object(Bucket=versioned, Key="b", Body=b"1234567", StorageClass="STANDARD_IA")
    s3.delete_object(Bucket=versioned, Key="b")
    timed.cloud.advance_clock(DAY)
    assert total(timed, aws, "BucketSizeBytes", "Maximum", BucketName=versioned, StorageType="StandardStorage") == 10
    assert total(timed, aws, "BucketSizeBytes", "Maximum", BucketName=versioned, StorageType="StandardIAStorage") == 7
    assert total(timed, aws, "NumberOfObjects", "Maximum", BucketName=versioned, StorageType="AllStorageTypes") == 4
