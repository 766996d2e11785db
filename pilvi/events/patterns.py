"""Event patterns: what a rule, a pipe or an event source mapping lets through. Pure; every operator of EventBridge.

    compile_pattern('{"source": ["aws.s3"], "detail": {"size": [{"numeric": [">", 100]}]}}').matches(event)

An array of the pattern means any of its values; an array of the event matches when any of its values does, and fields of objects in
an array must match in one and the same object. Fields that the pattern does not name may be anything.

Source: EventBridge User Guide, "Creating Amazon EventBridge event patterns", "Comparison operators for use in event patterns"; how
arrays and missing fields are compared: README of the open-source matcher (aws/event-ruler).
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from pilvi.core.errors import Invalid

Matcher = Callable[[Any], bool]
"""Whether one value that is neither an object nor an array fits."""

PREFIX: Final = "Event pattern is not valid. Reason: "
MOST: Final = 5.0e9
COMBINATIONS: Final = 1000
"""So many alternatives may the $or of one pattern multiply to."""

Path = tuple[str, ...]


class Leaf(NamedTuple):
    """What one field must be."""

    path: Path
    equal: frozenset[tuple[type, Any]]
    """Values that fit as they are, by kind: 1 is 1.0, but not True."""
    others: tuple[Matcher, ...]
    or_absent: bool
    """It also fits when the event has no such field."""


class Node(NamedTuple):
    """What an object must be: all leaves, all nested objects, and one alternative of each $or."""

    leaves: tuple[tuple[str, Leaf], ...]
    nodes: tuple[tuple[str, Node], ...]
    choices: tuple[tuple[Node, ...], ...]


class Pattern:
    """A pattern that was understood. Never changed."""

    __slots__ = ("_root", "details", "sources", "text")

    def __init__(self, text: str, root: Node) -> None:
        self.text = text
        self._root = root
        self.sources = _exact(root, "source")
        """The only values of `source` that can match; None when it may be others."""
        self.details = _exact(root, "detail-type")

    def matches(self, event: Mapping[str, Any]) -> bool:
        return _fits(self._root, event, event)

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"


def compile_pattern(pattern: str | Mapping[str, Any]) -> Pattern:
    """Understand a pattern. Invalid, in AWS's words, where it is none."""
    try:
        text = pattern if isinstance(pattern, str) else json.dumps(pattern)
        parsed = _parsed(text) if isinstance(pattern, str) else pattern
        if not isinstance(parsed, Mapping):
            raise Invalid("Filter is not an object")
        return Pattern(text, _node(parsed, ()))
    except RecursionError:
        raise Invalid(f"{PREFIX}The pattern is nested too deeply") from None
    except Invalid as error:
        raise Invalid(PREFIX + error.message) from None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise Invalid("Filter is not an object" if not text.strip().startswith("{") else "Invalid JSON") from None


# -- understanding ------------------------------------------------------------------------------------------------------------


def _node(pattern: Mapping[str, Any], path: Path) -> Node:
    if not pattern:
        raise Invalid("Empty objects are not allowed")
    leaves: list[tuple[str, Leaf]] = []
    nodes: list[tuple[str, Node]] = []
    choices: list[tuple[Node, ...]] = []
    for name, value in pattern.items():
        if name == "$or" and _is_choice(value):
            choices.append(tuple(_node(one, path) for one in value))
        elif isinstance(value, Mapping):
            nodes.append((name, _node(value, (*path, name))))
        elif isinstance(value, list):
            leaves.append((name, _leaf(value, (*path, name))))
        else:
            raise Invalid(f'"{name}" must be an object or an array')
    node = Node(tuple(leaves), tuple(nodes), tuple(choices))
    if not path and _combinations(node) > COMBINATIONS:
        raise Invalid(f"There are over {COMBINATIONS} rule combinations")
    return node


def _is_choice(value: Any) -> bool:
    """Whether `$or` is meant; a field may have this name too."""
    return isinstance(value, list) and len(value) > 1 and all(isinstance(one, Mapping) and not _is_operator(one) for one in value)


def _is_operator(one: Mapping[str, Any]) -> bool:
    return bool(one) and all(name in OPERATORS for name in one)


