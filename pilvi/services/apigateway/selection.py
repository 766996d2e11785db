"""Selection patterns: regular expressions over a whole error message, checked so that none can hold the server. Pure.

Python matches by backtracking: a repeat within a repeat may take time exponential in the message. Such patterns are refused, all but
`(\\n|.)+`, which AWS's own guides use for "anything" and which is read as one set of characters.
"""

from __future__ import annotations

import re
from functools import lru_cache
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any

from pilvi.core.errors import Invalid

MOST_REPEATS = 4
MOST_MESSAGE = 8192
"""Longer error messages are cut before they are matched."""
ANYTHING = re.compile(r"\((?:\?:)?(?:\\n\|\.|\.\|\\n)\)")


@lru_cache(maxsize=512)
def compile_selection(pattern: str) -> re.Pattern[str]:
    """Invalid when it is no regular expression, or one that may run away."""
    readable = ANYTHING.sub(lambda _: r"[\s\S]", pattern)
    try:
        compiled = re.compile(readable)
        repeats = count_repeats(_parser.parse(readable), within=False)
    except (re.error, RecursionError, OverflowError):
        raise Invalid(f"Invalid selection pattern specified: {pattern}") from None
    if repeats > MOST_REPEATS:
        raise Invalid(f"Invalid selection pattern specified: {pattern} - too many open repeats")
    return compiled


def is_selected(pattern: str, message: str) -> bool:
    return compile_selection(pattern).fullmatch(message[:MOST_MESSAGE]) is not None


def count_repeats(tree: Any, within: bool) -> int:
    """Open repeats (`*`, `+`, `{n,}` and long counted ones) in a parsed expression; Invalid for one inside another."""
    total = 0
    for kind, value in tree:
        inside = within
        if kind in (_constants.MAX_REPEAT, _constants.MIN_REPEAT, _constants.POSSESSIVE_REPEAT) and value[1] > 16:
            if within:
                raise Invalid("Invalid selection pattern specified: a repeat within a repeat")
            total += 1
            inside = True
        if kind is _constants.BRANCH and within:
            raise Invalid("Invalid selection pattern specified: alternatives within a repeat")
        total += sum(count_repeats(part, inside) for part in subtrees(value))
    return total


def subtrees(value: Any) -> list[Any]:
    if isinstance(value, _parser.SubPattern):
        return [value]
    if isinstance(value, tuple | list):
        return [tree for part in value for tree in subtrees(part)]
    return []
