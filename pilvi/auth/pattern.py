"""The wildcards and variables of policies: `arn:aws:s3:::home/${aws:username}/*`.

A pattern is cut into tokens once: literal text, ANY ('?'), STAR ('*') and variables. A matcher made of tokens never
backtracks (each piece between two stars is looked for once, from the left), so no policy can make a request slow.

Source: IAM User Guide, "IAM policy elements: Variables and tags".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple, Protocol

STAR: Final = 0
ANY: Final = 1


class Variable(NamedTuple):
    """`${key}` or `${key, 'default'}`."""

    key: str
    """In lower case: keys know no case."""
    default: str | None
    name: str = ""
    """As written."""


Token = str | int | Variable
Match = Callable[[str], bool]


class Facts(Protocol):
    """What is known of a request, by condition key in lower case."""

    def get(self, key: str, /) -> str | list[str] | None: ...


def tokens_of(pattern: str, *, variables: bool, wildcards: bool = True) -> tuple[Token, ...]:
    """A pattern in tokens. variables: whether `${...}` means anything (not in policies of version 2008-10-17)."""
    out: list[Token] = []
    text: list[str] = []

    def flush() -> None:
        if text:
            out.append("".join(text))
            text.clear()

    position = 0
    while position < len(pattern):
        character = pattern[position]
        end = pattern.find("}", position) if variables and character == "$" and pattern[position + 1 : position + 2] == "{" else -1
        if end > 0:
            inner = pattern[position + 2 : end]
            if inner in ("*", "?", "$"):
                text.append(inner)
            else:
                flush()
                out.append(_variable(inner))
            position = end + 1
            continue
        if wildcards and character in "*?":
            flush()
            out.append(STAR if character == "*" else ANY)
        else:
            text.append(character)
        position += 1
    flush()
    return tuple(out)


def _variable(inner: str) -> Variable:
    key, comma, default = inner.partition(",")
    default = default.strip()
    if comma and len(default) >= 2 and default[0] == default[-1] == "'":
        return Variable(key.strip().lower(), default[1:-1], key.strip())
    return Variable(inner.strip().lower(), None, inner.strip())


def has_variables(tokens: tuple[Token, ...]) -> bool:
    return any(isinstance(token, Variable) for token in tokens)


def expand(tokens: tuple[Token, ...], facts: Facts) -> tuple[Token, ...] | None:
    """The tokens with every variable replaced by its value, letter by letter; None when one has neither value nor default."""
    out: list[Token] = []
    for token in tokens:
        if isinstance(token, Variable):
            value = facts.get(token.key)
            if value is None:
                value = token.default
            if not isinstance(value, str):
                return None
            out.append(value)
        else:
            out.append(token)
    return tuple(out)


def literal(tokens: tuple[Token, ...]) -> str:
    """The text of tokens that hold no wildcards."""
    return "".join([str(token) for token in tokens])


@lru_cache(maxsize=2048)
def matcher(tokens: tuple[Token, ...]) -> Match:
    """A test for tokens without variables: the cheapest that will do."""
    pieces = _pieces(tokens)
    if len(pieces) == 1:
        return _whole(pieces[0])
    if all(isinstance(token, str) for piece in pieces for token in piece):
        return _plain_glob([literal(piece) for piece in pieces])
    return _glob(
        [
            re.compile("".join([re.escape(token) if isinstance(token, str) else "." for token in piece]), re.DOTALL)
            for piece in pieces
        ]
    )


def _pieces(tokens: tuple[Token, ...]) -> list[tuple[Token, ...]]:
    """What stands between the stars."""
    pieces: list[list[Token]] = [[]]
    for token in tokens:
        if token == STAR and isinstance(token, int):
            pieces.append([])
        else:
            pieces[-1].append(token)
    return [tuple(piece) for piece in pieces]


def _whole(piece: tuple[Token, ...]) -> Match:
    if all(isinstance(token, str) for token in piece):
        text = literal(piece)
        return lambda value: value == text
    full = re.compile("".join([re.escape(token) if isinstance(token, str) else "." for token in piece]), re.DOTALL).fullmatch
    return lambda value: full(value) is not None


def _plain_glob(pieces: list[str]) -> Match:
    head, *middle, tail = pieces
    middle = [piece for piece in middle if piece]
    if not middle and not tail:
        return (lambda value: value.startswith(head)) if head else (lambda _value: True)
    least = len(head) + len(tail)

    def match(value: str) -> bool:
        if len(value) < least or not value.startswith(head) or not value.endswith(tail):
            return False
        position, end = len(head), len(value) - len(tail)
        for piece in middle:
            found = value.find(piece, position, end)
            if found < 0:
                return False
            position = found + len(piece)
        return True

    return match


def _glob(pieces: list[re.Pattern[str]]) -> Match:
    """The same where pieces hold '?': every piece has a fixed length, so each search is linear."""
    head, *middle, tail = pieces
    tail_length = _length(tail)

    def match(value: str) -> bool:
        start = head.match(value)
        end = len(value) - tail_length
        if start is None or end < start.end() or tail.match(value, end) is None:
            return False
        position = start.end()
        for piece in middle:
            found = piece.search(value, position, end)
            if found is None:
                return False
            position = found.end()
        return True

    return match


def _length(piece: re.Pattern[str]) -> int:
    """How many characters a piece without stars matches."""
    return len(re.sub(r"\\(.)", r"\1", piece.pattern, flags=re.DOTALL))
