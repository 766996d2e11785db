"""What is told when an alarm changes its state: the notification, the mail, the function's event, the event on the bus. Pure but for names.

Source: CloudWatch User Guide, "Notifying users on alarm changes" and "Alarm events and EventBridge"; the notification's members are those that
SNS subscribers of AWS get.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from pilvi.services.cloudwatch.alarm_check import watched_of
from pilvi.services.cloudwatch.alarm_state import stamp
from pilvi.services.cloudwatch.statistic import SIMPLE

if TYPE_CHECKING:
    from pilvi.core.service import Context
    from pilvi.services.cloudwatch.alarms import State

SUBJECT = 100


@cache
def region_name(region: str) -> str:
    """`US East (N. Virginia)`. Source: botocore's endpoints data."""
    from botocore.loaders import create_loader

    for partition in create_loader().load_data("endpoints")["partitions"]:
        if region in partition["regions"]:
            return str(partition["regions"][region]["description"])
    return region


def message_of(ctx: Context, alarm: Mapping[str, Any], before: State, arn: str, now: datetime) -> dict[str, Any]:
    """By what the action is: subject, text and mail of a topic, or the event of a function."""
    if ":lambda:" in arn:
        return {"event": function_event(ctx, alarm, before, now)}
    place = region_name(ctx.region)
    subject = f'{alarm["StateValue"]}: "{alarm["AlarmName"]}" in {place}'
    notification = {
        "AlarmName": alarm["AlarmName"],
        "AlarmDescription": alarm.get("AlarmDescription"),
        "AWSAccountId": ctx.account,
        "AlarmConfigurationUpdatedTimestamp": stamp(alarm["AlarmConfigurationUpdatedTimestamp"]),
        "NewStateValue": alarm["StateValue"],
        "NewStateReason": alarm["StateReason"],
        "StateChangeTime": stamp(now),
        "Region": place,
        "AlarmArn": alarm["AlarmArn"],
        "OldStateValue": before.value,
        **{name: alarm[name] for name in ("OKActions", "AlarmActions", "InsufficientDataActions")},
        **({"AlarmRule": alarm["AlarmRule"]} if "AlarmRule" in alarm else {"Trigger": trigger(alarm)}),
    }
    text = json.dumps(notification, ensure_ascii=False)
    return {"subject": subject[:SUBJECT], "text": text, "mail": mail(ctx, alarm, before, now)}


def trigger(alarm: Mapping[str, Any]) -> dict[str, Any]:
    watched = watched_of(alarm)
    is_simple = watched["Stat"] in SIMPLE
    kept = ("EvaluationPeriods", "DatapointsToAlarm", "ComparisonOperator", "Threshold")
    return {
        "MetricName": watched["MetricName"],
        "Namespace": watched["Namespace"],
        "StatisticType": "Statistic" if is_simple else "ExtendedStatistic",
        ("Statistic" if is_simple else "ExtendedStatistic"): watched["Stat"].upper() if is_simple else watched["Stat"],
        "Unit": watched["Unit"],
        "Dimensions": [{"value": one["Value"], "name": one["Name"]} for one in watched["Dimensions"] or ()],
        "Period": watched["Period"],
        **{name: alarm[name] for name in kept if name in alarm},
        "TreatMissingData": alarm.get("TreatMissingData", "missing"),
        "EvaluateLowSampleCountPercentile": alarm.get("EvaluateLowSampleCountPercentile", ""),
    }


def mail(ctx: Context, alarm: Mapping[str, Any], before: State, now: datetime) -> str:
    """What a person reads."""
    because = (
        f'Your Amazon CloudWatch alarm "{alarm["AlarmName"]}" in the {region_name(ctx.region)} Region has entered the '
        f'{alarm["StateValue"]} state, because "{alarm["StateReason"]}" at "{now:%A %d %B, %Y %H:%M:%S} UTC".'
    )
    lines = [
        because,
        "",
        "Alarm details:",
        f"- Name: {alarm['AlarmName']}",
        f"- Description: {alarm.get('AlarmDescription', '')}",
        f"- State change: {before.value} -> {alarm['StateValue']}",
        f"- Reason: {alarm['StateReason']}",
        f"- AWS account: {ctx.account}",
        f"- Alarm ARN: {alarm['AlarmArn']}",
    ]
    if "AlarmRule" in alarm:
        return "\n".join([*lines, f"- Rule: {alarm['AlarmRule']}", ""])
    watched = watched_of(alarm)
    threshold = (
        f"- The alarm is in the ALARM state when the metric is {alarm['ComparisonOperator']} {alarm['Threshold']} for at least "
        f"{alarm.get('DatapointsToAlarm', alarm['EvaluationPeriods'])} of the last {alarm['EvaluationPeriods']} period(s) of "
        f"{watched['Period']} seconds."
    )
    dimensions = ", ".join(f"{one['Name']} = {one['Value']}" for one in watched["Dimensions"] or ())
    return "\n".join(
        [
            *lines,
            "",
            "Threshold:",
            threshold,
            "",
            "Monitored metric:",
            f"- Namespace: {watched['Namespace']}",
            f"- Metric name: {watched['MetricName']}",
            f"- Dimensions: [{dimensions}]",
            f"- Statistic: {watched['Stat']}",
            f"- Missing data: {alarm.get('TreatMissingData', 'missing')}",
            "",
        ]
    )


def event_detail(alarm: Mapping[str, Any], before: State) -> dict[str, Any]:
    """The detail of "CloudWatch Alarm State Change"."""
    return {
        "alarmName": alarm["AlarmName"],
        "state": _state(
            alarm["StateValue"], alarm["StateReason"], alarm.get("StateReasonData", ""), alarm["StateUpdatedTimestamp"]
        ),
        "previousState": _state(before.value, before.reason, before.data, None),
        "configuration": configuration(alarm),
    }


def function_event(ctx: Context, alarm: Mapping[str, Any], before: State, now: datetime) -> dict[str, Any]:
    """Source: CloudWatch User Guide, "Invoking Lambda functions from alarms"."""
    return {
        "source": "aws.cloudwatch",
        "alarmArn": alarm["AlarmArn"],
        "accountId": ctx.account,
        "time": stamp(now),
        "region": ctx.region,
        "alarmData": event_detail(alarm, before),
    }


def _state(value: str, reason: str, data: str, at: datetime | None) -> dict[str, Any]:
    told: dict[str, Any] = {"value": value, "reason": reason}
    if data:
        told["reasonData"] = data
    return told | ({"timestamp": stamp(at)} if at is not None else {})


def configuration(alarm: Mapping[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {"description": alarm["AlarmDescription"]} if alarm.get("AlarmDescription") else {}
    if "AlarmRule" in alarm:
        return told | {"alarmRule": alarm["AlarmRule"]}
    watched = watched_of(alarm)
    metric = {
        "namespace": watched["Namespace"],
        "name": watched["MetricName"],
        "dimensions": {one["Name"]: one["Value"] for one in watched["Dimensions"] or ()},
    }
    stat = {"metric": metric, "period": watched["Period"], "stat": watched["Stat"]} | (
        {"unit": watched["Unit"]} if watched["Unit"] else {}
    )
    name = next((query["Id"] for query in alarm.get("Metrics") or ()), "m1")
    return told | {"metrics": [{"id": name, "metricStat": stat, "returnData": True}]}
