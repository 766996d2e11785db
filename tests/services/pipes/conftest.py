"""Queues, functions and roles for pipes."""

from __future__ import annotations

import io
import itertools
import json
import zipfile
from typing import Any

import pytest

from pilvi.testing.server import Account, eventually

_names = itertools.count()
ALLOW_ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


class Plumber:
    """An account with what pipes need."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.pipes = account.client("pipes")
        self.sqs = account.client("sqs")
        self.role = account.role("plumber", "pipes.amazonaws.com", ALLOW_ALL)

    def queue(self, name: str = "", **attributes: str) -> tuple[str, str]:
        """URL and ARN."""
        url = self.sqs.create_queue(QueueName=name or f"q{next(_names)}", Attributes=attributes)["QueueUrl"]
        arn = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        return url, arn

    def function(self, code: str) -> str:
        """A function's ARN."""
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("index.py", code)
        name = f"f{next(_names)}"
        role = self.account.role(f"{name}-role", "lambda.amazonaws.com", ALLOW_ALL)
        made = self.account.client("lambda").create_function(
            FunctionName=name, Runtime="python3.11", Role=role, Handler="index.handler", Code={"ZipFile": packed.getvalue()}
        )
        self.account.client("lambda").get_waiter("function_active_v2").wait(
            FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
        )
        return str(made["FunctionArn"])

    def pipe(self, source: str, target: str, **members: Any) -> str:
        """A running pipe's name."""
        name = members.pop("Name", f"p{next(_names)}")
        self.pipes.create_pipe(Name=name, Source=source, Target=target, RoleArn=self.role, **members)
        self.becomes(name, "RUNNING")
        return str(name)

    def becomes(self, name: str, state: str) -> dict[str, Any]:
        """The pipe, once it is so."""

        def is_so() -> bool:
            found.clear()
            found.update(self.pipes.describe_pipe(Name=name))
            return bool(found["CurrentState"] == state)

        found: dict[str, Any] = {}
        eventually(is_so)
        return found

    def send(self, url: str, *bodies: Any) -> None:
        for body in bodies:
            self.sqs.send_message(QueueUrl=url, MessageBody=body if isinstance(body, str) else json.dumps(body))

    def received(self, url: str, many: int = 1) -> list[str]:
        """Bodies, once there are so many."""
        found: list[str] = []

        def enough() -> bool:
            for message in self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
                self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                found.append(message["Body"])
            return len(found) >= many

        eventually(enough)
        return found

    def left(self, url: str) -> tuple[int, int]:
        """Visible messages and those in flight."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return int(found[names[0]]), int(found[names[1]])


@pytest.fixture
def plumber(aws: Account) -> Plumber:
    return Plumber(aws)
