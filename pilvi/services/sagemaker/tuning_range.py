"""Ranges of hyperparameters that a tuning job searches: their checks, their scales, and values as the strings AWS gives.

    "0.1" --position--> 0.5 on the range's scale (0 is its start, 1 its end) --value--> "0.1"

Strategies only see positions, so that a step means the same everywhere: a tenth of the range, or of its decades.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from pilvi.core.errors import Invalid

Kind = Literal["Integer", "Continuous", "Categorical"]
Scale = Literal["Linear", "Logarithmic", "ReverseLogarithmic"]

_KINDS: tuple[Kind, ...] = ("Integer", "Continuous", "Categorical")
_WIDE = 100
"""From this ratio of a range's ends on, Auto takes the logarithmic scale. AWS does not tell how it chooses."""


@dataclass(frozen=True, slots=True)
class Range:
    """One hyperparameter's."""

    name: str
    kind: Kind
    low: float = 0.0
    high: float = 0.0
    scale: Scale = "Linear"
    values: tuple[str, ...] = ()
    """Of a categorical one."""

    def value(self, position: float) -> str:
        """The value at a position between 0 and 1, as the training job gets it."""
        if self.kind == "Categorical":
            return self.values[min(int(position * len(self.values)), len(self.values) - 1)]
        number = self._unscaled(position)
        if self.kind == "Integer":
            return str(min(max(math.floor(number + 0.5), int(self.low)), int(self.high)))
        return repr(min(max(number, self.low), self.high))

    def position(self, value: str) -> float | None:
        """Where a value lies; None when the range does not have it."""
        if self.kind == "Categorical":
            return (self.values.index(value) + 0.5) / len(self.values) if value in self.values else None
        try:
            number = float(value)
        except ValueError:
            return None
        if not self.low <= number <= self.high:
            return None
        start, end = self._scaled(self._edges()[0]), self._scaled(self._edges()[1])
        return min(max((self._scaled(number) - start) / (end - start), 0.0), 1.0) if end > start else 0.5

    def _unscaled(self, position: float) -> float:
        start, end = (self._scaled(edge) for edge in self._edges())
        point = start + (end - start) * position
        if self.scale == "Logarithmic":
            return math.exp(point)
        return 1 - math.exp(-point) if self.scale == "ReverseLogarithmic" else point

    def _scaled(self, number: float) -> float:
        if self.scale == "Logarithmic":
            return math.log(number)
        return -math.log(1 - number) if self.scale == "ReverseLogarithmic" else number

    def _edges(self) -> tuple[float, float]:
        """Whole numbers own half a step to both sides, so that the first and the last are as likely as the others."""
        if self.kind != "Integer" or self.low == self.high:
            return self.low, self.high
        return (max(self.low - 0.5, self.low / 2) if self.scale == "Logarithmic" else self.low - 0.5), self.high + 0.5


def ranges_of(spoken: Mapping[str, Any] | None) -> tuple[Range, ...]:
    """The ranges of a request, checked. Invalid when one makes no sense."""
    found = [_range_of(entry, kind) for kind in _KINDS for entry in (spoken or {}).get(f"{kind}ParameterRanges") or ()]
    return (*found, *(range_around(entry["Name"], entry["ValueHint"]) for entry in (spoken or {}).get("AutoParameters") or ()))


def range_around(name: str, hint: str) -> Range:
    """The range that Autotune searches for a hyperparameter of which one value is known.

    Numbers are searched a decade to both sides (counts a factor of four), shares within 0 and 1; words stay as they are.
    """
    try:
        number = Decimal(hint)
    except InvalidOperation:
        return Range(name, "Categorical", values=(hint,))
    if not number.is_finite():
        raise Invalid(f"The value hint {hint} of the hyperparameter {name} is not a finite number.")
    value = float(number)
    if "." not in hint and "e" not in hint.lower() and value > 0:
        return Range(name, "Integer", float(max(1, int(value) // 4)), value * 4, "Logarithmic")
    if value == 0:
        return Range(name, "Continuous", 0.0, 1.0)
    if value < 0:
        return Range(name, "Continuous", value * 10, value / 10)
    return Range(name, "Continuous", value / 10, min(value * 10, 1.0) if value <= 1 else value * 10, "Logarithmic")


def combinations(ranges: Sequence[Range]) -> int:
    """How many different settings a grid has."""
    return math.prod(len(entry.values) for entry in ranges)


def combination(ranges: Sequence[Range], number: int) -> dict[str, str]:
    """The grid's setting of this number (from 0): the last hyperparameter changes fastest."""
    found: dict[str, str] = {}
    for entry in reversed(ranges):
        number, place = divmod(number, len(entry.values))
        found[entry.name] = entry.values[place]
    return {entry.name: found[entry.name] for entry in ranges}


def _range_of(entry: Mapping[str, Any], kind: Kind) -> Range:
    name = entry["Name"]
    if kind == "Categorical":
        values = tuple(entry["Values"])
        if len(set(values)) < len(values):
            raise Invalid(f"The values of the categorical hyperparameter {name} must be unique.")
        return Range(name, kind, values=values)
    low, high = _number(name, "MinValue", entry["MinValue"], kind), _number(name, "MaxValue", entry["MaxValue"], kind)
    if low > high:
        raise Invalid(
            f"Invalid range of the hyperparameter {name}: MinValue {entry['MinValue']} must be less than or equal to "
            f"MaxValue {entry['MaxValue']}."
        )
    return Range(name, kind, low, high, _scale(name, kind, low, high, entry.get("ScalingType") or "Auto"))


def _number(name: str, member: str, text: str, kind: Kind) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    is_whole = kind == "Continuous" or (math.isfinite(number) and number == int(number))
    if not math.isfinite(number) or not is_whole:
        wanted = "an integer" if kind == "Integer" else "a number"
        raise Invalid(f"Invalid range of the hyperparameter {name}: {member} {text} is not {wanted}.")
    return number


# Source: SageMaker Developer Guide, "Define Hyperparameter Ranges", hyperparameter scaling.
def _scale(name: str, kind: Kind, low: float, high: float, wanted: str) -> Scale:
    if wanted == "Logarithmic":
        if low <= 0:
            raise Invalid(f"Logarithmic scaling of the hyperparameter {name} needs a range with values greater than 0 only.")
        return "Logarithmic"
    if wanted == "ReverseLogarithmic":
        if kind == "Integer":
            raise Invalid(f"ReverseLogarithmic scaling of the hyperparameter {name} works for continuous ranges only.")
        if low < 0 or high >= 1:
            raise Invalid(f"ReverseLogarithmic scaling of the hyperparameter {name} needs a range within 0 <= x < 1.0.")
        return "ReverseLogarithmic"
    if wanted == "Linear":
        return "Linear"
    if low > 0 and high / low >= _WIDE:
        return "Logarithmic"
    if kind == "Continuous" and low >= 0 and high < 1 and (1 - low) / (1 - high) >= _WIDE:
        return "ReverseLogarithmic"
    return "Linear"
