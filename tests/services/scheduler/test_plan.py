"""When schedules fire, as pure functions of their records: windows, dates, what was missed, what the clock was moved over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pilvi.schedules.firing import Moment
from pilvi.services.scheduler import plan

START = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = 60_000


def ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def schedule(expression: str, zone: str = "UTC", window: int = 0, **members: Any) -> dict[str, Any]:
    """A record with its first time planned."""
    record = {
        "Arn": "arn:aws:scheduler:us-east-1:111122223333:schedule/default/s",
        "ScheduleExpression": expression,
        "ScheduleExpressionTimezone": zone,
        "FlexibleTimeWindow": {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": window} if window else {"Mode": "OFF"},
        "State": "ENABLED",
        "CreationDate": START,
        **members,
    }
    planned = plan.first(record, ms(START))
    return record | {"_next_ms": planned and planned.next_ms, "_due_ms": planned and planned.due_ms}


def test_a_rate_is_due_at_once_and_at_may_be_of_this_minute() -> None:
    assert schedule("rate(5 minutes)")["_next_ms"] == ms(START)
    assert schedule("at(2025-12-31T23:59:30)")["_next_ms"] == ms(START) - 30_000
    assert schedule("at(2025-12-31T23:58:30)")["_next_ms"] is None
    assert schedule("rate(5 minutes)", State="DISABLED")["_next_ms"] is None


def test_what_the_clock_was_moved_over_happens_each_time() -> None:
    record = schedule("cron(0 * * * ? *)")
    now = ms(START) + 5 * 60 * MINUTE
    due = plan.due(record, Moment(now, ms(START)))
    assert due.times_ms == [ms(START) + hours * 60 * MINUTE for hours in range(6)]
    assert due.planned == plan.Planned(now + 60 * MINUTE, now + 60 * MINUTE)


def test_what_was_missed_happens_once() -> None:
    record = schedule("rate(1 minute)")
    now = ms(START) + 600 * MINUTE
    due = plan.due(record, Moment(now, now - MINUTE))
    assert due.times_ms == [ms(START), now]
    assert due.planned == plan.Planned(now + MINUTE, now + MINUTE)


def test_of_a_long_move_the_first_thousand_happen() -> None:
    record = schedule("rate(1 minute)")
    now = ms(START) + 5000 * MINUTE
    due = plan.due(record, Moment(now, ms(START)))
    assert (len(due.times_ms), due.skipped) == (plan.MOST, True)
    assert due.planned == plan.Planned(now + MINUTE, now + MINUTE)


@pytest.mark.parametrize("minutes", [1, 15, 1440])
def test_a_flexible_window_is_never_left(minutes: int) -> None:
    offsets = set()
    for day in range(1, 29):
        record = schedule(f"at(2026-02-{day:02}T12:00:00)", window=minutes)
        offset = record["_due_ms"] - record["_next_ms"]
        assert 0 <= offset < minutes * MINUTE
        offsets.add(offset)
    assert len(offsets) > 20


def test_a_window_longer_than_the_rate_keeps_every_time() -> None:
    record = schedule("rate(1 minute)", window=10)
    due = plan.due(record, Moment(ms(START) + 60 * MINUTE, ms(START)))
    assert due.times_ms == [ms(START) + number * MINUTE for number in range(len(due.times_ms))]
    assert len(due.times_ms) >= 50


def test_dates_bound_what_recurs_and_not_what_happens_once() -> None:
    start, end = START + timedelta(hours=1), START + timedelta(hours=3)
    record = schedule("rate(1 hour)", StartDate=start, EndDate=end)
    due = plan.due(record, Moment(ms(START) + 1440 * MINUTE, ms(START)))
    assert due.times_ms == [ms(START) + hours * 60 * MINUTE for hours in (1, 2, 3)]
    assert due.planned is None
    assert schedule("at(2026-06-01T00:00:00)", EndDate=end)["_next_ms"] is not None


def test_an_update_of_something_else_keeps_the_plan() -> None:
    before = schedule("rate(1 hour)", window=30)
    now = ms(START) + 10 * MINUTE
    assert plan.changed({**before, "Description": "x"}, before, now) == plan.Planned(before["_next_ms"], before["_due_ms"])
    other = plan.changed({**before, "ScheduleExpression": "rate(2 hours)"}, before, now)
    assert other is not None
    assert other.next_ms == ms(START) + 120 * MINUTE
    assert plan.changed({**before, "State": "DISABLED"}, before, now) is None
