"""Buses of one's own, their policies, and events that go from bus to bus, account to account, Region to Region."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.testing.server import Account
from tests.services.events.conftest import Queue, entry


def test_create_event_bus_describe_event_bus_delete_event_bus(aws: Account, events: Any) -> None:
    arn = f"arn:aws:events:us-east-1:{aws.account}:event-bus/own"
    made = events.create_event_bus(Name="own", Description="mine", Tags=[{"Key": "a", "Value": "b"}])
    assert (made["EventBusArn"], made["Description"]) == (arn, "mine")
    described = events.describe_event_bus(Name="own")
    assert (described["Name"], described["Arn"], described["Description"]) == ("own", arn, "mine")
    assert events.describe_event_bus(Name=arn)["Name"] == "own"
    assert events.describe_event_bus()["Arn"].endswith("event-bus/default")
    with pytest.raises(ClientError, match="Event bus own already exists"):
        events.create_event_bus(Name="own")
    events.put_rule(Name="r", EventPattern='{"source": ["x"]}', EventBusName="own")
    with pytest.raises(ClientError, match="it has rules"):
        events.delete_event_bus(Name="own")
    events.delete_rule(Name="r", EventBusName="own")
    events.delete_event_bus(Name="own")
    events.delete_event_bus(Name="own")
    with pytest.raises(ClientError, match="Event bus own does not exist"):
        events.describe_event_bus(Name="own")
    with pytest.raises(ClientError, match="Cannot delete event bus default"):
        events.delete_event_bus(Name="default")


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"Name": "default"}, "ResourceAlreadyExistsException"),
        ({"Name": "a/b"}, "ValidationException"),
        ({"Name": "aws.partner/a/b", "EventSourceName": "aws.partner/a/b"}, "NotImplemented"),
        ({"Name": "b", "KmsKeyIdentifier": "alias/none"}, "ValidationException"),
        ({"Name": "b", "LogConfig": {"Level": "INFO"}}, "NotImplemented"),
        ({"Name": "b", "DeadLetterConfig": {"Arn": "arn:aws:sqs:us-east-1:123456789012:q.fifo"}}, "ValidationException"),
    ],
)
def test_create_event_bus_says_what_is_wrong(events: Any, given: dict[str, Any], code: str) -> None:
    with pytest.raises(ClientError) as raised:
        events.create_event_bus(**given)
    assert raised.value.response["Error"]["Code"] == code


def test_list_event_buses_pages(events: Any) -> None:
    assert [one["Name"] for one in events.list_event_buses()["EventBuses"]] == ["default"]
    for name in ("a", "e", "z"):
        events.create_event_bus(Name=name)
    first = events.list_event_buses(Limit=2)
    assert [one["Name"] for one in first["EventBuses"]] == ["a", "default"]
    second = events.list_event_buses(Limit=2, NextToken=first["NextToken"])
    assert [one["Name"] for one in second["EventBuses"]] == ["e", "z"]
    assert "NextToken" not in second
    assert [one["Name"] for one in events.list_event_buses(NamePrefix="de")["EventBuses"]] == ["default"]


def test_update_event_bus_replaces_settings(events: Any, queue: Queue) -> None:
    events.create_event_bus(Name="own", Description="first")
    events.update_event_bus(Name="own", DeadLetterConfig={"Arn": queue.arn})
    described = events.describe_event_bus(Name="own")
    assert "Description" not in described
    assert described["DeadLetterConfig"] == {"Arn": queue.arn}
    events.update_event_bus(Description="everybody's")
    assert events.describe_event_bus()["Description"] == "everybody's"


def test_rules_of_a_bus_see_only_its_events(aws: Account, events: Any, queue: Queue, rule: Callable[..., str]) -> None:
    events.create_event_bus(Name="own")
    arn = rule({"source": ["shop"]}, {"Arn": queue.arn}, EventBusName="own")
    assert arn == f"arn:aws:events:us-east-1:{aws.account}:rule/own/r"
    events.put_events(Entries=[entry({"n": 1}), entry({"n": 2}, EventBusName="own")])
    assert queue.bodies()[0]["detail"] == {"n": 2}
    assert queue.is_empty()


def test_put_permission_remove_permission(aws: Account, events: Any) -> None:
    arn = events.describe_event_bus()["Arn"]
    events.put_permission(Action="events:PutEvents", Principal="111122223333", StatementId="one")
    events.put_permission(Action="events:PutEvents", Principal="*", StatementId="all")
    policy = json.loads(events.describe_event_bus()["Policy"])
    assert policy["Statement"] == [
        {
            "Sid": "one",
            "Effect": "Allow",
            "Principal": {"AWS": "arn:aws:iam::111122223333:root"},
            "Action": "events:PutEvents",
            "Resource": arn,
        },
        {"Sid": "all", "Effect": "Allow", "Principal": "*", "Action": "events:PutEvents", "Resource": arn},
    ]
    events.remove_permission(StatementId="all")
    with pytest.raises(ClientError, match="Statement with the provided id does not exist"):
        events.remove_permission(StatementId="all")
    events.remove_permission(RemoveAllPermissions=True)
    assert "Policy" not in events.describe_event_bus()
    with pytest.raises(ClientError, match="Statement with the provided id does not exist"):
        events.remove_permission(StatementId="one")


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"Action": "events:PutEvents", "Principal": "*"}, "ValidationException"),
        ({"Action": "events:PutRule", "Principal": "*", "StatementId": "x"}, "ValidationException"),
        ({"Policy": "{"}, "ValidationException"),
        ({"Policy": " " * 10241}, "PolicyLengthExceededException"),
        ({"Action": "events:PutEvents", "Principal": "*", "StatementId": "x", "EventBusName": "no"}, "ResourceNotFoundException"),
    ],
)
def test_put_permission_says_what_is_wrong(events: Any, given: dict[str, str], code: str) -> None:
    with pytest.raises(ClientError) as raised:
        events.put_permission(**given)
    assert raised.value.response["Error"]["Code"] == code


def test_account_b_receives_the_event_of_account_a(aws: Account, other_aws: Account, events: Any, rule: Callable[..., str]) -> None:
    theirs = other_aws.client("events")
    bus = theirs.create_event_bus(Name="open")["EventBusArn"]
    inbox = Queue(other_aws, "inbox")
    theirs.put_rule(Name="in", EventPattern=json.dumps({"account": [aws.account]}), EventBusName="open")
    theirs.put_targets(Rule="in", EventBusName="open", Targets=[{"Id": "q", "Arn": inbox.arn}])
    with pytest.raises(ClientError, match="not authorized to perform: events:PutEvents"):
        events.put_events(Entries=[entry(EventBusName=bus)])
    theirs.put_permission(EventBusName="open", Action="events:PutEvents", Principal=aws.account, StatementId="friends")
    events.put_events(Entries=[entry({"way": "direct"}, EventBusName=bus)])
    (direct,) = inbox.bodies()
    assert (direct["account"], direct["detail"]) == (aws.account, {"way": "direct"})

    rule({"source": ["shop"]}, {"Arn": bus})
    sent = events.put_events(Entries=[entry({"way": "rule"})])
    (forwarded,) = inbox.bodies()
    assert (forwarded["account"], forwarded["id"]) == (aws.account, sent["Entries"][0]["EventId"])


def test_a_bus_that_lets_nobody_in_gets_nothing(
    aws: Account, other_aws: Account, events: Any, queue: Queue, rule: Callable[..., str]
) -> None:
    bus = other_aws.client("events").create_event_bus(Name="shut")["EventBusArn"]
    rule({"source": ["shop"]}, {"Arn": bus, "DeadLetterConfig": {"Arn": queue.arn}})
    events.put_events(Entries=[entry()])
    attributes = queue.messages()[0]["MessageAttributes"]
    assert attributes["ERROR_CODE"]["StringValue"] == "NO_PERMISSIONS"
    assert attributes["TARGET_ARN"]["StringValue"] == bus


def test_events_go_to_another_region_as_a_role(aws: Account, events: Any, rule: Callable[..., str]) -> None:
    west = aws.client("events", region="us-west-2")
    bus = west.create_event_bus(Name="west")["EventBusArn"]
    logs = aws.client("sqs", region="us-west-2")
    url = logs.create_queue(QueueName="west")["QueueUrl"]
    arn = f"arn:aws:sqs:us-west-2:{aws.account}:west"
    statement = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:*", "Resource": arn}
    logs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps({"Version": "2012-10-17", "Statement": [statement]})})
    west.put_rule(Name="in", EventPattern='{"source": ["shop"]}', EventBusName="west")
    west.put_targets(Rule="in", EventBusName="west", Targets=[{"Id": "q", "Arn": arn}])
    role = aws.role(
        "forwarder",
        "events.amazonaws.com",
        {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "events:PutEvents", "Resource": bus}]},
    )
    rule({"source": ["shop"]}, {"Arn": bus, "RoleArn": role})
    events.put_events(Entries=[entry({"n": 1})])
    answer = logs.receive_message(QueueUrl=url, WaitTimeSeconds=20)
    body = json.loads(answer["Messages"][0]["Body"])
    assert (body["region"], body["detail"]) == ("us-east-1", {"n": 1})


def test_events_go_to_no_third_account(
    aws: Account, other_aws: Account, new_account: Callable[[], Account], events: Any, rule: Callable[..., str]
) -> None:
    third = new_account()
    third.client("events").put_permission(Action="events:PutEvents", Principal="*", StatementId="all")
    theirs = other_aws.client("events")
    theirs.put_permission(Action="events:PutEvents", Principal="*", StatementId="all")
    dead = Queue(other_aws, "dead")
    theirs.put_rule(Name="on", EventPattern='{"source": ["shop"]}')
    target = {"Id": "t", "Arn": third.client("events").describe_event_bus()["Arn"], "DeadLetterConfig": {"Arn": dead.arn}}
    theirs.put_targets(Rule="on", Targets=[target])
    rule({"source": ["shop"]}, {"Arn": theirs.describe_event_bus()["Arn"]})
    events.put_events(Entries=[entry()])
    assert dead.messages()[0]["MessageAttributes"]["ERROR_CODE"]["StringValue"] == "THIRD_ACCOUNT_HOP_DETECTED"


def test_rules_on_another_accounts_bus(aws: Account, other_aws: Account, events: Any) -> None:
    theirs = other_aws.client("events")
    bus = theirs.create_event_bus(Name="shared")["EventBusArn"]
    with pytest.raises(ClientError, match="not authorized"):
        events.put_rule(Name="r", EventPattern='{"source": ["shop"]}', EventBusName=bus)
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{aws.account}:root"},
        "Action": ["events:PutRule", "events:DescribeRule", "events:PutTargets"],
        "Resource": f"arn:aws:events:us-east-1:{other_aws.account}:rule/shared/*",
    }
    theirs.put_permission(EventBusName="shared", Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    arn = events.put_rule(Name="r", EventPattern='{"source": ["shop"]}', EventBusName=bus)["RuleArn"]
    assert arn == f"arn:aws:events:us-east-1:{other_aws.account}:rule/shared/r"
    assert theirs.describe_rule(Name="r", EventBusName="shared")["CreatedBy"] == aws.account


def test_a_bus_with_a_key_seals_its_events(aws: Account, events: Any, queue: Queue, rule: Callable[..., str]) -> None:
    kms = aws.client("kms")
    own = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{aws.account}:root"}, "Action": "kms:*", "Resource": "*"}
    service = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": ["kms:GenerateDataKey", "kms:Decrypt"],
        "Resource": "*",
        "Condition": {
            "StringEquals": {
                "kms:EncryptionContext:aws:events:event-bus:arn": f"arn:aws:events:us-east-1:{aws.account}:event-bus/sealed"
            }
        },
    }
    good = kms.create_key(Policy=json.dumps({"Version": "2012-10-17", "Statement": [own, service]}))["KeyMetadata"]["Arn"]
    shut = kms.create_key(Policy=json.dumps({"Version": "2012-10-17", "Statement": [own]}))["KeyMetadata"]["Arn"]
    events.create_event_bus(Name="sealed", KmsKeyIdentifier=good, DeadLetterConfig={"Arn": queue.arn})
    rule({"source": ["shop"]}, {"Arn": queue.arn, "InputPath": "$.detail"}, EventBusName="sealed")
    events.put_events(Entries=[entry({"n": 1}, EventBusName="sealed")])
    assert queue.bodies() == [{"n": 1}]
    bus = events.describe_event_bus(Name="sealed")["Arn"]
    for name, key in (("open", good), ("shut", shut)):
        events.create_archive(ArchiveName=name, EventSourceArn=bus, KmsKeyIdentifier=key)
    events.put_events(Entries=[entry({"n": 1}, EventBusName="sealed")])
    assert queue.bodies() == [{"n": 1}]
    assert [events.describe_archive(ArchiveName=name)["EventCount"] for name in ("open", "shut")] == [1, 0]
    now = datetime.now(UTC)
    events.start_replay(
        ReplayName="sealed",
        EventSourceArn=events.describe_archive(ArchiveName="open")["ArchiveArn"],
        Destination={"Arn": bus},
        EventStartTime=now - timedelta(hours=1),
        EventEndTime=now + timedelta(hours=1),
    )
    assert queue.bodies() == [{"n": 1}]
    events.update_event_bus(Name="sealed", KmsKeyIdentifier=shut, DeadLetterConfig={"Arn": queue.arn})
    events.put_events(Entries=[entry({"n": 2}, EventBusName="sealed")])
    (lost,) = queue.messages()
    assert lost["MessageAttributes"]["ERROR_CODE"]["StringValue"] == "NO_PERMISSIONS"
    assert json.loads(lost["Body"])["detail"] == {"n": 2}
