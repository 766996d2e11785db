"""Alarms as boto3 puts and reads them, on a server whose clock the tests move."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.testing.server import Account, TestServer, eventually

RULE = {"Statistic": "Sum", "Period": 60, "EvaluationPeriods": 1, "Threshold": 1.0, "ComparisonOperator": "GreaterThanThreshold"}
METRIC = {"Namespace": "Tests", "MetricName": "errors"}
ACCOUNT = "660000000001"
Passes = Callable[[float], None]


@pytest.fixture
def cloudwatch(later_aws: Account) -> Any:
    return later_aws.client("cloudwatch")


def put(cloudwatch: Any, name: str = "a", **more: Any) -> None:
    cloudwatch.put_metric_alarm(**{"AlarmName": name, **METRIC, **RULE, **more})


def described(cloudwatch: Any, name: str = "a") -> dict[str, Any]:
    found: dict[str, Any] = cloudwatch.describe_alarms(AlarmNames=[name], AlarmTypes=["MetricAlarm", "CompositeAlarm"])
    alarms: list[dict[str, Any]] = [*found["MetricAlarms"], *found["CompositeAlarms"]]
    assert len(alarms) == 1
    return alarms[0]


def observe(timed: TestServer, cloudwatch: Any, value: float, name: str = "errors") -> None:
    """One value, a moment ago, and the minute after it."""
    cloudwatch.put_metric_data(Namespace="Tests", MetricData=[{"MetricName": name, "Value": value}])
    timed.cloud.advance_clock(60)


def queue(aws: Account, name: str) -> tuple[str, str]:
    """URL and ARN of a queue that lets everybody of the account's services in."""
    sqs = aws.client("sqs")
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    allow = {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": arn}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    return url, arn


def code_of(call: Callable[..., Any], **arguments: Any) -> str:
    with pytest.raises(ClientError) as failed:
        call(**arguments)
    return str(failed.value.response["Error"]["Code"])


# -- states ---------------------------------------------------------------------------------------------------------------


def test_all_three_states_are_reached_by_data(timed: TestServer, cloudwatch: Any, passes: Passes) -> None:
    put(cloudwatch)
    first = described(cloudwatch)
    assert (first["StateValue"], first["StateReason"]) == ("INSUFFICIENT_DATA", "Unchecked: Initial alarm creation")
    observe(timed, cloudwatch, 5)
    alarm = described(cloudwatch)
    assert alarm["StateValue"] == "ALARM"
    assert alarm["StateReason"].startswith("Threshold Crossed: 1 out of the last 1 datapoints [5.0 (")
    assert json.loads(alarm["StateReasonData"])["recentDatapoints"] == [5.0]
    observe(timed, cloudwatch, 1)
    assert described(cloudwatch)["StateValue"] == "OK"
    passes(600)
    alarm = described(cloudwatch)
    assert (alarm["StateValue"], alarm["StateReason"]) == ("INSUFFICIENT_DATA", "Insufficient Data: 1 datapoint was unknown.")
    changes = cloudwatch.describe_alarm_history(AlarmName="a", HistoryItemType="StateUpdate", ScanBy="TimestampAscending")
    assert [line["HistorySummary"] for line in changes["AlarmHistoryItems"]] == [
        "Alarm updated from INSUFFICIENT_DATA to ALARM",
        "Alarm updated from ALARM to OK",
        "Alarm updated from OK to INSUFFICIENT_DATA",
    ]


def test_the_billing_alarm_of_every_course(timed: TestServer, cloudwatch: Any) -> None:
    """Statistic Maximum, 6 h, > 1, 1 of 1, missing as missing."""
    put(cloudwatch, Statistic="Maximum", Period=21600, DatapointsToAlarm=1, TreatMissingData="missing")
    observe(timed, cloudwatch, 1)
    assert described(cloudwatch)["StateValue"] == "OK"
    observe(timed, cloudwatch, 1.5)
    alarm = described(cloudwatch)
    assert (alarm["StateValue"], alarm["Period"], alarm["TreatMissingData"]) == ("ALARM", 21600, "missing")


def test_m_of_n_and_a_percentile(timed: TestServer, cloudwatch: Any) -> None:
    put(cloudwatch, EvaluationPeriods=3, DatapointsToAlarm=2)
    thin = {"ExtendedStatistic": "p90", "EvaluateLowSampleCountPercentile": "ignore"}
    rule = {name: value for name, value in RULE.items() if name != "Statistic"}
    cloudwatch.put_metric_alarm(AlarmName="thin", **METRIC, **rule, **thin)
    for value, state in ((5, "INSUFFICIENT_DATA"), (0, "OK"), (5, "ALARM")):
        observe(timed, cloudwatch, value)
        assert described(cloudwatch)["StateValue"] == state
    assert described(cloudwatch, "thin")["StateValue"] == "INSUFFICIENT_DATA"  # too few observations change nothing


def test_put_metric_alarm_keeps_the_state_of_the_one_it_replaces(timed: TestServer, cloudwatch: Any) -> None:
    put(cloudwatch, Tags=[{"Key": "team", "Value": "ml"}])
    observe(timed, cloudwatch, 5)
    put(cloudwatch, Threshold=100.0)
    alarm = described(cloudwatch)
    assert (alarm["StateValue"], alarm["Threshold"]) == ("ALARM", 100.0)
    observe(timed, cloudwatch, 5)
    assert described(cloudwatch)["StateValue"] == "OK"
    assert cloudwatch.list_tags_for_resource(ResourceARN=alarm["AlarmArn"])["Tags"] == [{"Key": "team", "Value": "ml"}]


def test_an_alarm_goes_on_after_a_restart(tmp_path: Path) -> None:
    with TestServer(tmp_path) as server:
        put(server.account(ACCOUNT).client("cloudwatch"))
    with TestServer(tmp_path) as server:
        cloudwatch = server.account(ACCOUNT).client("cloudwatch")
        observe(server, cloudwatch, 5)
        assert described(cloudwatch)["StateValue"] == "ALARM"


# -- actions --------------------------------------------------------------------------------------------------------------


def test_a_change_is_published_to_the_topic(timed: TestServer, later_aws: Account, cloudwatch: Any) -> None:
    sns, sqs = later_aws.client("sns"), later_aws.client("sqs")
    topic = sns.create_topic(Name="rings")["TopicArn"]
    url, arn = queue(later_aws, "rings")
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    put(cloudwatch, AlarmActions=[topic], AlarmDescription="too many")
    observe(timed, cloudwatch, 5)
    (message,) = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20)["Messages"]
    envelope = json.loads(message["Body"])
    told = json.loads(envelope["Message"])
    assert envelope["Subject"] == 'ALARM: "a" in US East (N. Virginia)'
    assert (told["NewStateValue"], told["OldStateValue"], told["AlarmDescription"]) == ("ALARM", "INSUFFICIENT_DATA", "too many")
    assert told["Trigger"]["MetricName"] == "errors"
    assert (told["Trigger"]["Statistic"], told["Trigger"]["Threshold"], told["Trigger"]["Period"]) == ("SUM", 1.0, 60)

    def actions() -> list[str]:
        history = cloudwatch.describe_alarm_history(AlarmName="a", HistoryItemType="Action")
        return [line["HistorySummary"] for line in history["AlarmHistoryItems"]]

    eventually(lambda: actions() == [f"Successfully executed action {topic}"])


