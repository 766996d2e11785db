"""What a target gets of an event: all of it, a part, a constant, or a template filled in. Pure.

    body_of({"InputTransformer": {"InputPathsMap": {"who": "$.detail.user"}, "InputTemplate": '{"user": <who>}'}}, event, facts)

In a template, a variable inside quotes becomes text, outside of them JSON. A path that leads nowhere is empty text. A list or an object
loses its quotation marks inside text; inside a text of a JSON template it does not, so that what comes of it is no JSON, as on AWS.

Source: EventBridge User Guide, "Amazon EventBridge input transformation"; how lists and objects look inside text: public recordings of
AWS's answers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from pilvi.core.errors import Invalid
from pilvi.events.paths import NOTHING, Paths

RULE_ARN: Final = "aws.events.rule-arn"
RULE_NAME: Final = "aws.events.rule-name"
EVENT: Final = "aws.events.event"
EVENT_JSON: Final = "aws.events.event.json"
INGESTED: Final = "aws.events.event.ingestion-time"
RESERVED: Final = frozenset({RULE_ARN, RULE_NAME, EVENT, EVENT_JSON, INGESTED})

_PLACE: Final = re.compile(r"<([A-Za-z0-9_.\-]+)>")
PATHS: Final = Paths(
    re.compile(r"""\.([\w\-]+|\*)|\[(\d+|\*)\]|\[(?:'([^']*)'|"([^"]*)")\]"""),
    "The path {path} cannot be understood at position {at}.",
)
_decoder: Final = json.JSONDecoder()


class Facts(NamedTuple):
    """What templates may say beside the event."""

    rule_arn: str
    rule_name: str
    ingested: str
    """When the event came in."""


def body_of(target: Mapping[str, Any], event: Mapping[str, Any], facts: Facts) -> str:
    """The text that a target gets. Invalid where a template, filled in, is no JSON."""
    if target.get("Input") is not None:
        return str(target["Input"])
    if path := target.get("InputPath"):
        found = PATHS.value_at(event, path)
        return encoded(None if found is NOTHING else found)
    if transformer := target.get("InputTransformer"):
        return filled_in(transformer, event, facts)
    return encoded(event)


def encoded(value: Any) -> str:
    return msgspec.json.encode(value).decode()


# -- paths --------------------------------------------------------------------------------------------------------------------


# -- templates ----------------------------------------------------------------------------------------------------------------


def filled_in(transformer: Mapping[str, Any], event: Mapping[str, Any], facts: Facts) -> str:
    values = {name: PATHS.value_at(event, path) for name, path in (transformer.get("InputPathsMap") or {}).items()}
    template = transformer["InputTemplate"]
    text = "".join(_pieces(template, {**values, **_reserved(template, event, facts)}))
    if not is_json(text):
        raise Invalid("The input template, filled in, is not valid JSON.")
    return text


def _reserved(template: str, event: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    found: dict[str, Any] = {RULE_ARN: facts.rule_arn, RULE_NAME: facts.rule_name, INGESTED: facts.ingested, EVENT_JSON: event}
    if f"<{EVENT}>" in template:
        bare = {name: value for name, value in event.items() if name not in ("detail", "detail-type")}
        found[EVENT] = {**bare, "detailType": event.get("detail-type")}
    return found


def _pieces(template: str, values: Mapping[str, Any]) -> Iterator[str]:
    """The template's own text, and what stands for its variables."""
    at = 0
    is_quoted, is_text = False, not template.lstrip().startswith(("{", "["))
    for found in _PLACE.finditer(template):
        if found[1] not in values:
            continue
        before = template[at : found.start()]
        yield before
        is_quoted ^= _quotes(before) % 2 == 1
        yield _as_text(values[found[1]], is_text=is_text) if is_quoted else _as_json(values[found[1]])
        at = found.end()
    yield template[at:]


def _quotes(text: str) -> int:
    """Quotation marks that are not escaped."""
    return len(re.sub(r"\\.", "", text, flags=re.DOTALL).split('"')) - 1


def _as_json(value: Any) -> str:
    return '""' if value is NOTHING else encoded(value)


def _as_text(value: Any, *, is_text: bool) -> str:
    if value is NOTHING:
        return ""
    if isinstance(value, str):
        return encoded(value)[1:-1]
    return encoded(value).replace('"', "").replace("\\", "") if is_text else encoded(value)


def is_json(text: str) -> bool:
    """One JSON value, or several on lines of their own."""
    at = 0
    many = 0
    text = text.strip()
    while at < len(text):
        try:
            _, at = _decoder.raw_decode(text, at)
        except ValueError:
            return False
        many += 1
        while at < len(text) and text[at].isspace():
            at += 1
    return many > 0


def unknown_places(transformer: Mapping[str, Any]) -> list[str]:
    """Variables of a template that nothing stands for."""
    known = RESERVED | (transformer.get("InputPathsMap") or {}).keys()
    return [name for name in _PLACE.findall(transformer["InputTemplate"]) if name not in known]


def is_template(transformer: Mapping[str, Any]) -> bool:
    """Whether the template can become JSON."""
    names = RESERVED | (transformer.get("InputPathsMap") or {}).keys()
    return is_json("".join(_pieces(transformer["InputTemplate"], dict.fromkeys(names, 0))))
