"""When a schedule invokes its target: the next time, the moment inside a flexible window, what is due. Pure functions of its record.

Two instants belong to a time: `next` is what the expression says, `due` is when the target is invoked (later inside a flexible window).

Source: EventBridge Scheduler User Guide, "Schedule types", "Configuring flexible time windows".
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple

from pilvi.schedules.cron import At, Expression, parse
from pilvi.schedules.firing import Moment

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MINUTE_MS: Final = 60_000
MOST: Final = 1000
"""Invocations of one schedule that a move of the clock brings; of a span with more of them the first ones."""
_TIMING: Final = ("ScheduleExpression", "ScheduleExpressionTimezone", "StartDate", "EndDate", "State")

Schedule = Mapping[str, Any]


class Planned(NamedTuple):
    next_ms: int
    due_ms: int


class Due(NamedTuple):
    """What is to be done at a moment."""

    times_ms: list[int]
    """The times that have come, as the expression says them."""
    planned: Planned | None
    """The next one; None when there is none."""
    skipped: bool
    """Whether there were more than are done."""


expression_of = lru_cache(maxsize=4096)(parse)


def expression(schedule: Schedule) -> Expression:
    return expression_of(schedule["ScheduleExpression"], schedule["ScheduleExpressionTimezone"])


def first(schedule: Schedule, now_ms: int) -> Planned | None:
    """Of a new schedule. A rate begins at once; at() may name the minute that has just begun."""
    if schedule["State"] == "DISABLED":
        return None
    is_once = isinstance(expression(schedule), At)
    return _planned(schedule, next_ms(schedule, now_ms - (MINUTE_MS if is_once else 1)))


def changed(schedule: Schedule, before: Schedule, now_ms: int) -> Planned | None:
    """After an update: what was planned stays so where nothing about time was changed."""
    if schedule["State"] == "DISABLED":
        return None
    if all(schedule.get(member) == before.get(member) for member in _TIMING):
        return _planned(schedule, before["_next_ms"])
    return _planned(schedule, next_ms(schedule, now_ms))


def due(schedule: Schedule, moment: Moment) -> Due:
    """What a timer brings: all times that have come, but those that were missed while the server was down once together."""
    found: list[int] = []
    planned: Planned | None = Planned(schedule["_next_ms"], schedule["_due_ms"])
    while planned is not None and planned.due_ms <= moment.now_ms:
        if len(found) == MOST:
            return Due(found, _planned(schedule, next_ms(schedule, moment.now_ms)), True)
        found.append(planned.next_ms)
        planned = _planned(schedule, next_ms(schedule, max(planned.next_ms, moment.since_ms)))
    return Due(found, planned, False)


def next_ms(schedule: Schedule, after_ms: int) -> int | None:
    """What the expression says comes after an instant, between the schedule's dates. One-time schedules know no dates."""
    instant = EPOCH + timedelta(milliseconds=after_ms)
    found = expression(schedule)
    if isinstance(found, At):
        return _ms(found.after(instant))
    start, end = schedule.get("StartDate"), schedule.get("EndDate")
    if start is not None and start > instant:
        instant = start - timedelta(milliseconds=1)
    time = found.after(instant, start or schedule["CreationDate"])
    return None if time is not None and end is not None and time > end else _ms(time)


def _planned(schedule: Schedule, time_ms: int | None) -> Planned | None:
    return None if time_ms is None else Planned(time_ms, time_ms + _offset_ms(schedule, time_ms))


def _offset_ms(schedule: Schedule, time_ms: int) -> int:
    """Where inside its flexible window: anywhere, but the same when asked again."""
    window = schedule["FlexibleTimeWindow"]
    if window["Mode"] != "FLEXIBLE":
        return 0
    seconds: int = window["MaximumWindowInMinutes"] * 60
    return 1000 * (zlib.crc32(f"{schedule['Arn']}{time_ms}".encode()) % seconds)


def _ms(time: datetime | None) -> int | None:
    return None if time is None else (time - EPOCH) // timedelta(milliseconds=1)
