"""Pipes to a bus of EventBridge."""

from __future__ import annotations

import json

from tests.services.pipes.conftest import Plumber


def test_a_bus_gets_events(plumber: Plumber) -> None:
    events = plumber.account.client("events")
    (url, source), (to, target) = plumber.queue(), plumber.queue()
    bus = events.create_event_bus(Name="own")["EventBusArn"]
    rule = events.put_rule(Name="all", EventBusName="own", EventPattern='{"detail": {"n": [{"exists": true}]}}')["RuleArn"]
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": target,
        "Condition": {"ArnEquals": {"aws:SourceArn": rule}},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    plumber.sqs.set_queue_attributes(QueueUrl=to, Attributes={"Policy": policy})
    events.put_targets(Rule="all", EventBusName="own", Targets=[{"Id": "t", "Arn": target}])
    parameters = {"EventBridgeEventBusParameters": {"DetailType": "$.body.kind", "Resources": ["$.eventSourceARN"]}}
    name = plumber.pipe(source, bus, TargetParameters={**parameters, "InputTemplate": '{"n": <$.body.n>}'})
    plumber.send(url, {"kind": "Number", "n": 7})
    found = json.loads(plumber.received(to)[0])
    assert (found["source"], found["detail-type"], found["detail"]) == (f"Pipe {name}", "Number", {"n": 7})
    assert found["resources"] == [source]
