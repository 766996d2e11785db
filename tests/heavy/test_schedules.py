"""Schedules and pipes under kill -9: every schedule reaches the end of its pipe, however often the server is killed in between."""

from __future__ import annotations

import json
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pilvi.testing.server import Account
from pilvi.testing.up import Up

SCHEDULES, SPREAD_S, KILL_EVERY_S, PATIENCE_S = 300, 40, 5.0, 120.0
ALLOW_ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


def test_every_schedule_fires_under_kill_nine(tmp_path: Path) -> None:
    up = Up(tmp_path)
    try:
        first, last = prepare(up.root)
        begin = datetime.now(UTC) + timedelta(seconds=3)
        clock_role = up.root.role("clock", "scheduler.amazonaws.com", ALLOW_ALL)
        for number in range(SCHEDULES):
            due = begin + timedelta(seconds=number * SPREAD_S / SCHEDULES)
            up.root.client("scheduler").create_schedule(
                Name=f"s{number}",
                ScheduleExpression=f"at({due:%Y-%m-%dT%H:%M:%S})",
                FlexibleTimeWindow={"Mode": "OFF"},
                ActionAfterCompletion="DELETE",
                Target={"Arn": first, "RoleArn": clock_role, "Input": str(number)},
            )
        found: Counter[str] = Counter()
        kills, killed_s, began_s = 0, time.monotonic(), time.monotonic()
        while len(found) < SCHEDULES and time.monotonic() - began_s < SPREAD_S + PATIENCE_S:
            collect(up, last, found)
            if time.monotonic() - killed_s > KILL_EVERY_S and time.monotonic() - began_s < SPREAD_S:
                up.kill()
                up = Up(tmp_path)
                kills, killed_s = kills + 1, time.monotonic()
        print(f"{SCHEDULES} schedules, {kills} kills, {sum(found.values()) - len(found)} duplicates")
        assert set(found) == {str(number) for number in range(SCHEDULES)}
        assert kills >= 3
        assert up.root.client("scheduler").list_schedules()["Schedules"] == []
    finally:
        up.stop()


def prepare(root: Account) -> tuple[str, str]:
    """A pipe between two queues: the first one's ARN, the last one's name."""
    sqs = root.client("sqs")
    arns = []
    for name in ("first", "last"):
        url = sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "3"})["QueueUrl"]
        arns.append(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"])
    role = root.role("plumber", "pipes.amazonaws.com", ALLOW_ALL)
    template = {"InputTemplate": "<$.body>"}
    root.client("pipes").create_pipe(Name="p", Source=arns[0], Target=arns[1], RoleArn=role, TargetParameters=template)
    return arns[0], "last"


def collect(up: Up, name: str, found: Counter[str]) -> None:
    sqs: Any = up.root.client("sqs")
    url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
    for message in answer.get("Messages", []):
        sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        found[str(json.loads(message["Body"]))] += 1
