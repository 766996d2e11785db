"""Targets: added, listed, taken away; what kinds there are; what may be asked of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.testing.server import Account, eventually
from tests.services.events.conftest import Queue, entry


def test_put_targets_list_targets_by_rule(events: Any, queue: Queue, rule: Callable[..., str]) -> None:
    rule({"source": ["shop"]})
    target = {
        "Id": "b",
        "Arn": queue.arn,
        "Input": '{"x": 1}',
        "RetryPolicy": {"MaximumRetryAttempts": 3, "MaximumEventAgeInSeconds": 60},
        "DeadLetterConfig": {"Arn": queue.arn},
    }
    events.put_targets(Rule="r", Targets=[target, {"Id": "a", "Arn": queue.arn}, {"Id": "c", "Arn": queue.arn}])
    first = events.list_targets_by_rule(Rule="r", Limit=2)
    assert first["Targets"] == [{"Id": "a", "Arn": queue.arn}, target]
    second = events.list_targets_by_rule(Rule="r", Limit=2, NextToken=first["NextToken"])
    assert second["Targets"] == [{"Id": "c", "Arn": queue.arn}]
    assert "NextToken" not in second


def test_remove_targets_tells_what_was_not_there(events: Any, queue: Queue, rule: Callable[..., str]) -> None:
    rule({"source": ["shop"]}, {"Arn": queue.arn})
    answer = events.remove_targets(Rule="r", Ids=["0", "none"])
    assert answer["FailedEntryCount"] == 1
    assert answer["FailedEntries"][0]["TargetId"] == "none"
    assert events.list_targets_by_rule(Rule="r")["Targets"] == []
    with pytest.raises(ClientError, match="Rule none does not exist on EventBus default"):
        events.remove_targets(Rule="none", Ids=["0"])


def test_put_targets_allows_five(events: Any, queue: Queue, rule: Callable[..., str]) -> None:
    rule({"source": ["shop"]})
    events.put_targets(Rule="r", Targets=[{"Id": str(number), "Arn": queue.arn} for number in range(5)])
    with pytest.raises(ClientError, match="The requested resource exceeds the maximum number allowed"):
        events.put_targets(Rule="r", Targets=[{"Id": "5", "Arn": queue.arn}])


TEMPLATE = {"InputPathsMap": {"a": "$.detail.a"}, "InputTemplate": '{"a": <a>}'}


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        ({"Arn": "queue"}, "ValidationException", "Parameter queue is not valid. Reason: Provided Arn is not in correct format."),
        (
            {"InputPath": "$.detail", "InputTransformer": TEMPLATE},
            "ValidationException",
            "Only one of Input, InputPath, or InputTransformer must be provided for target t.",
        ),
        (
            {"InputTransformer": {"InputTemplate": '"<nobody>"'}},
            "ValidationException",
            "InputTemplate for target t contains invalid placeholder nobody.",
        ),
        (
            {"InputTransformer": {"InputTemplate": "no <aws.events.rule-name> json"}},
            "ValidationException",
            'Invalid InputTemplate for target t : [Source: (String)"no <aws.events.rule-name> json"].',
        ),
        ({"Input": "{"}, "ValidationException", "JSON syntax error in input for target t"),
        ({"InputPath": "detail"}, "ValidationException", "Invalid InputPath for target t: A path begins with $."),
        (
            {"Arn": "arn:aws:sqs:us-east-1:123456789012:q.fifo"},
            "ValidationException",
            "Parameter(s) SqsParameters must be specified for target: t.",
        ),
        (
            {"DeadLetterConfig": {"Arn": "arn:aws:sns:us-east-1:123456789012:q"}},
            "ValidationException",
            "Parameter DeadLetterConfig.Arn is not valid. Reason: Provided Arn is not an Amazon SQS queue.",
        ),
        (
            {"Arn": "arn:aws:ecs:us-east-1:123456789012:cluster/c"},
            "NotImplemented",
            "Targets of the kind ecs/cluster are not built into this cloud yet.",
        ),
        (
            {"Arn": "arn:aws:firehose:us-east-1:123456789012:deliverystream/s", "RoleArn": "arn:aws:iam::123456789012:role/r"},
            "NotImplemented",
            "Targets of the kind firehose are not built into this cloud yet.",
        ),
    ],
)
def test_put_targets_says_what_is_wrong(
    events: Any, queue: Queue, rule: Callable[..., str], given: dict[str, Any], code: str, message: str
) -> None:
    rule({"source": ["shop"]})
    with pytest.raises(ClientError) as raised:
        events.put_targets(Rule="r", Targets=[{"Id": "t", "Arn": queue.arn} | given])
    assert raised.value.response["Error"] == {"Code": code, "Message": message}


def test_put_targets_of_a_rule_that_is_not_there(events: Any, queue: Queue) -> None:
    with pytest.raises(ClientError, match="Rule none does not exist on EventBus default"):
        events.put_targets(Rule="none", Targets=[{"Id": "t", "Arn": queue.arn}])
    with pytest.raises(ClientError, match="Rule none does not exist on EventBus default"):
        events.list_targets_by_rule(Rule="none")


def test_a_fifo_queue_gets_the_message_group(aws: Account, events: Any, rule: Callable[..., str]) -> None:
    fifo = Queue(aws, "ends.fifo", FifoQueue="true", ContentBasedDeduplication="true")
    rule({"source": ["shop"]}, {"Arn": fifo.arn, "SqsParameters": {"MessageGroupId": "sales"}})
    events.put_events(Entries=[entry({"n": 1})])
    assert fifo.messages()[0]["Attributes"]["MessageGroupId"] == "sales"


def test_a_topic_is_a_target(aws: Account, events: Any, queue: Queue, rule: Callable[..., str]) -> None:
    sns = aws.client("sns")
    arn = sns.create_topic(Name="t")["TopicArn"]
    statement = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sns:Publish", "Resource": arn}
    sns.set_topic_attributes(
        TopicArn=arn, AttributeName="Policy", AttributeValue=json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    )
    queue.let_in("sns.amazonaws.com")
    sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=queue.arn, Attributes={"RawMessageDelivery": "true"})
    rule({"source": ["shop"]}, {"Arn": arn, "InputPath": "$.detail"})
    events.put_events(Entries=[entry({"n": 1})])
    assert queue.bodies() == [{"n": 1}]


def test_a_log_group_is_a_target(aws: Account, events: Any, rule: Callable[..., str]) -> None:
    logs = aws.client("logs")
    logs.create_log_group(logGroupName="/aws/events/all")
    statement = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "logs:*", "Resource": "*"}
    logs.put_resource_policy(policyName="p", policyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    rule({"source": ["shop"]}, {"Arn": f"arn:aws:logs:us-east-1:{aws.account}:log-group:/aws/events/all:*"})
    events.put_events(Entries=[entry({"n": 1}), entry({"n": 2})])
    found = eventually(
        lambda: len(lines := logs.filter_log_events(logGroupName="/aws/events/all")["events"]) == 2 and lines,
    )
    assert sorted(json.loads(line["message"])["detail"]["n"] for line in found) == [1, 2]
    assert len(logs.describe_log_streams(logGroupName="/aws/events/all")["logStreams"]) == 1


def test_a_role_is_taken_where_the_target_names_one(aws: Account, events: Any, rule: Callable[..., str]) -> None:
    closed = Queue(aws, "closed", is_open=False)
    role = aws.role(
        "sender",
        "events.amazonaws.com",
        {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": closed.arn}]},
    )
    rule({"source": ["shop"]}, {"Arn": closed.arn, "RoleArn": role})
    events.put_events(Entries=[entry({"n": 1})])
    assert closed.bodies()[0]["detail"] == {"n": 1}
