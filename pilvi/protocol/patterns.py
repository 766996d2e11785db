"""AWS's regular expressions for Python: the models write them for Java and for ECMAScript.

Most go as they are. Translated: named character classes (`\\p{L}`, `\\p{Alnum}`), `\\h`, `\\z`, a `[` inside a class, named
groups. The few that cannot be translated yield None: they are not checked.
"""

from __future__ import annotations

import re
import sys
import unicodedata
import warnings
from functools import lru_cache

_POSIX = {
    "Alpha": "a-zA-Z",
    "Digit": "0-9",
    "Alnum": "a-zA-Z0-9",
    "Upper": "A-Z",
    "Lower": "a-z",
    "Punct": r"!-/:-@\[-`{-~",
    "Graph": "!-~",
    "Print": " -~",
    "Blank": r" \t",
    "Cntrl": r"\x00-\x1f\x7f",
    "XDigit": "0-9a-fA-F",
    "Space": r"\s",
    "ASCII": r"\x00-\x7f",
}
_LONG_NAMES = {"Letter": "L", "Number": "N", "Punctuation": "P", "Symbol": "S", "Separator": "Z", "Mark": "M", "Other": "C"}
_CATEGORIES = re.compile(r"(?:Is|IsAlphabetic|gc=)?(L|N|P|S|Z|M|C)([a-z])?\Z")


_SURROGATES = r"\uD800\uDC00-\uDBFF\uDFFF"
_INNER_FLAG = re.compile(r"\(\?!\(\?i\)([^()]*)\)")


class _Untranslatable(Exception):
    pass


@lru_cache(maxsize=4096)
def compile_pattern(pattern: str) -> re.Pattern[str] | None:
    """The pattern, to be used with `fullmatch`; None when Python cannot express it."""
    try:
        translated = _translate(pattern)
    except _Untranslatable:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return re.compile(translated, re.ASCII)
        except (re.error, OverflowError, RecursionError):
            return None


def _translate(pattern: str) -> str:
    pattern = _prepared(pattern)
    if "\\" not in pattern and "[" not in pattern:
        return pattern
    out, at, depth = [], 0, 0
    while at < len(pattern):
        char = pattern[at]
        if char == "\\":
            piece, following = _escape(pattern, at, depth > 0)
            out.append(piece)
            if depth and pattern[at + 1] in "pPwWdDsSh" and pattern[following : following + 1] == "-":
                out.append("\\-")
                following += 1
            at = following
            continue
        if char == "[":
            if depth:
                out.append("\\")
            else:
                depth, opened = 1, at
        elif char == "]" and depth and not _opens(pattern, opened, at):
            depth = 0
        elif depth and pattern.startswith("&&", at):
            raise _Untranslatable
        out.append(char)
        at += 1
    return "".join(out)


def _prepared(pattern: str) -> str:
    """Surrogate pairs as one range, and flags where Python wants them."""
    pattern = pattern.replace(_SURROGATES, "\\U00010000-\\U0010ffff")
    if pattern.startswith("^(?i)"):
        pattern = f"(?i)^{pattern[5:]}"
    return _INNER_FLAG.sub(r"(?!(?i:\1))", pattern)


def _opens(pattern: str, opened: int, at: int) -> bool:
    """Whether this `]` is the first character of its class, where Python takes it literally."""
    return pattern[opened + 1 : at] in ("", "^")


def _escape(pattern: str, at: int, inside: bool) -> tuple[str, int]:
    following = pattern[at + 1 : at + 2]
    if following in ("p", "P"):
        return _property(pattern, at, inside)
    if following == "h":
        return (r" \t" if inside else r"[ \t]"), at + 2
    if following in ("z", "Z"):
        return r"\Z", at + 2
    if following == "x" and pattern[at + 2 : at + 3] == "{":
        end = pattern.index("}", at) if "}" in pattern[at:] else -1
        if end < 0:
            raise _Untranslatable
        return _point(pattern[at + 3 : end]), end + 1
    if following == "u" and pattern[at + 2 : at + 3] == "{":
        end = pattern.find("}", at)
        return _point(pattern[at + 3 : end]), end + 1
    if following.isalpha() and following not in "AbBdDsSwWnrtfvaxuU":
        return re.escape(following) if following in "ceijklmoqyIJKLMNOQTVY" else pattern[at : at + 2], at + 2
    return pattern[at : at + 2], at + 2


def _point(digits: str) -> str:
    try:
        return re.escape(chr(int(digits, 16)))
    except (ValueError, OverflowError):
        raise _Untranslatable from None


def _property(pattern: str, at: int, inside: bool) -> tuple[str, int]:
    """`\\p{Name}`, `\\pL` and their negations."""
    if pattern[at + 2 : at + 3] == "{":
        end = pattern.find("}", at)
        name, end = pattern[at + 3 : end], end + 1
    else:
        name, end = pattern[at + 2 : at + 3], at + 3
    negated = pattern[at + 1] == "P"
    if inside:
        return (_ranges_without(name) if negated else _ranges(name)), end
    ranges = _ranges(name)
    return f"[{'^' if negated else ''}{ranges}]", end


def _ranges_without(name: str) -> str:
    found = _CATEGORIES.match(_LONG_NAMES.get(name, name))
    if found is None:
        raise _Untranslatable
    return _category_ranges(found.group(1) + (found.group(2) or ""), negated=True)


def _ranges(name: str) -> str:
    if name in _POSIX:
        return _POSIX[name]
    if name in ("IsAlphabetic", "IsLetter"):
        name = "L"
    name = _LONG_NAMES.get(name, name)
    found = _CATEGORIES.match(name)
    if found is None:
        raise _Untranslatable
    return _category_ranges(found.group(1) + (found.group(2) or ""))


@lru_cache(maxsize=64)
def _category_ranges(category: str, *, negated: bool = False) -> str:
    """The characters of a Unicode category (or all others), up to U+FFFF one by one; what lies beyond is let through."""
    runs: list[list[int]] = []
    for point in range(0x10000):
        if unicodedata.category(chr(point)).startswith(category) is not negated:
            if runs and runs[-1][1] == point - 1:
                runs[-1][1] = point
            else:
                runs.append([point, point])
    text = "".join([_range(first, last) for first, last in runs])
    return text + (f"\\U00010000-\\U{sys.maxunicode:08x}" if negated or category[0] in "LNSPM" else "")


def _range(first: int, last: int) -> str:
    return f"\\u{first:04x}" if first == last else f"\\u{first:04x}-\\u{last:04x}"
