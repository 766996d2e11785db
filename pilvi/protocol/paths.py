"""URI templates of REST services, compiled into a tree of segments.

    /2015-03-31/functions/{FunctionName}/invocations        labels match one segment
    /{Bucket}/{Key+}?uploads                                greedy labels match the rest; the query must be there

Segments are percent-decoded one by one, once, so an encoded slash stays inside its label. Of all operations whose
template matches, the one with the most literal segments, query parameters and required members present wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

Query = Mapping[str, Sequence[str]]


@dataclass(slots=True)
class Route:
    """One operation's template."""

    operation: str
    query: tuple[tuple[str, str], ...]
    """Literal query parameters; '' takes any value."""
    required_query: tuple[str, ...]
    required_headers: tuple[str, ...]
    labels: tuple[str, ...]
    """Names of the labels, in order."""
    ends_greedy: bool = False
    """Whether a trailing slash belongs to the last label."""
    is_deprecated: bool = False


@dataclass(slots=True)
class _Node:
    literals: dict[str, _Node] = field(default_factory=dict)
    label: _Node | None = None
    greedy: _Node | None = None
    routes: dict[str, list[Route]] = field(default_factory=dict)
    """By HTTP method."""


class Templates:
    """The templates of one service."""

    def __init__(self, operations: Mapping[str, Mapping[str, Any]], shapes: Mapping[str, Mapping[str, Any]]) -> None:
        self._root = _Node()
        for name, operation in operations.items():
            self._add(name, operation, shapes)

    def _add(self, name: str, operation: Mapping[str, Any], shapes: Mapping[str, Mapping[str, Any]]) -> None:
        path = operation["http"]["requestUri"].partition("?")[0]
        node, labels = self._root, []
        for segment in _segments(path):
            if not segment.startswith("{"):
                node = node.literals.setdefault(segment, _Node())
                continue
            labels.append(segment.strip("{}+"))
            kind = "greedy" if segment.endswith("+}") else "label"
            below = getattr(node, kind)
            if below is None:
                below = _Node()
                setattr(node, kind, below)
            node = below
        route = route_of(name, operation, labels, shapes)
        node.routes.setdefault(operation["http"]["method"], []).append(route)

    def match(self, method: str, raw_path: str, query: Query, headers: Mapping[str, str]) -> tuple[str, dict[str, str]] | None:
        """The operation and its labels."""
        decoded = [unquote(segment) for segment in _segments(raw_path)]
        found: tuple[int, int, Route, list[str]] | None = None
        for literals, node, values in _walk(self._root, decoded, 0):
            for route in node.routes.get(method, ()):
                score = score_of(route, query, headers)
                if score is not None and (found is None or (literals, score) > found[:2]):
                    found = (literals, score, route, values)
        if found is None:
            return None
        route, values = found[2:]
        if route.ends_greedy and raw_path.endswith("/"):
            values[-1] += "/"
        return route.operation, dict(zip(route.labels, values, strict=True))


def _segments(path: str) -> list[str]:
    """The segments of a path; one trailing slash does not count."""
    parts = path.split("/")[1:]
    if parts and not parts[-1]:
        parts.pop()
    return parts


def route_of(name: str, operation: Mapping[str, Any], labels: list[str], shapes: Mapping[str, Mapping[str, Any]]) -> Route:
    """What a request must have to be this operation."""
    path, _, query = operation["http"]["requestUri"].partition("?")
    literals = [part.partition("=") for part in query.split("&") if part]
    shape = shapes[operation["input"]["shape"]] if "input" in operation else {}
    members = [shape["members"][key] | {"name": key} for key in shape.get("required", ())]
    wanted = {where: _wire_names(members, where) for where in ("querystring", "header")}
    return Route(
        name,
        tuple((key, value) for key, _, value in literals),
        wanted["querystring"],
        tuple(header.lower() for header in wanted["header"]),
        tuple(labels),
        path.endswith("+}"),
        bool(operation.get("deprecated")),
    )


def _wire_names(members: Iterable[Mapping[str, Any]], where: str) -> tuple[str, ...]:
    return tuple(member.get("locationName", member["name"]) for member in members if member.get("location") == where)


def score_of(route: Route, query: Query, headers: Mapping[str, str]) -> int | None:
    """How well a request fits; None when a literal query parameter is missing."""
    score = 0
    for name, value in route.query:
        if name not in query or (value and value not in query[name]):
            return None
        score += 16
    for name in route.required_query:
        score += 4 if name in query else -8
    for name in route.required_headers:
        score += 4 if name in headers else -8
    return score * 2 - route.is_deprecated


def _walk(node: _Node, segments: Sequence[str], at: int) -> Iterator[tuple[int, _Node, list[str]]]:
    """Every node this path leads to, with how many literal segments it took and the labels' values."""
    if at == len(segments):
        yield 0, node, []
        return
    segment = segments[at]
    below = node.literals.get(segment)
    if below is not None:
        for literals, end, values in _walk(below, segments, at + 1):
            yield literals + 1, end, values
    if node.label is not None and segment:
        for literals, end, values in _walk(node.label, segments, at + 1):
            yield literals, end, [segment, *values]
    if node.greedy is not None:
        yield from _walk_greedy(node.greedy, segments, at)


def _walk_greedy(node: _Node, segments: Sequence[str], at: int) -> Iterator[tuple[int, _Node, list[str]]]:
    """A greedy label takes at least one segment and as many as the template leaves it."""
    ends = range(at + 1, len(segments) + 1) if node.literals or node.label else (len(segments),)
    for end in ends:
        value = "/".join(segments[at:end])
        if not value and end < len(segments):
            continue
        for literals, last, values in _walk(node, segments, end):
            yield literals, last, [value, *values]