def _combinations(node: Node) -> int:
    many = 1
    for _, inner in node.nodes:
        many *= _combinations(inner)
    for choice in node.choices:
        many *= sum(_combinations(one) for one in choice)
    return many


def _leaf(conditions: Sequence[Any], path: Path) -> Leaf:
    if not conditions:
        raise Invalid("Empty arrays are not allowed")
    equal: set[tuple[type, Any]] = set()
    others: list[Matcher] = []
    or_absent = False
    for condition in conditions:
        if isinstance(condition, list):
            raise Invalid("Match value must be String, number, true, false, or null")
        if not isinstance(condition, Mapping):
            equal.add(_plain(condition))
        elif condition == {"exists": False}:
            or_absent = True
        else:
            others.append(matcher_of(condition))
    return Leaf(path, frozenset(equal), tuple(others), or_absent)


def matcher_of(condition: Any) -> Matcher:
    """The test of one value that a condition stands for: a plain value, or an object with one operator.

    {"exists": false} fits no value: absence is for whoever looks the field up. Invalid with the bare reason.
    """
    if isinstance(condition, list):
        raise Invalid("Match value must be String, number, true, false, or null")
    if not isinstance(condition, Mapping):
        wanted = _plain(condition)
        return lambda value: _plain(value) == wanted
    if len(condition) != 1:
        raise Invalid("Only one key allowed in match expression" if condition else "Empty objects are not allowed")
    ((name, operand),) = condition.items()
    if name not in OPERATORS:
        raise Invalid(f"Unrecognized match type {name}")
    return OPERATORS[name](operand)


def _plain(value: Any) -> tuple[type, Any]:
    return (float if type(value) is int else type(value)), value


# -- operators ----------------------------------------------------------------------------------------------------------------


def _text(operand: Any, operator: str) -> str:
    if not isinstance(operand, str):
        raise Invalid(f"{operator} match pattern must be a string")
    return operand


def _end(operator: str) -> Callable[[Any], Matcher]:
    """Prefix or suffix, also without regard to case."""
    find: Callable[[str, str], bool] = str.startswith if operator == "prefix" else str.endswith

    def understood(operand: Any) -> Matcher:
        if isinstance(operand, Mapping):
            if set(operand) != {"equals-ignore-case"}:
                raise Invalid(
                    f"Unsupported anything-but pattern: {next(iter(operand), '')}" if operand else "Empty objects are not allowed"
                )
            folded = _text(operand["equals-ignore-case"], "equals-ignore-case").lower()
            return lambda value: isinstance(value, str) and find(value.lower(), folded)
        text = _text(operand, operator)
        return lambda value: isinstance(value, str) and find(value, text)

    return understood


def _ignoring_case(operand: Any) -> Matcher:
    folded = _text(operand, "equals-ignore-case").lower()
    return lambda value: isinstance(value, str) and value.lower() == folded


def _wildcard(operand: Any) -> Matcher:
    parts = _wildcard_parts(_text(operand, "wildcard"))
    if len(parts) == 1:
        return lambda value: isinstance(value, str) and value == parts[0]
    first, *middle, last = parts

    def fits(value: Any) -> bool:
        """Each part at the first place behind the one before: no need ever to go back."""
        if not isinstance(value, str) or len(value) < len(first) + len(last):
            return False
        if not (value.startswith(first) and value.endswith(last)):
            return False
        at, end = len(first), len(value) - len(last)
        for part in middle:
            at = value.find(part, at, end)
            if at < 0:
                return False
            at += len(part)
        return True

    return fits


def _wildcard_parts(text: str) -> list[str]:
    """What stands between the asterisks; `\\*` and `\\\\` stand for themselves."""
    parts = [""]
    at = 0
    was_asterisk = False
    while at < len(text):
        sign = text[at]
        if sign == "\\":
            at += 1
            if at == len(text) or text[at] not in "*\\":
                raise Invalid(f"Invalid escape character at pos {at}")
            parts[-1] += text[at]
        elif sign == "*":
            if was_asterisk:
                raise Invalid(f"Consecutive wildcard characters at pos {at}")
            parts.append("")
        else:
            parts[-1] += sign
        was_asterisk = sign == "*"
        at += 1
    return parts


