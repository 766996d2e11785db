"""Schedules: when a target is invoked, and with what.

A schedule's row and its timer (pilvi.schedules.firing) change together; the timer's end and the invocations it brings are one transaction
too, so a killed server loses none and doubles none. Invocations are facts for `invocation.py`.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from pilvi.core.errors import AlreadyExists, Conflict, Invalid, NotFound
from pilvi.core.paging import decode_token, encode_token
from pilvi.core.service import Context, Operations
from pilvi.schedules import Periodic
from pilvi.schedules.cron import At
from pilvi.schedules.firing import Fired, Moment, Timer, clearing, setting
from pilvi.services.scheduler import figures, plan, usage
from pilvi.services.scheduler.groups import DEFAULT, ENDING, end_group, find_group, removal, timer_id
from pilvi.services.scheduler.invocation import fact_of, lane_of, recorded
from pilvi.services.scheduler.plan import Planned
from pilvi.services.scheduler.sealing import opened, sealed
from pilvi.services.scheduler.target import checked
from pilvi.storage.records import Change, Delete, Expect, Insert, Row, Rows, Table, Update

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

log = logging.getLogger("pilvi.scheduler")

TIMER: Final = "scheduler/schedule"
EARLIEST: Final = timedelta(minutes=5)
_KEPT: Final = ("Description", "StartDate", "EndDate", "FlexibleTimeWindow", "KmsKeyArn", "Name", "ScheduleExpression")

ops = Operations()


@ops
def create_schedule(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Create a schedule.

    req: Name, GroupName (default), ScheduleExpression (cron, rate, at) in ScheduleExpressionTimezone, StartDate, EndDate,
    FlexibleTimeWindow, Target, State, ActionAfterCompletion, KmsKeyArn; ClientToken - the same request again gives the same schedule.
    Errors: ConflictException - the name is taken in its group; ResourceNotFoundException - no such group; ValidationException -
    expression, time zone, dates, window, target, role or key; NotImplemented - a target that is not built here.
    Source: EventBridge Scheduler User Guide. Differs: a one-time schedule of a past minute is kept and never invoked.
    """
    group, now_ms = req.get("GroupName") or DEFAULT, _now_ms(ctx)
    schedule = _schedule(ctx, req, group, now_ms, None)
    schedule |= {"_token": req.get("ClientToken"), "_asked": _digest(req)}
    insertion = Insert(_rows(ctx).table, _key(group, req["Name"]), schedule)
    try:
        while not _written(ctx, insertion, plan.first(schedule, now_ms), schedule, None, _group(ctx, group)):
            pass  # the group was tagged
    except AlreadyExists:
        there = _rows(ctx).find(_key(group, req["Name"]))
        if (
            there is None
            or not req.get("ClientToken")
            or there["_token"] != req["ClientToken"]
            or there["_asked"] != schedule["_asked"]
        ):
            raise AlreadyExists(f"Schedule {req['Name']} already exists.") from None
    return {"ScheduleArn": schedule["Arn"]}


