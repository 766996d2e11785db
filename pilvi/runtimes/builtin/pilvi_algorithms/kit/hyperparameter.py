"""Hyperparameters as data: what an algorithm takes, in which range, with which default; and the check of what a job gives.

Values arrive as strings. Source of the words: failure reasons of AWS's algorithms as users report them; XGBoost's own (`TOOLKIT`)
come from its open container. A wrong value of the other algorithms is told in the form of their schema checks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pilvi_algorithms.kit.errors import ClientError

Kind = Literal["integer", "real", "choice", "flag", "text", "json"]
AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Hyperparameter:
    """One hyperparameter; make it with `integer`, `real`, `choice`, `flag`, `text` or `json_value`."""

    name: str
    kind: Kind
    default: Any = None
    is_required: bool = False
    low: float | None = None
    high: float | None = None
    is_low_open: bool = False
    is_high_open: bool = False
    values: tuple[str, ...] = ()
    has_auto: bool = False
    """Whether `auto` is a value."""
    required_when: tuple[str, str] | None = None
    """(name, value): needed when that other hyperparameter has that value."""
    aliases: tuple[str, ...] = ()

    def parse(self, raw: str) -> Any:
        """The value. Raises ValueError for what is none of its kind, OutOfRange for what lies outside."""
        if self.has_auto and raw.strip().lower() == AUTO:
            return AUTO
        value = _PARSERS[self.kind](raw)
        if self.kind == "choice" and value not in self.values:
            raise OutOfRange(value, list(self.values))
        if self.kind in ("integer", "real") and not self._holds(value):
            raise OutOfRange(value, self.interval())
        return value

    def interval(self) -> str:
        """The range in the mathematicians' way: [0, 1), (0, +inf)."""
        whole = self.kind == "integer"
        low = "(-inf" if self.low is None else f"{'(' if self.is_low_open else '['}{_number(self.low, whole)}"
        high = "+inf)" if self.high is None else f"{_number(self.high, whole)}{')' if self.is_high_open else ']'}"
        return f"{low}, {high}"

    def _holds(self, value: float) -> bool:
        if value != value:
            return False
        if self.low is not None and (value <= self.low if self.is_low_open else value < self.low):
            return False
        return self.high is None or not (value >= self.high if self.is_high_open else value > self.high)


class OutOfRange(Exception):
    def __init__(self, value: Any, allowed: Any) -> None:
        super().__init__(f"{value} is not in {allowed}")
        self.value = value
        self.allowed = allowed


def integer(name: str, low: int | None = None, high: int | None = None, default: int | None = None, **more: Any) -> Hyperparameter:
    return Hyperparameter(name, "integer", default, low=low, high=high, **_more(more))


def real(
    name: str, low: float | None = None, high: float | None = None, default: float | None = None, **more: Any
) -> Hyperparameter:
    return Hyperparameter(name, "real", default, low=low, high=high, **_more(more))


def choice(name: str, *values: str, default: str | None = None, **more: Any) -> Hyperparameter:
    return Hyperparameter(name, "choice", default, values=values, **_more(more))


def flag(name: str, default: bool | None = None, **more: Any) -> Hyperparameter:
    return Hyperparameter(name, "flag", default, **_more(more))


def text(name: str, default: str | None = None, **more: Any) -> Hyperparameter:
    return Hyperparameter(name, "text", default, **_more(more))


def json_value(name: str, default: Any = None, **more: Any) -> Hyperparameter:
    """A list or map, written as JSON."""
    return Hyperparameter(name, "json", default, **_more(more))


def _more(given: dict[str, Any]) -> dict[str, Any]:
    """Short words at the declaration: required=True, auto=True (then the default is auto), open_low=True, open_high=True."""
    short = {"required": "is_required", "auto": "has_auto", "open_low": "is_low_open", "open_high": "is_high_open"}
    return {short.get(name, name): value for name, value in given.items()}


# -- the check ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Words:
    """How one family of AWS's algorithms says that hyperparameters are wrong."""

    missing: Callable[[list[str]], ClientError]
    unknown: Callable[[list[str]], ClientError]
    unreadable: Callable[[Hyperparameter, str], ClientError]
    outside: Callable[[Hyperparameter, OutOfRange], ClientError]