def _numeric(operand: Any) -> Matcher:
    if not isinstance(operand, list):
        raise Invalid("Value of numeric must be an array.")
    if not operand or not isinstance(operand[0], str):
        raise Invalid(f"Invalid member in numeric match: {operand[0] if operand else ']'}")
    tests = [_compared(operand[0], operand[1:2])]
    if operand[0] not in (">", ">=") and len(operand) > 2:
        raise Invalid("Too many elements in numeric expression")
    if len(operand) > 2:
        tests.append(_upper(operand[2:4], operand[1]))
    if len(operand) > 4:
        raise Invalid("Too many terms in numeric range expression")

    def fits(value: Any) -> bool:
        return _is_number(value) and -MOST <= value <= MOST and all(test(value) for test in tests)

    return fits


def _upper(part: Sequence[Any], bottom: float) -> Callable[[float], bool]:
    """The second half of a range. Its words, and their order: answers of SNS, which has the same matcher."""
    operator = part[0]
    if not isinstance(operator, str):
        raise Invalid(f"Bad value in numeric range: {operator}")
    if operator not in ("<", "<="):
        raise Invalid(f"Bad numeric range operator: {operator}")
    test = _compared(operator, part[1:])
    if bottom >= part[1]:
        raise Invalid("Bottom must be less than top")
    return test


def _compared(operator: Any, bound: Sequence[Any]) -> Callable[[float], bool]:
    if not isinstance(operator, str) or operator not in _COMPARISONS:
        raise Invalid(f"Unrecognized numeric range operator: {operator}")
    if not bound or not _is_number(bound[0]):
        raise Invalid(f"Value of {'equals' if operator == '=' else operator} must be numeric")
    number = float(bound[0])
    if not -MOST <= number <= MOST:
        raise Invalid("Value must be between -5.0E9 and 5.0E9, inclusive")
    return _COMPARISONS[operator](number)


_COMPARISONS: Final[Mapping[str, Callable[[float], Callable[[float], bool]]]] = {
    "=": lambda bound: lambda value: value == bound,
    "<": lambda bound: lambda value: value < bound,
    "<=": lambda bound: lambda value: value <= bound,
    ">": lambda bound: lambda value: value > bound,
    ">=": lambda bound: lambda value: value >= bound,
}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _exists(operand: Any) -> Matcher:
    if not isinstance(operand, bool):
        raise Invalid("exists match pattern must be either true or false.")
    return lambda _: operand


def _cidr(operand: Any) -> Matcher:
    text = _text(operand, "prefix")  # as AWS says it
    address, slash, bits = text.partition("/")
    if not slash or "/" in bits:
        raise Invalid("Malformed CIDR, one '/' required")
    if not bits.isdecimal():
        raise Invalid("Malformed CIDR, mask bits must be an integer")
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise Invalid(f"Nonstandard IP address: {address}") from None
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise Invalid(f"Malformed CIDR: {text}") from None

    def fits(value: Any) -> bool:
        if not isinstance(value, str):
            return False
        try:
            return ipaddress.ip_address(value) in network
        except ValueError:
            return False

    return fits


def _anything_but(operand: Any) -> Matcher:
    """Every value but these, whatever its type."""
    if isinstance(operand, Mapping):
        return _anything_but_alike(operand)
    values = operand if isinstance(operand, list) else [operand]
    if operand is None or isinstance(operand, bool):
        raise Invalid("Value of anything-but must be an array or single string/number value.")
    if not values:
        raise Invalid("Empty arrays are not allowed")
    if any(not isinstance(one, str) and not _is_number(one) for one in values):
        raise Invalid("Inside anything but list, start|null|boolean is not supported.")
    if not (all(isinstance(one, str) for one in values) or all(_is_number(one) for one in values)):
        raise Invalid("Inside anything but list, either all values are number or string, mixed type is not supported")
    refused = frozenset((isinstance(one, str), one) for one in values)
    return lambda value: isinstance(value, bool) or value is None or (isinstance(value, str), value) not in refused