@ops
def get_schedule(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Describe a schedule. Errors: ResourceNotFoundException."""
    schedule = _find(ctx, req).value
    if (kept := schedule.get("_sealed")) is not None:
        given = json.loads(opened(ctx, kept, schedule["Arn"]))
        schedule["Target"] = {**schedule["Target"], **({} if given is None else {"Input": given})}
    return schedule


@ops
def list_schedules(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Schedules of one group or of all, by name.

    req: GroupName, NamePrefix, State, MaxResults, NextToken. Errors: ResourceNotFoundException - no such group.
    """
    group, prefix, limit = req.get("GroupName"), req.get("NamePrefix") or "", req.get("MaxResults") or 100
    if group is not None:
        find_group(ctx, group)
    start = f"{group}/{prefix}" if group is not None else ""
    after, found = decode_token(req.get("NextToken")), list[Row]()
    while len(found) <= limit and (rows := _rows(ctx).scan(prefix=start, after=after, limit=limit + 1)):
        after = rows[-1].id
        found += [row for row in rows if row.value["Name"].startswith(prefix) and req.get("State") in (None, row.value["State"])]
    page = found[:limit]
    token = encode_token(page[-1].id) if len(found) > limit else None
    return {"Schedules": [{**row.value, "Target": {"Arn": row.value["Target"]["Arn"]}} for row in page], "NextToken": token}


@ops
def update_schedule(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Replace a schedule; what is not given becomes the default again.

    Errors: ResourceNotFoundException; ConflictException - its group is being deleted; ValidationException as for CreateSchedule.
    """
    while True:
        row, now_ms = _find(ctx, req), _now_ms(ctx)
        schedule = _schedule(ctx, req, row.value["GroupName"], now_ms, row.value)
        schedule |= {member: row.value[member] for member in ("_token", "_asked")}
        planned, holder = plan.changed(schedule, row.value, now_ms), _group(ctx, row.value["GroupName"])
        update = Update(_rows(ctx).table, row.id, schedule, row.version)
        if _written(ctx, update, planned, schedule, row.value, holder):
            return {"ScheduleArn": schedule["Arn"]}


@ops
def delete_schedule(ctx: Context, req: Mapping[str, Any]) -> None:
    """Delete a schedule. What it has begun goes on. Errors: ResourceNotFoundException."""
    while True:
        row = _find(ctx, req)
        try:
            ctx.write(*removal(_rows(ctx).table, row))
        except (Conflict, NotFound):
            continue
        return


# -- what a schedule may be ---------------------------------------------------------------------------------------------------


def _schedule(ctx: Context, req: Mapping[str, Any], group: str, now_ms: int, before: Mapping[str, Any] | None) -> dict[str, Any]:
    """The record that a request asks for."""
    now = plan.EPOCH + timedelta(milliseconds=now_ms)
    schedule = {member: req[member] for member in _KEPT if req.get(member) is not None}
    schedule |= {
        "Arn": ctx.arn(f"schedule/{group}/{req['Name']}"),
        "GroupName": group,
        "ScheduleExpressionTimezone": req.get("ScheduleExpressionTimezone") or "UTC",
        "State": req.get("State") or "ENABLED",
        "ActionAfterCompletion": req.get("ActionAfterCompletion") or "NONE",
        "CreationDate": before["CreationDate"] if before is not None else now,
        "LastModificationDate": now,
    }
    is_once = isinstance(plan.expression(schedule), At)
    _check_window(req["FlexibleTimeWindow"])
    if not is_once:
        _check_dates(ctx, req, before)
    schedule["Target"] = checked(ctx, req["Target"], group)
    if (key := req.get("KmsKeyArn")) is not None:
        schedule["_sealed"] = sealed(ctx, key, schedule["Arn"], json.dumps(schedule["Target"].pop("Input", None)))
    return schedule


def _check_window(window: Mapping[str, Any]) -> None:
    if window["Mode"] == "FLEXIBLE" and window.get("MaximumWindowInMinutes") is None:
        raise Invalid("MaximumWindowInMinutes is required when the FlexibleTimeWindow mode is FLEXIBLE.")
    if window["Mode"] == "OFF" and window.get("MaximumWindowInMinutes") is not None:
        raise Invalid("MaximumWindowInMinutes is not supported when the FlexibleTimeWindow mode is OFF.")


def _check_dates(ctx: Context, req: Mapping[str, Any], before: Mapping[str, Any] | None) -> None:
    start, end, now = req.get("StartDate"), req.get("EndDate"), ctx.clock.now()
    is_new = before is None or before.get("StartDate") != start
    if start is not None and is_new and start < now - EARLIEST:
        raise Invalid("The StartDate you specify cannot be earlier than 5 minutes ago.")
    if end is not None and (before is None or before.get("EndDate") != end) and end < now:
        raise Invalid("The EndDate you specify cannot be in the past.")
    if start is not None and end is not None and end <= start:
        raise Invalid("The EndDate you specify must come after the StartDate.")


# -- its row and its timer ----------------------------------------------------------------------------------------------------


def _group(ctx: Context, name: str) -> Row:
    """The row of a group that may have schedules."""
    find_group(ctx, name)
    row = ctx.records("ScheduleGroup").row(name)
    if row is None or row.value["State"] == "DELETING":
        raise Conflict(f"Schedule group {name} is being deleted.")
    return row


def _written(
    ctx: Context,
    change: Insert | Update,
    planned: Planned | None,
    schedule: dict[str, Any],
    before: Mapping[str, Any] | None,
    group: Row,
) -> bool:
    """The schedule with its timer, as long as its group is there. False when it has just fired, or somebody else was quicker."""
    id = timer_id(ctx, _key(schedule["GroupName"], schedule["Name"]))
    schedule |= {"_next_ms": None if planned is None else planned.next_ms, "_due_ms": None if planned is None else planned.due_ms}
    changes: list[Change] = [Expect(ctx.records("ScheduleGroup").table, group.id, group.version), change]
    if before is not None and before["_due_ms"] is not None:
        changes.append(clearing(TIMER, id, before["_due_ms"]))
    if planned is not None:
        changes.append(setting(TIMER, id, planned.due_ms))
    try:
        ctx.write(*changes)
    except (Conflict, NotFound):
        return False
    if planned is not None:
        ctx.cloud.schedules.expect(planned.due_ms)
    return True


def fire(cloud: Cloud, timer: Timer, moment: Moment) -> Fired:
    """A schedule's timer: an invocation for each time that has come, and the next timer."""
    account, region, key = timer.id.split("/", 2)
    table = Table(account, region, "scheduler", "Schedule")
    row = cloud.store.get(table, key)
    if row is None or row.value["_due_ms"] != timer.due_ms:
        return Fired()
    schedule = row.value
    due = plan.due(schedule, moment)
    facts = [fact_of(cloud, account, region, schedule, time_ms) for time_ms in due.times_ms]
    changes: list[Change] = [recorded(cloud, fact) for fact in facts]
    if due.planned is not None:
        schedule |= {"_next_ms": due.planned.next_ms, "_due_ms": due.planned.due_ms}
        changes += (Update(table, key, schedule, row.version), setting(TIMER, timer.id, due.planned.due_ms))
    elif schedule["ActionAfterCompletion"] == "DELETE":
        changes.append(Delete(table, key, row.version))
    else:
        changes.append(Update(table, key, {**schedule, "_next_ms": None, "_due_ms": None}, row.version))

    def afterwards() -> None:
        if due.skipped:
            log.warning(
                "schedule %s: the clock was moved over more than %d of its times; the others are left out",
                schedule["Arn"],
                plan.MOST,
            )
        if facts:
            cloud.events.wake("scheduler/invocations", lane_of(facts[0]))

    return Fired(changes, afterwards)


def _find(ctx: Context, req: Mapping[str, Any]) -> Row:
    group = req.get("GroupName") or DEFAULT
    row = _rows(ctx).row(_key(group, req["Name"]))
    if row is None:
        find_group(ctx, group)
        raise NotFound(f"Schedule {req['Name']} does not exist.")
    return row


def _rows(ctx: Context) -> Rows:
    return ctx.records("Schedule")


def _key(group: str, name: str) -> str:
    return f"{group}/{name}"


def _now_ms(ctx: Context) -> int:
    return int(ctx.clock.time_s() * 1000)


def _digest(req: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(req, sort_keys=True, default=str).encode()).hexdigest()


TASKS = (
    Periodic("metrics", 60.0, figures.FIGURES.publish, figures.FIGURES.has_work),
    Periodic("usage", 300.0, usage.COUNTED.write_down),
)
TIMERS = {"schedule": fire, ENDING.partition("/")[2]: end_group}
