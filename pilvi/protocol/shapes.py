"""Shapes of a service model, seen through the references that lead to them.

A model describes a shape once and refers to it often; a reference may add traits (a name on the wire, a place in the
request). `Shape` is one such view: the shape's own traits overlaid by the reference's, as botocore's model does, but an
order of magnitude lighter, so that a server may hold many services.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RawShapes = Mapping[str, Mapping[str, Any]]


class Malformed(ValueError):
    """The bytes do not have the form the model asks for. The protocol's code for it stands in quirks.py."""


class Shape:
    """One shape as it is referred to."""

    __slots__ = ("_members", "_shapes", "kind", "name", "traits")

    def __init__(self, shapes: RawShapes, reference: Mapping[str, Any]) -> None:
        self._shapes = shapes
        self.name: str = reference["shape"]
        raw = shapes[self.name]
        self.traits: Mapping[str, Any] = raw if len(reference) == 1 else {**raw, **reference}
        self.kind: str = raw["type"]
        """structure, list, map, string, character, integer, long, float, double, boolean, blob or timestamp."""
        self._members: dict[str, Shape] | None = None

    @property
    def members(self) -> dict[str, Shape]:
        """A structure's members by their name in the API, in the model's order."""
        if self._members is None:
            raw = self._shapes[self.name].get("members", {})
            self._members = {name: Shape(self._shapes, reference) for name, reference in raw.items()}
        return self._members

    @property
    def member(self) -> Shape:
        """What a list holds."""
        return Shape(self._shapes, self._shapes[self.name]["member"])

    @property
    def key(self) -> Shape:
        """A map's keys."""
        return Shape(self._shapes, self._shapes[self.name]["key"])

    @property
    def value(self) -> Shape:
        """A map's values."""
        return Shape(self._shapes, self._shapes[self.name]["value"])

    @property
    def wire_name(self) -> str | None:
        """The name on the wire where it differs from the API's."""
        name: str | None = self.traits.get("locationName")
        return name

    @property
    def location(self) -> str | None:
        """uri, querystring, header, headers or statusCode; None is the body."""
        where: str | None = self.traits.get("location")
        return where

    @property
    def is_document(self) -> bool:
        """Free-form JSON."""
        return bool(self.traits.get("document"))

    @property
    def is_flat(self) -> bool:
        return bool(self.traits.get("flattened"))

    @property
    def is_eventstream(self) -> bool:
        return bool(self.traits.get("eventstream"))

    def __repr__(self) -> str:
        return f"<Shape {self.name} {self.kind}>"
