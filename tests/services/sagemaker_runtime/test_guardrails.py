"""Updates in steps that alarms roll back, shadow variants, captured data, and what CloudWatch and the bill hear of endpoints."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from pilvi.testing.server import Account, TestServer, eventually
from tests.services.sagemaker_runtime.conftest import Desk

CANARY: dict[str, Any] = {
    "BlueGreenUpdatePolicy": {
        "TrafficRoutingConfiguration": {
            "Type": "CANARY",
            "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 25},
            "WaitIntervalInSeconds": 300,
        }
    }
}


@pytest.fixture
def later_desk(later_aws: Account) -> Desk:
    return Desk(later_aws)


def answers(desk: Desk, name: str, many: int = 40) -> Counter[float]:
    return Counter(json.loads(desk.ask(name, "[1]"))[0] for _ in range(many))


def test_a_canary_takes_its_part_and_then_all(later_desk: Desk, passes: Callable[[float], None]) -> None:
    desk = later_desk
    desk.endpoint("canary", desk.variant(desk.model("canary-old", 1.0)))
    desk.config("canary-new", desk.variant(desk.model("canary-new", 5.0)))
    desk.sagemaker.update_endpoint(EndpointName="canary", EndpointConfigName="canary-new", DeploymentConfig=CANARY)
    eventually(lambda: 5.0 in answers(desk, "canary", 8))
    assert answers(desk, "canary") == {1.0: 30, 5.0: 10}
    assert desk.describe("canary")["EndpointStatus"] == "Updating"
    passes(301)
    eventually(lambda: 1.0 not in answers(desk, "canary", 8))
    assert desk.describe("canary")["EndpointStatus"] == "Updating"
    passes(301)
    found = desk.settled("canary")
    assert (found["EndpointConfigName"], found["LastDeploymentConfig"]) == ("canary-new", CANARY)
    assert answers(desk, "canary") == {5.0: 40}


def test_an_alarm_rolls_an_update_back(desk: Desk) -> None:
    cloudwatch = desk.aws.client("cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName="errors",
        Namespace="AWS/SageMaker",
        MetricName="Invocation5XXErrors",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
    )
    desk.endpoint("back", desk.variant(desk.model("back-old", 1.0)))
    desk.config("back-new", desk.variant(desk.model("back-new", 5.0)))
    watched = {**CANARY, "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "errors"}]}}
    desk.sagemaker.update_endpoint(EndpointName="back", EndpointConfigName="back-new", DeploymentConfig=watched)
    eventually(lambda: 5.0 in answers(desk, "back", 8))
    cloudwatch.set_alarm_state(AlarmName="errors", StateValue="ALARM", StateReason="test")
    found = desk.settled("back")
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", "back")
    assert "alarm errors is in state ALARM" in found["FailureReason"]
    assert answers(desk, "back") == {1.0: 40}
    desk.remove("back")


def test_captured_data_come_to_s3(desk: Desk) -> None:
    capture = {
        "EnableCapture": True,
        "InitialSamplingPercentage": 50,
        "DestinationS3Uri": f"s3://{desk.bucket}/captured",
        "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        "CaptureContentTypeHeader": {"CsvContentTypes": ["text/csv"], "JsonContentTypes": ["application/json"]},
    }
    desk.endpoint("captured", desk.variant(desk.model("captured")), DataCaptureConfig=capture)
    assert desk.describe("captured")["DataCaptureConfig"]["CaptureStatus"] == "Started"
    for number in range(4):
        desk.ask("captured", f"[{number}]", InferenceId=f"id-{number}")
    (key,) = eventually(lambda: desk.keys("captured/captured/AllTraffic/"))
    lines = [json.loads(line) for line in desk.get(key).splitlines()]
    assert [line["eventMetadata"]["inferenceId"] for line in lines] == ["id-1", "id-3"]
    given, got = lines[0]["captureData"]["endpointInput"], lines[0]["captureData"]["endpointOutput"]
    assert given == {"observedContentType": "application/json", "mode": "INPUT", "data": "[1]", "encoding": "JSON"}
    assert (got["mode"], json.loads(got["data"])) == ("OUTPUT", [2.0])
    desk.remove("captured")


def test_shadows_get_copies_and_metrics_and_bills_tell_of_it(
    later_desk: Desk, timed: TestServer, passes: Callable[[float], None]
) -> None:
    desk = later_desk
    shadow = desk.variant(desk.model("shadow", 7.0), "shadow")
    desk.endpoint("seen", desk.variant(desk.model("seen")), ShadowProductionVariants=[shadow])
    assert answers(desk, "seen", 7) == {2.0: 7}
    with pytest.raises(Exception, match="415"):
        desk.ask("seen", "x", ContentType="application/x-strange")
    passes(60)
    cloudwatch = desk.aws.client("cloudwatch")
    now = timed.cloud.clock.now()

    def total(metric: str, variant: str, statistic: str = "Sum") -> float:
        dimensions = [{"Name": "EndpointName", "Value": "seen"}, {"Name": "VariantName", "Value": variant}]
        points = cloudwatch.get_metric_statistics(
            Namespace="AWS/SageMaker",
            MetricName=metric,
            Dimensions=dimensions,
            StartTime=now - timedelta(hours=1),
            EndTime=now + timedelta(hours=1),
            Period=7200,
            Statistics=[statistic],
        )["Datapoints"]
        return float(sum(point[statistic] for point in points))

    assert (total("Invocations", "AllTraffic"), total("Invocation4XXErrors", "AllTraffic")) == (8.0, 1.0)
    assert total("Invocations", "shadow") == 8.0
    assert 0 < total("ModelLatency", "AllTraffic", "Average") < 5e6
    passes(3600)
    period = {"Start": f"{now - timedelta(days=1):%Y-%m-%d}", "End": f"{now + timedelta(days=2):%Y-%m-%d}"}
    answer = desk.aws.client("ce").get_cost_and_usage(
        TimePeriod=period,
        Granularity="MONTHLY",
        Metrics=["UsageQuantity", "UnblendedCost"],
        GroupBy=[{"Type": "DIMENSION", "Key": "USAGE_TYPE"}],
    )
    groups = {group["Keys"][0]: group["Metrics"] for result in answer["ResultsByTime"] for group in result["Groups"]}
    hours = float(groups["USE1-Host:ml.m5.large"]["UsageQuantity"]["Amount"])
    assert 2.0 < hours < 2.5
    assert float(groups["USE1-Host:ml.m5.large"]["UnblendedCost"]["Amount"]) > 0.1
