"""Schedules that put events on a bus."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pilvi.testing.server import Account
from tests.services.scheduler.conftest import body_of


def test_a_bus_gets_an_event(
    later_aws: Account,
    queue_in: Any,
    role_in: Any,
    asked: Any,
    passes: Callable[[float], None],
    refusal: Callable[..., tuple[str, str]],
) -> None:
    queue, role, events = queue_in(later_aws), role_in(later_aws), later_aws.client("events")
    bus = events.create_event_bus(Name="own")["EventBusArn"]
    events.put_rule(Name="all", EventBusName="own", EventPattern='{"source": ["my.schedule"]}')
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue.arn,
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    later_aws.client("sqs").set_queue_attributes(QueueUrl=queue.url, Attributes={"Policy": policy})
    events.put_targets(Rule="all", EventBusName="own", Targets=[{"Id": "t", "Arn": queue.arn}])
    parameters = {"EventBridgeParameters": {"Source": "my.schedule", "DetailType": "Tick"}}
    scheduler = later_aws.client("scheduler")
    assert refusal(scheduler.create_schedule, **asked(queue, role, target={"Arn": bus, "Input": "{}"}))[0] == "ValidationException"
    arn = scheduler.create_schedule(**asked(queue, role, target={"Arn": bus, "Input": '{"a": 1}', **parameters}))["ScheduleArn"]
    passes(1)
    found = body_of(queue.received()[0])
    assert (found["source"], found["detail-type"], found["detail"], found["resources"]) == ("my.schedule", "Tick", {"a": 1}, [arn])
