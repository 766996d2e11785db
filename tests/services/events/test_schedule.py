"""Rules that happen at their time: rate and cron, on the product's clock."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pilvi.core.clock import SystemClock
from pilvi.core.principal import Principal
from pilvi.testing.server import TestServer
from tests.services.events.conftest import Queue

LET_IN = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": "*"}
OPEN = json.dumps({"Version": "2012-10-17", "Statement": [LET_IN]})


def set_up(account: Any, expression: str, **target: Any) -> tuple[Any, Queue]:
    events = account.client("events")
    queue = Queue(account, "q")
    events.put_rule(Name="tick", ScheduleExpression=expression)
    events.put_targets(Rule="tick", Targets=[{"Id": "q", "Arn": queue.arn, **target}])
    return events, queue


def test_a_rate_happens_again_and_again(own_server: Any) -> None:
    server, account = own_server
    events, queue = set_up(account, "rate(5 minutes)")
    server.cloud.advance_clock(301)
    (event,) = queue.bodies()
    event.pop("id")
    at = datetime.fromisoformat(event.pop("time"))
    assert event == {
        "version": "0",
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": account.account,
        "region": "us-east-1",
        "resources": [f"arn:aws:events:us-east-1:{account.account}:rule/tick"],
        "detail": {},
    }
    server.cloud.advance_clock(900)
    times = sorted(datetime.fromisoformat(one["time"]) for one in queue.bodies(3))
    assert times == [at + timedelta(minutes=5 * number) for number in (1, 2, 3)]
    assert queue.is_empty()
    events.disable_rule(Name="tick")
    server.cloud.advance_clock(900)
    assert queue.is_empty()
    events.enable_rule(Name="tick")
    server.cloud.advance_clock(301)
    queue.messages()
    events.remove_targets(Rule="tick", Ids=["q"])
    events.delete_rule(Name="tick")
    server.cloud.advance_clock(900)
    assert queue.is_empty()


def test_a_cron_happens_at_its_hour_with_its_input(own_server: Any) -> None:
    server, account = own_server
    now = server.cloud.clock.now()
    then = now + timedelta(hours=30)
    _, queue = set_up(account, f"cron({then.minute} {then.hour} {then.day} {then.month} ? *)", Input='{"job": "nightly"}')
    server.cloud.advance_clock(29 * 3600)
    assert queue.is_empty()
    server.cloud.advance_clock(3601)
    assert queue.bodies() == [{"job": "nightly"}]


class Earlier(SystemClock):
    """Almost an hour ago: between two times of the schedule."""

    def now(self) -> datetime:
        return super().now() - timedelta(seconds=3450)

    def time_s(self) -> float:
        return super().time_s() - 3450.0


def test_what_was_missed_while_the_server_was_down_happens_once(tmp_path: Path) -> None:
    number = "200000000001"
    with TestServer(tmp_path, Earlier()) as server:
        server.account(number)
        root = Principal("root", number, f"arn:aws:iam::{number}:root", number)
        ctx = server.cloud.context(root, "events", region="us-east-1")
        ctx.call("events", "PutRule", Name="tick", ScheduleExpression="rate(5 minutes)")
        ctx.call("sqs", "CreateQueue", QueueName="q", Attributes={"Policy": OPEN})
        ctx.call("events", "PutTargets", Rule="tick", Targets=[{"Id": "q", "Arn": f"arn:aws:sqs:us-east-1:{number}:q"}])
    with TestServer(tmp_path) as server:
        queue = Queue(server.account(number), "q")
        (event,) = queue.bodies()
        assert datetime.fromisoformat(event["time"]) < datetime.now(UTC) - timedelta(minutes=50)
        assert queue.is_empty()
