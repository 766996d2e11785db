"""Queues that let EventBridge in, and what arrives in them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pilvi.testing.server import Account, TestServer, eventually

REGION = "us-east-1"


class Queue:
    """A queue of an account, as the end of a rule."""

    def __init__(self, account: Account, name: str, *, is_open: bool = True, **attributes: str) -> None:
        self.sqs = account.client("sqs")
        self.arn = f"arn:aws:sqs:{REGION}:{account.account}:{name}"
        self.url = self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        if is_open:
            self.let_in()

    def let_in(self, service: str = "events.amazonaws.com") -> None:
        statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sqs:SendMessage", "Resource": self.arn}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self.sqs.set_queue_attributes(QueueUrl=self.url, Attributes={"Policy": policy})

    def messages(self, count: int = 1) -> list[dict[str, Any]]:
        """So many messages, taken out."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            answer = self.sqs.receive_message(
                QueueUrl=self.url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], AttributeNames=["All"]
            )
            for message in answer.get("Messages", ()):
                found.append(message)
                self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
            return len(found) >= count

        eventually(look)
        return found

    def bodies(self, count: int = 1) -> list[Any]:
        return [json.loads(message["Body"]) for message in self.messages(count)]

    def is_empty(self) -> bool:
        return not self.sqs.receive_message(QueueUrl=self.url).get("Messages")


@pytest.fixture
def queue(aws: Account) -> Queue:
    return Queue(aws, "ends")


@pytest.fixture
def events(aws: Account) -> Any:
    return aws.client("events")


@pytest.fixture
def rule(events: Any) -> Callable[..., str]:
    """Makes a rule with targets; gives its ARN."""

    def make(pattern: Mapping[str, Any] | None, *targets: Mapping[str, Any], name: str = "r", **more: Any) -> str:
        if pattern is not None:
            more["EventPattern"] = json.dumps(pattern)
        arn: str = events.put_rule(Name=name, **more)["RuleArn"]
        bus = {"EventBusName": more["EventBusName"]} if "EventBusName" in more else {}
        if targets:
            given = [{"Id": str(number), **target} for number, target in enumerate(targets)]
            assert events.put_targets(Rule=name, Targets=given, **bus)["FailedEntryCount"] == 0
        return arn

    return make


def entry(detail: Any = None, source: str = "shop", detail_type: str = "sale", **more: Any) -> dict[str, Any]:
    return {"Source": source, "DetailType": detail_type, "Detail": json.dumps(detail if detail is not None else {}), **more}


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[tuple[TestServer, Account]]:
    """A server whose clock may be moved, and an account there."""
    with TestServer(tmp_path) as running:
        yield running, running.account("200000000001")
