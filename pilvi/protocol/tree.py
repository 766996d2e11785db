"""Trees of dicts, lists and scalars, as JSON and CBOR hold them, to API-shaped dicts and back.

Closures are compiled once per shape. A structure's closure holds a table that is filled after the closure is made, so a
shape may contain itself. Decoding checks types (AWS answers SerializationException before any ValidationException);
nulls are absent members and unknown members are dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pilvi.protocol import scalars
from pilvi.protocol.shapes import Malformed, Shape

Convert = Callable[[Any], Any]
_NAMES_OF_TYPES = {"string": "String", "character": "String", "integer": "Integer", "long": "Long", "boolean": "Boolean"}


class Reader(NamedTuple):
    """How one shape is read: a value of exactly type `exact` goes through `convert` (None: as it is), any other through `other`."""

    exact: type
    convert: Convert | None
    other: Convert

    def __call__(self, value: Any) -> Any:
        if type(value) is self.exact:
            return value if self.convert is None else self.convert(value)
        return self.other(value)


def refusal_of(shape: Shape) -> Convert:
    wanted = _NAMES_OF_TYPES.get(shape.kind)

    def refuse(value: Any) -> Any:
        raise Malformed(mismatch_text(value, wanted))

    return refuse


def mismatch_text(value: Any, wanted: str | None) -> str:
    """AWS's words for a value of the wrong JSON type."""
    if isinstance(value, dict):
        return "Start of structure or map found where not expected."
    if isinstance(value, list):
        return "Start of list found where not expected"
    if wanted is None:
        return "Unexpected value type in payload"
    token = "STRING" if isinstance(value, str) else f"{value}".upper() if isinstance(value, bool) else "NUMBER"
    token = "DECIMAL" if isinstance(value, float) else token
    return f"{token}_VALUE can not be converted to {'an' if wanted[0] in 'AEIOU' else 'a'} {wanted}"


class TreeReader:
    """Compiles readers for the shapes of one service and one syntax."""

    def __init__(self) -> None:
        self._structures: dict[str, Convert] = {}

    def compile(self, shape: Shape) -> Reader:
        """The reader of a shape."""
        if shape.is_document:
            return Reader(_Never, None, _as_it_is)
        kind = shape.kind
        if kind == "structure":
            return Reader(dict, self._structure(shape), refusal_of(shape))
        if kind == "list":
            return Reader(list, self._list(shape), refusal_of(shape))
        if kind == "map":
            return Reader(dict, self._map(shape), refusal_of(shape))
        return self.scalar(shape)

    def scalar(self, shape: Shape) -> Reader:
        """JSON's way; CBOR overrides blobs and timestamps."""
        kind = shape.kind
        if kind in ("integer", "long"):
            return Reader(int, None, _whole_float(refusal_of(shape)))
        if kind in ("float", "double"):
            return Reader(float, None, _read_float)
        if kind == "boolean":
            return Reader(bool, None, refusal_of(shape))
        if kind == "blob":
            return Reader(str, scalars.parse_blob, refusal_of(shape))
        if kind == "timestamp":
            return Reader(int, scalars.parse_epoch, scalars.parse_timestamp)
        return Reader(str, None, refusal_of(shape))

    def wire(self, shape: Shape, name: str) -> str:
        """The name a member has on the wire."""
        return shape.wire_name or name

    def structure(self, members: Mapping[str, Shape]) -> Convert:
        """The reader of a structure restricted to some members (the body of a REST request)."""
        table: dict[str, tuple[str, type, Convert | None, Convert]] = {}
        for name, member in members.items():
            reader = self.compile(member)
            table[self.wire(member, name)] = (name, reader.exact, reader.convert, reader.other)
        return _structure_reader(table)

    def _structure(self, shape: Shape) -> Convert:
        done = self._structures.get(shape.name)
        if done is not None:
            return done
        table: dict[str, tuple[str, type, Convert | None, Convert]] = {}
        read = self._structures[shape.name] = _structure_reader(table)
        for name, member in shape.members.items():
            reader = self.compile(member)
            table[self.wire(member, name)] = (name, reader.exact, reader.convert, reader.other)
        return read

    def _list(self, shape: Shape) -> Convert | None:
        exact, convert, other = self.compile(shape.member)

        def read(items: list[Any]) -> list[Any]:
            out = []
            for item in items:
                if type(item) is exact:
                    out.append(item if convert is None else convert(item))
                else:
                    out.append(None if item is None else other(item))
            return out

        return read

    def _map(self, shape: Shape) -> Convert:
        exact, convert, other = self.compile(shape.value)
        sparse = bool(shape.traits.get("sparse"))

        def read(items: dict[str, Any]) -> dict[str, Any]:
            out = {}
            for key, item in items.items():
                if type(item) is exact:
                    out[key] = item if convert is None else convert(item)
                elif item is not None:
                    out[key] = other(item)
                elif sparse:
                    out[key] = None
            return out

        return read


