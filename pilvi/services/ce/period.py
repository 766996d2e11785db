"""The times of a Cost Explorer request: where they begin and end, and how they are cut."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

from pilvi.core.errors import Invalid, ServiceError

_FORMATS = {"HOURLY": ("%Y-%m-%dT%H:%M:%SZ", "yyyy-MM-ddThh:mm:ssZ")}
_DAY = ("%Y-%m-%d", "yyyy-MM-dd")
# Source: Cost Explorer user guide: 14 months of data, 14 days of it by hour.
_MONTHS = 14
_HOURLY_DAYS = 14

Period = tuple[datetime, datetime]


def period_of(asked: Mapping[str, str], now: datetime, granularity: str = "DAILY") -> Period:
    """The time asked about; Invalid or DataUnavailableException, as AWS answers, where there can be no data."""
    start, end = (_instant(name, asked[name], granularity) for name in ("Start", "End"))
    if start >= end:
        raise Invalid("Start date (and hour) should be before end date (and hour)")
    month = month_of(now)
    following = next_month(month)
    if start >= following:
        raise Invalid(f"start date past the beginning of next month. Try with a start date before {following:%Y-%m-%d}.")
    if start > now:
        raise ServiceError("DataUnavailableException", "Data is not available. Please try to adjust the time period.")
    if granularity == "HOURLY" and start < now - timedelta(days=_HOURLY_DAYS + 1):
        raise Invalid("You can only access hourly data for the last 14 days.")
    if start < _months_before(month, _MONTHS):
        raise Invalid(f"Data older than {_MONTHS} months is not available.")
    return start, end


def cut(period: Period, granularity: str) -> list[Period]:
    """A time in hours, days or months; the first and the last month may be parts of one."""
    return list(_cut(period, granularity))


def told(period: Period, granularity: str) -> dict[str, str]:
    """As answers have it."""
    form = _FORMATS.get(granularity, _DAY)[0]
    return {"Start": period[0].strftime(form), "End": period[1].strftime(form)}


def is_estimated(period: Period, now: datetime) -> bool:
    """Whether its month is still running."""
    return period[1] > month_of(now)


def month_of(instant: datetime) -> datetime:
    return instant.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def next_month(month: datetime) -> datetime:
    return month_of(month + timedelta(days=32))


def _instant(name: str, text: str, granularity: str) -> datetime:
    form, spoken = _FORMATS.get(granularity, _DAY)
    try:
        return datetime.strptime(text, form).replace(tzinfo=UTC)
    except ValueError:
        raise Invalid(f"{name} time {text} is invalid. Valid format is: {spoken}.") from None


def _cut(period: Period, granularity: str) -> Iterator[Period]:
    start, last = period
    while start < last:
        if granularity == "MONTHLY":
            end = next_month(month_of(start))
        elif granularity == "DAILY":
            end = start + timedelta(days=1)
        else:
            end = start + timedelta(hours=1)
        yield start, min(end, last)
        start = end


def _months_before(month: datetime, count: int) -> datetime:
    for _ in range(count):
        month = month_of(month - timedelta(days=1))
    return month
