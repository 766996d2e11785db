"""Dockerfiles, read."""

from __future__ import annotations

import pytest

from pilvi.core.errors import Invalid
from pilvi.images.dockerfile import pairs, read_dockerfile, substituted


def test_stages_instructions_and_lines() -> None:
    file = read_dockerfile(
        '# a comment\nARG V=3.11\nFROM python:${V} AS Base\nRUN a \\\n  # within\n  && b\n\ncopy --from=base --chown=1:2 x y\nFROM base\nCMD ["a", "b c"]\n'
    )
    assert [argument.text for argument in file.arguments] == ["V=3.11"]
    base, last = file.stages
    assert (base.base, base.name, last.base, last.name) == ("python:${V}", "base", "base", "1")
    run, copy = base.instructions
    assert (run.line, run.name, run.text) == (4, "RUN", "a   && b")
    assert (copy.name, copy.flags, copy.words()) == ("COPY", {"from": "base", "chown": "1:2"}, ("x", "y"))
    assert last.instructions[0].json() == ("a", "b c")


def test_variables_are_filled_in() -> None:
    values = {"A": "1", "EMPTY": ""}
    assert substituted("$A ${A} ${B:-two} ${EMPTY:-three} ${A:+four} ${B:+five}| \\$A", values) == "1 1 two three four | $A"


def test_pairs_of_env_and_arg() -> None:
    env, old, arg = read_dockerfile('FROM scratch\nENV A=1 B="two words" C=$D\nENV OLD the rest\nARG X').stages[0].instructions
    assert pairs(env, {"D": "4"}) == {"A": "1", "B": "two words", "C": "4"}
    assert pairs(old, {}) == {"OLD": "the rest"}
    assert pairs(arg, {}) == {"X": ""}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "there is no FROM"),
        ("RUN x", "before the first FROM"),
        ("FROM a b", "FROM IMAGE"),
        ("FROM a\nONBUILD RUN x", "ONBUILD is not supported"),
        ("FROM a\nRUN <<EOF\nx\nEOF", "here-documents"),
        ("FROM a\nCOPY", "needs arguments"),
    ],
)
def test_what_is_not_understood_is_refused_by_line(text: str, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        read_dockerfile(text)
