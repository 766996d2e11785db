"""Schedule expressions: what they mean, in every time zone, and what is none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilvi.core.errors import Invalid
from pilvi.schedules.cron import DAYS, Cron, parse, parse_rule, weekday_of


def following(expression: str, instant: str, zone: str = "UTC", count: int = 3) -> list[str]:
    """The next times, as the wall clock of the zone shows them."""
    found, at = [], datetime.fromisoformat(instant).replace(tzinfo=UTC)
    for _ in range(count):
        following_one = parse(expression, zone).after(at)
        if following_one is None:
            break
        at = following_one
        found.append(at.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%dT%H:%M"))
    return found


@pytest.mark.parametrize(
    ("expression", "times"),
    [
        ("cron(0 10 * * ? *)", ["2026-11-22T10:00", "2026-11-23T10:00", "2026-11-24T10:00"]),
        ("cron(15 12 * * ? *)", ["2026-11-22T12:15", "2026-11-23T12:15", "2026-11-24T12:15"]),
        ("cron(0 18 ? * MON-FRI *)", ["2026-11-23T18:00", "2026-11-24T18:00", "2026-11-25T18:00"]),
        ("cron(0 8 1 * ? *)", ["2026-12-01T08:00", "2027-01-01T08:00", "2027-02-01T08:00"]),
        ("cron(0/15 * * * ? *)", ["2026-11-22T09:45", "2026-11-22T10:00", "2026-11-22T10:15"]),
        ("cron(0/5 8-17 ? * mon-fri *)", ["2026-11-23T08:00", "2026-11-23T08:05", "2026-11-23T08:10"]),
        ("cron(*/30 9,11 22 NOV ? 2026-2027)", ["2026-11-22T11:00", "2026-11-22T11:30", "2027-11-22T09:00"]),
        ("cron(0 0 L * ? *)", ["2026-11-30T00:00", "2026-12-31T00:00", "2027-01-31T00:00"]),
        ("cron(0 0 L-2 2 ? *)", ["2027-02-26T00:00", "2028-02-27T00:00", "2029-02-26T00:00"]),
        ("cron(0 0 LW * ? *)", ["2026-11-30T00:00", "2026-12-31T00:00", "2027-01-29T00:00"]),
        ("cron(0 0 15W * ? *)", ["2026-12-15T00:00", "2027-01-15T00:00", "2027-02-15T00:00"]),
        ("cron(0 0 1W 5,8 ? 2027)", ["2027-05-03T00:00", "2027-08-02T00:00"]),
        ("cron(0 0 31W * ? 2027)", ["2027-01-29T00:00", "2027-03-31T00:00", "2027-05-31T00:00"]),
        ("cron(0 0 1,15,L * ? *)", ["2026-11-30T00:00", "2026-12-01T00:00", "2026-12-15T00:00"]),
        ("cron(0 10 ? * 6L *)", ["2026-11-27T10:00", "2026-12-25T10:00", "2027-01-29T10:00"]),
        ("cron(0 10 ? * FRIL *)", ["2026-11-27T10:00", "2026-12-25T10:00", "2027-01-29T10:00"]),
        ("cron(0 10 ? * L *)", ["2026-11-28T10:00", "2026-12-05T10:00", "2026-12-12T10:00"]),
        ("cron(0 10 ? * 3#2 *)", ["2026-12-08T10:00", "2027-01-12T10:00", "2027-02-09T10:00"]),
        ("cron(0 10 ? * MON#5 *)", ["2026-11-30T10:00", "2027-03-29T10:00", "2027-05-31T10:00"]),
        ("cron(0 0 ? * FRI-MON *)", ["2026-11-23T00:00", "2026-11-27T00:00", "2026-11-28T00:00"]),
        ("cron(0 22-1 * * ? *)", ["2026-11-22T22:00", "2026-11-22T23:00", "2026-11-23T00:00"]),
        ("cron(0-15/5 12 ? * 1,2 *)", ["2026-11-22T12:00", "2026-11-22T12:05", "2026-11-22T12:10"]),
        ("cron(0 0 29 2 ? *)", ["2028-02-29T00:00", "2032-02-29T00:00", "2036-02-29T00:00"]),
        ("cron(30-30 13-13 ? * 2,4,6 *)", ["2026-11-23T13:30", "2026-11-25T13:30", "2026-11-27T13:30"]),
        ("cron(0 0 30 2 ? *)", []),
        ("cron(0 0 1 1 ? 2025)", []),
    ],
)
def test_cron_is_due(expression: str, times: list[str]) -> None:
    assert following(expression, "2026-11-22T09:37:12") == times


def test_cron_is_later_than_the_instant_itself() -> None:
    assert following("cron(30 9 * * ? *)", "2026-11-22T09:30:00", count=1) == ["2026-11-23T09:30"]
    assert following("cron(30 9 * * ? *)", "2026-11-22T09:29:59", count=1) == ["2026-11-22T09:30"]


def test_cron_skips_the_hour_that_spring_skips() -> None:
    assert following("cron(30 2 * * ? *)", "2026-03-07T12:00", "America/New_York") == [
        "2026-03-09T02:30",
        "2026-03-10T02:30",
        "2026-03-11T02:30",
    ]


def test_cron_counts_the_hour_that_autumn_repeats_once() -> None:
    expression = parse("cron(30 1 * * ? *)", "America/New_York")
    first = expression.after(datetime(2026, 11, 1, 0, 0, tzinfo=UTC))
    assert first == datetime(2026, 11, 1, 5, 30, tzinfo=UTC)
    assert expression.after(first) == datetime(2026, 11, 2, 6, 30, tzinfo=UTC)


def test_cron_keeps_the_wall_clock_over_a_change() -> None:
    expression = parse("cron(0 9 * * ? *)", "Europe/Helsinki")
    before = expression.after(datetime(2026, 10, 24, 0, 0, tzinfo=UTC))
    assert before == datetime(2026, 10, 24, 6, 0, tzinfo=UTC)
    assert expression.after(before) == datetime(2026, 10, 25, 7, 0, tzinfo=UTC)


def test_rate_is_a_span_of_time() -> None:
    start = datetime(2026, 3, 7, 17, 0, tzinfo=UTC)
    daily = parse("rate(1 day)", "America/New_York")
    assert daily.after(start, start) == start + timedelta(hours=24)
    assert daily.after(start + timedelta(hours=24), start) == start + timedelta(hours=48)


def test_rate_is_counted_from_its_start() -> None:
    start = datetime(2026, 11, 22, 9, 0, 30, tzinfo=UTC)
    five = parse("rate(5 minutes)")
    assert five.after(start - timedelta(days=1), start) == start
    assert five.after(start + timedelta(minutes=12), start) == start + timedelta(minutes=15)
    assert five.after(start + timedelta(minutes=12)) == start + timedelta(minutes=17)
    assert parse("rate(99999999 days)").after(start, start) is None


def test_at_is_once_in_its_zone() -> None:
    at = parse("at(2027-01-31T08:00:00)", "Asia/Tokyo")
    moment = datetime(2027, 1, 30, 23, 0, tzinfo=UTC)
    assert at.after(moment - timedelta(seconds=1)) == moment
    assert at.after(moment) is None


def test_at_in_a_skipped_hour_still_happens() -> None:
    at = parse("at(2026-03-08T02:30:00)", "America/New_York")
    assert at.after(datetime(2026, 3, 8, tzinfo=UTC)) == datetime(2026, 3, 8, 7, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "daily",
        "cron()",
        "cron(0 10 * * *)",
        "cron(0 10 * * * *)",
        "cron(0 10 ? * ? *)",
        "cron(60 10 * * ? *)",
        "cron(0 24 * * ? *)",
        "cron(0 10 0 * ? *)",
        "cron(0 10 32 * ? *)",
        "cron(0 10 * 13 ? *)",
        "cron(0 10 ? * 0 *)",
        "cron(0 10 ? * 8 *)",
        "cron(0 10 ? * MON#6 *)",
        "cron(0 10 ? * #2 *)",
        "cron(0 10 * FOO ? *)",
        "cron(0 10 * * ? 2200)",
        "cron(0 10 * * ? 1969)",
        "cron(*/0 10 * * ? *)",
        "cron(, 10 * * ? *)",
        "cron(-5 10 * * ? *)",
        "cron(0 10 W * ? *)",
        "cron(0 10 32W * ? *)",
        "cron(0 10 L-31 * ? *)",
        "cron(0 10 1-5W * ? *)",
        "cron(٣ 10 * * ? *)",
        "rate(0 minutes)",
        "rate(-1 minutes)",
        "rate(1 second)",
        "rate(5minutes)",
        "rate(999999999 days)",
        "at(2027-02-30T00:00:00)",
        "at(2027-01-31)",
        "at(2027-01-31T08:00:00Z)",
        "rate(5 minutes) ",
    ],
)
def test_what_is_no_expression_is_refused(expression: str) -> None:
    with pytest.raises(Invalid, match=r"Invalid Schedule Expression"):
        parse(expression)


@pytest.mark.parametrize("expression", ["at(9999-12-31T23:59:59)", "at(0001-01-01T00:00:00)"])
def test_times_beyond_the_calendar_are_refused(expression: str) -> None:
    with pytest.raises(Invalid):
        parse(expression, "America/New_York" if "9999" in expression else "Asia/Tokyo")


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../etc/passwd", "/etc/passwd", "Europe", "a\0b"])
def test_what_is_no_time_zone_is_refused(zone: str) -> None:
    with pytest.raises(Invalid, match="Timezone"):
        parse("rate(1 day)", zone)


@pytest.mark.parametrize("expression", ["rate(1 minutes)", "rate(2 minute)", "at(2027-01-31T08:00:00)", "cron(0 10 * * *)"])
def test_a_rule_knows_fewer(expression: str) -> None:
    with pytest.raises(Invalid, match=r"Parameter ScheduleExpression is not valid\."):
        parse_rule(expression)


def test_a_rule_knows_cron_and_rate() -> None:
    now = datetime(2026, 11, 22, tzinfo=UTC)
    assert parse_rule("rate(1 hour)").after(now) == now + timedelta(hours=1)
    assert parse_rule("cron(0 10 * * ? *)").after(now) == now + timedelta(hours=10)


ZONES = ["UTC", "Europe/Helsinki", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia"]
INSTANTS = st.datetimes(datetime(2000, 1, 1), datetime(2080, 1, 1), timezones=st.just(UTC))


@given(st.integers(0, 59), st.sampled_from(["*", "0/6", "2"]), st.sampled_from(["*", "L", "15W"]), st.sampled_from(ZONES), INSTANTS)
def test_what_follows_fits_the_fields(minute: int, hour: str, day: str, zone: str, instant: datetime) -> None:
    expression = parse(f"cron({minute} {hour} {day} * ? *)", zone)
    assert isinstance(expression, Cron)
    found = expression.after(instant)
    assert found is not None
    assert found > instant
    wall = found.astimezone(ZoneInfo(zone))
    assert (wall.minute, wall.second) == (minute, 0)
    assert hour == "*" or wall.hour in ((0, 6, 12, 18) if hour == "0/6" else (2,))
    assert day != "15W" or weekday_of(wall.year, wall.month, wall.day) not in (DAYS["SAT"], DAYS["SUN"])
    assert expression.after(found - timedelta(seconds=1)) == found
