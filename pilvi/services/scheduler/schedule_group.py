"""Schedule groups: schedules that are tagged, counted and deleted together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pilvi.core.errors import AlreadyExists, Conflict, Invalid, LimitExceeded
from pilvi.core.service import Context, Operations
from pilvi.services.scheduler.groups import DEFAULT, ending, find_group, group_arn
from pilvi.services.scheduler.tag import tags_from
from pilvi.storage.records import Update

MOST: Final = 500
"""Source: EventBridge Scheduler User Guide, "Quotas for Amazon EventBridge Scheduler"."""

ops = Operations()


@ops
def create_schedule_group(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Create a group.

    req: Name; Tags; ClientToken - the same one again gives the same group.
    Errors: ConflictException - the name is taken; ServiceQuotaExceededException - 500 groups.
    """
    name, now = req["Name"], ctx.clock.now()
    groups = ctx.records("ScheduleGroup")
    if len(groups.scan(limit=MOST)) >= MOST:
        raise LimitExceeded(f"You have reached the limit of {MOST} schedule groups.")
    tags = tags_from(req.get("Tags") or [])
    group = {
        "Arn": group_arn(ctx, name),
        "Name": name,
        "State": "ACTIVE",
        "CreationDate": now,
        "LastModificationDate": now,
        "_tags": tags,
        "_token": req.get("ClientToken"),
    }
    if name == DEFAULT:
        find_group(ctx, name)
    try:
        groups.insert(name, group)
    except AlreadyExists:
        there = groups.find(name)
        if there is None or not req.get("ClientToken") or there.get("_token") != req["ClientToken"] or there["_tags"] != tags:
            raise AlreadyExists(f"Schedule group {name} already exists.") from None
    return {"ScheduleGroupArn": group["Arn"]}


@ops
def get_schedule_group(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Describe a group. Errors: ResourceNotFoundException."""
    return find_group(ctx, req["Name"])


@ops
def list_schedule_groups(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Groups by name. req: NamePrefix, MaxResults, NextToken."""
    find_group(ctx, DEFAULT)
    page, token = ctx.records("ScheduleGroup").page(
        req.get("NextToken"), req.get("MaxResults") or 100, prefix=req.get("NamePrefix") or ""
    )
    return {"ScheduleGroups": page, "NextToken": token}


@ops
def delete_schedule_group(ctx: Context, req: Mapping[str, Any]) -> None:
    """Delete a group and its schedules: it is DELETING until the last one is gone.

    Errors: ResourceNotFoundException; ValidationException - the default group; ConflictException - it is being deleted.
    """
    name = req["Name"]
    if name == DEFAULT:
        raise Invalid("Cannot delete default schedule group.")
    while True:
        find_group(ctx, name)
        row = ctx.records("ScheduleGroup").row(name)
        if row is None:
            continue
        if row.value["State"] == "DELETING":
            raise Conflict(f"Schedule group {name} is being deleted.")
        gone = {**row.value, "State": "DELETING", "LastModificationDate": ctx.clock.now()}
        try:
            ctx.write(Update(ctx.records("ScheduleGroup").table, name, gone, row.version), ending(ctx, name))
        except Conflict:
            continue
        ctx.cloud.schedules.expect(0)
        return
