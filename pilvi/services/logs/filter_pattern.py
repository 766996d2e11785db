"""The filter language of CloudWatch Logs: from a pattern's text to a predicate over messages. Pure.

    ERROR "exact phrase" -debug     terms: all of them, none of the excluded
    ?ERROR ?WARN                    any of them
    %4[0-9]{2}%                     a regular expression
    { $.status = 4* && $.ms > 9 }   JSON messages
    [ip, user, status = 4*, ...]    messages of fields parted by spaces

Source: CloudWatch Logs User Guide, "Filter pattern syntax for metric filters, subscription filters, filter log events, and Live Tail".
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from pilvi.core.errors import Invalid
from pilvi.services.logs.pattern_regex import compile_regex

Predicate = Callable[[str], bool]

TERM = re.compile(r'\s*(?P<sign>[?-]?)(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|%(?P<regex>[^%]*)%|(?P<plain>[^\s"]+))')
JSON_TOKEN = re.compile(
    r"\s*(?:(?P<op>&&|\|\||[()]|!=|<=|>=|=|<|>)"
    r"|(?P<selector>\$(?:\.[\w\-$@]+|\[\s*(?:\d+|\*|'[^']*'|\"[^\"]*\")\s*\])*)"
    r'|"(?P<quoted>(?:[^"\\]|\\.)*)"|%(?P<regex>[^%]*)%|(?P<plain>[^\s()&|=<>!"%]+))'
)
STEP = re.compile(r"\.([\w\-$@]+)|\[\s*(?:(\d+|\*)|'([^']*)'|\"([^\"]*)\")\s*\]")
FIELD = re.compile(
    r'\s*(?:(?P<op>&&|\|\||!=|<=|>=|=|<|>|[(),])|"(?P<quoted>(?:[^"\\]|\\.)*)"|%(?P<regex>[^%]*)%|(?P<plain>[^\s,=<>!&|()"%]+))'
)
SPLIT = re.compile(r'"((?:[^"\\]|\\.)*)"|\[([^\]]*)\]|(\S+)')
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@lru_cache(maxsize=256)
def compile_pattern(pattern: str) -> Predicate:
    """Whether a message matches. Invalid when the pattern does not parse; the empty pattern matches everything."""
    text = pattern.strip()
    if not text:
        return anything
    if text.startswith("{"):
        return json_predicate(text)
    if text.startswith("["):
        return fields_predicate(text)
    return terms_predicate(text)


def anything(_: Any) -> bool:
    return True


# -- terms --------------------------------------------------------------------------------------------------------------


def terms_predicate(text: str) -> Predicate:
    """Optional terms count only when nothing else is asked for, as AWS documents."""
    signed: dict[str, list[Predicate]] = {"": [], "?": [], "-": []}
    position = 0
    while position < len(text):
        found = TERM.match(text, position)
        if found is None:
            raise Invalid("Invalid filter pattern")
        position = found.end()
        signed[found["sign"]].append(term_predicate(found))
    required, optional, excluded = signed[""], signed["?"], signed["-"]
    if optional and not required and not excluded:
        return lambda message: any(term(message) for term in optional)
    return lambda message: all(term(message) for term in required) and not any(term(message) for term in excluded)


def term_predicate(found: re.Match[str]) -> Predicate:
    if found["regex"] is not None:
        return compile_regex(found["regex"])
    term = found["plain"] if found["quoted"] is None else unquoted(found["quoted"])
    return lambda message: term in message


def unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


# -- JSON ---------------------------------------------------------------------------------------------------------------

Check = Callable[[Any], bool]
MISSING = object()


def json_predicate(text: str) -> Predicate:
    if not text.endswith("}"):
        raise Invalid("Invalid filter pattern")
    check = _JsonParser(text[1:-1]).parsed()

    def matches(message: str) -> bool:
        if not message.lstrip().startswith(("{", "[")):
            return False
        try:
            value = json.loads(message)
        except (ValueError, RecursionError):
            return False
        return check(value)

    return matches


class _Parser:
    """`or` of `and` of conditions in parentheses or not; `&&` binds tighter."""

    def __init__(self, text: str, tokens: re.Pattern[str]) -> None:
        self.tokens: list[tuple[str, str]] = []
        position, end = 0, len(text.rstrip())
        while position < end:
            found = tokens.match(text, position)
            if found is None or found.end() == position or found.lastgroup is None:
                raise Invalid("Invalid filter pattern")
            self.tokens.append((found.lastgroup, found[found.lastgroup]))
            position = found.end()
        self.at = 0

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")

    def take(self) -> tuple[str, str]:
        token = self.peek()
        self.at += 1
        return token

    def took(self, text: str) -> bool:
        if self.peek() == ("op", text):
            self.at += 1
            return True
        return False

    def expression(self) -> Check:
        parts = [self.conjunction()]
        while self.took("||"):
            parts.append(self.conjunction())
        return parts[0] if len(parts) == 1 else lambda value: any(part(value) for part in parts)

    def conjunction(self) -> Check:
        parts = [self.condition()]
        while self.took("&&"):
            parts.append(self.condition())
        return parts[0] if len(parts) == 1 else lambda value: all(part(value) for part in parts)

    def condition(self) -> Check:
        raise NotImplementedError

    def parsed(self) -> Check:
        check = self.expression()
        if self.peek()[0] != "end":
            raise Invalid("Invalid filter pattern")
        return check


class _JsonParser(_Parser):
    def __init__(self, text: str) -> None:
        super().__init__(text, JSON_TOKEN)

    def condition(self) -> Check:
        if self.took("("):
            inside = self.expression()
            if not self.took(")"):
                raise Invalid("Invalid filter pattern")
            return inside
        kind, selector = self.take()
        if kind != "selector":
            raise Invalid("Invalid filter pattern")
        find = selected(selector)
        kind, word = self.take()
        if kind == "plain":
            return self.is_condition(find, word.upper())
        if kind != "op" or word not in COMPARE:
            raise Invalid("Invalid filter pattern")
        wanted = value_check(word, *self.take())
        return lambda value: any(wanted(each) for each in find(value))

    def is_condition(self, find: Callable[[Any], list[Any]], word: str) -> Check:
        follows = self.take()[1].upper()
        if (word, follows) == ("NOT", "EXISTS"):
            return lambda value: not find(value)
        constants = {"NULL": None, "TRUE": True, "FALSE": False}
        if word != "IS" or follows not in constants:
            raise Invalid("Invalid filter pattern")
        constant = constants[follows]
        return lambda value: any(each is constant for each in find(value))


def selected(selector: str) -> Callable[[Any], list[Any]]:
    """`$.a.b[0]['c d'][*]` as a function to the values found there."""
    steps: list[str | int | None] = []
    for name, index, single, double in STEP.findall(selector):
        steps.append((None if index == "*" else int(index)) if index else name or single or double)

    def find(value: Any) -> list[Any]:
        values = [value]
        for step in steps:
            following: list[Any] = []
            for each in values:
                if isinstance(step, str):
                    if isinstance(each, dict) and step in each:
                        following.append(each[step])
                elif isinstance(each, list):
                    following += each if step is None else each[step : step + 1]
            values = following
        return values

    return find


def value_check(sign: str, kind: str, text: str) -> Check:
    """One comparison: numbers by value, text by wildcard, regular expressions by search."""
    if kind == "regex" and sign in ("=", "!="):
        search = compile_regex(text)
        return lambda value: isinstance(value, str | int | float) and search(as_text(value)) is (sign == "=")
    if kind not in ("plain", "quoted"):
        raise Invalid("Invalid filter pattern")
    number = float(text) if kind == "plain" and NUMBER.fullmatch(text) else None
    compare = COMPARE[sign]
    if number is not None:
        return lambda value: (
            ((found := as_number(value)) is not None and compare(found, number)) or (sign == "!=" and found is None)
        )
    if sign not in ("=", "!="):
        raise Invalid("Invalid filter pattern")
    fits = wildcard(unquoted(text) if kind == "quoted" else text)
    return lambda value: not isinstance(value, dict | list) and value is not None and fits(as_text(value)) is (sign == "=")


def as_number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str):
        return float(value) if NUMBER.fullmatch(value) else None
    return float(value)


def as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def wildcard(text: str) -> Predicate:
    """`*` stands for any characters: its pieces are looked for in order, which takes time in proportion to the text."""
    first, *rest = text.split("*")
    if not rest:
        return lambda value: value == text
    *middle, last = rest

    def fits(value: str) -> bool:
        if len(value) < len(first) + len(last) or not value.startswith(first) or not value.endswith(last):
            return False
        at, end = len(first), len(value) - len(last)
        for piece in middle:
            at = value.find(piece, at, end)
            if at < 0:
                return False
            at += len(piece)
        return True

    return fits


# -- fields parted by spaces --------------------------------------------------------------------------------------------


def fields_predicate(text: str) -> Predicate:
    """One entry a field, in order; `...` stands for any number of fields. A message must have just those fields."""
    if not text.endswith("]"):
        raise Invalid("Invalid filter pattern")
    entries = [field_entry(part.strip()) for part in entries_of(text[1:-1])]
    gaps = [index for index, entry in enumerate(entries) if entry is None]
    if len(gaps) > 1:
        raise Invalid("Invalid filter pattern")
    head = [e for e in entries[: gaps[0] if gaps else len(entries)] if e is not None]
    tail = [e for e in entries[gaps[0] + 1 :] if e is not None] if gaps else []

    def matches(message: str) -> bool:
        fields = [quoted or bracketed or plain for quoted, bracketed, plain in SPLIT.findall(message)]
        if len(fields) < len(head) + len(tail) or (not gaps and len(fields) != len(head)):
            return False
        ends = fields[len(fields) - len(tail) :]
        return all(check(field) for check, field in zip(head, fields, strict=False)) and all(
            check(field) for check, field in zip(tail, ends, strict=True)
        )

    return matches


def entries_of(text: str) -> list[str]:
    """The parts between commas that stand outside quotes and regular expressions."""
    return [part for part in re.findall(r'((?:"(?:[^"\\]|\\.)*"|%[^%]*%|[^,"%])+)(?:,|$)', text) if part.strip()]


def field_entry(text: str) -> Check | None:
    """None for `...`."""
    if text == "...":
        return None
    return _FieldParser(text).parsed()


class _FieldParser(_Parser):
    """`name`, or conditions on it: `status = 4* && status != 404`. The name is repeated and must stay the same."""

    def __init__(self, text: str) -> None:
        super().__init__(text, FIELD)
        self.name = ""

    def condition(self) -> Check:
        if self.took("("):
            inside = self.expression()
            if not self.took(")"):
                raise Invalid("Invalid filter pattern")
            return inside
        kind, name = self.take()
        if kind != "plain" or (self.name and name != self.name):
            raise Invalid("Invalid filter pattern")
        self.name = name
        kind, sign = self.peek()
        if kind != "op" or sign not in COMPARE:
            return anything
        self.take()
        return value_check(sign, *self.take())
