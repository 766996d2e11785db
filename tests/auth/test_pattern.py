"""Wildcards against a plain reference, and that they stay quick."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from pilvi.auth.pattern import Variable, expand, has_variables, matcher, tokens_of

PATTERNS = st.text("ab*?.\\n$[", max_size=8)
TEXTS = st.text("ab.\\n$[", max_size=10)


def reference(pattern, text):
    parts = [".*" if letter == "*" else "." if letter == "?" else re.escape(letter) for letter in pattern]
    return re.fullmatch("".join(parts), text, re.DOTALL) is not None


@given(PATTERNS, TEXTS)
def test_wildcards_match_as_the_reference_does(pattern, text):
    assert matcher(tokens_of(pattern, variables=False))(text) is reference(pattern, text)


@given(PATTERNS, st.data())
def test_what_a_pattern_was_made_from_matches(pattern, data):
    text = "".join(
        data.draw(st.text("ab", max_size=3)) if letter == "*" else data.draw(st.sampled_from("ab")) if letter == "?" else letter
        for letter in pattern
    )
    assert matcher(tokens_of(pattern, variables=False))(text)


def test_pieces_must_come_in_order():
    match = matcher(tokens_of("?*b?*c?*d", variables=False))
    assert match("abxcyd")
    assert not match("acybxd")
    assert not match("d")
    assert not match("abxcy")


def test_hostile_patterns_are_quick():
    for pattern in ("*a" * 200 + "b", "*a?" * 200 + "b"):
        assert not matcher(tokens_of(pattern, variables=False))("a" * 20_000)


def test_variables_are_cut_out():
    tokens = tokens_of("a${aws:username}*${k, 'd'}", variables=True)
    assert tokens == ("a", Variable("aws:username", None, "aws:username"), 0, Variable("k", "d", "k"))
    assert has_variables(tokens)
    assert expand(tokens, {"aws:username": "x*"}) == ("a", "x*", 0, "d")
    assert expand(tokens, {}) is None
    assert expand(tokens, {"aws:username": ["a", "b"]}) is None
    assert not has_variables(tokens_of("a${aws:username}", variables=False))
    assert tokens_of("a*", variables=True, wildcards=False) == ("a*",)
