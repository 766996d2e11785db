"""A queue that schedules send to, and the role that lets them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from pilvi.testing.server import Account, eventually

_names = itertools.count()
ALLOW_ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


class Queue(NamedTuple):
    url: str
    arn: str
    account: Account

    def received(self, many: int = 1) -> list[dict[str, Any]]:
        """Messages, once there are so many; in the order of their arrival."""
        found: list[dict[str, Any]] = []

        def enough() -> bool:
            answer = self.account.client("sqs").receive_message(
                QueueUrl=self.url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], MessageSystemAttributeNames=["All"]
            )
            for message in answer.get("Messages", []):
                self.account.client("sqs").delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
                found.append(message)
            return len(found) >= many

        eventually(enough)
        return found

    def texts(self, many: int = 1) -> list[str]:
        return [message["Body"] for message in self.received(many)]

    def is_empty(self) -> bool:
        return "Messages" not in self.account.client("sqs").receive_message(QueueUrl=self.url)


@pytest.fixture
def queue_in() -> Callable[..., Queue]:
    """Makes queues in an account."""

    def make(account: Account, name: str = "", **attributes: str) -> Queue:
        sqs = account.client("sqs")
        url = sqs.create_queue(QueueName=name or f"q{next(_names)}", Attributes=attributes)["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        return Queue(url, arn, account)

    return make


@pytest.fixture
def role_in() -> Callable[..., str]:
    """Makes roles that Scheduler may take."""

    def make(account: Account, *policies: dict[str, Any]) -> str:
        return account.role(f"r{next(_names)}", "scheduler.amazonaws.com", *(policies or (ALLOW_ALL,)))

    return make


@pytest.fixture
def asked() -> Callable[..., dict[str, Any]]:
    """A request for a schedule that sends to a queue; members may be replaced, and those of its Target added."""

    def ask(
        queue: Queue, role: str, expression: str = "rate(1 hour)", target: dict[str, Any] | None = None, **members: Any
    ) -> dict[str, Any]:
        return {
            "Name": f"s{next(_names)}",
            "ScheduleExpression": expression,
            "FlexibleTimeWindow": {"Mode": "OFF"},
            "Target": {"Arn": queue.arn, "RoleArn": role, "Input": "hello", **(target or {})},
            **members,
        }

    return ask


def body_of(message: dict[str, Any]) -> Any:
    return json.loads(message["Body"])
