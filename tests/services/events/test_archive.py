"""Archives: what they keep, how much, and for how long."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.testing.server import Account, eventually
from tests.services.events.conftest import entry


@pytest.fixture
def bus(events: Any) -> str:
    return str(events.describe_event_bus()["Arn"])


def test_create_archive_describe_archive(aws: Account, events: Any, bus: str) -> None:
    pattern = json.dumps({"source": ["shop"]})
    made = events.create_archive(ArchiveName="a", EventSourceArn=bus, Description="sales", EventPattern=pattern, RetentionDays=3)
    assert made["ArchiveArn"] == f"arn:aws:events:us-east-1:{aws.account}:archive/a"
    assert made["State"] == "ENABLED"
    events.put_events(Entries=[entry({"n": 1}), entry({"n": 2}), entry(source="bank")])
    described = events.describe_archive(ArchiveName="a")
    assert described["EventCount"] == 2
    assert described["SizeBytes"] > 300
    assert (described["RetentionDays"], described["EventPattern"], described["Description"]) == (3, pattern, "sales")
    assert described["EventSourceArn"] == bus


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"ArchiveName": "there"}, "ResourceAlreadyExistsException"),
        ({"EventPattern": '{"a": 1}'}, "InvalidEventPatternException"),
        ({"EventSourceArn": "arn:aws:events:us-east-1:123456789012:rule/x"}, "ValidationException"),
    ],
)
def test_create_archive_says_what_is_wrong(events: Any, bus: str, given: dict[str, str], code: str) -> None:
    events.create_archive(ArchiveName="there", EventSourceArn=bus)
    with pytest.raises(ClientError) as raised:
        events.create_archive(**({"ArchiveName": "a", "EventSourceArn": bus} | given))
    assert raised.value.response["Error"]["Code"] == code


def test_archives_that_are_not_there(events: Any, bus: str) -> None:
    for call in (events.describe_archive, events.delete_archive):
        with pytest.raises(ClientError, match="Archive none does not exist"):
            call(ArchiveName="none")
    with pytest.raises(ClientError, match="Archive none does not exist"):
        events.update_archive(ArchiveName="none", RetentionDays=1)
    with pytest.raises(ClientError, match="At least one of EventPattern, RetentionDays or Description must be provided"):
        events.update_archive(ArchiveName="none")
    with pytest.raises(ClientError, match="Event bus none does not exist"):
        events.create_archive(ArchiveName="a", EventSourceArn=bus.replace("/default", "/none"))


def test_list_archives_narrows_and_pages(events: Any, bus: str) -> None:
    own = events.create_event_bus(Name="own")["EventBusArn"]
    for name in ("a1", "a2", "a3"):
        events.create_archive(ArchiveName=name, EventSourceArn=bus)
    events.create_archive(ArchiveName="b", EventSourceArn=own)
    first = events.list_archives(NamePrefix="a", Limit=2)
    assert [one["ArchiveName"] for one in first["Archives"]] == ["a1", "a2"]
    second = events.list_archives(NamePrefix="a", Limit=2, NextToken=first["NextToken"])
    assert [one["ArchiveName"] for one in second["Archives"]] == ["a3"]
    assert [one["ArchiveName"] for one in events.list_archives(EventSourceArn=own)["Archives"]] == ["b"]
    assert len(events.list_archives(State="ENABLED")["Archives"]) == 4
    with pytest.raises(ClientError, match="At most one filter is allowed"):
        events.list_archives(NamePrefix="a", State="ENABLED")


def test_update_archive_delete_archive(events: Any, bus: str) -> None:
    events.create_archive(ArchiveName="a", EventSourceArn=bus)
    events.update_archive(ArchiveName="a", EventPattern='{"source": ["bank"]}', RetentionDays=9)
    events.put_events(Entries=[entry(), entry(source="bank")])
    described = events.describe_archive(ArchiveName="a")
    assert (described["EventCount"], described["RetentionDays"]) == (1, 9)
    events.delete_archive(ArchiveName="a")
    assert events.list_archives()["Archives"] == []


def test_archives_keep_events_for_their_days(own_server: Any) -> None:
    server, account = own_server
    events = account.client("events")
    events.create_archive(ArchiveName="a", EventSourceArn=events.describe_event_bus()["Arn"], RetentionDays=2)
    events.put_events(Entries=[entry()])
    server.cloud.advance_clock(86_400.0)
    events.put_events(Entries=[entry()])
    assert events.describe_archive(ArchiveName="a")["EventCount"] == 2
    server.cloud.advance_clock(86_400.0 + 7200)
    assert eventually(lambda: events.describe_archive(ArchiveName="a")["EventCount"] == 1)
