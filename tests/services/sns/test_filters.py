"""Filter policies: every operator, both scopes, what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pilvi.core.errors import ServiceError
from pilvi.services.sns.filters import BY_ATTRIBUTES, BY_BODY, body_of, compile_filter
from pilvi.testing.server import Account
from tests.services.sns.stage import is_empty, new_queue, new_topic, subscribed, told


def text(value: str) -> dict[str, str]:
    return {"DataType": "String", "StringValue": value}


def number(value: str) -> dict[str, str]:
    return {"DataType": "Number", "StringValue": value}


def array(*values: Any) -> dict[str, str]:
    return {"DataType": "String.Array", "StringValue": json.dumps(values)}


def wants(policy: dict[str, Any], attributes: dict[str, Any]) -> bool:
    found = compile_filter(json.dumps(policy), BY_ATTRIBUTES)
    assert found is not None
    return found.wants(attributes, None)


@pytest.mark.parametrize(
    ("conditions", "value", "expected"),
    [
        (["red", "blue"], text("blue"), True),
        (["red"], text("Red"), False),
        ([{"prefix": "re"}], text("red"), True),
        ([{"suffix": "ed"}], text("red"), True),
        ([{"suffix": "ed"}], text("blue"), False),
        ([{"equals-ignore-case": "RED"}], text("red"), True),
        ([{"wildcard": "r*d"}], text("reed"), True),
        ([{"anything-but": ["red"]}], text("blue"), True),
        ([{"anything-but": ["red"]}], text("red"), False),
        ([{"anything-but": {"prefix": "re"}}], text("red"), False),
        ([{"anything-but": {"suffix": "ue"}}], text("red"), True),
        ([{"anything-but": [100]}], number("100.0"), False),
        ([{"cidr": "10.0.0.0/24"}], text("10.0.0.7"), True),
        ([{"cidr": "10.0.0.0/24"}], text("10.0.1.7"), False),
        ([100], number("100"), True),
        ([100], number("1e2"), True),
        ([100.5], number("100.50"), True),
        ([100], text("100"), False),
        (["100"], number("100"), False),
        ([{"numeric": ["=", 301.5]}], number("301.5"), True),
        ([{"numeric": [">", 0, "<=", 150]}], number("150"), True),
        ([{"numeric": [">", 0, "<=", 150]}], number("151"), False),
        ([{"numeric": [">", 0]}], text("5"), False),
        (["red"], array("blue", "red"), True),
        ([2], array(1, 2), True),
        ([True], array(True, "x"), True),
        ([None], array(None), True),
        (["red"], array("blue"), False),
        ([{"exists": True}], text("x"), True),
        ([{"exists": False}], text("x"), False),
        (["red"], {"DataType": "String.Array", "StringValue": "no json"}, False),
        (["red"], {"DataType": "Binary", "BinaryValue": b"red"}, False),
    ],
)
def test_attributes_are_compared(conditions: list[Any], value: dict[str, Any], expected: bool) -> None:
    assert wants({"a": conditions}, {"a": value}) is expected


def test_all_keys_must_match_and_missing_ones_do_not() -> None:
    policy = {"a": ["x"], "b": [{"anything-but": ["y"]}]}
    assert wants(policy, {"a": text("x"), "b": text("z")})
    assert not wants(policy, {"a": text("x")})
    assert not wants(policy, {})
    assert wants({"a": [{"exists": False}]}, {})
    either = {"a": ["x"], "$or": [{"b": ["y"]}, {"c": [{"numeric": [">", 1]}]}]}
    assert wants(either, {"a": text("x"), "c": number("2")})
    assert not wants(either, {"a": text("x"), "c": number("1")})


def test_bodies_are_compared_at_any_depth() -> None:
    found = compile_filter('{"order": {"total": [{"numeric": [">=", 10]}], "items": {"kind": ["book"]}}}', BY_BODY)
    assert found is not None
    assert found.wants({}, body_of('{"order": {"total": 10, "items": [{"kind": "pen"}, {"kind": "book"}]}}'))
    assert not found.wants({}, body_of('{"order": {"total": 9.5, "items": [{"kind": "book"}]}}'))
    assert not found.wants({}, body_of("no json"))
    assert not found.wants({}, body_of('"text"'))
    assert compile_filter("{}", BY_BODY) is None
    dotted = compile_filter('{"a.b": ["c"]}', BY_BODY)
    assert dotted is not None
    assert dotted.wants({}, body_of('{"a": {"b": "c"}}'))
    assert dotted.wants({}, body_of('{"a.b": "c"}'))
    assert not dotted.wants({}, body_of('{"a": {"b": "d"}, "a.c": "c"}'))


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ("{", "failed to parse JSON."),
        ("[]", "Filter policy must be an object"),
        ('{"a": "b"}', '"a" must be an object or an array'),
        ('{"a": []}', "Empty arrays are not allowed"),
        ('{"a": [["b"]]}', "Match value must be String, number, true, false, or null"),
        ('{"a": [{"like": "b"}]}', "Unrecognized match type like"),
        (json.dumps({str(key): ["x"] for key in range(6)}), "Filter policy can not have more than 5 keys"),
        (json.dumps({key: list(range(13)) for key in "ab"}), "Filter policy is too complex"),
        ('{"a": [{"numeric": ["<", "1"]}]}', "Value of < must be numeric"),
    ],
)
def test_policies_are_refused(policy: str, reason: str) -> None:
    with pytest.raises(ServiceError) as caught:
        compile_filter(policy, BY_ATTRIBUTES)
    assert caught.value.message == f"Invalid parameter: FilterPolicy: {reason}"


def test_alternatives_add_up() -> None:
    def policy(spaces: int) -> str:
        inner = {"kind": list("abcd"), "$or": [{"id": list(range(4))}, {"space": list(range(spaces))}]}
        return json.dumps({"source": list("abc"), "$or": [{"name": list("abcdef")}, inner]})

    assert compile_filter(policy(7), BY_ATTRIBUTES) is not None
    with pytest.raises(ServiceError, match="too complex"):
        compile_filter(policy(8), BY_ATTRIBUTES)


def test_only_matching_messages_arrive(aws: Account) -> None:
    sns, topic = aws.client("sns"), new_topic(aws)
    (all_url, everything), (red_url, red), (big_url, big) = (new_queue(aws, name) for name in ("all", "red", "big"))
    subscribed(aws, topic, everything)
    subscription = subscribed(aws, topic, red, FilterPolicy='{"colour": ["red"]}')
    subscribed(aws, topic, big, FilterPolicy='{"size": [{"numeric": [">", 5]}]}', FilterPolicyScope="MessageBody")
    sns.publish(TopicArn=topic, Message='{"size": 6}', MessageAttributes={"colour": text("red")})
    sns.publish(TopicArn=topic, Message='{"size": 4}', MessageAttributes={"colour": text("blue")})
    sns.publish(TopicArn=topic, Message="no json")
    assert len(told(aws, all_url, 3)) == 3
    assert told(aws, red_url) == ['{"size": 6}']
    assert told(aws, big_url) == ['{"size": 6}']
    sns.set_subscription_attributes(
        SubscriptionArn=subscription, AttributeName="FilterPolicy", AttributeValue='{"colour": ["blue"]}'
    )
    sns.publish(TopicArn=topic, Message="sky", MessageAttributes={"colour": text("blue")})
    assert told(aws, red_url) == ["sky"]
    assert told(aws, all_url) == ["sky"]
    assert is_empty(aws, big_url)
