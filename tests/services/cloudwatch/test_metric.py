"""Metrics as boto3 puts and reads them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.core.paging import encode_token
from pilvi.testing.server import Account

START = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)  # periods of an hour start at the hour


@pytest.fixture
def cloudwatch(aws: Account) -> Any:
    return aws.client("cloudwatch")


def put(cloudwatch: Any, *values: float, name: str = "loss", minute: int = 0, **more: Any) -> None:
    data = [{"MetricName": name, "Value": value, "Timestamp": START + timedelta(minutes=minute), **more} for value in values]
    cloudwatch.put_metric_data(Namespace="Tests", MetricData=data)


def statistics(cloudwatch: Any, *names: str, name: str = "loss", period: int = 60, **more: Any) -> list[Mapping[str, Any]]:
    asked = {"StartTime": START, "EndTime": START + timedelta(minutes=10), "Period": period, **more}
    if names:
        asked["Statistics"] = list(names)
    return cloudwatch.get_metric_statistics(Namespace="Tests", MetricName=name, **asked)["Datapoints"]


def refused(code: str, call: Any) -> str:
    with pytest.raises(ClientError) as error:
        call()
    assert error.value.response["Error"]["Code"] == code
    return str(error.value.response["Error"]["Message"])


def test_get_metric_statistics_by_period(cloudwatch: Any) -> None:
    put(cloudwatch, 4, 1, 3)
    put(cloudwatch, 10, minute=2)
    first, second = statistics(cloudwatch, "SampleCount", "Sum", "Average", "Minimum", "Maximum")
    assert {key: value for key, value in first.items() if key != "Timestamp"} == {
        "Unit": "None", "SampleCount": 3.0, "Sum": 8.0, "Average": 8 / 3, "Minimum": 1.0, "Maximum": 4.0,
    }  # fmt: skip
    assert (first["Timestamp"], second["Timestamp"]) == (START, START + timedelta(minutes=2))
    assert [point["Sum"] for point in statistics(cloudwatch, "Sum", period=3600)] == [18.0]


def test_put_metric_data_takes_counts_and_summaries(cloudwatch: Any) -> None:
    at = {"MetricName": "many", "Timestamp": START}
    cloudwatch.put_metric_data(Namespace="Tests", MetricData=[{**at, "Values": [1, 5], "Counts": [3, 1]}])
    (point,) = statistics(cloudwatch, "Average", "SampleCount", name="many", ExtendedStatistics=["p50"])
    assert (point["SampleCount"], point["Average"], point["ExtendedStatistics"]) == (4.0, 2.0, {"p50": 1.0})
    summary = {"SampleCount": 2, "Sum": 10, "Minimum": 2, "Maximum": 8}
    cloudwatch.put_metric_data(
        Namespace="Tests", MetricData=[{"MetricName": "sum", "Timestamp": START, "StatisticValues": summary}]
    )
    (point,) = statistics(cloudwatch, "Average", name="sum", ExtendedStatistics=["p50"])
    assert point["Average"] == 5.0
    assert "ExtendedStatistics" not in point  # nobody knows the values behind a summary


def test_metrics_are_told_apart_by_dimensions_and_unit(cloudwatch: Any) -> None:
    one, other = [{"Name": "Job", "Value": "a"}], [{"Name": "Job", "Value": "b"}]
    put(cloudwatch, 1, Dimensions=one, Unit="Seconds")
    put(cloudwatch, 2, Dimensions=other)
    assert [point["Sum"] for point in statistics(cloudwatch, "Sum", Dimensions=one)] == [1.0]
    assert statistics(cloudwatch, "Sum", Dimensions=one, Unit="Bytes") == []
    assert statistics(cloudwatch, "Sum") == []


def test_get_metric_data_newest_first_and_in_pages(cloudwatch: Any) -> None:
    for minute in range(5):
        put(cloudwatch, minute, minute=minute)
        put(cloudwatch, 10 + minute, name="other", minute=minute)
    queries = [
        {"Id": name, "MetricStat": {"Metric": {"Namespace": "Tests", "MetricName": name}, "Period": 60, "Stat": "Sum"}}
        for name in ("loss", "other")
    ]
    span = {"StartTime": START, "EndTime": START + timedelta(minutes=10)}
    loss, other = cloudwatch.get_metric_data(MetricDataQueries=queries, **span)["MetricDataResults"]
    assert (loss["Id"], loss["Label"], loss["Values"], loss["StatusCode"]) == (
        "loss",
        "loss",
        [4.0, 3.0, 2.0, 1.0, 0.0],
        "Complete",
    )
    assert other["Values"][0] == 14.0
    pages = cloudwatch.get_paginator("get_metric_data").paginate(
        MetricDataQueries=queries, MaxDatapoints=3, ScanBy="TimestampAscending", **span
    )
    seen: dict[str, list[float]] = {}
    for page in pages:
        for result in page["MetricDataResults"]:
            seen.setdefault(result["Id"], []).extend(result["Values"])
    assert seen == {"loss": [0, 1, 2, 3, 4], "other": [10, 11, 12, 13, 14]}


def test_list_metrics_filters_and_pages(cloudwatch: Any) -> None:
    data = [{"MetricName": f"m{number}", "Value": 1, "Dimensions": [{"Name": "N", "Value": str(number)}]} for number in range(700)]
    cloudwatch.put_metric_data(Namespace="Many", MetricData=data)
    put(cloudwatch, 1)
    pages = list(cloudwatch.get_paginator("list_metrics").paginate(Namespace="Many"))
    assert [len(page["Metrics"]) for page in pages] == [500, 200]
    assert cloudwatch.list_metrics(Dimensions=[{"Name": "N", "Value": "7"}])["Metrics"] == [
        {"Namespace": "Many", "MetricName": "m7", "Dimensions": [{"Name": "N", "Value": "7"}]}
    ]
    assert [metric["MetricName"] for metric in cloudwatch.list_metrics(Namespace="Tests", RecentlyActive="PT3H")["Metrics"]] == [
        "loss"
    ]


def test_put_metric_data_refuses_what_is_wrong(cloudwatch: Any) -> None:
    ok = {"MetricName": "m", "Value": 1.0}

    def put_one(**more: Any) -> Any:
        return lambda: cloudwatch.put_metric_data(Namespace=more.pop("Namespace", "Tests"), MetricData=[{**ok, **more}])

    assert "AWS/" in refused("InvalidParameterValue", put_one(Namespace="AWS/Lambda"))
    assert "two weeks" in refused("InvalidParameterValue", put_one(Timestamp=START - timedelta(days=15)))
    assert "two hours" in refused("InvalidParameterValue", put_one(Timestamp=START + timedelta(hours=5)))
    refused("InvalidParameterValue", put_one(Value=float("inf")))
    refused("InvalidParameterCombination", put_one(Values=[1]))
    refused("MissingParameter", lambda: cloudwatch.put_metric_data(Namespace="Tests", MetricData=[{"MetricName": "m"}]))
    refused("InvalidParameterValue", put_one(Dimensions=[{"Name": "a", "Value": "1"}, {"Name": "a", "Value": "2"}]))
    assert cloudwatch.list_metrics()["Metrics"] == []


def test_reading_refuses_what_is_wrong(cloudwatch: Any) -> None:
    assert "2,880" in refused(
        "InvalidParameterCombination", lambda: statistics(cloudwatch, "Sum", EndTime=START + timedelta(days=2))
    )
    refused("InvalidParameterCombination", lambda: statistics(cloudwatch, "Sum", EndTime=START))
    refused("InvalidParameterValue", lambda: statistics(cloudwatch, "Sum", period=90))
    refused("MissingParameter", lambda: statistics(cloudwatch))
    refused("InvalidParameterValue", lambda: statistics(cloudwatch, ExtendedStatistics=["tm90"]))
    span = {"StartTime": START, "EndTime": START + timedelta(minutes=1)}
    assert "math" in refused(
        "ValidationError", lambda: cloudwatch.get_metric_data(MetricDataQueries=[{"Id": "a", "Expression": "1+1"}], **span)
    )
    refused("ValidationError", lambda: cloudwatch.get_metric_data(MetricDataQueries=[{"Id": "A"}], **span))


def test_accounts_see_their_own_metrics_only(cloudwatch: Any, other_aws: Account) -> None:
    put(cloudwatch, 1)
    assert other_aws.client("cloudwatch").list_metrics()["Metrics"] == []


def test_list_metrics_knows_none_of_another_owner(cloudwatch: Any) -> None:
    put(cloudwatch, 1)
    assert cloudwatch.list_metrics(IncludeLinkedAccounts=True, OwningAccount="999999999999")["Metrics"] == []


def test_get_metric_data_refuses_other_accounts_and_foreign_tokens(cloudwatch: Any) -> None:
    put(cloudwatch, *range(3))
    stat = {"Metric": {"Namespace": "Tests", "MetricName": "loss"}, "Period": 60, "Stat": "Sum"}
    times = {"StartTime": START, "EndTime": START + timedelta(minutes=10)}
    other = [{"Id": "a", "MetricStat": stat, "AccountId": "999999999999"}]
    refused("ValidationError", lambda: cloudwatch.get_metric_data(MetricDataQueries=other, **times))
    # A token of another shape, as a list of another service gives it.
    token = encode_token("x")
    asked = [{"Id": "a", "MetricStat": stat}]
    refused("InvalidParameterValue", lambda: cloudwatch.get_metric_data(MetricDataQueries=asked, NextToken=token, **times))


def test_put_metric_data_may_depend_on_the_namespace(aws: Account) -> None:
    own = {"StringEquals": {"cloudwatch:namespace": "Mine"}}
    allow = {"Effect": "Allow", "Action": "cloudwatch:PutMetricData", "Resource": "*", "Condition": own}
    client = aws.user("teller", {"Version": "2012-10-17", "Statement": [allow]}).client("cloudwatch")
    client.put_metric_data(Namespace="Mine", MetricData=[{"MetricName": "m", "Value": 1}])
    data = [{"MetricName": "m", "Value": 1}]
    refused("AccessDeniedException", lambda: client.put_metric_data(Namespace="Theirs", MetricData=data))
