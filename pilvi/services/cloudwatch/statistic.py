"""Data points and what is made of them: pure arithmetic. Source: CloudWatch User Guide, "CloudWatch statistics definitions"."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pilvi.core.errors import Invalid

SIMPLE = ("SampleCount", "Average", "Sum", "Minimum", "Maximum")
_PERCENTILE = re.compile(r"p(100|\d{1,2}(?:\.\d{1,10})?)")
_OTHER = re.compile(r"(?:(?:tm|wm|tc|ts|pr|TM|WM|TC|TS|PR)[\d(].*|IQM)")


@dataclass(frozen=True, slots=True)
class Point:
    """What was observed in one second: some values, or what somebody made of them."""

    second: int
    count: float
    total: float
    low: float
    high: float
    unit: str
    values: tuple[tuple[float, float], ...] | None
    """(value, how often); None where only a summary was given."""

    @classmethod
    def of_values(cls, second: int, unit: str, values: Iterable[tuple[float, float]]) -> Point:
        found = tuple(values)
        numbers = [value for value, _ in found]
        return cls(
            second,
            sum(count for _, count in found),
            sum(value * count for value, count in found),
            min(numbers),
            max(numbers),
            unit,
            found,
        )

    def as_record(self) -> dict[str, Any]:
        values = None if self.values is None else [list(pair) for pair in self.values]
        return {"n": self.count, "sum": self.total, "min": self.low, "max": self.high, "unit": self.unit, "values": values}

    @classmethod
    def of_record(cls, second: int, record: Mapping[str, Any]) -> Point:
        values = None if record["values"] is None else tuple((value, count) for value, count in record["values"])
        return cls(second, record["n"], record["sum"], record["min"], record["max"], record["unit"], values)


def check_statistic(name: str) -> None:
    """Invalid unless it is one of the statistics there are."""
    if name in SIMPLE or _PERCENTILE.fullmatch(name):
        return
    if _OTHER.fullmatch(name):
        raise Invalid(
            f"The statistic {name} is not built into this cloud yet; there are {', '.join(SIMPLE)} and percentiles (p99)."
        )
    raise Invalid(f"The value {name} for parameter Statistic is invalid.")


def by_period(points: Iterable[Point], period_s: int) -> dict[tuple[int, str], list[Point]]:
    """Points by (start of their period, unit), in the order of time."""
    found: dict[tuple[int, str], list[Point]] = {}
    for point in points:
        found.setdefault((point.second - point.second % period_s, point.unit), []).append(point)
    return found


def statistic(name: str, points: list[Point]) -> float | None:
    """A statistic over some points; None where it cannot be known: a percentile of summaries."""
    count = sum(point.count for point in points)
    match name:
        case "SampleCount":
            return float(count)
        case "Sum":
            return float(sum(point.total for point in points))
        case "Average":
            return float(sum(point.total for point in points) / count) if count else None
        case "Minimum":
            return float(min(point.low for point in points))
        case "Maximum":
            return float(max(point.high for point in points))
    return percentile(points, float(name[1:]))


def percentile(points: list[Point], percent: float) -> float | None:
    """The value at a percentile, between two values by interpolation; None when some point is a summary of several values."""
    pairs: list[tuple[float, float]] = []
    for point in points:
        if point.values is not None:
            pairs += point.values
        elif point.low == point.high:
            pairs.append((point.low, point.count))
        else:
            return None
    pairs.sort()
    count = sum(times for _, times in pairs)
    if not count:
        return None
    place = percent / 100 * (count - 1)
    low, high = _at(pairs, int(place)), _at(pairs, int(place) + 1)
    return low + (high - low) * (place - int(place))


def _at(pairs: list[tuple[float, float]], position: int) -> float:
    """The value at a position, counted with its repetitions."""
    for value, times in pairs:
        position -= int(times)
        if position < 0:
            return value
    return pairs[-1][0]
