"""What an enrichment or a target gets of an event: all of it, or a template filled in; and parameters that look into the event. Pure.

    filled_in('{"user": <$.body.user>, "via": "<aws.pipes.pipe-name>"}', event, facts)
    dynamic("$.body.user", event)

A variable inside quotes becomes text, outside of them JSON; in a template that is no JSON it is text. A path that leads nowhere is empty.
A path may go on inside a text that is JSON (the body of a message), as if it had been parsed.

Source: EventBridge User Guide, "Amazon EventBridge Pipes input transformation", "Implicit body data parsing", "Dynamic path parameters".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pilvi.core.errors import Invalid
from pilvi.events.paths import NOTHING, Paths
from pilvi.events.targets import compact

_PLACE: Final = re.compile(r"<(\$[^<>\s]*|aws\.pipes\.[a-z.\-]+)>")
RESERVED: Final = frozenset(
    {
        "aws.pipes.pipe-arn",
        "aws.pipes.pipe-name",
        "aws.pipes.source-arn",
        "aws.pipes.enrichment-arn",
        "aws.pipes.target-arn",
        "aws.pipes.event.ingestion-time",
        "aws.pipes.event",
        "aws.pipes.event.json",
    }
)


def _parsed(text: str) -> Any:
    """A text's JSON object or list; itself where it is none."""
    if text.lstrip()[:1] not in ("{", "["):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


PATHS: Final = Paths(re.compile(r"""\.([\w\-/]+|\*)|\[(\d+|\*)\]"""), "{path} is not a valid JSON path.", _parsed)


def check_template(template: str) -> None:
    """Invalid for variables and paths that there cannot be."""
    for name in _PLACE.findall(template):
        if name.startswith("$"):
            PATHS.steps_of(name)
        elif name not in RESERVED:
            raise Invalid(f"The input template contains an unknown variable: <{name}>.")


def filled_in(template: str, event: Any, facts: Mapping[str, str]) -> str:
    """The text that is sent. facts: by the names of reserved variables, without `aws.pipes.`."""
    is_json = _is_json_like(template)
    return "".join(_pieces(template, event, facts, is_json=is_json))


def text_of(event: Any) -> str:
    """An event as it is sent where there is no template."""
    return event if isinstance(event, str) else compact(event)


def dynamic(value: str, event: Any) -> str:
    """A parameter's value; `$.body.id` is looked up in the event. Invalid where nothing is there."""
    if not value.startswith("$."):
        return value
    found = PATHS.value_at(event, value)
    if found is NOTHING or found is None:
        raise Invalid(f"There is nothing at {value} in the event.")
    return text_of(found)


# -- paths --------------------------------------------------------------------------------------------------------------------


# -- filling in ---------------------------------------------------------------------------------------------------------------


def _pieces(template: str, event: Any, facts: Mapping[str, str], *, is_json: bool) -> Iterator[str]:
    at, is_quoted = 0, False
    for found in _PLACE.finditer(template):
        before = template[at : found.start()]
        yield before
        is_quoted ^= _quotes(before) % 2 == 1
        value = _value(found[1], event, facts)
        if not is_json:
            yield "" if value is NOTHING else text_of(value)
        elif is_quoted:
            yield "" if value is NOTHING else json.dumps(text_of(value), ensure_ascii=False)[1:-1]
        else:
            yield '""' if value is NOTHING else compact(_parsed(value) if isinstance(value, str) else value)
        at = found.end()
    yield template[at:]


def _value(name: str, event: Any, facts: Mapping[str, str]) -> Any:
    if name.startswith("$"):
        return PATHS.value_at(event, name)
    if name in ("aws.pipes.event", "aws.pipes.event.json"):
        return with_bodies(event) if name.endswith("json") else event
    return facts.get(name.removeprefix("aws.pipes."), NOTHING)


def with_bodies(event: Any) -> Any:
    """The event, what is JSON in its body parsed."""
    if isinstance(event, Mapping) and isinstance(event.get("body"), str):
        return {**event, "body": _parsed(event["body"])}
    return event


def _is_json_like(template: str) -> bool:
    """Whether it is meant to become JSON: an object, a list or a text in quotes."""
    return template.lstrip()[:1] in ("{", "[", '"')


def _quotes(text: str) -> int:
    """Quotation marks that are not escaped."""
    return len(re.sub(r"\\.", "", text, flags=re.DOTALL).split('"')) - 1
