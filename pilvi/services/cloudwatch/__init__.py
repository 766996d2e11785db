"""CloudWatch: metrics that are put, listed and read back as statistics; alarms on them. Math and dashboards are not here yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pilvi.core.errors import Invalid
from pilvi.core.service import Access, Context, Service
from pilvi.services.cloudwatch import alarm, alarm_history, alarm_tag, composite_alarm, metric, metric_data

ON_ALARMS = frozenset(
    {
        "PutMetricAlarm",
        "PutCompositeAlarm",
        "DeleteAlarms",
        "EnableAlarmActions",
        "DisableAlarmActions",
        "SetAlarmState",
        "DescribeAlarms",
        "DescribeAlarmHistory",
        "TagResource",
        "UntagResource",
        "ListTagsForResource",
    }
)


def needed(ctx: Context, operation: str, req: Mapping[str, Any]) -> Sequence[Access]:
    """The permission of one call. Source: Service Authorization Reference, CloudWatch."""
    action = f"cloudwatch:{operation}"
    if operation == "PutMetricData":
        return (Access(action, context={"cloudwatch:namespace": req["Namespace"]}),)
    if operation not in ON_ALARMS:
        return (Access(action),)
    names = req.get("AlarmNames") or [req.get("AlarmName") or "*"]
    arns = [req["ResourceARN"]] if "ResourceARN" in req else [ctx.arn(f"alarm:{name}") for name in names]
    asked = {"aws:RequestTag/" + tag["Key"]: tag["Value"] for tag in req.get("Tags") or ()}
    return tuple(Access(action, arn, context=asked) for arn in arns)


service = Service(
    "cloudwatch",
    metric.ops,
    metric_data.ops,
    alarm.ops,
    composite_alarm.ops,
    alarm_history.ops,
    alarm_tag.ops,
    errors={Invalid: "InvalidParameterValue"},
    access=needed,
)
