"""What CloudWatch and the bill are told of functions."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pilvi.metering.line import lines_between
from pilvi.services.lambda_ import event_queue, figures, usage
from pilvi.services.lambda_.catalog import Target
from pilvi.testing.server import eventually

CODE = """
def handler(event, context):
    if event == "fail":
        raise ValueError("x")
"""


def figure(lab, name: str, metric: str, statistic: str = "Sum", **more: str) -> float:
    cloudwatch = lab.account.client("cloudwatch")
    now = lab.now()
    dimensions = [{"Name": "FunctionName", "Value": name}] + [{"Name": key, "Value": value} for key, value in more.items()]
    found = cloudwatch.get_metric_statistics(
        Namespace="AWS/Lambda",
        MetricName=metric,
        Dimensions=dimensions,
        StartTime=now - timedelta(hours=2),
        EndTime=now + timedelta(hours=1),
        Period=60,
        Statistics=[statistic],
    )["Datapoints"]
    return sum(point[statistic] for point in found)


@pytest.fixture
def metered(server, lab):
    lab.now = server.cloud.clock.now
    return lab


def test_invocations_errors_throttles_and_durations_are_told(server, metered):
    lab = metered
    lab.create("figured", CODE, Publish=True)
    for _ in range(3):
        lab.invoke("figured", "fine")
    lab.invoke("figured", "fine", Qualifier="1")
    lab.failure("figured", "fail")
    lab.client.put_function_concurrency(FunctionName="figured", ReservedConcurrentExecutions=0)
    with pytest.raises(lab.client.exceptions.TooManyRequestsException):
        lab.invoke("figured", "fine")
    figures.FIGURES.publish(server.cloud)
    told = {name: figure(lab, "figured", name) for name in ("Invocations", "Errors", "Throttles")}
    assert told == {"Invocations": 5, "Errors": 1, "Throttles": 1}
    assert figure(lab, "figured", "Duration", "SampleCount") == 5
    assert figure(lab, "figured", "ConcurrentExecutions", "Maximum") == 1
    assert figure(lab, "figured", "Invocations", Resource="figured:1") == 1


def test_events_are_told(server, metered, monkeypatch):
    monkeypatch.setattr(event_queue, "RETRY_S", (0.0, 0.0))
    lab = metered
    lab.create("events-figured", CODE)
    lab.raw(FunctionName="events-figured", InvocationType="Event", Payload=b'"fail"')
    table = event_queue.Table(lab.account.account, "us-east-1", event_queue.SERVICE, "Event")
    eventually(lambda: not server.cloud.store.scan(table))
    figures.FIGURES.publish(server.cloud)
    assert figure(lab, "events-figured", "AsyncEventsReceived") == 1
    assert figure(lab, "events-figured", "AsyncEventsDropped") == 1
    assert figure(lab, "events-figured", "AsyncEventAge", "SampleCount") == 3
    assert figure(lab, "events-figured", "Errors") == 3


def test_a_thousand_invokes_of_half_a_gigabyte_for_200_ms_are_100_gigabyte_seconds(server, new_account):
    account = new_account().account
    target = Target(account, "us-east-1", "f", "$LATEST", f"arn:aws:lambda:us-east-1:{account}:function:f", "k", {}, 512, 3, None)
    for _ in range(1000):
        usage.count(server.cloud, target, 200)
    usage.COUNTED.write_down(server.cloud)
    now = server.cloud.clock.now()
    lines = list(lines_between(server.cloud.store, account, now - timedelta(hours=2), now + timedelta(hours=1)))
    found = {line.meter.usage: line.quantity / line.meter.per_unit for line in lines}
    assert found == {"Request": 1000, "Lambda-GB-Second": 100}


def test_the_bill_shows_what_functions_used(server, new_lab):
    lab = new_lab()
    lab.create("billed", CODE)
    for _ in range(3):
        lab.invoke("billed", "fine")
    usage.COUNTED.write_down(server.cloud)
    day = server.cloud.clock.now().date()
    answer = lab.account.client("ce").get_cost_and_usage(
        TimePeriod={"Start": str(day - timedelta(days=1)), "End": str(day + timedelta(days=1))},
        Granularity="DAILY",
        Metrics=["UsageQuantity", "UnblendedCost"],
        Filter={"Dimensions": {"Key": "SERVICE", "Values": ["AWS Lambda"]}},
        GroupBy=[{"Type": "DIMENSION", "Key": "USAGE_TYPE"}],
    )
    groups = {
        group["Keys"][0].removeprefix("USE1-"): group["Metrics"] for period in answer["ResultsByTime"] for group in period["Groups"]
    }
    assert float(groups["Request"]["UsageQuantity"]["Amount"]) == 3
    assert float(groups["Lambda-GB-Second"]["UsageQuantity"]["Amount"]) > 0