def checked(declared: Iterable[Hyperparameter], given: Mapping[str, str], words: Words | None = None) -> dict[str, Any]:
    """Every declared hyperparameter with its value or default. Names that begin with `_` and are not declared are the service's own.

    Raises ClientError for what is missing, unknown, unreadable or out of range.
    """
    words = words or SCHEMA
    by_name = {known.name: known for known in declared}
    own_name = {alias: known.name for known in by_name.values() for alias in known.aliases}
    raw: dict[str, str] = {}
    for name, value in given.items():
        raw.setdefault(own_name.get(name, name), value)
    if unknown := sorted(name for name in raw if name not in by_name and not name.startswith("_")):
        raise words.unknown(unknown)
    if missing := [name for name, known in by_name.items() if name not in raw and _is_needed(known, raw)]:
        raise words.missing(missing)
    found = {name: AUTO if known.default is None and known.has_auto else known.default for name, known in by_name.items()}
    for name, value in raw.items():
        if (known_one := by_name.get(name)) is not None:
            found[name] = _parsed(known_one, str(value), words)
    return found


def _is_needed(known: Hyperparameter, raw: Mapping[str, str]) -> bool:
    if known.required_when is not None:
        return raw.get(known.required_when[0]) == known.required_when[1]
    return known.is_required


def _parsed(known: Hyperparameter, raw: str, words: Words) -> Any:
    try:
        return known.parse(raw)
    except OutOfRange as error:
        raise words.outside(known, error) from None
    except ValueError:
        raise words.unreadable(known, raw) from None


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _were(names: list[str]) -> str:
    return "was" if len(names) == 1 else "were"


_TYPE_NAMES: dict[str, str] = {
    "integer": "integer",
    "real": "number",
    "flag": "boolean",
    "choice": "string",
    "text": "string",
    "json": "array",
}

SCHEMA = Words(
    missing=lambda names: ClientError(
        f"No value(s) were specified for {_quoted(names)} which are required hyperparameter(s)",
        f"{_quoted(names[:1])} is a required property",
        "ValidationError",
    ),
    unknown=lambda names: ClientError(
        f"Additional hyperparameters are not allowed ({_quoted(names)} {_were(names)} unexpected)",
        f"Additional properties are not allowed ({_quoted(names)} {_were(names)} unexpected)",
        "ValidationError",
    ),
    unreadable=lambda known, raw: (
        ClientError(f"Hyperparameter must be valid json, but found {known.name}: {raw}", kind="ValueError")
        if known.kind == "json"
        else ClientError(
            f"Invalid value for hyperparameter '{known.name}'",
            f"'{raw}' is not of type '{_TYPE_NAMES[known.kind]}'",
            "ValidationError",
        )
    ),
    outside=lambda known, error: ClientError(
        f"Invalid value for hyperparameter '{known.name}'",
        f"'{error.value}' is not one of {error.allowed}" if known.kind == "choice" else f"{error.value} is not in {error.allowed}",
        "ValidationError",
    ),
)
"""Linear learner, k-means, PCA and their family."""

TOOLKIT = Words(
    missing=lambda names: ClientError(f"Missing required hyperparameter: {names[0]}"),
    unknown=lambda names: ClientError(f"Extraneous hyperparameter found: {names[0]}"),
    unreadable=lambda known, raw: ClientError(f"Hyperparameter {known.name}: could not parse value", kind="ValueError"),  # noqa: ARG005
    outside=lambda known, error: ClientError(f"Hyperparameter {known.name}: {error.value} is not in {error.allowed}"),
)
"""XGBoost."""


def _number(value: float, is_whole: bool) -> str:
    return str(int(value)) if is_whole else f"{value:g}"


def _integer(raw: str) -> int:
    """Also 5.0, which tuning may write."""
    try:
        return int(raw)
    except ValueError:
        if (value := float(raw)).is_integer():
            return int(value)
        raise


def _flag(raw: str) -> bool:
    if raw.strip().lower() in ("true", "1"):
        return True
    if raw.strip().lower() in ("false", "0"):
        return False
    raise ValueError(raw)


_PARSERS: dict[str, Callable[[str], Any]] = {
    "integer": _integer,
    "real": float,
    "choice": str.strip,
    "flag": _flag,
    "text": str,
    "json": json.loads,
}
