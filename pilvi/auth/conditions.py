"""The Condition element: operators compiled once into tests over what is known of a request.

Source: IAM User Guide, "IAM JSON policy elements: Condition operators" and "Conditions with multiple context keys or values".
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal

from pilvi.auth.pattern import ANY, STAR, Facts, Token, Variable, expand, has_variables, literal, matcher, tokens_of

Test = Callable[[Facts], bool]
"""Whether a condition holds for a request."""
ValueTest = Callable[[str, Facts], bool]
"""Whether one value of the request matches one of the policy's values."""
Qualifier = Literal["", "any", "all"]

_QUALIFIERS: dict[str, Qualifier] = {"foranyvalue": "any", "forallvalues": "all"}


class UnknownOperator(ValueError):
    """A condition operator that does not exist."""


class BadValue(ValueError):
    """A value that an operator cannot compare with: a date that is none, a number that is none."""


def compile_condition(condition: Mapping[str, Mapping[str, Any]], *, variables: bool) -> tuple[Test, ...]:
    """The tests of a Condition element; all must hold. UnknownOperator or BadValue when it makes no sense."""
    tests = []
    for operator, keys in condition.items():
        if not keys:
            continue
        compile_test = _operator(operator)
        tests += [compile_test(key.lower(), texts_of(values), variables) for key, values in keys.items()]
    return tuple(tests)


def texts_of(values: Any) -> list[str]:
    """Condition values as text; JSON booleans and numbers stand for their text."""
    items = values if isinstance(values, (list, tuple)) else [values]
    return [text_of(item) for item in items]


