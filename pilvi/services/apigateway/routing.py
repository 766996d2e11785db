"""From a path to the resource that answers it. Pure.

A word goes before `{param}`, `{param}` before `{proxy+}`; a resource without a method for the verb is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

Resource = Mapping[str, Any]


@dataclass(slots=True)
class Node:
    """One step of a path: its own resource, and where the next part leads."""

    resource: Resource | None = None
    words: dict[str, Node] = field(default_factory=dict)
    variable: tuple[str, Node] | None = None
    greedy: tuple[str, Resource] | None = None


@dataclass(frozen=True, slots=True)
class Route:
    resource: Resource
    method: Mapping[str, Any]
    parameters: Mapping[str, str]
    """Values of the variables in the path, percent-encoded as they came, which is how AWS hands them on."""


class Router:
    """The resources of one API, arranged by the parts of their paths."""

    def __init__(self, resources: Mapping[str, Resource]) -> None:
        self._root = Node()
        for resource in resources.values():
            self._add(resource)

    def _add(self, resource: Resource) -> None:
        node = self._root
        for part in parts_of(resource["path"]):
            if part.endswith("+}"):
                node.greedy = (part[1:-2], resource)
                return
            if part.startswith("{"):
                if node.variable is None:
                    node.variable = (part[1:-1], Node())
                node = node.variable[1]
            else:
                node = node.words.setdefault(part, Node())
        node.resource = resource

    def find(self, verb: str, path: str) -> Route | None:
        """The method that answers, or None. `path` is as sent, after the stage."""
        for resource, parameters in walk(self._root, parts_of(path), 0):
            methods = resource["resourceMethods"]
            method = methods.get(verb) or methods.get("ANY")
            if method is not None:
                return Route(resource, method, parameters)
        return None


def parts_of(path: str) -> list[str]:
    """Without the empty parts that a leading or trailing slash makes."""
    return [part for part in path.split("/") if part]


def walk(node: Node, parts: list[str], at: int) -> Iterator[tuple[Resource, dict[str, str]]]:
    """Every resource that fits, the best first."""
    if at == len(parts):
        if node.resource is not None:
            yield node.resource, {}
        return
    part = parts[at]
    if (following := node.words.get(unquote(part))) is not None:
        yield from walk(following, parts, at + 1)
    if node.variable is not None:
        name, following = node.variable
        for resource, parameters in walk(following, parts, at + 1):
            yield resource, {name: part, **parameters}
    if node.greedy is not None:
        name, resource = node.greedy
        yield resource, {name: "/".join(parts[at:])}
