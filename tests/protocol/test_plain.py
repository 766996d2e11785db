"""Requests that users write as JSON, in the types of the models."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from pilvi.core.errors import Invalid
from pilvi.protocol.models import Models
from pilvi.protocol.plain import typed

MODELS = Models(None)


def understood(service: str, name: str, value: dict[str, Any]) -> dict[str, Any]:
    operation = MODELS.service(service).operation(name)
    assert operation is not None
    return typed(operation.input, value)


def test_bytes_and_times_are_text() -> None:
    assert understood("lambda", "Invoke", {"FunctionName": "f", "Payload": '{"a": 1}'}) == {
        "FunctionName": "f",
        "Payload": b'{"a": 1}',
    }
    moment = datetime(2027, 1, 31, 8, tzinfo=UTC)
    entry = {"Source": "s", "Detail": "{}", "Time": "2027-01-31T08:00:00Z", "Resources": ["a"]}
    assert understood("events", "PutEvents", {"Entries": [entry]}) == {"Entries": [{**entry, "Time": moment}]}
    assert understood("events", "PutEvents", {"Entries": [{"Time": 1801382400}]})["Entries"][0]["Time"] == moment


def test_the_first_letter_may_be_large_or_small() -> None:
    assert understood("logs", "CreateLogGroup", {"LogGroupName": "g", "tags": {"Aa": "b"}}) == {
        "logGroupName": "g",
        "tags": {"Aa": "b"},
    }
    assert understood("sqs", "SendMessage", {"queueUrl": "u", "MessageBody": "b", "DelaySeconds": "5"})["DelaySeconds"] == 5


@pytest.mark.parametrize(
    ("service", "operation", "value", "words"),
    [
        ("sqs", "SendMessage", {"Queue": "u"}, "Queue is not a known parameter"),
        ("sqs", "SendMessage", {"MessageBody": {"a": 1}}, "MessageBody must be text"),
        ("sqs", "SendMessage", {"DelaySeconds": 1.5}, "DelaySeconds must be a whole number"),
        ("sqs", "SendMessage", {"DelaySeconds": True}, "DelaySeconds must be a number"),
        ("sqs", "SendMessage", {"MessageAttributes": []}, "MessageAttributes must be an object"),
        ("events", "PutEvents", {"Entries": {}}, "Entries must be a list"),
        ("events", "PutEvents", {"Entries": [{"Time": "soon"}]}, r"Entries\[0\]\.Time must be a time"),
        ("lambda", "Invoke", {"Payload": {}}, "Payload must be text"),
    ],
)
def test_what_is_of_another_kind_is_refused(service: str, operation: str, value: dict[str, Any], words: str) -> None:
    with pytest.raises(Invalid, match=words):
        understood(service, operation, value)
