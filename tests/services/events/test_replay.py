"""Replays: the events of a window once more, each once, also when the server is stopped meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.testing.server import Account, TestServer, eventually
from tests.services.events.conftest import Queue, entry

HOUR = timedelta(hours=1)


@pytest.fixture
def archive(events: Any) -> dict[str, Any]:
    """What StartReplay needs to know."""
    bus = events.describe_event_bus()["Arn"]
    arn = events.create_archive(ArchiveName="a", EventSourceArn=bus)["ArchiveArn"]
    now = datetime.now(UTC)
    window = {"EventStartTime": now - HOUR, "EventEndTime": now + HOUR}
    return {"EventSourceArn": arn, "Destination": {"Arn": bus}, **window}


def ended(events: Any, name: str) -> Any:
    def look() -> Any:
        found = events.describe_replay(ReplayName=name)
        return found if found["State"] not in ("STARTING", "RUNNING", "CANCELLING") else None

    return eventually(look)


def test_start_replay_gives_the_target_the_same_100_events(
    events: Any, queue: Queue, rule: Callable[..., str], archive: dict[str, Any]
) -> None:
    rule({"source": ["shop"]}, {"Arn": queue.arn})
    for start in range(0, 100, 10):
        events.put_events(Entries=[entry({"n": number}) for number in range(start, start + 10)])
    first = queue.bodies(100)
    assert events.describe_archive(ArchiveName="a")["EventCount"] == 100
    made = events.start_replay(ReplayName="again", **archive)
    assert made["State"] == "STARTING"
    assert made["ReplayArn"].endswith(":replay/again")
    again = queue.bodies(100)
    assert queue.is_empty()
    assert {one.pop("replay-name") for one in again} == {"again"}
    assert sorted(again, key=lambda one: one["id"]) == sorted(first, key=lambda one: one["id"])
    described = ended(events, "again")
    assert described["State"] == "COMPLETED"
    assert described["EventLastReplayedTime"] <= described["ReplayEndTime"]
    assert events.describe_archive(ArchiveName="a")["EventCount"] == 100


def test_start_replay_of_a_window_to_some_rules(
    aws: Account, events: Any, queue: Queue, rule: Callable[..., str], archive: dict[str, Any]
) -> None:
    other = Queue(aws, "other")
    chosen = rule({"source": ["shop"]}, {"Arn": queue.arn}, name="chosen")
    rule({"source": ["shop"]}, {"Arn": other.arn}, name="not")
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=30)
    events.put_events(Entries=[entry({"n": number}, Time=at + timedelta(minutes=number)) for number in range(6)])
    queue.messages(6)
    other.messages(6)
    archive["EventStartTime"], archive["EventEndTime"] = at + timedelta(minutes=2), at + timedelta(minutes=4)
    archive["Destination"]["FilterArns"] = [chosen]
    events.start_replay(ReplayName="part", **archive)
    assert sorted(one["detail"]["n"] for one in queue.bodies(3)) == [2, 3, 4]
    ended(events, "part")
    assert queue.is_empty()
    assert other.is_empty()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"EventSourceArn": "arn:aws:events:us-east-1:123456789012:archive/no"},
            "Parameter EventSourceArn is not valid. Reason: Archive no does not exist.",
        ),
        (
            {"EventStartTime": datetime(2031, 1, 1, tzinfo=UTC), "EventEndTime": datetime(2030, 1, 1, tzinfo=UTC)},
            "Parameter EventEndTime is not valid. Reason: EventStartTime must be before EventEndTime.",
        ),
        (
            {"Destination": {"FilterArns": ["arn:aws:sqs:us-east-1:123456789012:q"]}},
            "Parameter Destination.FilterArns is not valid. Reason: arn:aws:sqs:us-east-1:123456789012:q is not the ARN of a rule.",
        ),
    ],
)
def test_start_replay_says_what_is_wrong(events: Any, archive: dict[str, Any], given: dict[str, Any], message: str) -> None:
    if "FilterArns" in given.get("Destination", {}):
        given = {"Destination": archive["Destination"] | given["Destination"]}
    with pytest.raises(ClientError) as raised:
        events.start_replay(ReplayName="r", **(archive | given))
    assert raised.value.response["Error"] == {"Code": "ValidationException", "Message": message}


def test_start_replay_brings_events_only_to_their_own_bus(events: Any, archive: dict[str, Any]) -> None:
    archive["Destination"]["Arn"] = archive["Destination"]["Arn"].replace("/default", "/other")
    with pytest.raises(ClientError, match="Event bus other does not exist"):
        events.start_replay(ReplayName="r", **archive)
    events.create_event_bus(Name="other")
    with pytest.raises(
        ClientError, match=r"Parameter Destination.Arn is not valid. Reason: Cross event bus replay is not permitted."
    ):
        events.start_replay(ReplayName="r", **archive)


def test_list_replays_describe_replay_cancel_replay(events: Any, archive: dict[str, Any]) -> None:
    for name in ("a", "b", "c"):
        events.start_replay(ReplayName=name, **archive)
        assert ended(events, name)["State"] == "COMPLETED"
    with pytest.raises(ClientError, match="Replay a already exists"):
        events.start_replay(ReplayName="a", **archive)
    first = events.list_replays(Limit=2)
    assert [one["ReplayName"] for one in first["Replays"]] == ["a", "b"]
    assert [one["ReplayName"] for one in events.list_replays(NextToken=first["NextToken"])["Replays"]] == ["c"]
    assert events.list_replays(State="RUNNING")["Replays"] == []
    with pytest.raises(ClientError, match="At most one filter"):
        events.list_replays(State="RUNNING", NamePrefix="a")
    with pytest.raises(ClientError) as raised:
        events.cancel_replay(ReplayName="a")
    assert raised.value.response["Error"]["Code"] == "IllegalStatusException"
    for call in (events.describe_replay, events.cancel_replay):
        with pytest.raises(ClientError, match="Replay none does not exist"):
            call(ReplayName="none")


def test_a_replay_fails_when_its_archive_goes(own_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server, account = own_server
    events = account.client("events")
    bus = events.describe_event_bus()["Arn"]
    arn = events.create_archive(ArchiveName="a", EventSourceArn=bus)["ArchiveArn"]
    events.put_events(Entries=[entry()])
    monkeypatch.setattr(server.cloud.events, "wake", lambda *_: None)
    now = datetime.now(UTC)
    events.start_replay(
        ReplayName="r", EventSourceArn=arn, Destination={"Arn": bus}, EventStartTime=now - HOUR, EventEndTime=now + HOUR
    )
    events.start_replay(
        ReplayName="cancelled", EventSourceArn=arn, Destination={"Arn": bus}, EventStartTime=now - HOUR, EventEndTime=now + HOUR
    )
    assert events.cancel_replay(ReplayName="cancelled")["State"] == "CANCELLING"
    events.delete_archive(ArchiveName="a")
    monkeypatch.undo()
    for name in ("r", "cancelled"):
        server.cloud.events.wake("events/replay", f"{account.account}/us-east-1/{name}")
    assert ended(events, "r")["State"] == "FAILED"
    assert ended(events, "cancelled")["State"] == "CANCELLED"


def test_deliveries_and_replays_go_on_after_a_restart(tmp_path: Path) -> None:
    with TestServer(tmp_path) as server:
        account = server.account("200000000001")
        events = account.client("events")
        bus = events.describe_event_bus()["Arn"]
        arn = events.create_archive(ArchiveName="a", EventSourceArn=bus)["ArchiveArn"]
        queue = Queue(account, "q")
        events.put_rule(Name="r", EventPattern='{"source": ["shop"]}')
        events.put_targets(Rule="r", Targets=[{"Id": "q", "Arn": queue.arn}])
        server.cloud.delivery.wake = lambda *_: None  # as if it was killed before it could deliver
        events.put_events(Entries=[entry({"n": 1})])
        now = datetime.now(UTC)
        window = {"EventStartTime": now - HOUR, "EventEndTime": now + HOUR}
        events.start_replay(ReplayName="again", EventSourceArn=arn, Destination={"Arn": bus}, **window)
    with TestServer(tmp_path) as server:
        account = server.account("200000000001")
        queue = Queue(account, "q")
        assert sorted(one.get("replay-name", "") for one in queue.bodies(2)) == ["", "again"]
        assert ended(account.client("events"), "again")["State"] == "COMPLETED"
