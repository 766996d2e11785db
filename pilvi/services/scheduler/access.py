"""Which permission each operation needs: on which schedule or group, and on the role that is handed over.

Source: Service Authorization Reference, "Actions, resources, and condition keys for Amazon EventBridge Scheduler".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pilvi.core.service import Access, Context
from pilvi.services.scheduler.groups import DEFAULT, group_arn, look_group

PRINCIPAL: Final = "scheduler.amazonaws.com"


def needed(ctx: Context, operation: str, req: Mapping[str, Any]) -> Sequence[Access]:
    """The permissions of one call."""
    action = f"scheduler:{operation}"
    if operation == "ListSchedules":
        return (Access(action, ctx.arn(f"schedule/{req.get('GroupName') or '*'}/*")),)
    if operation == "ListScheduleGroups":
        return (Access(action, ctx.arn("schedule-group/*")),)
    if operation.endswith("ScheduleGroup"):
        found = [Access(action, group_arn(ctx, req["Name"]), context=_facts(ctx, req["Name"], req))]
        if operation == "CreateScheduleGroup" and req.get("Tags"):
            found.append(Access("scheduler:TagResource", group_arn(ctx, req["Name"]), context=_facts(ctx, req["Name"], req)))
        return found
    if "ResourceArn" in req:
        return (Access(action, req["ResourceArn"], context=_facts(ctx, req["ResourceArn"].rpartition("/")[2], req)),)
    group = req.get("GroupName") or DEFAULT
    found = [Access(action, ctx.arn(f"schedule/{group}/{req['Name']}"), context=_facts(ctx, group, req))]
    if operation in ("CreateSchedule", "UpdateSchedule"):
        found.append(Access("iam:PassRole", req["Target"]["RoleArn"], context={"iam:PassedToService": PRINCIPAL}))
    return found


def _facts(ctx: Context, group: str, req: Mapping[str, Any]) -> dict[str, Any]:
    """Condition keys on tags: those there are, and those asked for."""
    there = look_group(ctx, group)
    found: dict[str, Any] = {f"aws:ResourceTag/{key}": value for key, value in (there["_tags"] if there else {}).items()}
    if tags := req.get("Tags"):
        found |= {f"aws:RequestTag/{tag['Key']}": tag["Value"] for tag in tags}
        found["aws:TagKeys"] = [tag["Key"] for tag in tags]
    elif keys := req.get("TagKeys"):
        found["aws:TagKeys"] = list(keys)
    return found
