"""Dead letters, and the tasks that bring them back."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pilvi.testing.server import Account, eventually
from tests.services.sqs.test_message import bodies, new_queue
from tests.services.sqs.test_receive import receive, send

Refusal = Callable[..., tuple[str, str]]


def arn_of(aws: Account, url: str) -> str:
    return f"arn:aws:sqs:us-east-1:{aws.account}:{url.rpartition('/')[2]}"


def with_dead_letters(aws: Account, name: str = "source", dead: str = "dead", many: int = 3) -> tuple[str, str]:
    content = {"ContentBasedDeduplication": "true"} if name.endswith(".fifo") else {}
    target = new_queue(aws, dead, **content)
    redrive = json.dumps({"deadLetterTargetArn": arn_of(aws, target), "maxReceiveCount": many})
    return new_queue(aws, name, RedrivePolicy=redrive, VisibilityTimeout="0", **content), target


def test_a_poison_message_moves_after_three_receives(aws: Account) -> None:
    source, dead = with_dead_letters(aws)
    send(aws, source, "poison", "x" * 5000)
    for _ in range(3):
        assert len(bodies(aws, source)) == 2
    assert bodies(aws, source) == []
    messages = receive(aws, dead)
    assert sorted(message["Body"] for message in messages) == ["poison", "x" * 5000]
    assert messages[0]["Attributes"]["DeadLetterQueueSourceArn"] == arn_of(aws, source)
    assert messages[0]["Attributes"]["ApproximateReceiveCount"] == "4"
    assert bodies(aws, source) == []


def test_a_poison_message_of_a_group_lets_the_next_one_go(aws: Account) -> None:
    sqs = aws.client("sqs")
    source, dead = with_dead_letters(aws, "source.fifo", "dead.fifo", many=1)
    send(aws, source, "1", "2", MessageGroupId="g")
    (message,) = receive(aws, source, 1)
    assert [one["Body"] for one in receive(aws, source, 1)] == ["2"]
    assert [(one["Body"], one["Attributes"]["MessageGroupId"]) for one in receive(aws, dead)] == [("1", "g")]
    assert message["Body"] == "1"
    assert sqs.list_dead_letter_source_queues(QueueUrl=dead)["queueUrls"] == [source]


def test_dead_letters_only_where_they_are_let_in(aws: Account, refusal: Refusal) -> None:
    sqs = aws.client("sqs")
    dead, fifo = new_queue(aws, "dead"), new_queue(aws, "dead.fifo")
    closed = new_queue(aws, "closed", RedriveAllowPolicy=json.dumps({"redrivePermission": "denyAll"}))
    source = new_queue(aws, "source")

    def code(target: str) -> str:
        redrive = json.dumps({"deadLetterTargetArn": target, "maxReceiveCount": "5"})
        return refusal(sqs.set_queue_attributes, QueueUrl=source, Attributes={"RedrivePolicy": redrive})[0]

    assert code(arn_of(aws, fifo)) == "InvalidParameterValue"
    assert code(arn_of(aws, closed)) == "InvalidParameterValue"
    assert code(arn_of(aws, source)) == "InvalidParameterValue"
    assert code(arn_of(aws, dead) + "-not") == "InvalidParameterValue"
    allow = json.dumps({"redrivePermission": "byQueue", "sourceQueueArns": [arn_of(aws, source)]})
    sqs.set_queue_attributes(QueueUrl=closed, Attributes={"RedriveAllowPolicy": allow})
    redrive = json.dumps({"deadLetterTargetArn": arn_of(aws, closed), "maxReceiveCount": "5"})
    sqs.set_queue_attributes(QueueUrl=source, Attributes={"RedrivePolicy": redrive})
    pages = sqs.get_paginator("list_dead_letter_source_queues").paginate(QueueUrl=closed)
    assert [url for page in pages for url in page["queueUrls"]] == [source]


def test_start_message_move_task_brings_them_back(aws: Account, refusal: Refusal) -> None:
    sqs = aws.client("sqs")
    source, dead = with_dead_letters(aws, many=1)
    texts = [f"{n:02}" for n in range(25)]
    send(aws, source, *texts)
    while bodies(aws, source):
        pass
    assert sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["All"])["Attributes"]["ApproximateNumberOfMessages"] == "25"
    handle = sqs.start_message_move_task(SourceArn=arn_of(aws, dead))["TaskHandle"]

    def task() -> dict[str, Any]:
        found: dict[str, Any] = sqs.list_message_move_tasks(SourceArn=arn_of(aws, dead))["Results"][0]
        return found

    eventually(lambda: task()["Status"] == "COMPLETED")
    assert (task()["ApproximateNumberOfMessagesMoved"], task()["ApproximateNumberOfMessagesToMove"]) == (25, 25)
    assert "TaskHandle" not in task()
    assert refusal(sqs.cancel_message_move_task, TaskHandle=handle)[0] == "ResourceNotFoundException"
    sqs.set_queue_attributes(QueueUrl=source, Attributes={"VisibilityTimeout": "30", "RedrivePolicy": ""})
    back: list[dict[str, Any]] = []
    while messages := receive(aws, source):
        back += messages
    assert sorted(message["Body"] for message in back) == texts
    assert {message["Attributes"]["ApproximateReceiveCount"] for message in back} == {"1"}


def test_cancel_message_move_task_stops_it(aws: Account, refusal: Refusal) -> None:
    sqs = aws.client("sqs")
    source, dead = with_dead_letters(aws)
    other = new_queue(aws, "elsewhere")
    send(aws, dead, *"abcd")
    handle = sqs.start_message_move_task(
        SourceArn=arn_of(aws, dead), DestinationArn=arn_of(aws, other), MaxNumberOfMessagesPerSecond=1
    )["TaskHandle"]
    code, _ = refusal(sqs.start_message_move_task, SourceArn=arn_of(aws, dead))
    assert code == "AWS.SimpleQueueService.UnsupportedOperation"
    eventually(lambda: bodies(aws, other, VisibilityTimeout=0))
    sqs.cancel_message_move_task(TaskHandle=handle)
    statuses = lambda: sqs.list_message_move_tasks(SourceArn=arn_of(aws, dead), MaxResults=10)["Results"][0]["Status"]  # noqa: E731
    eventually(lambda: statuses() == "CANCELLED")
    assert bodies(aws, dead)
    assert refusal(sqs.start_message_move_task, SourceArn=arn_of(aws, source))[0] == "InvalidParameterValue"
    assert refusal(sqs.list_message_move_tasks, SourceArn=arn_of(aws, source) + "x")[0] == "ResourceNotFoundException"
    assert refusal(sqs.cancel_message_move_task, TaskHandle="x")[0] == "InvalidParameterValue"