def test_disabled_actions_do_not_run_and_lost_ones_are_told(later_aws: Account, cloudwatch: Any) -> None:
    gone = f"arn:aws:sns:us-east-1:{later_aws.account}:gone"
    put(cloudwatch, AlarmActions=[gone], TreatMissingData="ignore")
    cloudwatch.disable_alarm_actions(AlarmNames=["a", "nobody"])
    cloudwatch.set_alarm_state(AlarmName="a", StateValue="ALARM", StateReason="by hand")
    assert described(cloudwatch)["StateValue"] == "ALARM"
    cloudwatch.enable_alarm_actions(AlarmNames=["a"])
    cloudwatch.set_alarm_state(AlarmName="a", StateValue="OK", StateReason="by hand")
    cloudwatch.set_alarm_state(AlarmName="a", StateValue="ALARM", StateReason="by hand", StateReasonData='{"why": 1}')
    assert described(cloudwatch)["StateReason"] == "by hand"

    def failed() -> list[str]:
        history = cloudwatch.describe_alarm_history(AlarmName="a", HistoryItemType="Action")
        return [line["HistorySummary"] for line in history["AlarmHistoryItems"]]

    eventually(lambda: len(failed()) == 1 and failed()[0].startswith(f"Failed to execute action {gone}."))


