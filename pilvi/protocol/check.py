"""The model's constraints on a request: required, length, range, pattern, enum.

Two passes. Compiled predicates answer whether everything is fine, fast; only when something is not does `explain` walk the
request again to say what, in AWS's words: "1 validation error detected: Value '' at 'userName' failed to satisfy
constraint: Member must have length greater than or equal to 1".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pilvi.core.streams import ByteStream
from pilvi.protocol.patterns import compile_pattern
from pilvi.protocol.shapes import Shape

IsFine = Callable[[Any], bool]
_COLLECTIONS = ("list", "map", "structure")
_NUMBERS = ("integer", "long", "float", "double")
MAX_PROBLEMS = 10


class Checker:
    """Compiles the predicates of one service's shapes."""

    def __init__(self, *, open_enums: frozenset[str] = frozenset(), sizes: bool = True) -> None:
        """open_enums: shapes whose enum is the service's own business ('*': all); sizes: whether to look at lengths,
        ranges and patterns at all.
        """
        self._open_enums = open_enums
        self.sizes = sizes
        self._structures: dict[str, IsFine | None] = {}

    def compile(self, shape: Shape) -> IsFine | None:
        """The predicate of a shape; None when anything goes."""
        if shape.kind == "structure":
            return None if shape.is_document or shape.is_eventstream else self._structure(shape)
        if shape.kind == "list":
            return _list_predicate(self._length(shape), self.compile(shape.member))
        if shape.kind == "map":
            return _map_predicate(self._length(shape), self.compile(shape.key), self.compile(shape.value))
        if shape.kind in _NUMBERS:
            return _range_predicate(shape) if self.sizes else None
        if shape.kind == "blob":
            return _blob_predicate(shape) if self.sizes else None
        if shape.kind in ("string", "character"):
            return self._string(shape)
        return None

    def _structure(self, shape: Shape) -> IsFine | None:
        if shape.name in self._structures:
            return self._structures[shape.name]
        table: dict[str, IsFine] = {}
        required = required_members(shape)
        self._structures[shape.name] = _structure_predicate(required, table)
        for name, member in shape.members.items():
            found = self.compile(member)
            if found is not None:
                table[name] = found
        if not required and not table:
            self._structures[shape.name] = None
        return self._structures[shape.name]

    def _string(self, shape: Shape) -> IsFine | None:
        return _all_of([self._length(shape), self._pattern(shape), self._enum(shape)])

    def _length(self, shape: Shape) -> IsFine | None:
        return _length_predicate(shape) if self.sizes else None

    def _pattern(self, shape: Shape) -> IsFine | None:
        pattern = shape.traits.get("pattern") if self.sizes else None
        if pattern is None:
            return None
        return _lazy_pattern(pattern)

    def _enum(self, shape: Shape) -> IsFine | None:
        values = None if shape.name in self._open_enums or "*" in self._open_enums else shape.traits.get("enum")
        return frozenset(values).__contains__ if values else None

    # -- the slow pass ------------------------------------------------------------------------------------------------

    def explain(self, shape: Shape, value: Any, path: str, problems: list[str]) -> None:
        """Append AWS's words for everything that is wrong with a value."""
        if len(problems) >= MAX_PROBLEMS or shape.is_document or shape.is_eventstream:
            return
        if shape.kind == "structure":
            self._explain_structure(shape, value, path, problems)
        elif shape.kind == "list":
            self._explain_own(shape, value, path, problems)
            for number, item in enumerate(value, 1):
                self.explain(shape.member, item, f"{path}.{number}.member", problems)
        elif shape.kind == "map":
            self._explain_own(shape, value, path, problems)
            for key, item in value.items():
                self.explain(shape.key, key, f"{path}.key", problems)
                self.explain(shape.value, item, f"{path}.{key}.member", problems)
        else:
            self._explain_own(shape, value, path, problems)

    def _explain_structure(self, shape: Shape, value: Mapping[str, Any], path: str, problems: list[str]) -> None:
        required = set(required_members(shape))
        for name, member in shape.members.items():
            here = f"{path}.{member_path(name)}" if path else member_path(name)
            item = value.get(name)
            if item is not None:
                self.explain(member, item, here, problems)
            elif name in required:
                problems.append(f"Value null at '{here}' failed to satisfy constraint: Member must not be null")

    def _explain_own(self, shape: Shape, value: Any, path: str, problems: list[str]) -> None:
        text = "null" if value is None else f"'{_shown(value)}'"
        broken = self._constraints(shape, value)
        problems += [f"Value {text} at '{path}' failed to satisfy constraint: Member must {words}" for words in broken]

    def _constraints(self, shape: Shape, value: Any) -> list[str]:
        """The constraints this value breaks."""
        if value is None:
            return ["not be null"]
        traits, failed = shape.traits, []
        is_number = shape.kind in _NUMBERS
        size = value if is_number else len(value) if hasattr(value, "__len__") else None
        what = "value" if is_number else "length"
        if not self.sizes:
            size = None
        if size is not None and "max" in traits and size > float(traits["max"]):
            failed.append(f"have {what} less than or equal to {_number(traits['max'])}")
        if size is not None and "min" in traits and size < float(traits["min"]):
            failed.append(f"have {what} greater than or equal to {_number(traits['min'])}")
        if shape.kind in ("string", "character"):
            pattern, enum = self._pattern(shape), self._enum(shape)
            if pattern is not None and not pattern(value):
                failed.append(f"satisfy regular expression pattern: {traits['pattern']}")
            if enum is not None and not enum(value):
                failed.append(f"satisfy enum value set: [{', '.join(traits['enum'])}]")
        return failed


