"""Dockerfiles, read: text to stages of instructions. Pure.

Understood: ADD, ARG, CMD, COPY, ENTRYPOINT, ENV, EXPOSE, FROM, HEALTHCHECK, LABEL, MAINTAINER, RUN, SHELL, STOPSIGNAL, USER, VOLUME,
WORKDIR. Refused by name: ONBUILD, here-documents, mounts of RUN, and what else is not here.
Source: Docker's "Dockerfile reference".
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from pilvi.core.errors import Invalid

KNOWN = frozenset(
    "ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL MAINTAINER RUN SHELL STOPSIGNAL USER VOLUME WORKDIR".split()  # noqa: SIM905
)
_VARIABLE = re.compile(r"\\(.)|\$(\w+)|\$\{(\w+)(?::([-+])([^}]*))?\}")


@dataclass(frozen=True, slots=True)
class Instruction:
    line: int
    name: str
    """In capitals."""
    flags: Mapping[str, str]
    text: str
    """What stands behind name and flags, lines joined."""

    def words(self) -> tuple[str, ...]:
        """The JSON form if it is one, else words as a shell would split them."""
        return self.json() or tuple(shlex.split(self.text))

    def json(self) -> tuple[str, ...] | None:
        if not self.text.startswith("["):
            return None
        try:
            found = json.loads(self.text)
        except ValueError:
            return None
        return tuple(found) if isinstance(found, list) and all(isinstance(word, str) for word in found) else None


@dataclass(frozen=True, slots=True)
class Stage:
    base: str
    name: str
    instructions: tuple[Instruction, ...]


@dataclass(frozen=True, slots=True)
class Dockerfile:
    arguments: tuple[Instruction, ...]
    """ARGs before the first FROM."""
    stages: tuple[Stage, ...] = field(default=())


def read_dockerfile(text: str) -> Dockerfile:
    """Invalid, with the line, when something is not understood."""
    before: list[Instruction] = []
    stages: list[tuple[str, str, list[Instruction]]] = []
    for instruction in _instructions(text):
        if instruction.name == "FROM":
            base, name = _from(instruction, len(stages))
            stages.append((base, name, []))
        elif stages:
            stages[-1][2].append(instruction)
        elif instruction.name == "ARG":
            before.append(instruction)
        else:
            raise Invalid(f"line {instruction.line}: {instruction.name} before the first FROM")
    if not stages:
        raise Invalid("there is no FROM")
    return Dockerfile(tuple(before), tuple(Stage(base, name, tuple(rest)) for base, name, rest in stages))


def substituted(text: str, values: Mapping[str, str]) -> str:
    """The text with $NAME, ${NAME}, ${NAME:-word} and ${NAME:+word} filled in; unknown names are empty."""

    def fill(match: re.Match[str]) -> str:
        if match[1] is not None:
            return match[1] if match[1] == "$" else match[0]
        value = values.get(match[2] or match[3], "")
        if match[4] == "-":
            return value or substituted(match[5], values)
        if match[4] == "+":
            return substituted(match[5], values) if value else ""
        return value

    return _VARIABLE.sub(fill, text)


def pairs(instruction: Instruction, values: Mapping[str, str]) -> dict[str, str]:
    """The name=value pairs of ENV, LABEL and ARG; ENV's old form `ENV name value` too."""
    text = instruction.text
    if instruction.name != "ARG" and "=" not in text.split(None, 1)[0]:
        name, _, value = text.partition(" ")
        return {name: substituted(value.strip(), values)}
    found = {}
    for word in shlex.split(substituted(text, values)):
        name, equals, value = word.partition("=")
        if not equals and instruction.name != "ARG":
            raise Invalid(f"line {instruction.line}: {word} has no value")
        found[name] = value if equals else values.get(name, "")
    return found


def _instructions(text: str) -> list[Instruction]:
    escape, lines = "\\", text.splitlines()
    found: list[Instruction] = []
    gathered, start = "", 0
    for number, line in enumerate(lines, 1):
        if not gathered and (match := re.match(r"#\s*escape\s*=\s*(\S)\s*$", line)) and not found:
            escape = match[1]
            continue
        if line.lstrip().startswith("#") or (not line.strip()):
            continue
        start = start or number
        stripped = line.rstrip()
        if stripped.endswith(escape):
            gathered += stripped[:-1].lstrip() if not gathered else stripped[:-1]
            continue
        gathered += stripped.lstrip() if not gathered else stripped
        found.append(_instruction(gathered, start))
        gathered, start = "", 0
    if gathered:
        found.append(_instruction(gathered, start))
    return found


def _instruction(text: str, line: int) -> Instruction:
    name, _, rest = text.partition(" ")
    name, rest = name.upper(), rest.strip()
    if name not in KNOWN:
        raise Invalid(f"line {line}: {name} is not supported")
    flags: dict[str, str] = {}
    while match := re.match(r"--([a-z-]+)(?:=(\S*))?\s+", rest + " "):
        flags[match[1]] = match[2] or "true"
        rest = rest[match.end() :].strip()
    if re.match(r"<<-?['\"]?\w", rest) or re.search(r"\s<<-?['\"]?[A-Za-z_]+['\"]?$", rest):
        raise Invalid(f"line {line}: here-documents are not supported")
    if not rest:
        raise Invalid(f"line {line}: {name} needs arguments")
    return Instruction(line, name, flags, rest)


def _from(instruction: Instruction, number: int) -> tuple[str, str]:
    words = instruction.text.split()
    if len(words) == 1:
        return words[0], str(number)
    if len(words) == 3 and words[1].lower() == "as":
        return words[0], words[2].lower()
    raise Invalid(f"line {instruction.line}: FROM IMAGE [AS NAME]")
