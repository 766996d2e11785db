"""Templates and paths into events, without a server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pilvi.core.errors import Invalid
from pilvi.services.pipes.template import PATHS, check_template, dynamic, filled_in

EVENT: dict[str, Any] = {
    "messageId": "m-1",
    "body": json.dumps({"user": {"name": 'An "a"', "age": 7}, "items": [{"n": 1}, {"n": 2}], "on": True, "none": None}),
    "attributes": {"SenderId": "AIDA"},
}
FACTS = {"pipe-name": "p", "pipe-arn": "arn:pipe", "event.ingestion-time": "2026-01-01T00:00:00.000Z"}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("Hello, sender", "Hello, sender"),
        ("<$.attributes.SenderId>", "AIDA"),
        ("Hello, <$.attributes.SenderId>", "Hello, AIDA"),
        ('"Hello, <$.attributes.SenderId>"', '"Hello, AIDA"'),
        ('{"k": "v"}', '{"k": "v"}'),
        ('{"k": <$.attributes.SenderId>}', '{"k": "AIDA"}'),
        ('{"k": "<$.attributes.SenderId>"}', '{"k": "AIDA"}'),
        ('{"k": <$.body.user>}', '{"k": {"name":"An \\"a\\"","age":7}}'),
        ('{"k": "<$.body.user.name>"}', '{"k": "An \\"a\\""}'),
        ('{"k": <$.body.user.age>, "on": <$.body.on>, "no": <$.body.none>}', '{"k": 7, "on": true, "no": null}'),
        ('{"k": <$.body.items[1]>}', '{"k": {"n":2}}'),
        ('{"k": <$.body.items[*].n>}', '{"k": [1,2]}'),
        ('{"k": <$.body.missing>, "t": "<$.body.missing>"}', '{"k": "", "t": ""}'),
        ('{"p": "<aws.pipes.pipe-name>", "t": <aws.pipes.event.ingestion-time>}', '{"p": "p", "t": "2026-01-01T00:00:00.000Z"}'),
        ("<$.body.missing>", ""),
        ("<not a variable> <$.messageId>", "<not a variable> m-1"),
    ],
)
def test_a_template_is_filled_in(template: str, text: str) -> None:
    assert filled_in(template, EVENT, FACTS) == text


def test_the_whole_event_may_stand_in_a_template() -> None:
    assert json.loads(filled_in('{"e": <aws.pipes.event>}', EVENT, FACTS))["e"] == EVENT
    parsed = json.loads(filled_in('{"e": <aws.pipes.event.json>}', EVENT, FACTS))["e"]
    assert parsed["body"]["items"] == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize("template", ["<aws.pipes.nothing>", "<$.a[>", "<$.a..b>", '{"a": <$a>}'])
def test_what_is_no_variable_is_refused(template: str) -> None:
    with pytest.raises(Invalid):
        check_template(template)


def test_paths_go_on_inside_text_that_is_json() -> None:
    assert PATHS.value_at(EVENT, "$.body.user.age") == 7
    assert PATHS.value_at({"body": "no json"}, "$.body") == "no json"
    assert dynamic("$.body.items[0].n", EVENT) == "1"
    assert dynamic("plain", EVENT) == "plain"
    with pytest.raises(Invalid, match=r"nothing at \$\.body\.missing"):
        dynamic("$.body.missing", EVENT)
