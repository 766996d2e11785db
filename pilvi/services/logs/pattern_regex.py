"""Regular expressions of filter patterns, run in time proportional to the message whatever the expression. Pure.

Python's `re` backtracks, and one crafted filter over one long line would hold the whole server; the filter language has no groups,
no look-around and no back references, so a set of states walks the text once, and the steps it has taken are remembered.

Source: CloudWatch Logs User Guide, "Supported regular expressions (regex) syntax": letters, digits, `_ # = @ / : ; , -` and blanks;
the operators ^ $ ? [ ] { } | \\ * + . and the classes \\d \\D \\s \\S \\w \\W \\xhh.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from pilvi.core.errors import Invalid

MOST_STATES = 2000
MOST_REMEMBERED = 10_000
ATOM = re.compile(r"\[(?:\\.|[^\]\\])+\]|\\x[0-9A-Fa-f]{2}|\\.|[.^$]|[^\\\[\]{}()*+?|%]", re.ASCII)
REPEAT = re.compile(r"[*+?]|\{(\d+)(?:(,)(\d*))?\}")
START, END = "start", "end"
REPEATED_ONCE: int | None = 1


class Step(NamedTuple):
    """An atom (a character test, START or END) and how often it comes."""

    atom: str
    least: int
    most: int | None


def compile_regex(text: str) -> Callable[[str], bool]:
    """Whether the expression is found anywhere in a message. Invalid for what the filter language does not have."""
    return compiled(parsed(text)).search


def parsed(text: str) -> list[list[Step]]:
    """The alternatives, each a list of steps."""
    branches: list[list[Step]] = [[]]
    position = 0
    while position < len(text):
        if text[position] == "|":
            branches.append([])
            position += 1
            continue
        atom = ATOM.match(text, position)
        if atom is None:
            raise Invalid("Invalid filter pattern: unsupported regular expression")
        position = atom.end()
        least, most = 1, REPEATED_ONCE
        if (times := REPEAT.match(text, position)) is not None:
            position = times.end()
            least, most = bounds_of(times)
        branches[-1].append(Step({"^": START, "$": END}.get(atom[0], atom[0]), least, most))
    return branches


def bounds_of(times: re.Match[str]) -> tuple[int, int | None]:
    if times[0] in "*+?":
        return {"*": (0, None), "+": (1, None), "?": (0, 1)}[times[0]]
    least = int(times[1])
    most = (int(times[3]) if times[3] else None) if times[2] else least
    if least > MOST_STATES or (most or 0) > MOST_STATES:
        raise Invalid("Invalid filter pattern: regular expression too large")
    return least, most


class Program:
    """States are numbers; each has an atom and what follows, or free moves. State sets are met once and remembered."""

    def __init__(self) -> None:
        self.atoms: list[tuple[str, int]] = []
        """(atom, next state); atom '' is a free move."""
        self.free: dict[int, list[int]] = {}
        self.tests: dict[str, re.Pattern[str]] = {}
        self.starts: list[int] = []
        self.final = self.state()
        self.memory: dict[tuple[frozenset[int], str], frozenset[int]] = {}

    def state(self, atom: str = "", following: int = -1) -> int:
        if len(self.atoms) >= MOST_STATES:
            raise Invalid("Invalid filter pattern: regular expression too large")
        self.atoms.append((atom, following))
        if atom and atom not in (START, END) and atom not in self.tests:
            try:
                self.tests[atom] = re.compile(atom, re.DOTALL)
            except re.error as problem:
                raise Invalid(f"Invalid filter pattern: {problem}") from None
        return len(self.atoms) - 1

    def closed(self, states: set[int], *, at_start: bool, at_end: bool) -> frozenset[int]:
        """With all that is reached without reading: free moves, and anchors where they hold."""
        todo, seen = list(states), set(states)
        while todo:
            state = todo.pop()
            atom, following = self.atoms[state]
            nexts = list(self.free.get(state, ()))
            if (atom == START and at_start) or (atom == END and at_end):
                nexts.append(following)
            for other in nexts:
                if other not in seen:
                    seen.add(other)
                    todo.append(other)
        return frozenset(seen)

    def search(self, text: str) -> bool:
        begin = set(self.starts)
        current = self.closed(begin, at_start=True, at_end=not text)
        for character in text:
            if self.final in current:
                return True
            following = self.memory.get((current, character))
            if following is None:
                following = self.stepped(current, character, begin)
                if len(self.memory) >= MOST_REMEMBERED:
                    self.memory.clear()
                self.memory[current, character] = following
            current = following
        return self.final in self.closed(set(current), at_start=not text, at_end=True)

    def stepped(self, current: frozenset[int], character: str, begin: set[int]) -> frozenset[int]:
        moved = {
            following
            for atom, following in (self.atoms[state] for state in current)
            if atom in self.tests and self.tests[atom].match(character)
        }
        return self.closed(moved | begin, at_start=False, at_end=False)


def compiled(branches: list[list[Step]]) -> Program:
    program = Program()
    for steps in branches:
        following = program.final
        for step in reversed(steps):
            following = chained(program, step, following)
        program.starts.append(following)
    return program


def chained(program: Program, step: Step, following: int) -> int:
    """States for one step that lead to `following`; gives the first."""
    if step.most is None:
        loop = program.state()
        again = program.state(step.atom, loop)
        program.free[loop] = [again, following]
        following = loop
    else:
        end = following
        for _ in range(step.most - step.least):
            optional = program.state()
            program.free[optional] = [program.state(step.atom, following), end]
            following = optional
    for _ in range(step.least):
        following = program.state(step.atom, following)
    return following