def member_path(name: str) -> str:
    """How AWS names a member in these texts: with a small first letter."""
    return name[:1].lower() + name[1:]


def required_members(shape: Shape) -> list[str]:
    """What must be there; idempotency tokens are made up by clients and may be missing."""
    members = shape.members
    return [name for name in shape.traits.get("required", ()) if not (members[name].traits.get("idempotencyToken"))]


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(_shown(item) for item in value)}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}={_shown(item)}' for key, item in value.items())}}}"
    if isinstance(value, (bytes, ByteStream)):
        return "java.nio.HeapByteBuffer"
    return str(value)


def _number(limit: Any) -> str:
    number = float(limit)
    return str(int(number)) if number.is_integer() else str(number)


def _structure_predicate(required: list[str], table: Mapping[str, IsFine]) -> IsFine:
    find = table.get

    def is_fine(value: Any) -> bool:
        for name in required:
            if value.get(name) is None:
                return False
        for name, item in value.items():
            test = find(name)
            if test is not None and item is not None and not test(item):
                return False
        return True

    return is_fine


def _all_of(tests: list[IsFine | None]) -> IsFine | None:
    """One predicate of several, without a loop for the usual two."""
    found = [test for test in tests if test is not None]
    if len(found) < 2:
        return found[0] if found else None
    first, second = found[0], found[1]
    if len(found) == 2:
        return lambda value: first(value) and second(value)
    third = found[2]
    return lambda value: first(value) and second(value) and third(value)


def _list_predicate(length: IsFine | None, test: IsFine | None) -> IsFine | None:
    if test is None:
        return length

    def is_fine(items: Any) -> bool:
        if length is not None and not length(items):
            return False
        for item in items:  # noqa: SIM110 - a generator costs twice as much
            if item is None or not test(item):
                return False
        return True

    return is_fine


def _map_predicate(length: IsFine | None, key: IsFine | None, value: IsFine | None) -> IsFine | None:
    if key is None and value is None:
        return length

    def is_fine(items: Any) -> bool:
        if length is not None and not length(items):
            return False
        for name, item in items.items():
            if key is not None and not key(name):
                return False
            if value is not None and item is not None and not value(item):
                return False
        return True

    return is_fine


def _limits(shape: Shape) -> tuple[float | None, float | None]:
    low, high = shape.traits.get("min"), shape.traits.get("max")
    return (None if low is None else float(low)), (None if high is None else float(high))


def _length_predicate(shape: Shape) -> IsFine | None:
    low, high = _limits(shape)
    if not low and high is None:
        return None
    if high is None:
        return lambda value: len(value) >= low  # type: ignore[operator]
    if not low:
        return lambda value: len(value) <= high
    return lambda value: low <= len(value) <= high


def _range_predicate(shape: Shape) -> IsFine | None:
    low, high = _limits(shape)
    if low is None and high is None:
        return None
    if high is None:
        return lambda value: bool(value >= low)
    if low is None:
        return lambda value: bool(value <= high)
    return lambda value: low <= value <= high


def _blob_predicate(shape: Shape) -> IsFine | None:
    if shape.traits.get("streaming"):
        return None
    length = _length_predicate(shape)
    return None if length is None else lambda value: isinstance(value, ByteStream) or length(value)


def _lazy_pattern(pattern: str) -> IsFine:
    """Compiled at its first use: a model has hundreds, a call meets a few."""
    match: Callable[[str], Any] | None = None

    def is_fine(value: str) -> bool:
        nonlocal match
        if match is None:
            compiled = compile_pattern(pattern)
            match = _anything if compiled is None else compiled.fullmatch
        return match(value) is not None

    return is_fine


def _anything(_value: str) -> bool:
    return True
