"""JSON Schema draft 4, as models of REST APIs use it: from a schema to a predicate. Pure.

Source: json-schema.org draft 4; Developer Guide, "Data models for REST APIs" (no keyword beyond these is accepted here).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sized
from fractions import Fraction
from math import isfinite
from typing import Any

from pilvi.core.errors import Invalid
from pilvi.services.apigateway.selection import MOST_MESSAGE, compile_selection

Resolve = Callable[[str], Any]
"""A `$ref` to another model -> its schema."""

ANNOTATIONS = frozenset({"$schema", "id", "title", "description", "default", "definitions", "format", "example", "readOnly"})
MOST_DEPTH = 64
TYPES: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "integer": lambda value: is_number(value) and (isinstance(value, int) or value.is_integer()),
    "number": lambda value: is_number(value),
}


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


KINDS: Mapping[str, Callable[[Any], bool]] = {
    "$ref": TYPES["string"],
    "pattern": TYPES["string"],
    "required": is_words,
    "enum": TYPES["array"],
    "minimum": is_number,
    "maximum": is_number,
    "multipleOf": lambda value: is_number(value) and value > 0,
    "uniqueItems": TYPES["boolean"],
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), is_size),
    **dict.fromkeys(("oneOf", "anyOf", "allOf"), TYPES["array"]),
}


def check_schema(schema: Any, depth: int = 0) -> None:
    """Invalid for a keyword that would be ignored, or one with a value of the wrong kind."""
    if depth > MOST_DEPTH or not isinstance(schema, dict):
        raise malformed("a schema must be an object, not nested too deeply")
    if unknown := sorted(schema.keys() - KEYWORDS.keys() - ANNOTATIONS - {"$ref", "exclusiveMinimum", "exclusiveMaximum"}):
        raise malformed(f"Unsupported keyword(s): {json.dumps(unknown)}")
    for keyword, is_right in KINDS.items():
        if keyword in schema and not is_right(schema[keyword]):
            raise malformed(f"the value of {keyword} is not of the right kind")
    if not all(isinstance(name, str) and name in TYPES for name in listed(schema.get("type", []))):
        raise malformed(f"unknown type {schema['type']}")
    if "pattern" in schema:
        compile_selection(schema["pattern"])
    for below in subschemas(schema):
        check_schema(below, depth + 1)


def malformed(reason: str) -> Invalid:
    return Invalid(
        f"Invalid model specified: Validation Result: warnings : [], errors : [Invalid model schema specified. {reason}]"
    )


def subschemas(schema: Mapping[str, Any]) -> list[Any]:
    found: list[Any] = []
    for keyword in ("properties", "definitions"):
        members = schema.get(keyword, {})
        if not isinstance(members, dict):
            raise malformed(f"{keyword} must be an object")
        found += members.values()
    for keyword in ("oneOf", "anyOf", "allOf"):
        found += listed(schema.get(keyword, []))
    for keyword in ("items", "additionalProperties", "not"):
        if not isinstance(schema.get(keyword, True), bool):
            found += listed(schema[keyword])
    return found


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def fits(schema: Mapping[str, Any], value: Any, root: Mapping[str, Any], resolve: Resolve, depth: int = 0) -> bool:
    """Whether a value is as the schema says."""
    if depth > MOST_DEPTH:
        return False
    if "$ref" in schema:
        target, home = referred(schema["$ref"], root, resolve)
        return target is not None and fits(target, value, home, resolve, depth + 1)

    def below(part: Any, inner: Any) -> bool:
        return fits(part, inner, root, resolve, depth + 1)

    return all(check(schema, value, below) for keyword, check in KEYWORDS.items() if keyword in schema)


def referred(reference: str, root: Mapping[str, Any], resolve: Resolve) -> tuple[Any, Any]:
    """The schema a `$ref` names, and the document it stands in."""
    if not reference.startswith("#"):
        found = resolve(reference)
        return found, found
    target: Any = root
    for part in reference[1:].split("/")[1:]:
        target = target.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(target, dict) else None
    return (target if isinstance(target, dict) else None), root


# -- keywords -----------------------------------------------------------------------------------------------------------

Below = Callable[[Any, Any], bool]


def has_type(schema: Mapping[str, Any], value: Any, below: Below) -> bool:  # noqa: ARG001 - every keyword is asked alike
    return any(TYPES[name](value) for name in listed(schema["type"]))


def has_properties(schema: Mapping[str, Any], value: Any, below: Below) -> bool:
    return not isinstance(value, dict) or all(
        below(part, value[name]) for name, part in schema["properties"].items() if name in value
    )


def has_no_others(schema: Mapping[str, Any], value: Any, below: Below) -> bool:
    if not isinstance(value, dict) or schema["additionalProperties"] is True:
        return True
    others = [each for name, each in value.items() if name not in schema.get("properties", {})]
    if schema["additionalProperties"] is False:
        return not others
    return all(below(schema["additionalProperties"], each) for each in others)


def has_items(schema: Mapping[str, Any], value: Any, below: Below) -> bool:
    if not isinstance(value, list):
        return True
    if isinstance(schema["items"], list):
        return all(below(part, each) for part, each in zip(schema["items"], value, strict=False))
    return all(below(schema["items"], each) for each in value)


def is_unique(schema: Mapping[str, Any], value: Any, below: Below) -> bool:  # noqa: ARG001
    if not isinstance(value, list) or not schema["uniqueItems"]:
        return True
    return len({json.dumps(each, sort_keys=True) for each in value}) == len(value)


def is_least(schema: Mapping[str, Any], value: Any, below: Below) -> bool:  # noqa: ARG001
    if not is_number(value):
        return True
    return bool(value > schema["minimum"] or (value == schema["minimum"] and not schema.get("exclusiveMinimum")))


def is_most(schema: Mapping[str, Any], value: Any, below: Below) -> bool:  # noqa: ARG001
    if not is_number(value):
        return True
    return bool(value < schema["maximum"] or (value == schema["maximum"] and not schema.get("exclusiveMaximum")))


def is_multiple(value: int | float, step: int | float) -> bool:
    """Exact, so that 0.3 is a multiple of 0.1."""
    return (isinstance(value, int) or isfinite(value)) and Fraction(str(value)) % Fraction(str(step)) == 0


def matches(schema: Mapping[str, Any], value: Any, below: Below) -> bool:  # noqa: ARG001
    return not isinstance(value, str) or compile_selection(schema["pattern"]).search(value[:MOST_MESSAGE]) is not None


def sized(
    keyword: str, kind: type[Sized], is_enough: Callable[[int, int], bool]
) -> Callable[[Mapping[str, Any], Any, Below], bool]:
    return lambda schema, value, _: not isinstance(value, kind) or is_enough(len(value), schema[keyword])


def at_least(size: int, limit: int) -> bool:
    return size >= limit


def at_most(size: int, limit: int) -> bool:
    return size <= limit


KEYWORDS: Mapping[str, Callable[[Mapping[str, Any], Any, Below], bool]] = {
    "type": has_type,
    "enum": lambda schema, value, _: any(type(value) is type(each) and value == each for each in schema["enum"]),
    "required": lambda schema, value, _: not isinstance(value, dict) or all(name in value for name in schema["required"]),
    "properties": has_properties,
    "additionalProperties": has_no_others,
    "items": has_items,
    "uniqueItems": is_unique,
    "minimum": is_least,
    "maximum": is_most,
    "multipleOf": lambda schema, value, _: not is_number(value) or is_multiple(value, schema["multipleOf"]),
    "pattern": matches,
    "minLength": sized("minLength", str, at_least),
    "maxLength": sized("maxLength", str, at_most),
    "minItems": sized("minItems", list, at_least),
    "maxItems": sized("maxItems", list, at_most),
    "minProperties": sized("minProperties", dict, at_least),
    "maxProperties": sized("maxProperties", dict, at_most),
    "oneOf": lambda schema, value, below: sum(below(part, value) for part in schema["oneOf"]) == 1,
    "anyOf": lambda schema, value, below: any(below(part, value) for part in schema["anyOf"]),
    "allOf": lambda schema, value, below: all(below(part, value) for part in schema["allOf"]),
    "not": lambda schema, value, below: not below(schema["not"], value),
}