def _anything_but_alike(operand: Mapping[str, Any]) -> Matcher:
    if len(operand) != 1:
        raise Invalid("Only one key allowed in match expression" if operand else "Empty objects are not allowed")
    ((name, texts),) = operand.items()
    if name not in ("prefix", "suffix", "equals-ignore-case", "wildcard"):
        raise Invalid(f"Unsupported anything-but pattern: {name}")
    if isinstance(texts, Mapping):
        raise Invalid("Value of anything-but must be an array or single string/number value.")
    texts = texts if isinstance(texts, list) else [texts]
    if not texts:
        raise Invalid("Empty arrays are not allowed")
    if name in ("prefix", "suffix") and "" in texts:
        raise Invalid("Null prefix/suffix not allowed")
    if not all(isinstance(text, str) for text in texts):
        raise Invalid(_NO_TEXT.get(name, "prefix/suffix match pattern must be a string"))
    refused = [OPERATORS[name](text) for text in texts]
    return lambda value: not any(fits(value) for fits in refused)


_NO_TEXT: Final = {
    "wildcard": "wildcard match pattern must be a string",
    "equals-ignore-case": "Inside anything-but/equals-ignore-case list, number|start|null|boolean is not supported.",
}

OPERATORS: Final[Mapping[str, Callable[[Any], Matcher]]] = {
    "prefix": _end("prefix"),
    "suffix": _end("suffix"),
    "equals-ignore-case": _ignoring_case,
    "wildcard": _wildcard,
    "anything-but": _anything_but,
    "numeric": _numeric,
    "exists": _exists,
    "cidr": _cidr,
}


# -- matching -----------------------------------------------------------------------------------------------------------------


def _fits(node: Node, thing: Any, event: Mapping[str, Any]) -> bool:
    """thing: what stands there in the event; None stands for nothing as well, as neither has fields."""
    if isinstance(thing, list):
        return any(_fits(node, one, event) for one in thing) if thing else _fits(node, None, event)
    fields: Mapping[str, Any] = thing if isinstance(thing, Mapping) else {}
    for name, leaf in node.leaves:
        found = name in fields or (fields and _dotted(fields, name) is not None)
        value = fields.get(name) if name in fields else _dotted(fields, name) if found else None
        if not (found and _leaf_fits(leaf, value)) and not (leaf.or_absent and not _has(event, leaf.path)):
            return False
    for name, inner in node.nodes:
        if not _fits(inner, fields[name] if name in fields else _dotted(fields, name), event):
            return False
    return all(any(_fits(one, thing, event) for one in choice) for choice in node.choices)


def _dotted(fields: Mapping[str, Any], name: str) -> Any:
    """What a name with dots leads to, or what names with dots begin with this one: to AWS `a.b` and b inside a are the same."""
    if "." in name:
        first, _, rest = name.partition(".")
        inner = fields.get(first)
        if isinstance(inner, Mapping):
            return inner[rest] if rest in inner else _dotted(inner, rest)
    nested = {
        key[len(name) + 1 :]: value
        for key, value in fields.items()
        if key.startswith(name) and key[len(name) : len(name) + 1] == "."
    }
    return nested or None


def _leaf_fits(leaf: Leaf, thing: Any) -> bool:
    if isinstance(thing, list):
        return any(_leaf_fits(leaf, one) for one in thing)
    if isinstance(thing, Mapping):
        return False
    return _plain(thing) in leaf.equal or any(fits(thing) for fits in leaf.others)


def _has(thing: Any, path: Path) -> bool:
    """Whether the event has a value there, in whichever element of its arrays."""
    if isinstance(thing, list):
        return any(_has(one, path) for one in thing)
    if not path:
        return not isinstance(thing, Mapping)
    return isinstance(thing, Mapping) and path[0] in thing and _has(thing[path[0]], path[1:])


def _exact(node: Node, name: str) -> frozenset[str] | None:
    for field, leaf in node.leaves:
        if field == name and not leaf.others and not leaf.or_absent:
            return frozenset(value for kind, value in leaf.equal if kind is str)
    return None


def leaves_of(pattern: Pattern) -> Iterator[Leaf]:
    """Every field a pattern names, for whoever bounds what may be filtered by."""
    yield from _leaves(pattern._root)


def _leaves(node: Node) -> Iterator[Leaf]:
    yield from (leaf for _, leaf in node.leaves)
    for _, inner in node.nodes:
        yield from _leaves(inner)
    for choice in node.choices:
        for one in choice:
            yield from _leaves(one)
