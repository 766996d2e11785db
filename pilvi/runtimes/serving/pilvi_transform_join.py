"""DataProcessing of a transform: which part of a record the model gets, what it is joined with, which part of that is kept.

A CSV row counts as an array, a JSON line as what it is. The paths are the part of JSONPath that the service documents:

    $   .name   ['a','b']   [0]   [-1]   [1,3]   [0:2]   [1:]   .*   [*]

Source: developer guide, "Associate Prediction Results with Input Records".
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from typing import Any

_STEP = re.compile(
    r"""\.(?P<name>[A-Za-z_][\w-]*|\*)|\[(?P<names>\s*'[^']*'(?:\s*,\s*'[^']*')*\s*)\]|\[(?P<star>\*)\]"""
    r"""|\[(?P<slice>-?\d*:-?\d*)\]|\[(?P<places>\s*-?\d+(?:\s*,\s*-?\d+)*\s*)\]"""
)


class Bad(Exception):
    """The record does not fit, or the path is none."""


class Plan:
    def __init__(self, into: Path, out_of: Path, is_joined: bool, content_type: str, accept: str) -> None:
        self._into = into
        self._out_of = out_of
        self._is_joined = is_joined
        self._reads_csv = _is_csv(content_type)
        self._writes_csv = _is_csv(accept) if accept else self._reads_csv

    def into(self, records: Sequence[bytes]) -> bytes:
        """The body of a request for these records."""
        found = [self._into.of(_read(record, self._reads_csv)) for record in records]
        return b"".join(_write(one, self._reads_csv) for one in found)

    def out_of(self, records: Sequence[bytes], answer: bytes) -> bytes:
        """What stands in the output for them."""
        if len(records) == 1 and not self._writes_csv:
            replies = [_loads(answer)]
        else:
            lines = [line for line in answer.splitlines() if line.strip()]
            replies = [_read(line, self._writes_csv) for line in lines]
        if len(replies) != len(records):
            raise Bad(f"The model answered {len(replies)} records for {len(records)}: they cannot be joined with the input.")
        joined = [self._joined(record, reply) for record, reply in zip(records, replies, strict=True)]
        return b"".join(_write(self._out_of.of(one), self._writes_csv) for one in joined)

    def _joined(self, record: bytes, reply: Any) -> Any:
        if not self._is_joined:
            return reply
        given = _read(record, self._reads_csv)
        if self._reads_csv:
            return [*given, *(reply if isinstance(reply, list) else [reply])]
        if isinstance(given, dict):
            return {**given, "SageMakerOutput": reply}
        return {"SageMakerInput": given, "SageMakerOutput": reply}


class Path:
    """A compiled path."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._steps: list[tuple[str, Any]] = []
        rest = text.strip()
        if not rest.startswith("$"):
            raise Bad(f"{text} is no JSONPath: it must begin with $.")
        at = 1
        while at < len(rest):
            match = _STEP.match(rest, at)
            if match is None:
                raise Bad(f"{text} is a JSONPath that is not supported here, from {rest[at:]} on.")
            self._steps.append(_step(match))
            at = match.end()

    def of(self, value: Any) -> Any:
        for kind, wanted in self._steps:
            try:
                value = _taken(value, kind, wanted)
            except (KeyError, IndexError, TypeError) as error:
                raise Bad(f"The record has nothing at {self._text}.") from error
        return value


def plan_for(processing: dict[str, Any] | None, content_type: str, accept: str) -> Plan | None:
    """None where records go as they are."""
    given = processing or {}
    into, out_of = given.get("InputFilter") or "$", given.get("OutputFilter") or "$"
    is_joined = given.get("JoinSource") == "Input"
    if into == "$" and out_of == "$" and not is_joined:
        return None
    return Plan(Path(into), Path(out_of), is_joined, content_type, accept)


def _step(match: re.Match[str]) -> tuple[str, Any]:
    if (name := match["name"]) is not None:
        return ("all", None) if name == "*" else ("name", name)
    if match["star"]:
        return "all", None
    if (names := match["names"]) is not None:
        found = re.findall(r"'([^']*)'", names)
        return ("name", found[0]) if len(found) == 1 else ("names", found)
    if (limits := match["slice"]) is not None:
        first, _, last = limits.partition(":")
        return "slice", slice(int(first) if first else None, int(last) if last else None)
    places = [int(text) for text in match["places"].split(",")]
    return ("place", places[0]) if len(places) == 1 else ("places", places)


def _taken(value: Any, kind: str, wanted: Any) -> Any:
    if kind == "name":
        return value[wanted]
    if kind == "names":
        return {name: value[name] for name in wanted}
    if kind == "all":
        return list(value.values()) if isinstance(value, dict) else list(value)
    if not isinstance(value, list):
        raise TypeError
    if kind == "slice":
        return value[wanted]
    return value[wanted] if kind == "place" else [value[place] for place in wanted]


def _read(record: bytes, is_csv: bool) -> Any:
    if is_csv:
        return next(csv.reader(io.StringIO(record.decode())), [])
    return _loads(record)


def _loads(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise Bad(f"A record is no JSON: {error}") from error


def _write(value: Any, is_csv: bool) -> bytes:
    """One record, with the end of its line."""
    if not is_csv:
        return json.dumps(value).encode() + b"\n"
    row = value if isinstance(value, list) else [value]
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(row)
    return out.getvalue().encode()


def _is_csv(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == "text/csv"
