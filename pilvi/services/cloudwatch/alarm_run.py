"""Alarms looked at by the clock: each minute (every ten seconds where the period is that short), and at once after the clock was moved.

A look reads the metric, judges (alarm_state.py), and writes the new state with all that comes of it, together with the next look: one
transaction of the timers (pilvi.schedules.firing).

Differs: what was missed while the clock was moved is looked at once, as it is at the end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from pilvi.schedules.firing import Fired, Moment, Timer, setting
from pilvi.services.cloudwatch.alarm_check import rule_of, watched_of
from pilvi.services.cloudwatch.alarm_state import RANGE_MORE, Sample, judge, reason_data
from pilvi.services.cloudwatch.alarms import State, alarms_of, entering, own_context
from pilvi.services.cloudwatch.series import read
from pilvi.services.cloudwatch.statistic import SIMPLE, Point, statistic
from pilvi.storage.records import Update

if TYPE_CHECKING:
    from pilvi.core.service import Cloud, Context

WHO: Final = "cloudwatch/alarm"
MINUTE_S: Final = 60


def next_ms(now_s: float, period_s: int) -> int:
    """When an alarm is looked at next."""
    step = min(period_s, MINUTE_S) if period_s >= 10 else MINUTE_S
    return (int(now_s) // step + 1) * step * 1000


def look(cloud: Cloud, timer: Timer, moment: Moment) -> Fired:
    """One alarm's turn; nothing when it was deleted or put anew since."""
    account, region, generation, name = timer.id.split("/", 3)
    table = alarms_of(account, region)
    row = cloud.store.get(table, name)
    if row is None or row.value["_generation"] != generation:
        return Fired()
    ctx, alarm = own_context(cloud, account, region), dict(row.value)
    due = next_ms(moment.now_ms / 1000, watched_of(alarm)["Period"])
    again = setting(WHO, timer.id, due)
    state = state_of(ctx, alarm, moment.now_ms // 1000)
    if state is None or state.value == alarm["StateValue"]:
        return Fired((again,), lambda: cloud.schedules.expect(due))
    entered = entering(ctx, alarm, state)

    def afterwards() -> None:
        cloud.schedules.expect(due)
        entered.wake()

    return Fired((again, Update(table, name, alarm, row.version), *entered.changes), afterwards)


def state_of(ctx: Context, alarm: Mapping[str, Any], now_s: int) -> State | None:
    """The state its data calls for now; None: it stays."""
    rule, watched = rule_of(alarm), watched_of(alarm)
    slots = slots_of(ctx, watched, now_s, rule.periods + RANGE_MORE)
    if _is_too_thin(alarm, watched["Stat"], slots):
        return None
    verdict = judge(rule, slots)
    if verdict is None:
        return None
    stat = watched["Stat"] if watched["Stat"] in SIMPLE else f"extended: {watched['Stat']}"
    data = reason_data(rule, slots, verdict, watched["Period"], stat, watched["Unit"], ctx.clock.now())
    return State(verdict.state, verdict.reason, json.dumps(data))


def slots_of(ctx: Context, watched: Mapping[str, Any], now_s: int, many: int) -> list[Sample | None]:
    """The periods that ended last, newest first; None where nothing was observed. They end with the last whole minute (ten seconds)."""
    period = watched["Period"]
    step = min(period, MINUTE_S)
    end = now_s // step * step
    start = end - many * period
    points = [
        point
        for point in read(ctx, watched["Namespace"], watched["MetricName"], watched["Dimensions"] or (), start, end)
        if watched["Unit"] in (None, point.unit)
    ]
    slots: list[Sample | None] = [None] * many
    shift = start % period
    found: dict[int, list[Point]] = {}
    for point in points:
        found.setdefault((point.second - shift) // period * period + shift, []).append(point)
    for second, some in found.items():
        value = statistic(watched["Stat"], some)
        if value is not None:
            slots[many - 1 - (second - start) // period] = Sample(second, value, sum(point.count for point in some))
    return slots


def _is_too_thin(alarm: Mapping[str, Any], stat: str, slots: list[Sample | None]) -> bool:
    """Whether a percentile of too few observations is to change nothing. Source: "Percentile-based alarms and low data samples"."""
    if alarm.get("EvaluateLowSampleCountPercentile") != "ignore" or stat in SIMPLE:
        return False
    share = float(stat[1:]) / 100
    wanted = 10 / (1 - share) if 0.5 <= share < 1 else 10 / share if 0 < share < 0.5 else 0
    newest = next((slot for slot in slots if slot is not None), None)
    return newest is not None and newest.many < wanted
