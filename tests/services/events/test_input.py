"""What targets get: a part of the event, a constant, a template filled in."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilvi.core.errors import Invalid
from pilvi.services.events.transform import PATHS as LOOKED_UP
from pilvi.services.events.transform import Facts, body_of, is_json
from tests.services.events.conftest import Queue, entry

EVENT: dict[str, Any] = {
    "version": "0",
    "id": "e1",
    "detail-type": "sale",
    "source": "shop",
    "account": "123456789012",
    "time": "2026-03-01T00:00:00Z",
    "region": "us-east-1",
    "resources": ["r"],
    "detail": {
        "user": "ann",
        "quote": 'say "hi"\n',
        "n": 5,
        "yes": True,
        "list": ["A", "B"],
        "thing": {"a": "x", "b": "y"},
        "items": [{"id": 1}, {"id": 2}],
        "a-b": "dash",
    },
}
FACTS = Facts("arn:aws:events:us-east-1:123456789012:rule/r", "r", "2026-03-01T00:00:09Z")
PATHS = {"user": "$.detail.user", "n": "$.detail.n", "yes": "$.detail.yes", "list": "$.detail.list", "thing": "$.detail.thing"}
PATHS |= {"gone": "$.detail.gone", "quote": "$.detail.quote", "second": "$.detail.items[1].id", "ids": "$.detail.items[*].id"}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ('{"u": <user>, "n": <n>, "yes": <yes>}', {"u": "ann", "n": 5, "yes": True}),
        ('{"u": "<user>", "n": "<n> of them"}', {"u": "ann", "n": "5 of them"}),
        ('{"list": <list>, "thing": <thing>}', {"list": ["A", "B"], "thing": {"a": "x", "b": "y"}}),
        ('{"path": "users/<user>/second/<user>"}', {"path": "users/ann/second/ann"}),
        (
            '{"nested": {"deep": [1, {"er": "<user>"}]}, "x": [<user>, "y"]}',
            {"nested": {"deep": [1, {"er": "ann"}]}, "x": ["ann", "y"]},
        ),
        ('{"gone": <gone>, "also": "<gone>"}', {"gone": "", "also": ""}),
        ('{"said": "<quote>", "again": <quote>}', {"said": 'say "hi"\n', "again": 'say "hi"\n'}),
        ('{"escaped": "he said \\"<user>\\""}', {"escaped": 'he said "ann"'}),
        ('{"second": <second>, "ids": <ids>}', {"second": 2, "ids": [1, 2]}),
        ('"<user> bought <n>"', "ann bought 5"),
        ('"<list> and <thing> and <yes>"', "[A,B] and {a:x,b:y} and true"),
        ("<user>", "ann"),
        (
            '{"rule": <aws.events.rule-arn>, "name": <aws.events.rule-name>, "at": <aws.events.event.ingestion-time>}',
            {"rule": FACTS.rule_arn, "name": "r", "at": "2026-03-01T00:00:09Z"},
        ),
        ('{"all": <aws.events.event.json>}', {"all": EVENT}),
        (
            '{"bare": <aws.events.event>}',
            {"bare": {**{name: one for name, one in EVENT.items() if name not in ("detail", "detail-type")}, "detailType": "sale"}},
        ),
        ('"{[/Check <user>"', "{[/Check ann"),
    ],
)
def test_body_of_fills_templates_in(template: str, expected: Any) -> None:
    target = {"InputTransformer": {"InputPathsMap": PATHS, "InputTemplate": template}}
    assert json.loads(body_of(target, EVENT, FACTS)) == expected


def test_body_of_several_lines() -> None:
    target = {"InputTransformer": {"InputPathsMap": PATHS, "InputTemplate": '"<user> said"\n"<n>"'}}
    assert body_of(target, EVENT, FACTS) == '"ann said"\n"5"'


@pytest.mark.parametrize("template", ["<user> and more", '{"x": "<list>"}', '{"x": "all of <thing>", "y": <thing>}'])
def test_body_of_what_is_no_json_is_refused(template: str) -> None:
    with pytest.raises(Invalid):
        body_of({"InputTransformer": {"InputPathsMap": PATHS, "InputTemplate": template}}, EVENT, FACTS)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("$", EVENT),
        ("$.detail.user", "ann"),
        ("$.detail.a-b", "dash"),
        ("$['detail']['a-b']", "dash"),
        ("$.detail-type", "sale"),
        ("$.resources[0]", "r"),
        ("$.detail.items[*].id", [1, 2]),
        ("$.detail.thing.*", ["x", "y"]),
    ],
)
def test_value_at_paths(path: str, expected: Any) -> None:
    assert LOOKED_UP.value_at(EVENT, path) == expected


def test_is_json() -> None:
    assert is_json('{"a": 1}\n"x" 5')
    assert not is_json("")
    assert not is_json('{"a": 1} x')


def test_the_target_gets_the_reshaped_json(events: Any, queue: Queue, rule: Callable[..., str]) -> None:
    transformer = {
        "InputPathsMap": {"who": "$.detail.user", "cart": "$.detail.cart", "when": "$.time"},
        "InputTemplate": '{"customer": {"name": <who>}, "cart": <cart>, "text": "<who> bought at <when>", "rule": <aws.events.rule-name>}',
    }
    rule(
        {"source": ["shop"]},
        {"Arn": queue.arn, "InputTransformer": transformer},
        {"Arn": queue.arn, "InputPath": "$.detail.cart[0]"},
        {"Arn": queue.arn, "Input": '{"constant": true}'},
    )
    events.put_events(Entries=[entry({"user": "ann", "cart": [{"id": 7}]})])
    found = queue.bodies(3)
    reshaped = next(one for one in found if "customer" in one)
    when = reshaped["text"].removeprefix("ann bought at ")
    assert reshaped == {"customer": {"name": "ann"}, "cart": [{"id": 7}], "text": f"ann bought at {when}", "rule": "r"}
    assert {"id": 7} in found
    assert {"constant": True} in found


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(_VALUES)
def test_any_value_stands_in_a_template(value: Any) -> None:
    paths = {"v": "$.detail.v"}
    event = {**EVENT, "detail": {"v": value}}
    transformer = {"InputPathsMap": paths, "InputTemplate": '{"is": <v>}'}
    assert json.loads(body_of({"InputTransformer": transformer}, event, FACTS)) == {"is": value}
    text = body_of({"InputTransformer": {"InputPathsMap": paths, "InputTemplate": '"it is <v>."'}}, event, FACTS)
    assert json.loads(text).startswith("it is ")
