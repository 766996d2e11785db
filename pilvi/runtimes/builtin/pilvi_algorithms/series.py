"""Time series as DeepAR gets them: JSON Lines or Parquet records, calendar features of a frequency, lags, windows.

{"start": "2024-01-01 00:00:00", "target": [4.0, null, 5.5], "cat": [0, 3], "dynamic_feat": [[1, 0, 1]]}
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

UNITS: dict[str, Any] = {"M": "M", "W": "D", "D": "D", "H": "h", "min": "m"}
_FREQUENCY = re.compile(r"(\d*)(M|W|D|H|min)")
_MISSING = (None, "NaN", "nan")


class BadSeries(ValueError):
    """A record that is no time series."""


@dataclass(frozen=True, slots=True)
class Series:
    start: Any
    """datetime64 of the frequency's unit"""
    target: Any
    """float64, NaN where missing"""
    cat: tuple[int, ...] = ()
    features: Any = None
    """dynamic features x time"""

    def __len__(self) -> int:
        return len(self.target)


@dataclass(frozen=True, slots=True)
class Frequency:
    """Every `multiple` months, weeks, days, hours or minutes."""

    multiple: int
    unit: str

    @classmethod
    def parse(cls, text: str) -> Frequency:
        match = _FREQUENCY.fullmatch(text)
        if match is None or match[1] == "0":
            raise BadSeries(f"time_freq must be a number and one of M, W, D, H, min, but it is {text}")
        return cls(int(match[1] or 1), match[2])

    def instants(self, start: Any, first: int, count: int) -> Any:
        """The instants number `first` and after, counted from `start`."""
        step = self.multiple * (7 if self.unit == "W" else 1)
        return start + np.timedelta64(step, UNITS[self.unit]) * np.arange(first, first + count)

    def start(self, text: str) -> Any:
        try:
            return np.datetime64(text.strip().replace(" ", "T").rstrip("Z")).astype(f"datetime64[{UNITS[self.unit]}]")
        except ValueError:
            raise BadSeries(f"start is not a timestamp of the form YYYY-MM-DD HH:MM:SS: {text}") from None

    def calendar(self, instants: Any) -> Any:
        """time x features, each between -0.5 and 0.5."""
        days, months, years = (instants.astype(f"datetime64[{unit}]") for unit in "DMY")
        day = days.astype(np.int64)
        of_year = (days - years.astype("datetime64[D]")).astype(np.int64)
        minutes = (instants.astype("datetime64[m]") - days.astype("datetime64[m]")).astype(np.int64)
        named = {
            "minute": (minutes % 60) / 59,
            "hour": minutes // 60 / 23,
            "weekday": (day + 3) % 7 / 6,
            "monthday": (days - months.astype("datetime64[D]")).astype(np.int64) / 30,
            "yearday": of_year / 365,
            "week": of_year // 7 / 52,
            "month": months.astype(np.int64) % 12 / 11,
        }
        names = {
            "min": ("minute", "hour", "weekday", "monthday", "yearday"),
            "H": ("hour", "weekday", "monthday", "yearday"),
            "D": ("weekday", "monthday", "yearday"),
            "W": ("monthday", "week"),
            "M": ("month",),
        }[self.unit]
        return np.stack([named[name] - 0.5 for name in names], 1).astype(np.float32)

    def lags(self, longest: int) -> list[int]:
        """How far back a step looks: the steps just before, and the same moment of earlier days, weeks, years; none beyond `longest`."""
        seasons = {
            "min": [(60, 3), (1440, 2)],
            "H": [(24, 7), (168, 4)],
            "D": [(7, 4), (30, 2), (364, 1)],
            "W": [(4, 3), (52, 2)],
            "M": [(12, 3)],
        }[self.unit]
        found = set(range(1, 8))
        for season, count in seasons:
            for number in range(1, count + 1):
                middle = round(season * number / self.multiple)
                found |= {middle - 1, middle, middle + 1}
        return sorted(lag for lag in found if 1 <= lag <= longest) or [1]


# -- reading --------------------------------------------------------------------------------------------------------------


def records(name: str, data: bytes) -> Iterator[Mapping[str, Any]]:
    """The records of a file: Parquet by its first bytes, else JSON Lines."""
    if data[:4] == b"PAR1":
        import pyarrow.parquet

        yield from pyarrow.parquet.read_table(io.BytesIO(data)).to_pylist()
        return
    for number, line in enumerate(data.decode().splitlines(), 1):
        if line.strip():
            try:
                yield json.loads(line)
            except ValueError:
                raise BadSeries(f"line {number} of {name} is not JSON: {line[:80]}") from None


def series_of(record: Mapping[str, Any], frequency: Frequency) -> Series:
    """Raises BadSeries."""
    if not isinstance(record, Mapping) or "start" not in record or "target" not in record:
        raise BadSeries("a time series needs the fields start and target")
    try:
        target = np.array([np.nan if value in _MISSING else float(value) for value in record["target"]], np.float64)
        cat = record.get("cat")
        cats = () if cat is None else tuple(int(one) for one in (cat if isinstance(cat, (list, tuple)) else [cat]))
        rows = record.get("dynamic_feat")
        features = np.array([[float(value) for value in row] for row in rows], np.float32) if rows else None
    except (TypeError, ValueError) as error:
        raise BadSeries(f"a time series holds something that is no number: {error}") from None
    return Series(frequency.start(str(record["start"])), target, cats, features)
