"""PutEvents: what is taken, what is refused, and that a matching event starts the target."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.testing.server import Account
from tests.services.events.conftest import Queue, entry


def test_put_events_starts_the_target_of_a_matching_rule(aws: Account, events: Any, queue: Queue, rule: Callable[..., str]) -> None:
    rule({"source": ["shop"], "detail": {"total": [{"numeric": [">", 10]}]}}, {"Arn": queue.arn})
    at = datetime(2026, 3, 1, 12, 30, 15, tzinfo=UTC)
    answer = events.put_events(
        Entries=[
            entry({"total": 5}),
            entry({"total": 50}, Resources=["arn:aws:x"], Time=at),
        ]
    )
    assert answer["FailedEntryCount"] == 0
    assert queue.bodies() == [
        {
            "version": "0",
            "id": answer["Entries"][1]["EventId"],
            "detail-type": "sale",
            "source": "shop",
            "account": aws.account,
            "time": "2026-03-01T12:30:15Z",
            "region": "us-east-1",
            "resources": ["arn:aws:x"],
            "detail": {"total": 50},
        }
    ]
    assert queue.is_empty()


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        ({"Source": ""}, "InvalidArgument", "Parameter Source is not valid. Reason: Source is a required argument."),
        ({"DetailType": ""}, "InvalidArgument", "Parameter DetailType is not valid. Reason: DetailType is a required argument."),
        ({"Detail": ""}, "InvalidArgument", "Parameter Detail is not valid. Reason: Detail is a required argument."),
        ({"Detail": "[1]"}, "MalformedDetail", "Detail is malformed."),
        ({"Detail": "{"}, "MalformedDetail", "Detail is malformed."),
        ({"Detail": '"text"'}, "MalformedDetail", "Detail is malformed."),
        ({"Detail": '{"a": NaN}'}, "MalformedDetail", "Detail is malformed."),
        ({"Detail": '{"a": 1e999}'}, "MalformedDetail", "Detail is malformed."),
        ({"Detail": '{"a": [99999999999999999999]}'}, "MalformedDetail", "Detail is malformed."),
        ({"Detail": '{"a": "\\ud800"}'}, "MalformedDetail", "Detail is malformed."),
        ({"Detail": '{"\\ud800": 1}'}, "MalformedDetail", "Detail is malformed."),
        ({"Detail": '{"a":' * 801 + "1" + "}" * 801}, "MalformedDetail", "Detail is malformed."),
        ({"Source": "aws.s3"}, "NotAuthorizedForSourceException", "Not authorized for the source."),
        (
            {"DetailType": "x" * 129},
            "InvalidArgument",
            "Parameter DetailType is not valid. Reason: DetailType must be at most 128 characters.",
        ),
    ],
)
def test_put_events_refuses_one_entry_and_takes_the_others(events: Any, given: dict[str, str], code: str, message: str) -> None:
    answer = events.put_events(Entries=[entry() | given, entry()])
    assert answer["FailedEntryCount"] == 1
    assert answer["Entries"][0] == {"ErrorCode": code, "ErrorMessage": message}
    assert "EventId" in answer["Entries"][1]


def test_put_events_for_a_bus_that_is_not_there_is_taken(events: Any) -> None:
    answer = events.put_events(Entries=[entry(EventBusName="nowhere")])
    assert answer["FailedEntryCount"] == 0
    assert "EventId" in answer["Entries"][0]


def test_put_events_refuses_more_than_a_mebibyte(events: Any) -> None:
    with pytest.raises(ClientError, match="Total size of the entries in the request is over the limit") as raised:
        events.put_events(Entries=[entry({"a": "x" * (1 << 19)}), entry({"a": "x" * (1 << 19)})])
    assert raised.value.response["Error"]["Code"] == "ValidationException"


def test_put_events_refuses_eleven_entries(events: Any) -> None:
    with pytest.raises(ClientError, match="Member must have length less than or equal to 10"):
        events.put_events(Entries=[entry()] * 11)


def test_put_events_needs_permission(aws: Account, events: Any) -> None:
    allowed = {
        "Effect": "Allow",
        "Action": "events:PutEvents",
        "Resource": "*",
        "Condition": {"StringEquals": {"events:source": "shop"}},
    }
    user = aws.user("seller", {"Version": "2012-10-17", "Statement": [allowed]})
    user.client("events").put_events(Entries=[entry()])
    with pytest.raises(ClientError, match="not authorized to perform: events:PutEvents"):
        user.client("events").put_events(Entries=[entry(source="bank")])


def test_put_events_reaches_several_targets_of_several_rules(
    aws: Account, events: Any, queue: Queue, rule: Callable[..., str]
) -> None:
    other = Queue(aws, "others")
    rule({"source": ["shop"]}, {"Arn": queue.arn}, {"Arn": other.arn}, name="one")
    rule({"detail": {"a": [1]}}, {"Arn": other.arn}, name="two")
    rule({"source": ["shop"]}, {"Arn": other.arn}, name="three", State="DISABLED")
    events.put_events(Entries=[entry({"a": 1})])
    assert len(queue.messages()) == 1
    assert len(other.messages(2)) == 2
    assert other.is_empty()


def test_put_events_keeps_text_as_it_is(events: Any, queue: Queue, rule: Callable[..., str]) -> None:
    rule({"source": ["shop"]}, {"Arn": queue.arn})
    detail = {"name": 'Jänö "😀" \\ \n', "big": 9223372036854775807, "float": 1.5, "none": None}
    events.put_events(Entries=[entry(detail)])
    assert queue.bodies()[0]["detail"] == json.loads(json.dumps(detail))


def test_put_events_hands_the_tracing_header_on(events: Any, queue: Queue, rule: Callable[..., str]) -> None:
    rule({"source": ["shop"]}, {"Arn": queue.arn})
    trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1"
    events.put_events(Entries=[entry(TraceHeader=trace)])
    assert queue.messages()[0]["Attributes"]["AWSTraceHeader"] == trace


def test_put_events_takes_what_is_nested_deeply(events: Any, queue: Queue, rule: Callable[..., str]) -> None:
    rule({"source": ["shop"]}, {"Arn": queue.arn})
    events.put_events(Entries=[entry() | {"Detail": '{"a":' * 800 + "1" + "}" * 800}])
    assert queue.bodies()[0]["detail"]["a"]