class _Never:
    """No value has this type: every value takes the `other` way."""


def _as_it_is(value: Any) -> Any:
    return value


def _structure_reader(table: Mapping[str, tuple[str, type, Convert | None, Convert]]) -> Convert:
    find = table.get

    def read(value: dict[str, Any]) -> dict[str, Any]:
        out = {}
        for key, item in value.items():
            entry = find(key)
            if entry is None:
                continue
            name, exact, convert, other = entry
            if type(item) is exact:
                out[name] = item if convert is None else convert(item)
            elif item is not None:
                out[name] = other(item)
        return out

    return read


def _whole_float(refuse: Convert) -> Convert:
    """JSON has one kind of number: 3.0 is a whole one."""

    def read(value: Any) -> Any:
        return int(value) if type(value) is float and value.is_integer() else refuse(value)

    return read


def _read_float(value: Any) -> float:
    if type(value) is int:
        return float(value)
    if isinstance(value, str):
        if value in ("NaN", "Infinity", "-Infinity"):
            return scalars.parse_float(value)
        raise Malformed("STRING_VALUE can not be converted to a Double")
    raise Malformed(mismatch_text(value, "Double"))


class TreeWriter:
    """Compiles writers for the shapes of one service and one syntax; None means a value goes out as it is."""

    def __init__(self) -> None:
        self._structures: dict[str, Convert] = {}

    def compile(self, shape: Shape) -> Convert | None:
        if shape.is_document:
            return None
        kind = shape.kind
        if kind == "structure":
            return self._structure(shape)
        if kind == "list":
            return self._list(shape)
        if kind == "map":
            return self._map(shape)
        return self.scalar(shape)

    def scalar(self, shape: Shape) -> Convert | None:
        kind = shape.kind
        if kind in ("float", "double"):
            return scalars.json_float
        if kind == "blob":
            return scalars.write_blob
        if kind == "timestamp":
            writer = scalars.timestamp_writer(shape.traits.get("timestampFormat"), "unixTimestamp")
            return lambda value: scalars.write_timestamp(writer, value)
        if kind in ("string", "character"):
            return _write_string
        return None

    def wire(self, shape: Shape, name: str) -> str:
        return shape.wire_name or name

    def structure(self, members: Mapping[str, Shape]) -> Convert:
        """The writer of a structure restricted to some members (the body of a REST response)."""
        table = {name: (self.wire(member, name), self.compile(member)) for name, member in members.items()}
        return _structure_writer(table)

    def _structure(self, shape: Shape) -> Convert:
        done = self._structures.get(shape.name)
        if done is not None:
            return done
        table: dict[str, tuple[str, Convert | None]] = {}
        write = self._structures[shape.name] = _structure_writer(table)
        for name, member in shape.members.items():
            table[name] = (self.wire(member, name), self.compile(member))
        return write

    def _list(self, shape: Shape) -> Convert:
        convert = self.compile(shape.member)
        if convert is None:
            return list

        def write(items: Any) -> list[Any]:
            return [None if item is None else convert(item) for item in items]

        return write

    def _map(self, shape: Shape) -> Convert:
        convert = self.compile(shape.value)
        if convert is None:
            return dict

        def write(items: Mapping[str, Any]) -> dict[str, Any]:
            return {key: None if item is None else convert(item) for key, item in items.items()}

        return write


def _structure_writer(table: Mapping[str, tuple[str, Convert | None]]) -> Convert:
    find = table.get

    def write(value: Mapping[str, Any]) -> dict[str, Any]:
        out = {}
        for key, item in value.items():
            if item is None:
                continue
            entry = find(key)
            if entry is not None:
                wire, convert = entry
                out[wire] = item if convert is None else convert(item)
        return out

    return write


def _write_string(value: Any) -> Any:
    return value if type(value) is str else scalars.text_of(value)
