"""When a secret is rotated next: after some days, by rate(...) or by cron(...), as Secrets Manager understands them.

Source: Secrets Manager User Guide, "Schedule expressions" (times are UTC; rates in days or hours, at least four hours apart).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from pilvi.core.errors import Invalid

_RATE = re.compile(r"rate\((\d+) (hour|hours|day|days)\)")
_CRON = re.compile(r"cron\((\S+) (\S+) (\S+) (\S+) (\S+) (\S+)\)")
_MONTHS = {
    name: number
    for number, name in enumerate(["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"], 1)
}
_DAYS = {name: number for number, name in enumerate(["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"], 1)}
_FURTHEST = timedelta(days=2 * 366)
LEAST_HOURS = 4
MOST_DAYS = 999


def next_time(rules: Mapping[str, Any], after: datetime) -> datetime:
    """The next rotation beyond an instant. Invalid for an expression that cannot be read."""
    if days := rules.get("AutomaticallyAfterDays"):
        return after + timedelta(days=days)
    text = str(rules.get("ScheduleExpression") or "")
    if (found := _RATE.fullmatch(text)) is not None:
        count, unit = int(found[1]), found[2]
        step = timedelta(hours=count) if unit.startswith("hour") else timedelta(days=count)
        if not timedelta(hours=LEAST_HOURS) <= step <= timedelta(days=MOST_DAYS):
            raise Invalid(f"The rate must lie between {LEAST_HOURS} hours and {MOST_DAYS} days.")
        return after + step
    if (cron := _CRON.fullmatch(text)) is not None:
        return _next_of_cron(cron.groups(), after)
    raise Invalid(f"{text or 'The rotation schedule'} is neither a rate nor a cron expression.")


def _next_of_cron(fields: tuple[str, ...], after: datetime) -> datetime:
    minute, hour, day, month, weekday, year = fields
    if minute != "0":
        raise Invalid("The minutes of a rotation schedule must be 0.")
    if "?" not in (day, weekday):
        raise Invalid("Either the day of the month or the day of the week must be '?'.")
    hours = _numbers(hour, 0, 23, {})
    months, years = _numbers(month, 1, 12, _MONTHS), _numbers(year, 1970, 2199, {})
    date = after.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    while date <= after + _FURTHEST:
        if date.year in years and date.month in months and _is_day(date, day, weekday):
            if date.hour in hours:
                return date
            date += timedelta(hours=1)
        else:
            date = date.replace(hour=0) + timedelta(days=1)
    raise Invalid("The rotation schedule names no time within two years.")


def _is_day(date: datetime, day: str, weekday: str) -> bool:
    is_last = (date + timedelta(days=1)).month != date.month
    if day != "?":
        return is_last if day == "L" else date.day in _numbers(day, 1, 31, {})
    today = date.isoweekday() % 7 + 1
    if "#" in weekday:
        name, _, count = weekday.partition("#")
        return today in _numbers(name, 1, 7, _DAYS) and count.isdigit() and (date.day - 1) // 7 + 1 == int(count)
    if weekday.endswith("L") and len(weekday) > 1:
        return today in _numbers(weekday[:-1], 1, 7, _DAYS) and (date + timedelta(days=7)).month != date.month
    return today in _numbers(weekday, 1, 7, _DAYS)


def _numbers(text: str, least: int, most: int, names: Mapping[str, int]) -> frozenset[int]:
    """What a field of a cron expression stands for: *, lists, ranges, steps, names."""
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        low, _, high = span.partition("-")
        try:
            start = least if low in ("*", "?") else names.get(low.upper()) or int(low)
            end = (names.get(high.upper()) or int(high)) if high else (most if step or low in ("*", "?") else start)
            every = int(step) if step else 1
        except ValueError:
            raise Invalid(f"{text} cannot be read in a cron expression.") from None
        if not least <= start <= end <= most or every < 1:
            raise Invalid(f"{text} lies outside of {least}-{most}.")
        found.update(range(start, end + 1, every))
    return frozenset(found)
