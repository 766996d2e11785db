"""Filter policies: which messages a subscription wants. Pure.

A policy is an event pattern (pilvi.events.patterns) over the message attributes, or over the message where that is JSON. Numbers are
compared by value: an attribute's 100.0 is the policy's 100.

Source: SNS developer guide, "Amazon SNS subscription filter policies", "Filter policy constraints".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pilvi.core.errors import Invalid, ServiceError
from pilvi.events.patterns import PREFIX, Pattern, compile_pattern
from pilvi.services.sns.errors import invalid

BY_ATTRIBUTES: Final = "MessageAttributes"
BY_BODY: Final = "MessageBody"
SCOPES: Final = (BY_ATTRIBUTES, BY_BODY)
MOST_KEYS: Final = 5
MOST_COMBINATIONS: Final = 150
MOST_BYTES: Final = 256 << 10

Attributes = Mapping[str, Mapping[str, Any]]


class Filter:
    """A policy that was understood."""

    __slots__ = ("_pattern", "by_body")

    def __init__(self, pattern: Pattern, *, by_body: bool) -> None:
        self._pattern = pattern
        self.by_body = by_body

    def wants(self, attributes: Attributes, body: Any) -> bool:
        """body: the message's JSON, as `body_of` reads it; None where it is not an object."""
        if self.by_body:
            return body is not None and self._pattern.matches(body)
        values = values_of(attributes)
        return values is not None and self._pattern.matches(values)


def compile_filter(text: str, scope: str) -> Filter | None:
    """The filter of a policy; None for `{}`, which wants everything. InvalidParameter, in SNS's words."""
    if len(text.encode()) > MOST_BYTES:
        raise bad("Filter policy is too large")
    try:
        policy = json.loads(text)
    except (ValueError, RecursionError):
        raise bad("failed to parse JSON.") from None
    if not isinstance(policy, dict):
        raise bad("Filter policy must be an object")
    if not policy:
        return None
    _check_size(policy, scope)
    try:
        compile_pattern(policy)  # so that what is wrong is told as it was written
        by_body = scope == BY_BODY
        pattern = compile_pattern(unfolded(numbers_alike(policy)) if by_body else numbers_alike(policy))
    except Invalid as error:
        raise bad(error.message.removeprefix(PREFIX)) from None
    return Filter(pattern, by_body=by_body)


def _check_size(policy: Mapping[str, Any], scope: str) -> None:
    depths = [depth for depth, _ in _leaves(policy, 1)]
    if scope == BY_ATTRIBUTES and any(depth > 1 for depth in depths):
        raise invalid("Filter policy scope MessageAttributes does not support nested filter policy")
    if len(depths) > MOST_KEYS:
        raise bad(f"Filter policy can not have more than {MOST_KEYS} keys")
    if _combinations(policy, 1, by_body=scope == BY_BODY) > MOST_COMBINATIONS:
        raise bad("Filter policy is too complex")


def _leaves(policy: Mapping[str, Any], depth: int) -> Iterator[tuple[int, list[Any]]]:
    """Depth and conditions of every key."""
    for name, value in policy.items():
        if _is_choice(name, value):
            for one in value:
                yield from _leaves(one, depth)
        elif isinstance(value, dict):
            yield from _leaves(value, depth + 1)
        elif isinstance(value, list):
            yield depth, value
        else:
            raise bad(f'"{name}" must be an object or an array')


def _combinations(policy: Mapping[str, Any], depth: int, *, by_body: bool) -> int:
    """Values of all keys multiplied, alternatives of an $or added up; a value of a nested key counts as often as it is deep."""
    many = 1
    for name, value in policy.items():
        if _is_choice(name, value):
            many *= sum(_combinations(one, depth, by_body=by_body) for one in value)
        elif isinstance(value, dict):
            many *= _combinations(value, depth + 1, by_body=by_body)
        else:
            many *= max(1, len(value)) * (depth if by_body else 1)
    return many


def _is_choice(name: str, value: Any) -> bool:
    return name == "$or" and isinstance(value, list) and all(isinstance(one, dict) for one in value)


def bad(reason: str) -> ServiceError:
    return invalid(f"FilterPolicy: {reason}")


# -- what is compared ---------------------------------------------------------------------------------------------------------


def values_of(attributes: Attributes) -> dict[str, Any] | None:
    """Attributes as a policy sees them, without those that are binary; None where an array is none."""
    found: dict[str, Any] = {}
    for name, attribute in attributes.items():
        kind, text = attribute["DataType"], attribute.get("StringValue")
        if text is None:
            continue
        if kind == "String.Array":
            try:
                found[name] = numbers_alike(json.loads(text))
            except (ValueError, RecursionError):
                return None
            if not isinstance(found[name], list):
                return None
        else:
            found[name] = float(text) if kind.partition(".")[0] == "Number" else text
    return found


def body_of(text: str) -> Any:
    """A message's JSON as policies see it; None where it is not an object."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return unfolded(numbers_alike(found)) if isinstance(found, dict) else None


def numbers_alike(thing: Any) -> Any:
    """The same with every number as a float."""
    if isinstance(thing, bool):
        return thing
    if isinstance(thing, int):
        try:
            return float(thing)
        except OverflowError:
            return thing
    if isinstance(thing, dict):
        return {name: numbers_alike(value) for name, value in thing.items()}
    if isinstance(thing, list):
        return [numbers_alike(value) for value in thing]
    return thing


def unfolded(thing: Any) -> Any:
    """The same with `a.b` as `b` inside `a`: in messages and policies both mean the same key."""
    if isinstance(thing, list):
        return [unfolded(one) for one in thing]
    if not isinstance(thing, dict):
        return thing
    found: dict[str, Any] = {}
    for name, value in thing.items():
        first, dot, rest = name.partition(".")
        if not dot or not first or not rest:
            _lay(found, name, unfolded(value))
        else:
            _lay(found, first, unfolded({rest: value}))
    return found


def _lay(found: dict[str, Any], name: str, value: Any) -> None:
    there = found.get(name)
    if isinstance(there, dict) and isinstance(value, dict):
        for key, inner in value.items():
            _lay(there, key, inner)
    else:
        found[name] = value
