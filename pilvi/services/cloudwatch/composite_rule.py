"""Rules of composite alarms: `ALARM("a") AND NOT (OK(b) OR INSUFFICIENT_DATA(c))`, parsed and asked. Pure.

Source: API reference, PutCompositeAlarm, AlarmRule.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from pilvi.core.arn import Arn
from pilvi.services.cloudwatch.alarm_check import invalid

MOST_CHILDREN: Final = 100
DEEPEST: Final = 100

_TOKEN = re.compile(r'\s*(?:(?P<quoted>"(?:[^"\\]|\\.)*")|(?P<mark>[(),])|(?P<word>[^\s(),"]+))')
_STATES: Final = ("ALARM", "OK", "INSUFFICIENT_DATA")

Ask = Callable[[Mapping[str, str]], bool]
"""States by alarm name -> whether the rule holds; an alarm that is gone has none."""


class Composed(NamedTuple):
    holds: Ask
    children: frozenset[str]


def children_of(rule: str) -> set[str]:
    """The alarms that a rule names, by name."""
    return set(parse(rule).children) if rule else set()


@lru_cache(1024)
def parse(rule: str) -> Composed:
    """Errors: ValidationError, saying where."""
    reader = _Reader(rule)
    holds = reader.either(0)
    if reader.peek():
        raise reader.wrong(f"'{reader.peek()}' was not expected")
    if len(reader.children) > MOST_CHILDREN:
        raise invalid(f"AlarmRule must not contain more than {MOST_CHILDREN} children.")
    return Composed(holds, frozenset(reader.children))


class _Reader:
    """Recursive descent: NOT binds most, then AND, then OR."""

    def __init__(self, rule: str) -> None:
        self._tokens = _tokens(rule)
        self._at = 0
        self.children: set[str] = set()

    def peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def take(self, wanted: str = "") -> str:
        found = self.peek()
        if not found or (wanted and found != wanted):
            raise self.wrong(f"'{wanted or 'an expression'}' was expected, found '{found or 'the end'}'")
        self._at += 1
        return found

    def wrong(self, what: str) -> Exception:
        return invalid(f"AlarmRule must not contain errors: {what} at token {self._at + 1}.")

    def either(self, depth: int) -> Ask:
        parts = [self.both(depth)]
        while self.peek() == "OR":
            self.take()
            parts.append(self.both(depth))
        return parts[0] if len(parts) == 1 else lambda states: any(part(states) for part in parts)

    def both(self, depth: int) -> Ask:
        parts = [self.one(depth)]
        while self.peek() == "AND":
            self.take()
            parts.append(self.one(depth))
        return parts[0] if len(parts) == 1 else lambda states: all(part(states) for part in parts)

    def one(self, depth: int) -> Ask:
        if depth > DEEPEST:
            raise self.wrong("too many parentheses")
        token = self.take()
        if token == "NOT":
            inner = self.one(depth + 1)
            return lambda states: not inner(states)
        if token == "(":
            inner = self.either(depth + 1)
            self.take(")")
            return inner
        if token in ("TRUE", "FALSE"):
            return lambda _: token == "TRUE"
        if token in _STATES:
            self.take("(")
            name = name_of(self.take())
            self.take(")")
            self.children.add(name)
            return lambda states: states.get(name) == token
        self._at -= 1
        raise self.wrong(f"'{token}' was not expected")


def _tokens(rule: str) -> list[str]:
    found, at = [], 0
    text = rule.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise invalid(f"AlarmRule must not contain errors: character {at + 1} was not expected.")
        found.append(match["quoted"] or match["mark"] or match["word"])
        at = match.end()
    return found


def name_of(token: str) -> str:
    """An alarm by name, quoted or not, or by ARN."""
    text = re.sub(r"\\(.)", r"\1", token[1:-1]) if token.startswith('"') else token
    arn: Any = Arn.parse(text)
    return str(arn.resource.removeprefix("alarm:")) if arn is not None else text
