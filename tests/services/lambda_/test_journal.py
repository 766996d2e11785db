"""Logs: what reaches CloudWatch, and in which order."""

from __future__ import annotations

import json
import re
from collections import deque

from pilvi.services.lambda_.journal import take_batch
from pilvi.testing.server import eventually

SPEAK = """
import logging, subprocess, sys
print("loaded")
def handler(event, context):
    print("one\\ttab")
    print("two", end="")
    sys.stderr.write("\\nthree\\n")
    subprocess.run(["echo", "from a child"])
    logging.getLogger().setLevel("INFO")
    logging.info("a\\nb")
    if event == "fail":
        raise KeyError("features")
"""


def events(logs, group: str, wanted: int) -> list[str]:
    def found() -> list[str] | None:
        try:
            messages = [item["message"] for item in logs.filter_log_events(logGroupName=group, limit=1000)["events"]]
        except logs.exceptions.ResourceNotFoundException:
            return None
        return messages if sum(message.startswith("REPORT") for message in messages) >= wanted else None

    return eventually(found)


def test_logs_hold_what_a_function_says(lab):
    lab.grant("logs", "logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents")
    lab.create("speaking", SPEAK)
    lab.invoke("speaking")
    lab.failure("speaking", "fail")
    logs = lab.account.client("logs")
    found = events(logs, "/aws/lambda/speaking", 2)
    kinds = [re.split(r"[ \n]", message)[0] for message in found]
    assert kinds[:2] == ["INIT_START", "loaded"]
    assert kinds[2:10] == [
        "START",
        "one\ttab",
        "two",
        "three",
        "from",
        "[INFO]\t" + found[7].split("\t")[1] + "\t" + found[7].split("\t")[2] + "\ta",
        "END",
        "REPORT",
    ]
    assert found[7].endswith("\ta\nb\n")
    assert "Init Duration: " in found[9]
    assert found[10].startswith("START")
    error = next(message for message in found if message.startswith("[ERROR]"))
    assert error.startswith("[ERROR] KeyError: 'features'\nTraceback (most recent call last):\n")
    assert "Init Duration" not in found[-1]
    streams = logs.describe_log_streams(logGroupName="/aws/lambda/speaking")["logStreams"]
    assert len(streams) == 1
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", streams[0]["logStreamName"])


def test_no_logs_without_permission_but_answers(new_lab):
    lab = new_lab()
    lab.create("silent", SPEAK)
    lab.invoke("silent")
    assert lab.account.client("logs").describe_log_groups()["logGroups"] == []
    lab.grant("logs", "logs:*")
    lab.invoke("silent")
    assert events(lab.account.client("logs"), "/aws/lambda/silent", 1)


def test_logs_go_where_the_settings_say_as_json(lab):
    lab.grant("logs", "logs:*")
    code = "import logging\ndef handler(event, context): logging.getLogger().info('structured')"
    lab.create("structured", code, LoggingConfig={"LogFormat": "JSON", "LogGroup": "/my/group"})
    assert lab.client.get_function_configuration(FunctionName="structured")["LoggingConfig"]["ApplicationLogLevel"] == "INFO"
    lab.invoke("structured")
    logs = lab.account.client("logs")

    def found() -> list[dict[str, object]] | None:
        try:
            messages = [json.loads(item["message"]) for item in logs.filter_log_events(logGroupName="/my/group")["events"]]
        except logs.exceptions.ResourceNotFoundException:
            return None
        return messages if any(message.get("type") == "platform.report" for message in messages) else None

    messages = eventually(found)
    assert [message["type"] for message in messages if "type" in message] == [
        "platform.initStart",
        "platform.start",
        "platform.report",
    ]
    assert next(message["message"] for message in messages if "level" in message) == "structured"


def test_take_batch_stays_within_what_logs_take():
    waiting = deque([(1, "x" * 200_000)] * 7 + [(0, "late"), (2, ""), (3, lambda: "computed")])
    sizes = []
    while batch := take_batch(waiting):
        sizes.append(sum(len(event["message"]) for event in batch))
        stamps = [event["timestamp"] for event in batch]
        assert stamps == sorted(stamps)
    assert all(size <= 1_048_576 for size in sizes)
    assert sum(sizes) == 1_400_012
    waiting = deque([(1, "y" * 300_000)])
    assert len(take_batch(waiting)[0]["message"]) < 262_144
