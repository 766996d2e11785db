"""Requests as plain JSON has them (bytes and times as text) in the types of the model: for calls that users write down themselves.

A member may begin with a capital letter where the model's does not, and the other way round: other programs write all of them alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from pilvi.core.errors import Invalid
from pilvi.protocol.shapes import Shape

_NUMBERS: Final[Mapping[str, Callable[[Any], Any]]] = {"integer": int, "long": int, "float": float, "double": float}
_TEXTS: Final = ("string", "character")


def typed(shape: Shape | None, value: Mapping[str, Any]) -> dict[str, Any]:
    """A request. Invalid for members that the operation does not have, and for values of another kind."""
    if shape is None:
        if value:
            raise Invalid("The operation takes no parameters.")
        return {}
    return _structure(shape, value, "")


def _structure(shape: Shape, value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _wrong(path, "an object")
    found: dict[str, Any] = {}
    for name, item in value.items():
        member = next((known for known in (name, _other_case(name)) if known in shape.members), None)
        if member is None:
            raise Invalid(f"{path}{name} is not a known parameter; known are {', '.join(shape.members) or 'none'}.")
        if item is not None:
            found[member] = _value(shape.members[member], item, f"{path}{name}")
    return found


def _value(shape: Shape, value: Any, path: str) -> Any:
    if shape.kind == "structure":
        return value if shape.is_document else _structure(shape, value, f"{path}.")
    if shape.kind == "list":
        if not isinstance(value, list):
            raise _wrong(path, "a list")
        return [_value(shape.member, item, f"{path}[{number}]") for number, item in enumerate(value)]
    if shape.kind == "map":
        if not isinstance(value, Mapping):
            raise _wrong(path, "an object")
        return {key: _value(shape.value, item, f"{path}.{key}") for key, item in value.items()}
    if shape.kind == "timestamp":
        return _time(value, path)
    if shape.kind == "blob":
        if not isinstance(value, str):
            raise _wrong(path, "text")
        return value.encode()
    if shape.kind in _NUMBERS:
        return _number(_NUMBERS[shape.kind], value, path)
    if shape.kind in _TEXTS and not isinstance(value, str):
        raise _wrong(path, "text")
    if shape.kind == "boolean" and not isinstance(value, bool):
        raise _wrong(path, "true or false")
    return value


def _number(kind: Callable[[Any], Any], value: Any, path: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _wrong(path, "a number")
    try:
        number = kind(value)
    except (ValueError, OverflowError):
        raise _wrong(path, "a number") from None
    if isinstance(value, float) and (number != value or not math.isfinite(value)):
        raise _wrong(path, "a whole number")
    return number


def _time(value: Any, path: str) -> datetime:
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    raise _wrong(path, "a time")


def _other_case(name: str) -> str:
    first = name[:1]
    return (first.lower() if first.isupper() else first.upper()) + name[1:]


def _wrong(path: str, what: str) -> Invalid:
    return Invalid(f"{path.rstrip('.') or 'The input'} must be {what}.")