def text_of(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def known_operator(operator: str) -> bool:
    try:
        _operator(operator)
    except UnknownOperator:
        return False
    return True


def _operator(name: str) -> Callable[[str, list[str], bool], Test]:
    qualifier: Qualifier = ""
    prefix, colon, rest = name.partition(":")
    if colon:
        if prefix.lower() not in _QUALIFIERS:
            raise UnknownOperator(name)
        qualifier = _QUALIFIERS[prefix.lower()]
    base = (rest if colon else name).lower()
    if base == "null" and not qualifier:
        return _null
    if_exists = base.endswith("ifexists")
    base = base.removesuffix("ifexists")
    if base not in _OPERATORS:
        raise UnknownOperator(name)
    make, is_negated = _OPERATORS[base]

    def compile_test(key: str, values: list[str], variables: bool) -> Test:
        return _test(key, make(values, variables), qualifier, is_negated, if_exists)

    return compile_test


def _test(key: str, matches: ValueTest, qualifier: Qualifier, is_negated: bool, if_exists: bool) -> Test:
    """How values that are absent, single or many are judged."""
    when_absent = if_exists or qualifier == "all" or (is_negated and qualifier != "any")

    def test(facts: Facts) -> bool:
        value = facts.get(key)
        if value is None or value == []:
            return when_absent
        if isinstance(value, str):
            return matches(value, facts) is not is_negated
        if qualifier == "all":
            return all(matches(item, facts) is not is_negated for item in value)
        if qualifier == "any":
            return any(matches(item, facts) is not is_negated for item in value)
        return any(matches(item, facts) for item in value) is not is_negated

    return test


def _null(key: str, values: list[str], _variables: bool) -> Test:
    wanted = {value.lower() == "true" for value in values}
    return lambda facts: (facts.get(key) is None) in wanted


# -- strings ------------------------------------------------------------------------------------------------------------


def _tokens(values: Sequence[str], variables: bool, wildcards: bool) -> tuple[list[tuple[Token, ...]], list[tuple[Token, ...]]]:
    """The values without variables, and those with."""
    cut = [tokens_of(value, variables=variables, wildcards=wildcards) for value in values]
    return [tokens for tokens in cut if not has_variables(tokens)], [tokens for tokens in cut if has_variables(tokens)]


def _string_equals(values: list[str], variables: bool) -> ValueTest:
    fixed, open_ones = _tokens(values, variables, wildcards=False)
    texts = frozenset(literal(tokens) for tokens in fixed)
    if not open_ones:
        return lambda value, _facts: value in texts

    def matches(value: str, facts: Facts) -> bool:
        if value in texts:
            return True
        return any(tokens is not None and literal(tokens) == value for tokens in (expand(tokens, facts) for tokens in open_ones))

    return matches


def _string_equals_ignoring_case(values: list[str], variables: bool) -> ValueTest:
    fixed, open_ones = _tokens(values, variables, wildcards=False)
    texts = frozenset(literal(tokens).lower() for tokens in fixed)

    def matches(value: str, facts: Facts) -> bool:
        low = value.lower()
        if low in texts:
            return True
        return any(
            tokens is not None and literal(tokens).lower() == low for tokens in (expand(tokens, facts) for tokens in open_ones)
        )

    return matches


def _string_like(values: list[str], variables: bool) -> ValueTest:
    fixed, open_ones = _tokens(values, variables, wildcards=True)
    matchers = [matcher(tokens) for tokens in fixed]

    def matches(value: str, facts: Facts) -> bool:
        for match in matchers:
            if match(value):
                return True
        return any(tokens is not None and matcher(tokens)(value) for tokens in (expand(tokens, facts) for tokens in open_ones))

    return matches


def _arn_like(values: list[str], variables: bool) -> ValueTest:
    """Each of the six parts by itself, so that a star does not cross a colon (but in the last)."""
    fixed, open_ones = _tokens(values, variables, wildcards=True)
    patterns = [_arn_parts(tokens) for tokens in fixed]

    def matches(value: str, facts: Facts) -> bool:
        parts = value.split(":", 5)
        if any(_arn_matches(pattern, parts) for pattern in patterns):
            return True
        return any(
            tokens is not None and _arn_matches(_arn_parts(tokens), parts)
            for tokens in (expand(tokens, facts) for tokens in open_ones)
        )

    return matches


def _arn_matches(pattern: tuple[tuple[Token, ...], ...], parts: list[str]) -> bool:
    return len(pattern) == len(parts) == 6 and all(matcher(tokens)(part) for tokens, part in zip(pattern, parts, strict=True))


@lru_cache(maxsize=1024)
def _arn_parts(tokens: tuple[Token, ...]) -> tuple[tuple[Token, ...], ...]:
    """Tokens split at the first five colons."""
    parts: list[list[Token]] = [[]]
    for token in tokens:
        if isinstance(token, Variable) or token in (STAR, ANY) or not isinstance(token, str):
            parts[-1].append(token)
            continue
        first, *rest = token.split(":", 6 - len(parts))
        for text, new in ((first, False), *((text, True) for text in rest)):
            if new:
                parts.append([])
            if text:
                parts[-1].append(text)
    if parts == [[STAR]]:  # a lone star stands for any ARN
        return ((STAR,),) * 6
    return tuple(tuple(part) for part in parts)


# -- numbers, dates, truth, bytes, addresses ----------------------------------------------------------------------------


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def instant_of(text: str) -> float | None:
    """A date of ISO 8601 or seconds since 1970, as seconds; None when it is neither."""
    if (number := _number(text)) is not None:
        return number
    try:
        instant = datetime.fromisoformat(text.upper())
    except ValueError:
        return None
    return (instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant).timestamp()


def _comparison(
    read: Callable[[str], float | None], compare: Callable[[float, float], bool]
) -> Callable[[list[str], bool], ValueTest]:
    def make(values: list[str], _variables: bool) -> ValueTest:
        wanted = []
        for text in values:
            if (number := read(text)) is None:
                raise BadValue(text)
            wanted.append(number)

        def matches(value: str, _facts: Facts) -> bool:
            given = read(value)
            return given is not None and any(compare(given, number) for number in wanted)

        return matches

    return make


def _bool(values: list[str], variables: bool) -> ValueTest:
    return _string_equals_ignoring_case(values, variables)


def _binary_equals(values: list[str], _variables: bool) -> ValueTest:
    wanted = {_decoded(text) for text in values} - {None}
    return lambda value, _facts: _decoded(value) in wanted


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return None


def _ip_address(values: list[str], _variables: bool) -> ValueTest:
    networks = [_network(text) for text in values]

    def matches(value: str, _facts: Facts) -> bool:
        address = _address(value)
        return address is not None and any(address in network for network in networks)

    return matches


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise BadValue(text) from None


@lru_cache(maxsize=256)
def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


_ORDERINGS: dict[str, tuple[Callable[[float, float], bool], bool]] = {
    "equals": (lambda given, wanted: given == wanted, False),
    "notequals": (lambda given, wanted: given == wanted, True),
    "lessthan": (lambda given, wanted: given < wanted, False),
    "lessthanequals": (lambda given, wanted: given <= wanted, False),
    "greaterthan": (lambda given, wanted: given > wanted, False),
    "greaterthanequals": (lambda given, wanted: given >= wanted, False),
}

_OPERATORS: dict[str, tuple[Callable[[list[str], bool], ValueTest], bool]] = {
    "stringequals": (_string_equals, False),
    "stringnotequals": (_string_equals, True),
    "stringequalsignorecase": (_string_equals_ignoring_case, False),
    "stringnotequalsignorecase": (_string_equals_ignoring_case, True),
    "stringlike": (_string_like, False),
    "stringnotlike": (_string_like, True),
    "arnequals": (_arn_like, False),
    "arnlike": (_arn_like, False),
    "arnnotequals": (_arn_like, True),
    "arnnotlike": (_arn_like, True),
    "bool": (_bool, False),
    "binaryequals": (_binary_equals, False),
    "ipaddress": (_ip_address, False),
    "notipaddress": (_ip_address, True),
    **{f"numeric{name}": (_comparison(_number, compare), negated) for name, (compare, negated) in _ORDERINGS.items()},
    **{f"date{name}": (_comparison(instant_of, compare), negated) for name, (compare, negated) in _ORDERINGS.items()},
}
"""Operator in lower case: how its values are compared, and whether it holds when they do not match."""
