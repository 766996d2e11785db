"""Patch operations: how API Gateway's Update calls change one setting at a time. Pure.

Source: API Gateway API Reference, "Patch Operations"; error wording as AWS answers a path it does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from pilvi.core.errors import Invalid

Convert = Callable[[str], Any]


class Rule(NamedTuple):
    """What may be done at a path; `*` at a path's end stands for the key of a map or the member of a list."""

    ops: tuple[str, ...]
    convert: Convert
    into_list: bool = False


def text(value: str) -> str:
    return value


def flag(value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise Invalid(f"Invalid boolean value {value}")
    return value.lower() == "true"


def number(value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise Invalid(f"Invalid integer value {value}") from None


def setting(convert: Convert = text) -> Rule:
    """A single value."""
    return Rule(("replace",), convert)


def optional(convert: Convert = text) -> Rule:
    """A single value that may be taken away."""
    return Rule(("add", "replace", "remove"), convert)


def entry(convert: Convert = text) -> Rule:
    """One key of a map."""
    return Rule(("add", "replace", "remove"), convert)


def member() -> Rule:
    """One member of a list of words; the word itself stands in the path."""
    return Rule(("add", "replace", "remove"), text, into_list=True)


def patched(
    document: Mapping[str, Any], operations: Sequence[Mapping[str, Any]] | None, rules: Mapping[str, Rule]
) -> dict[str, Any]:
    """The document with the operations applied in order; Invalid for what the rules do not allow."""
    changed = {key: dict(value) if isinstance(value, dict) else value for key, value in document.items()}
    for operation in operations or ():
        op, path = operation.get("op", ""), operation.get("path", "")
        keys = [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]
        rule = rules.get(path) or (rules.get(f"/{keys[0]}/*") if len(keys) == 2 else None)
        if rule is None or op not in rule.ops:
            allowed = sorted(known for known, each in rules.items() if op in each.ops)
            raise Invalid(f"Invalid patch path  '{path}' specified for op '{op}'. Must be one of: [{', '.join(allowed)}]")
        apply(changed, op, keys, operation.get("value"), rule)
    return changed


def apply(document: dict[str, Any], op: str, keys: list[str], value: str | None, rule: Rule) -> None:
    if rule.into_list:
        words = [word for word in document.get(keys[0]) or () if word != keys[1]]
        if op == "replace" and value:
            words.append(value)
        elif op != "remove":
            words.append(keys[1])
        document[keys[0]] = words
        return
    home = document if len(keys) == 1 else document.setdefault(keys[0], {})
    if op == "remove":
        home.pop(keys[-1], None)
    else:
        home[keys[-1]] = rule.convert(value or "")
