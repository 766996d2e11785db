"""Templated targets besides queues, and universal ones that start something."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

from pilvi.testing.server import Account, eventually
from tests.services.scheduler.conftest import ALLOW_ALL, Queue, body_of

Passes = Callable[[float], None]


@pytest.fixture
def queue(later_aws: Account, queue_in: Any) -> Queue:
    return queue_in(later_aws)  # type: ignore[no-any-return]


@pytest.fixture
def role(later_aws: Account, role_in: Any) -> str:
    return str(role_in(later_aws))


@pytest.fixture
def function(later_aws: Account, queue: Queue) -> str:
    """A function that says in its log group what it got; gives its ARN."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(
            "index.py", "import json\ndef handler(event, context):\n    print('GOT', json.dumps(event))\n    return 'ok'\n"
        )
    role = later_aws.role("runs", "lambda.amazonaws.com", ALLOW_ALL)
    client = later_aws.client("lambda")
    made = client.create_function(
        FunctionName="f", Runtime="python3.11", Role=role, Handler="index.handler", Code={"ZipFile": packed.getvalue()}
    )
    client.get_waiter("function_active_v2").wait(FunctionName="f", WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    return str(made["FunctionArn"])


def got(account: Account) -> list[Any]:
    """What the function said it was given."""
    try:
        events = account.client("logs").filter_log_events(logGroupName="/aws/lambda/f", filterPattern="GOT")["events"]
    except account.client("logs").exceptions.ResourceNotFoundException:
        return []
    return [json.loads(event["message"].partition("GOT ")[2]) for event in events]


def test_a_function_is_invoked(later_aws: Account, function: str, queue: Queue, role: str, asked: Any, passes: Passes) -> None:
    scheduler = later_aws.client("scheduler")
    scheduler.create_schedule(
        **asked(queue, role, target={"Arn": function, "Input": '{"a": "<aws.scheduler.schedule-arn>"}'}, Name="s")
    )
    invoke = {"FunctionName": "f", "InvocationType": "Event", "Payload": '{"universal": true}'}
    target = {"Arn": "arn:aws:scheduler:::aws-sdk:lambda:invoke", "Input": json.dumps(invoke)}
    scheduler.create_schedule(**asked(queue, role, target=target))
    passes(1)
    eventually(lambda: len(got(later_aws)) == 2)
    arn = f"arn:aws:scheduler:us-east-1:{later_aws.account}:schedule/default/s"
    assert sorted(got(later_aws), key=str) == [{"a": arn}, {"universal": True}]


def test_a_topic_is_published_to(later_aws: Account, queue: Queue, role: str, asked: Any, passes: Passes) -> None:
    sns = later_aws.client("sns")
    topic = sns.create_topic(Name="t")["TopicArn"]
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue.arn,
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    later_aws.client("sqs").set_queue_attributes(QueueUrl=queue.url, Attributes={"Policy": policy})
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue.arn)
    later_aws.client("scheduler").create_schedule(**asked(queue, role, target={"Arn": topic}))
    passes(1)
    found = body_of(queue.received()[0])
    assert (found["TopicArn"], found["Message"]) == (topic, "hello")


def test_a_universal_target_with_wrong_parameters_becomes_a_dead_letter(
    later_aws: Account, queue: Queue, role: str, asked: Any, passes: Passes
) -> None:
    target = {
        "DeadLetterConfig": {"Arn": queue.arn},
        "Arn": "arn:aws:scheduler:::aws-sdk:sqs:createQueue",
        "Input": '{"Name": "x"}',
    }
    later_aws.client("scheduler").create_schedule(**asked(queue, role, target=target))
    passes(1)
    (letter,) = queue.received()
    assert letter["Body"] == '{"Name": "x"}'
    assert "Name is not a known parameter" in letter["MessageAttributes"]["ERROR_MESSAGE"]["StringValue"]


def test_the_queues_policy_may_still_refuse(later_aws: Account, queue: Queue, role: str, asked: Any, passes: Passes) -> None:
    statement = {"Effect": "Deny", "Principal": "*", "Action": "sqs:SendMessage", "Resource": queue.arn}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    later_aws.client("sqs").set_queue_attributes(QueueUrl=queue.url, Attributes={"Policy": policy})
    later_aws.client("scheduler").create_schedule(**asked(queue, role))
    passes(1)
    assert queue.is_empty()
