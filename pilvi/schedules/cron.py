"""When something is to happen: AWS's schedule expressions, in any time zone. Pure functions.

    parse("cron(0 9 ? * MON-FRI *)", "Europe/Helsinki").after(instant) -> the next instant, or None when there is no other
    parse("rate(5 minutes)").after(instant, start)                     -> the next whole step from `start`
    parse("at(2027-01-31T08:00:00)", "Asia/Tokyo").after(instant)
    parse_rule("rate(1 minute)")                                       -> as rules of EventBridge know them: UTC, no at()

Six fields: minutes, hours, day of month, month, day of week (1 is Sunday), year. `*`, lists, ranges (also over the end: FRI-MON),
steps, names, `?`, `L` (last day; `6L` last Friday; `L-3`), `W` (`15W`, `LW`: nearest weekday), `#` (`2#1` first Monday).

Daylight saving: an hour that the clock skips is skipped with what falls into it; an hour that comes twice counts once, the first
time. A rate is a span of time, so days of 24 hours. at() inside a skipped hour is as late as the clock was moved: it must happen.

Source: EventBridge Scheduler User Guide, "Schedule types in EventBridge Scheduler"; EventBridge User Guide, "Cron expressions reference".
"""

from __future__ import annotations

import calendar
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final, Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pilvi.core.errors import Invalid