# -- composite ------------------------------------------------------------------------------------------------------------


def test_and_of_two_fires_only_when_both_do(timed: TestServer, cloudwatch: Any) -> None:
    put(cloudwatch)
    put(cloudwatch, "b", MetricName="waits")
    rule = 'ALARM("a") AND NOT (OK(b) OR INSUFFICIENT_DATA(b))'
    cloudwatch.put_composite_alarm(AlarmName="both", AlarmRule=rule)
    assert described(cloudwatch, "both")["StateValue"] == "OK"
    observe(timed, cloudwatch, 5)
    assert (described(cloudwatch)["StateValue"], described(cloudwatch, "both")["StateValue"]) == ("ALARM", "OK")
    cloudwatch.put_metric_data(Namespace="Tests", MetricData=[{"MetricName": "errors", "Value": 5}])
    observe(timed, cloudwatch, 5, "waits")
    eventually(lambda: described(cloudwatch, "both")["StateValue"] == "ALARM")
    alarm = described(cloudwatch, "both")
    assert alarm["AlarmRule"] == rule
    assert "alarm:b transitioned to ALARM" in alarm["StateReason"]
    children = cloudwatch.describe_alarms(ChildrenOfAlarmName="both")["MetricAlarms"]
    assert [child["AlarmName"] for child in children] == ["a", "b"]
    assert [one["AlarmName"] for one in cloudwatch.describe_alarms(ParentsOfAlarmName="a")["CompositeAlarms"]] == ["both"]
    assert code_of(cloudwatch.delete_alarms, AlarmNames=["a"]) == "ValidationError"
    cloudwatch.delete_alarms(AlarmNames=["a", "both"])
    assert [one["AlarmName"] for one in cloudwatch.describe_alarms()["MetricAlarms"]] == ["b"]


@pytest.mark.parametrize(
    "rule", ["ALARM(", "ALARM(a) ALARM(b)", "RED(a)", "ALARM(nobody)", "ALARM(c)", "NOT", "a AND b", '"a', "(TRUE"]
)
def test_put_composite_alarm_refuses_rules_that_are_none(cloudwatch: Any, rule: str) -> None:
    put(cloudwatch)
    put(cloudwatch, "b")
    assert code_of(cloudwatch.put_composite_alarm, AlarmName="c", AlarmRule=rule) == "ValidationError"
    assert cloudwatch.describe_alarms(AlarmTypes=["CompositeAlarm"])["CompositeAlarms"] == []


def test_put_composite_alarm_refuses_circles(cloudwatch: Any) -> None:
    cloudwatch.put_composite_alarm(AlarmName="one", AlarmRule="TRUE")
    cloudwatch.put_composite_alarm(AlarmName="two", AlarmRule="ALARM(one)")
    assert described(cloudwatch, "one")["StateValue"] == "ALARM"
    assert code_of(cloudwatch.put_composite_alarm, AlarmName="one", AlarmRule="OK(two)") == "ValidationError"


# -- reading, wrong input -------------------------------------------------------------------------------------------------


def test_describe_alarms_pages_and_filters(later_aws: Account, cloudwatch: Any) -> None:
    topic = f"arn:aws:sns:us-east-1:{later_aws.account}:t"
    for number in range(5):
        put(cloudwatch, f"n{number}", OKActions=[topic] if number == 3 else [])
    pages = list(cloudwatch.get_paginator("describe_alarms").paginate(PaginationConfig={"PageSize": 2}))
    assert [[one["AlarmName"] for one in page["MetricAlarms"]] for page in pages] == [["n0", "n1"], ["n2", "n3"], ["n4"]]

    def names(**asked: Any) -> list[str]:
        return [one["AlarmName"] for one in cloudwatch.describe_alarms(**asked)["MetricAlarms"]]

    assert names(AlarmNamePrefix="n4") == ["n4"]
    assert names(ActionPrefix="arn:aws:sns") == ["n3"]
    assert names(StateValue="ALARM") == []
    on_metric = cloudwatch.describe_alarms_for_metric(**METRIC)["MetricAlarms"]
    assert len(on_metric) == 5
    assert cloudwatch.describe_alarms_for_metric(**METRIC, Period=300)["MetricAlarms"] == []
    assert code_of(cloudwatch.describe_alarms, NextToken="none") == "InvalidNextToken"


