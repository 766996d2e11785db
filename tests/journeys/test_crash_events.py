"""kill -9 while events are put: every event that was acknowledged reaches every target of its rule, and the archive; replays come to their end."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from pilvi.testing.server import eventually
from pilvi.testing.up import Up

SENDERS = 4
ENOUGH = 100
NAMES = ("one", "two")


def client_of(server: Up, service: str) -> Any:
    return server.root.client(service, config=Config(max_pool_connections=SENDERS, retries={"total_max_attempts": 1}))


def set_up(server: Up) -> None:
    sqs, events = client_of(server, "sqs"), client_of(server, "events")
    events.put_rule(Name="all", EventPattern='{"source": ["shop"]}')
    account = server.root.account
    for name in NAMES:
        arn = f"arn:aws:sqs:us-east-1:{account}:{name}"
        statement = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:*", "Resource": arn}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        sqs.create_queue(QueueName=name, Attributes={"Policy": policy})
        events.put_targets(Rule="all", Targets=[{"Id": name, "Arn": arn}])
    events.create_archive(ArchiveName="kept", EventSourceArn=events.describe_event_bus()["Arn"])


def ids_in(server: Up, name: str, wanted: set[str], replay: str = "") -> set[str]:
    """The ids that a queue has brought, once all that are wanted are among them."""
    sqs = client_of(server, "sqs")
    url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    found: set[str] = set()

    def look() -> bool:
        for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", ()):
            event = json.loads(message["Body"])
            if event.get("replay-name", "") == replay:
                found.add(event["id"])
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return wanted <= found

    eventually(look, within_s=60, every_s=0.0)
    return found


def test_events_that_were_acknowledged_reach_every_target(up: Callable[..., Up]) -> None:
    server = up()
    set_up(server)
    acknowledged: set[str] = set()
    enough = threading.Event()

    def put(number: int) -> None:
        events = client_of(server, "events")
        for turn in range(100_000):
            entries = [{"Source": "shop", "DetailType": "sale", "Detail": json.dumps({"n": [number, turn, n]})} for n in range(5)]
            try:
                answer = events.put_events(Entries=entries)
            except (BotoCoreError, ClientError):
                return
            acknowledged.update(entry["EventId"] for entry in answer["Entries"])
            if len(acknowledged) >= ENOUGH:
                enough.set()

    with ThreadPoolExecutor(SENDERS) as pool:
        working = [pool.submit(put, number) for number in range(SENDERS)]
        assert enough.wait(60)
        server.kill()
        for one in working:
            one.result()
    server = up()
    for name in NAMES:
        ids_in(server, name, acknowledged)
    events = client_of(server, "events")
    assert events.describe_archive(ArchiveName="kept")["EventCount"] >= len(acknowledged)
    now = datetime.now(UTC)
    arn = events.describe_event_bus()["Arn"]
    events.start_replay(
        ReplayName="again",
        EventSourceArn=f"arn:aws:events:us-east-1:{server.root.account}:archive/kept",
        EventStartTime=now - timedelta(hours=1),
        EventEndTime=now + timedelta(hours=1),
        Destination={"Arn": arn},
    )
    server.kill()
    server = up()
    for name in NAMES:
        ids_in(server, name, acknowledged, "again")
    eventually(lambda: client_of(server, "events").describe_replay(ReplayName="again")["State"] == "COMPLETED")