YEARS: Final = (1970, 2199)
MONTHS: Final = {
    name: number
    for number, name in enumerate(("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"), 1)
}
DAYS: Final = {name: number for number, name in enumerate(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"), 1)}
UNITS_S: Final = {"minute": 60, "hour": 3600, "day": 86_400}
MOST_RATE: Final = 99_999_999
"""Of any unit: what still is a time span of datetime."""

_RATE = re.compile(r"rate\(\s*([0-9]{1,8})\s+(minute|hour|day)(s?)\s*\)\Z")
_AT = re.compile(r"at\(\s*(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(?::\d{2})?)\s*\)\Z")
_CRON = re.compile(r"cron\(\s*([^()]*?)\s*\)\Z")
_NEAREST = re.compile(r"([0-9]{1,2})W\Z")
_LAST_LESS = re.compile(r"L-([0-9]{1,2})\Z")

DayRule = Callable[[int, int], Sequence[int]]
"""(year, month) -> its days, ascending."""


class Expression(Protocol):
    """When something is to happen."""

    def after(self, instant: datetime, start: datetime | None = None) -> datetime | None:
        """The first time later than `instant` (aware), in UTC; None when there is none. start: what a rate is counted from; without
        it the next step is one rate later than `instant`."""


class At:
    """Once."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def after(self, instant: datetime, start: datetime | None = None) -> datetime | None:  # noqa: ARG002
        return self.moment if self.moment > instant else None


class Rate:
    """Again and again, the same span apart."""

    def __init__(self, every_s: int) -> None:
        self.every_s = every_s

    def after(self, instant: datetime, start: datetime | None = None) -> datetime | None:
        instant = instant.astimezone(UTC)
        begin = instant if start is None else start.astimezone(UTC)
        if begin > instant:
            return begin
        steps = (instant - begin) // timedelta(seconds=self.every_s) + 1
        try:
            return begin + timedelta(seconds=self.every_s) * steps
        except OverflowError:
            return None


class Cron:
    """Where the fields of the wall clock in a time zone are right."""

    def __init__(
        self,
        minutes: Sequence[int],
        hours: Sequence[int],
        days: DayRule,
        months: Sequence[int],
        years: Sequence[int],
        zone: ZoneInfo,
    ) -> None:
        self._minutes = minutes
        self._hours = hours
        self._days = days
        self._months = months
        self._years = years
        self._zone = zone

    def after(self, instant: datetime, start: datetime | None = None) -> datetime | None:  # noqa: ARG002
        local = instant.astimezone(self._zone).replace(tzinfo=None, fold=0)
        for day in self._dates(local.date()):
            is_today = day == local.date()
            for hour in self._hours[bisect_left(self._hours, local.hour) if is_today else 0 :]:
                skipped = local.minute if is_today and hour == local.hour else 0
                for minute in self._minutes[bisect_left(self._minutes, skipped) :]:
                    found = instant_of(datetime(day.year, day.month, day.day, hour, minute), self._zone)
                    if found is not None and found > instant:
                        return found
        return None

    def _dates(self, first: date) -> Iterator[date]:
        for year in self._years[bisect_left(self._years, first.year) :]:
            for month in self._months:
                if (year, month) >= (first.year, first.month):
                    for day in self._days(year, month):
                        if (found := date(year, month, day)) >= first:
                            yield found


def parse(expression: str, zone: str = "UTC") -> Expression:
    """cron(...), rate(...) or at(...). Invalid, in EventBridge Scheduler's words, for anything else."""
    place = find_zone(zone)
    if (rate := _RATE.match(expression)) and int(rate[1]) > 0:
        return Rate(int(rate[1]) * UNITS_S[rate[2]])
    if at := _AT.match(expression):
        try:
            return At(datetime.fromisoformat(at[1]).replace(tzinfo=place).astimezone(UTC))
        except (ValueError, OverflowError):
            raise _invalid(expression) from None
    if cron := _CRON.match(expression):
        try:
            return _cron(cron[1].upper().split(), place)
        except ValueError:
            raise _invalid(expression) from None
    raise _invalid(expression)


def parse_rule(expression: str) -> Expression:
    """The schedule of an EventBridge rule: cron(...) or rate(...), in UTC, singular units for one only. Invalid in EventBridge's words."""
    rate = _RATE.match(expression)
    if expression.startswith("at(") or (rate and (int(rate[1]) == 1) == bool(rate[3])):
        raise Invalid("Parameter ScheduleExpression is not valid.")
    try:
        return parse(expression)
    except Invalid:
        raise Invalid("Parameter ScheduleExpression is not valid.") from None


@lru_cache(maxsize=256)
def find_zone(name: str) -> ZoneInfo:
    """A time zone of the IANA database. Invalid for other names."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Invalid(f"Invalid Schedule Expression Timezone {name}.") from None


def instant_of(wall: datetime, zone: ZoneInfo) -> datetime | None:
    """What a wall clock means, in UTC: the first of two times, None for one that the clock skips."""
    found = wall.replace(tzinfo=zone).astimezone(UTC)
    return found if found.astimezone(zone).replace(tzinfo=None, fold=0) == wall else None


# -- the fields of cron: ValueError for what they may not be ------------------------------------------------------------


def _cron(fields: Sequence[str], zone: ZoneInfo) -> Cron:
    minute, hour, day, month, weekday, year = fields
    if (day == "?") == (weekday == "?"):
        raise ValueError("one of the two fields of days must be ?")
    return Cron(
        numbers(minute, 0, 59),
        numbers(hour, 0, 23),
        _days_of_month(day) if weekday == "?" else _days_of_week(weekday),
        numbers(month, 1, 12, MONTHS),
        numbers(year, *YEARS),
        zone,
    )


def numbers(field: str, least: int, most: int, names: dict[str, int] | None = None) -> list[int]:
    """`*`, `5`, `1-5`, `0/15`, `MON,WED`: what a field allows, ascending."""
    found: set[int] = set()
    for part in field.split(","):
        span, slash, step = part.partition("/")
        low, dash, high = span.partition("-")
        if span == "*":
            first, last = least, most
        else:
            first = _number(low, least, most, names)
            last = _number(high, least, most, names) if dash else most if slash else first
        if last < first:  # over the end of the day, week or year
            last += most - least + 1
        every = _number(step, 1, most) if slash else 1
        found.update(least + (number - least) % (most - least + 1) for number in range(first, last + 1, every))
    return sorted(found)


def _number(text: str, least: int, most: int, names: dict[str, int] | None = None) -> int:
    number = (names or {}).get(text)
    if number is None:
        if not (text.isascii() and text.isdigit() and len(text) <= 4):
            raise ValueError(text)
        number = int(text)
    if not least <= number <= most:
        raise ValueError(text)
    return number


def _days_of_month(field: str) -> DayRule:
    if not {"L", "W"} & set(field):
        allowed = numbers(field, 1, 31)
        return lambda year, month: [day for day in allowed if day <= days_in(year, month)]
    rules = [_day_of_month(part) for part in field.split(",")]
    return lambda year, month: sorted({day for rule in rules for day in rule(year, month)})


def _day_of_month(part: str) -> DayRule:
    if part == "L":
        return lambda year, month: [days_in(year, month)]
    if part == "LW":
        return lambda year, month: [nearest_weekday(year, month, days_in(year, month))]
    if less := _LAST_LESS.match(part):
        earlier = _number(less[1], 1, 30)
        return lambda year, month: [day for day in (days_in(year, month) - earlier,) if day > 0]
    if nearest := _NEAREST.match(part):
        wanted = _number(nearest[1], 1, 31)
        return lambda year, month: [nearest_weekday(year, month, wanted)] if wanted <= days_in(year, month) else []
    return _days_of_month(part) if not {"L", "W"} & set(part) else _refuse(part)


def _days_of_week(field: str) -> DayRule:
    rules = [_day_of_week(part) for part in field.split(",")]
    return lambda year, month: sorted({day for rule in rules for day in rule(year, month)})


def _day_of_week(part: str) -> DayRule:
    if part == "L":
        return _weekdays({7})
    if part.endswith("L"):
        weekday = _number(part[:-1], 1, 7, DAYS)
        return lambda year, month: _of_weekday(year, month, weekday)[-1:]
    name, hash_, number = part.partition("#")
    if hash_:
        weekday, nth = _number(name, 1, 7, DAYS), _number(number, 1, 5)
        return lambda year, month: _of_weekday(year, month, weekday)[nth - 1 : nth]
    return _weekdays(set(numbers(part, 1, 7, DAYS)))


def _weekdays(allowed: set[int]) -> DayRule:
    return lambda year, month: [day for day in range(1, days_in(year, month) + 1) if weekday_of(year, month, day) in allowed]


def _refuse(part: str) -> DayRule:
    raise ValueError(part)


def _of_weekday(year: int, month: int, weekday: int) -> list[int]:
    first = 1 + (weekday - weekday_of(year, month, 1)) % 7
    return list(range(first, days_in(year, month) + 1, 7))


def weekday_of(year: int, month: int, day: int) -> int:
    """1 is Sunday."""
    return (calendar.weekday(year, month, day) + 1) % 7 + 1


def days_in(year: int, month: int) -> int:
    return calendar.monthrange(year, month)[1]


def nearest_weekday(year: int, month: int, day: int) -> int:
    """Monday to Friday, nearest to a day, in the same month."""
    weekday = weekday_of(year, month, day)
    if weekday == DAYS["SAT"]:
        return day - 1 if day > 1 else day + 2
    if weekday == DAYS["SUN"]:
        return day + 1 if day < days_in(year, month) else day - 2
    return day


def _invalid(expression: str) -> Invalid:
    return Invalid(f"Invalid Schedule Expression {expression}.")
