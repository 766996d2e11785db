"""A schedule as the guide tells it: made by the AWS CLI, its day passed by `pilvi clock advance`, its message read by boto3."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from pilvi.testing.up import PILVI, Up

NIGHTLY = ("scheduler", "create-schedule", "--name", "nightly", "--schedule-expression", "cron(30 2 * * ? *)")


def test_a_nightly_schedule(tmp_path: Path) -> None:
    up = Up(tmp_path)
    try:
        aws = up.root
        url = aws.client("sqs").create_queue(QueueName="jobs")["QueueUrl"]
        allow = {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": "*"}
        role = aws.role("clock", "scheduler.amazonaws.com", {"Version": "2012-10-17", "Statement": [allow]})
        target = {
            "RoleArn": role,
            "Arn": f"arn:aws:sqs:us-east-1:{aws.account}:jobs",
            "Input": "train, said <aws.scheduler.scheduled-time>",
        }
        options = ("--schedule-expression-timezone", "Europe/Helsinki", "--flexible-time-window", "Mode=OFF")
        made = aws.cli(*NIGHTLY, *options, "--target", json.dumps(target))
        assert made.returncode == 0, made.stderr
        assert json.loads(made.stdout)["ScheduleArn"].endswith(":schedule/default/nightly")
        command = [PILVI, "clock", "advance", "1d", "--data-dir", str(tmp_path)]
        subprocess.run(command, capture_output=True, check=True, timeout=120)
        (message,) = aws.client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
        assert message["Body"].startswith("train, said ")
        assert message["Body"][-10:] in ("T00:30:00Z", "T23:30:00Z")
        shown = json.loads(aws.cli("scheduler", "get-schedule", "--name", "nightly").stdout)
        assert (shown["ScheduleExpressionTimezone"], shown["State"]) == ("Europe/Helsinki", "ENABLED")
    finally:
        up.stop()
