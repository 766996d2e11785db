"""XML as AWS's XML protocols use it: elements to API-shaped dicts and back. Shared by query, ec2 and rest-xml.

Namespaces are read past and written where the model has them. Document types are refused, so no entity can grow.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any
from xml.etree.ElementTree import Element, ParseError, XMLParser

from pilvi.protocol import scalars
from pilvi.protocol.shapes import Malformed, Shape

ReadElement = Callable[[Element], Any]
WriteElement = Callable[[Any], str]

DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
# Characters that mean something else, or that a parser would change or refuse, in text.
_SPECIAL = re.compile("[&<>\r\x00-\x08\x0b\x0c\x0e-\x1f\x85\u2028\ufffe\uffff\ud800-\udfff]")
_SPECIAL_IN_ATTRIBUTES = re.compile('[&<>"\r\n\t\x00-\x08\x0b\x0c\x0e-\x1f]')
_NAMED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}


def parse(body: bytes) -> Element:
    """The root element."""
    if b"<!DOCTYPE" in body or b"<!ENTITY" in body:
        raise Malformed("document types are not accepted")
    parser = XMLParser()
    try:
        parser.feed(body)
        root: Element = parser.close()
    except (ParseError, ValueError, LookupError) as error:
        raise Malformed(str(error)) from None
    return root


def local_name(tag: str) -> str:
    return tag.rpartition("}")[2] if tag[0] == "{" else tag


def escape(text: str) -> str:
    """Text between tags. XML 1.0 cannot carry some control characters; they go out as references, as S3 does."""
    return text if _SPECIAL.search(text) is None else _SPECIAL.sub(_reference, text)


def _reference(match: re.Match[str]) -> str:
    found = match.group()
    return _NAMED.get(found) or f"&#x{ord(found):X};"


def escape_attribute(text: str) -> str:
    return _SPECIAL_IN_ATTRIBUTES.sub(_reference, text)


def element(tag: str, text: str) -> str:
    return f"<{tag}>{escape(text)}</{tag}>"


# -- reading ------------------------------------------------------------------------------------------------------------


def _text(node: Element) -> str:
    return node.text or ""


_SCALARS: Mapping[str, ReadElement] = {
    "integer": lambda node: scalars.parse_int(_text(node)),
    "long": lambda node: scalars.parse_int(_text(node)),
    "float": lambda node: scalars.parse_float(_text(node)),
    "double": lambda node: scalars.parse_float(_text(node)),
    "boolean": lambda node: scalars.parse_bool(_text(node).strip()),
    "blob": lambda node: scalars.parse_blob(_text(node)),
    "timestamp": lambda node: scalars.parse_timestamp(_text(node).strip()),
}


class XmlReader:
    """Compiles readers of request bodies."""

    def __init__(self) -> None:
        self._structures: dict[str, ReadElement] = {}

    def compile(self, shape: Shape) -> ReadElement:
        if shape.kind == "structure":
            return self._structure(shape)
        if shape.kind == "list":
            return self._list(shape)
        if shape.kind == "map":
            return self._map(shape)
        return _SCALARS.get(shape.kind, _text)

    def structure(self, members: Mapping[str, Shape]) -> ReadElement:
        """The reader of an element that holds some members."""
        table: dict[str, tuple[str, str, ReadElement]] = {}
        attributes: dict[str, str] = {}
        self._fill(table, attributes, members)
        return _structure_reader(table, attributes)

    def _structure(self, shape: Shape) -> ReadElement:
        done = self._structures.get(shape.name)
        if done is not None:
            return done
        table: dict[str, tuple[str, str, ReadElement]] = {}
        attributes: dict[str, str] = {}
        read = self._structures[shape.name] = _structure_reader(table, attributes)
        self._fill(table, attributes, shape.members)
        return read

    def _fill(
        self, table: dict[str, tuple[str, str, ReadElement]], attributes: dict[str, str], members: Mapping[str, Shape]
    ) -> None:
        for name, member in members.items():
            wire = member.wire_name or name
            if member.traits.get("xmlAttribute"):
                attributes[wire.rpartition(":")[2]] = name
            elif member.kind == "list" and member.is_flat:
                inner = member.member
                entry = (name, "list", self.compile(inner))
                table[wire] = entry
                if inner.wire_name:
                    table[inner.wire_name] = entry
            elif member.kind == "map" and member.is_flat:
                table[wire] = (name, "map", self._entry(member))
            else:
                table[wire] = (name, "one", self.compile(member))

    def _list(self, shape: Shape) -> ReadElement:
        read = self.compile(shape.member)
        return lambda node: [read(child) for child in node]

    def _map(self, shape: Shape) -> ReadElement:
        read = self._entry(shape)

        def read_map(node: Element) -> dict[str, Any]:
            found: dict[str, Any] = {}
            for child in node:
                found.update(read(child))
            return found

        return read_map

    def _entry(self, shape: Shape) -> ReadElement:
        key_tag, value_tag = shape.key.wire_name or "key", shape.value.wire_name or "value"
        read = self.compile(shape.value)

        def read_entry(node: Element) -> dict[str, Any]:
            key, value = None, None
            for child in node:
                tag = local_name(child.tag)
                if tag == key_tag:
                    key = _text(child)
                elif tag == value_tag:
                    value = read(child)
            return {} if key is None else {key: value}

        return read_entry


def _structure_reader(table: Mapping[str, tuple[str, str, ReadElement]], attributes: Mapping[str, str]) -> ReadElement:
    find = table.get

    def read(node: Element) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for child in node:
            entry = find(local_name(child.tag))
            if entry is None:
                continue
            name, how, convert = entry
            if how == "one":
                out[name] = convert(child)
            elif how == "list":
                out.setdefault(name, []).append(convert(child))
            else:
                out.setdefault(name, {}).update(convert(child))
        for attribute, value in node.attrib.items():
            member = attributes.get(local_name(attribute))
            if member is not None:
                out[member] = value
        return out

    return read


# -- writing ------------------------------------------------------------------------------------------------------------


class XmlWriter:
    """Compiles writers of response bodies. `millis`: whether instants always carry milliseconds (S3)."""

    def __init__(self, *, millis: bool = False) -> None:
        self._contents: dict[str, WriteElement] = {}
        self._iso = scalars.iso8601_millis if millis else scalars.iso8601

    def element(self, shape: Shape, tag: str, namespace: str = "") -> WriteElement:
        """A writer of the whole element, tags included."""
        if shape.kind == "structure" and any(member.traits.get("xmlAttribute") for member in shape.members.values()):
            return self._with_attributes(shape, tag)
        opening = f"<{tag}{_namespace_attribute(shape, namespace)}>"
        closing = f"</{tag}>"
        if shape.kind in ("string", "character"):
            return _text_writer(opening, closing)
        content = self.content(shape)
        return lambda value: f"{opening}{content(value)}{closing}"

    def content(self, shape: Shape) -> WriteElement:
        """A writer of what stands between the tags."""
        if shape.kind == "structure":
            return self._structure(shape)
        if shape.kind == "list":
            return self._repeated(self.element(shape.member, shape.member.wire_name or "member"))
        if shape.kind == "map":
            return self._entries(shape, "entry")
        return self._scalar(shape)

    def members(self, members: Mapping[str, Shape]) -> WriteElement:
        """A writer of some members, one after the other."""
        return _members_writer([(name, self._member(name, member)) for name, member in members.items()])

    def _structure(self, shape: Shape) -> WriteElement:
        done = self._contents.get(shape.name)
        if done is not None:
            return done
        table: list[tuple[str, WriteElement]] = []
        write = self._contents[shape.name] = _members_writer(table)
        for name, member in shape.members.items():
            if not member.traits.get("xmlAttribute"):
                table.append((name, self._member(name, member)))
        return write

    def _member(self, name: str, member: Shape) -> WriteElement:
        wire = member.wire_name or name
        if member.is_flat and member.kind == "list":
            inner = member.member
            return self._repeated(self.element(inner, inner.wire_name or wire))
        if member.is_flat and member.kind == "map":
            return self._entries(member, wire)
        return self.element(member, wire)

    def _repeated(self, write: WriteElement) -> WriteElement:
        return lambda items: "".join([write(item) for item in items if item is not None])

    def _entries(self, shape: Shape, tag: str) -> WriteElement:
        key = self.element(shape.key, shape.key.wire_name or "key")
        value = self.element(shape.value, shape.value.wire_name or "value")
        opening, closing = f"<{tag}>", f"</{tag}>"

        def write(items: Mapping[str, Any]) -> str:
            parts = [f"{opening}{key(name)}{value(item)}{closing}" for name, item in items.items() if item is not None]
            return "".join(parts)

        return write

    def _with_attributes(self, shape: Shape, tag: str) -> WriteElement:
        names = [(name, member.wire_name or name) for name, member in shape.members.items() if member.traits.get("xmlAttribute")]
        content, namespace = self._structure(shape), _namespace_attribute(shape, "")

        def write(value: Mapping[str, Any]) -> str:
            given = [(wire, value[name]) for name, wire in names if value.get(name) is not None]
            attributes = "".join([f' {wire}="{escape_attribute(scalars.text_of(item))}"' for wire, item in given])
            return f"<{tag}{namespace}{attributes}>{content(value)}</{tag}>"

        return write

    def _scalar(self, shape: Shape) -> WriteElement:
        kind = shape.kind
        if kind in ("integer", "long"):
            return str
        if kind == "boolean":
            return scalars.write_bool
        if kind in ("float", "double"):
            return scalars.write_float
        if kind == "blob":
            return scalars.write_blob
        if kind == "timestamp":
            return self._timestamp(shape)
        return lambda value: escape(scalars.text_of(value))

    def _timestamp(self, shape: Shape) -> WriteElement:
        writer = scalars.timestamp_writer(shape.traits.get("timestampFormat"), "iso8601")
        if writer is scalars.iso8601:
            writer = self._iso
        return lambda value: str(writer(value) if isinstance(value, datetime) else scalars.write_timestamp(writer, value))


def _text_writer(opening: str, closing: str) -> WriteElement:
    """The writer called most often: nothing in it but what it must do."""
    is_special = _SPECIAL.search

    def write(value: Any) -> str:
        text = value if type(value) is str else scalars.text_of(value)
        return f"{opening}{text if is_special(text) is None else escape(text)}{closing}"

    return write


def _members_writer(table: Iterable[tuple[str, WriteElement]]) -> WriteElement:
    def write(value: Mapping[str, Any]) -> str:
        parts = []
        find = value.get
        for name, render in table:
            item = find(name)
            if item is not None:
                parts.append(render(item))
        return "".join(parts)

    return write


def _namespace_attribute(shape: Shape, default: str) -> str:
    trait = shape.traits.get("xmlNamespace")
    if isinstance(trait, Mapping):
        prefix = f":{trait['prefix']}" if trait.get("prefix") else ""
        return f' xmlns{prefix}="{trait["uri"]}"'
    uri = trait or default
    return f' xmlns="{uri}"' if uri else ""
