"""Which permission each Logs operation needs, and on which ARN.

AWS evaluates group actions on `log-group:NAME:log-stream:` (so `log-group:NAME:*` grants them and `log-group:NAME` does not) and
stream actions on `log-group:NAME:log-stream:STREAM`; tagging by ARN is the exception and uses the bare group ARN.
Source: CloudWatch Logs User Guide, "CloudWatch Logs resources and operations"; the wording of AWS's own AccessDenied messages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pilvi.core.arn import Arn
from pilvi.core.service import Access, Context
from pilvi.services.logs.resource_policy import policy_for

ON_STREAM = frozenset({"CreateLogStream", "DeleteLogStream", "PutLogEvents", "GetLogEvents"})
ON_NOTHING = frozenset(
    {"ListLogGroups", "TestMetricFilter", "PutResourcePolicy", "DescribeResourcePolicies", "DeleteResourcePolicy"}
)


def needed(ctx: Context, operation: str, req: Mapping[str, Any]) -> Sequence[Access]:
    """The permissions of one call."""
    action = f"logs:{operation}"
    if operation in ON_NOTHING:
        return (Access(action),)
    if (arn := req.get("resourceArn")) is not None:
        return (Access(action, arn),)
    group = group_name_in(req)
    stream = req.get("logStreamName", "") if operation in ON_STREAM else ""
    main = Access(action, ctx.arn(f"log-group:{group}:log-stream:{stream}"), policy_for(ctx))
    if operation == "CreateLogGroup" and req.get("tags"):
        return (main, Access("logs:TagResource", ctx.arn(f"log-group:{group}")))
    return (main,)


def group_name_in(req: Mapping[str, Any]) -> str:
    """The group a request names, by name or by identifier; '' for none."""
    name: str = req.get("logGroupName") or ""
    return name or group_name_of(req.get("logGroupIdentifier") or "")


def group_name_of(identifier: str) -> str:
    """The name in an identifier: a name, or a group's ARN with or without ':*'."""
    arn = Arn.parse(identifier)
    if arn is None:
        return identifier
    return arn.resource.removeprefix("log-group:").removesuffix(":*")
