"""Random values for botocore's shapes, repeatable, within what each wire format can carry."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

TEXT = "abcXYZ019 -_/.:+=%&<>\"'äß日\n"
HEADER_TEXT = "abcXYZ019-_/.:+=%&"
MAX_DEPTH = 4
START = datetime(2020, 1, 1, tzinfo=UTC)


class Sampler:
    """Values of shapes. `filled`: nothing may be empty (forms and XML cannot tell empty from absent)."""

    def __init__(self, seed: str, *, filled: bool) -> None:
        self.random = random.Random(seed)
        self.filled = filled

    def structure(self, shape: Any, depth: int = 0, most: int = 8) -> dict[str, Any]:
        names = list(shape.members)
        required = [name for name in names if name in shape.required_members]
        if shape.is_tagged_union:
            return self.union(shape, names, depth)
        others = [name for name in names if name not in required]
        chosen = required + self.random.sample(others, min(len(others), max(0, most - depth * 2)))
        if depth >= MAX_DEPTH and not self.filled:
            chosen = required
        if self.filled and not chosen and names:
            chosen = [names[0]]
        out = {}
        for name in names:
            if name in chosen and not shape.members[name].serialization.get("eventstream"):
                value = self.member(shape.members[name], depth + 1)
                if value is not None:
                    out[name] = value
        return out

    def union(self, shape: Any, names: list[str], depth: int) -> dict[str, Any]:
        """Exactly one member, scalars first when it gets deep; an empty dict when nothing fits."""
        order = self.random.sample(names, len(names))
        if depth > MAX_DEPTH:
            order.sort(key=lambda name: shape.members[name].type_name in ("structure", "list", "map"))
        for name in order:
            if (value := self.member(shape.members[name], depth + 1)) is not None:
                return {name: value}
        return {}

    def member(self, shape: Any, depth: int) -> Any:
        """A value, or None when none fits (recursion too deep, nothing to put in)."""
        location = shape.serialization.get("location")
        if shape.serialization.get("hostLabel"):
            return self.text(shape, "abc019")
        if location in ("uri", "querystring", "header", "headers", "statusCode"):
            return self.placed(shape, location)
        if depth > MAX_DEPTH + 3:
            return None
        kind = shape.type_name
        if getattr(shape, "is_document_type", False):
            return {"a": [1, "x", True, {"b": 2.5}]}
        if kind == "structure":
            value: Any = self.structure(shape, depth)
            return None if not value and (self.filled or shape.is_tagged_union) else value
        if kind == "list":
            count = self.random.randint(1 if self.filled else 0, 2)
            items = [item for _ in range(count) if (item := self.member(shape.member, depth + 1)) is not None]
            return None if self.filled and not items else items
        if kind == "map":
            count = self.random.randint(1 if self.filled else 0, 2)
            pairs = [(self.text(shape.key, TEXT) + str(n), self.member(shape.value, depth + 1)) for n in range(count)]
            found = {key: value for key, value in pairs if value is not None}
            return None if self.filled and not found else found
        return self.scalar(shape, TEXT)

    def placed(self, shape: Any, location: str) -> Any:
        """A value for the head of a request or response."""
        kind = shape.type_name
        if location == "statusCode":
            return self.random.choice([200, 201, 202])
        if kind == "structure":
            return None
        if location == "headers":
            return {f"k{n}": self.text(shape.value, HEADER_TEXT) for n in range(self.random.randint(1, 2))}
        if kind == "map":
            many = shape.value.type_name == "list"
            return {f"zz{n}": ["v", "w"] if many else "v" for n in range(1, 3)}
        if kind == "list":
            return [self.scalar(shape.member, HEADER_TEXT, head=True) for _ in range(self.random.randint(1, 2))]
        if shape.serialization.get("jsonvalue"):
            return {"a": [1, "ü"]}
        return self.scalar(shape, HEADER_TEXT if location == "header" else TEXT.replace("\n", ""), head=True)

    def text(self, shape: Any, alphabet: str) -> str:
        enum = getattr(shape, "enum", None)
        if enum:
            return self.random.choice(enum)
        size = self.random.randint(1, 9)
        return "".join(self.random.choices(alphabet, k=size))

    def scalar(self, shape: Any, alphabet: str, *, head: bool = False) -> Any:
        kind = shape.type_name
        if kind in ("integer", "long"):
            return self.random.choice([0, 1, -5, 37, 70000, 2**40 if kind == "long" else 2**20])
        if kind in ("float", "double"):
            return self.random.choice([0.0, 1.5, -2.25, 1e6, 3.0])
        if kind == "boolean":
            return self.random.random() < 0.5
        if kind == "blob":
            return self.random.randbytes(self.random.randint(1 if self.filled else 0, 20))
        if kind == "timestamp":
            whole = START + timedelta(seconds=self.random.randint(0, 10**8))
            head = head or shape.serialization.get("timestampFormat") == "rfc822"
            return whole if head or self.random.random() < 0.5 else whole + timedelta(milliseconds=self.random.randint(0, 999))
        return self.text(shape, alphabet)