def test_history_pages_from_the_newest(cloudwatch: Any, passes: Passes) -> None:
    put(cloudwatch, TreatMissingData="ignore")
    for number in range(4):
        passes(1)
        cloudwatch.set_alarm_state(AlarmName="a", StateValue=("ALARM", "OK")[number % 2], StateReason="by hand")
    pages = list(cloudwatch.get_paginator("describe_alarm_history").paginate(PaginationConfig={"PageSize": 2}))
    told = [line["HistorySummary"] for page in pages for line in page["AlarmHistoryItems"]]
    assert told[0] == "Alarm updated from ALARM to OK"
    assert told[-1] == 'Alarm "a" created'
    assert len(told) == 5
    cloudwatch.delete_alarms(AlarmNames=["a"])
    (newest, *_) = cloudwatch.describe_alarm_history(AlarmName="a")["AlarmHistoryItems"]
    assert newest["HistorySummary"] == 'Alarm "a" deleted'
    passes(timedelta(days=32).total_seconds())
    assert cloudwatch.describe_alarm_history(AlarmName="a")["AlarmHistoryItems"] == []


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"AlarmName": "a\x01b"}, "ValidationError"),
        ({"Period": 61}, "ValidationError"),
        ({"EvaluationPeriods": 1441}, "ValidationError"),
        ({"DatapointsToAlarm": 2}, "ValidationError"),
        ({"TreatMissingData": "guess"}, "ValidationError"),
        ({"AlarmActions": ["topic"]}, "ValidationError"),
        ({"AlarmActions": ["arn:aws:automate:us-east-1:ec2:stop"]}, "ValidationError"),
        ({"ExtendedStatistic": "p99"}, "InvalidParameterCombination"),
        ({"Statistic": None}, "InvalidParameterCombination"),
        ({"MetricName": None}, "MissingParameter"),
        ({"Threshold": None}, "MissingParameter"),
        ({"ComparisonOperator": "GreaterThanUpperThreshold", "ThresholdMetricId": "b"}, "ValidationError"),
        ({"Tags": [{"Key": "aws:x", "Value": ""}]}, "InvalidParameterValue"),
    ],
)
def test_put_metric_alarm_refuses_what_is_wrong(cloudwatch: Any, wrong: dict[str, Any], code: str) -> None:
    asked = {name: value for name, value in {"AlarmName": "a", **METRIC, **RULE, **wrong}.items() if value is not None}
    assert code_of(cloudwatch.put_metric_alarm, **asked) == code
    assert cloudwatch.describe_alarms()["MetricAlarms"] == []


def test_names_that_are_not_there(cloudwatch: Any) -> None:
    assert code_of(cloudwatch.delete_alarms, AlarmNames=["nobody"]) == "ResourceNotFound"
    assert code_of(cloudwatch.set_alarm_state, AlarmName="nobody", StateValue="OK", StateReason="") == "ResourceNotFound"
    put(cloudwatch)
    assert (
        code_of(cloudwatch.set_alarm_state, AlarmName="a", StateValue="OK", StateReason="", StateReasonData="{") == "InvalidFormat"
    )
    arn = described(cloudwatch)["AlarmArn"]
    assert code_of(cloudwatch.tag_resource, ResourceARN=arn + "x", Tags=[]) == "ResourceNotFoundException"
    cloudwatch.tag_resource(ResourceARN=arn, Tags=[{"Key": "k", "Value": "v"}, {"Key": "l", "Value": "w"}])
    cloudwatch.untag_resource(ResourceARN=arn, TagKeys=["k", "none"])
    assert cloudwatch.list_tags_for_resource(ResourceARN=arn)["Tags"] == [{"Key": "l", "Value": "w"}]


def test_a_reader_may_not_switch(later_aws: Account, cloudwatch: Any) -> None:
    put(cloudwatch)
    allow = {"Effect": "Allow", "Action": "cloudwatch:DescribeAlarms", "Resource": "*"}
    reader = later_aws.user("reader", {"Version": "2012-10-17", "Statement": [allow]}).client("cloudwatch")
    assert len(reader.describe_alarms()["MetricAlarms"]) == 1
    assert code_of(reader.disable_alarm_actions, AlarmNames=["a"]) == "AccessDeniedException"
