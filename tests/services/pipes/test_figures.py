"""What CloudWatch and the bill hear of pipes and schedules."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from pilvi.services.pipes import usage as pipes_usage
from pilvi.services.scheduler import usage as scheduler_usage
from pilvi.testing.server import Account, TestServer, eventually
from tests.services.pipes.conftest import ALLOW_ALL, Plumber

Passes = Callable[[float], None]


def test_figures_reach_cloudwatch(timed: TestServer, later_aws: Account, passes: Passes) -> None:
    plumber = Plumber(later_aws)
    (url, source), (to, target) = plumber.queue(), plumber.queue()
    name = plumber.pipe(source, target, SourceParameters={"SqsQueueParameters": {"BatchSize": 1}})
    plumber.send(url, "one", "two", "three")
    plumber.received(to, 3)

    def metric(metric: str, statistic: str) -> float:
        now = timed.cloud.clock.now()
        points = later_aws.client("cloudwatch").get_metric_statistics(
            Namespace="AWS/EventBridge/Pipes",
            MetricName=metric,
            Dimensions=[{"Name": "PipeName", "Value": name}],
            StartTime=now - timedelta(hours=1),
            EndTime=now + timedelta(hours=1),
            Period=60,
            Statistics=[statistic],
        )["Datapoints"]
        return float(sum(point[statistic] for point in points))

    def told() -> bool:
        passes(61)
        return metric("Invocations", "Sum") == 3 and metric("Duration", "SampleCount") == 3

    eventually(told)
    assert (metric("EventCount", "Sum"), metric("ExecutionFailed", "Sum")) == (3, 0)
    assert 1 <= metric("Concurrency", "Maximum") <= 3


def test_pipes_and_schedules_are_on_the_bill(timed: TestServer, later_aws: Account, passes: Passes) -> None:
    plumber = Plumber(later_aws)
    (_, source), (to, target) = plumber.queue(), plumber.queue()
    plumber.pipe(source, target)
    role = later_aws.role("clock", "scheduler.amazonaws.com", ALLOW_ALL)
    later_aws.client("scheduler").create_schedule(
        Name="s",
        ScheduleExpression="rate(1 day)",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={"Arn": source, "RoleArn": role, "Input": "x" * (100 << 10)},
    )
    passes(1)
    plumber.received(to)
    pipes_usage.COUNTED.write_down(timed.cloud)
    scheduler_usage.COUNTED.write_down(timed.cloud)
    assert quantities(timed, later_aws) == {"ScheduledInvocation": 1.0, "Pipes-64K-Chunks": 2.0}


def quantities(timed: TestServer, account: Account) -> dict[str, float]:
    """Of EventBridge's usage types."""
    day = timed.cloud.clock.now().date()
    answer: Any = account.client("ce").get_cost_and_usage(
        TimePeriod={"Start": str(day - timedelta(days=1)), "End": str(day + timedelta(days=1))},
        Granularity="DAILY",
        Metrics=["UsageQuantity", "UnblendedCost"],
        Filter={"Dimensions": {"Key": "SERVICE_CODE", "Values": ["AWSEvents"]}},
        GroupBy=[{"Type": "DIMENSION", "Key": "USAGE_TYPE"}],
    )
    groups = [group for period in answer["ResultsByTime"] for group in period["Groups"]]
    assert all(float(group["Metrics"]["UnblendedCost"]["Amount"]) > 0 for group in groups)
    return {group["Keys"][0].removeprefix("USE1-"): float(group["Metrics"]["UsageQuantity"]["Amount"]) for group in groups}
