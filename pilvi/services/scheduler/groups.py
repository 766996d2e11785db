"""Schedule groups in the store: found, the default one made when it is first needed, emptied and ended once deletion was asked for.

A group that is being deleted says DELETING until its last schedule is gone: a timer takes some at a time, so a crash stops nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from pilvi.core.errors import AlreadyExists, NotFound
from pilvi.core.service import Context
from pilvi.schedules.firing import Fired, Moment, Timer, clearing, setting
from pilvi.storage.records import Change, Delete, Table

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
    from pilvi.storage.records import Row

DEFAULT: Final = "default"
ENDING: Final = "scheduler/group"
"""The timer of a group that is being deleted."""
PAGE: Final = 100

Group = Mapping[str, Any]


def group_arn(ctx: Context, name: str) -> str:
    return ctx.arn(f"schedule-group/{name}")


def find_group(ctx: Context, name: str) -> Group:
    """NotFound when there is none. Every account has the default one."""
    found = ctx.records("ScheduleGroup").find(name)
    if found is None and name == DEFAULT:
        return _default(ctx)
    if found is None:
        raise NotFound(f"Schedule group {name} does not exist.")
    return found


def look_group(ctx: Context, name: str) -> Group | None:
    """The same for whoever only wants to know."""
    return ctx.records("ScheduleGroup").find(name)


def _default(ctx: Context) -> Group:
    now = ctx.clock.now()
    group = {
        "Arn": group_arn(ctx, DEFAULT),
        "Name": DEFAULT,
        "State": "ACTIVE",
        "CreationDate": now,
        "LastModificationDate": now,
        "_tags": {},
    }
    try:
        ctx.records("ScheduleGroup").insert(DEFAULT, group)
    except AlreadyExists:
        return ctx.records("ScheduleGroup").get(DEFAULT)
    return group


def timer_id(ctx: Context, key: str) -> str:
    return f"{ctx.account}/{ctx.region}/{key}"


def ending(ctx: Context, name: str) -> Change:
    """The change that has a group emptied, now."""
    return setting(ENDING, timer_id(ctx, name), int(ctx.clock.time_s() * 1000))


def end_group(cloud: Cloud, timer: Timer, moment: Moment) -> Fired:
    """Remove some of a group's schedules, and in the end the group."""
    account, region, name = timer.id.split("/", 2)
    groups = Table(account, region, "scheduler", "ScheduleGroup")
    row = cloud.store.get(groups, name)
    if row is None or row.value["State"] != "DELETING":
        return Fired()
    schedules = Table(account, region, "scheduler", "Schedule")
    page = cloud.store.scan(schedules, prefix=f"{name}/", limit=PAGE)
    if not page:
        return Fired((Delete(groups, name, row.version),))
    changes = [change for one in page for change in removal(schedules, one)]
    return Fired((*changes, setting(ENDING, timer.id, moment.now_ms)))


def removal(table: Table, row: Row) -> list[Change]:
    """A schedule and its timer."""
    found: list[Change] = [Delete(table, row.id, row.version)]
    if row.value["_due_ms"] is not None:
        found.append(clearing("scheduler/schedule", f"{table.account}/{table.region}/{row.id}", row.value["_due_ms"]))
    return found
