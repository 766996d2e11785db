"""Pipes of a server that was killed: they go on, and nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path

from pilvi.testing.server import eventually
from pilvi.testing.up import Up
from tests.services.pipes.conftest import Plumber


def test_a_pipe_goes_on_after_a_kill(tmp_path: Path) -> None:
    up = Up(tmp_path)
    before = Plumber(up.root)
    (source_url, source), (target_url, target) = before.queue("from", VisibilityTimeout="2"), before.queue("to")
    name = before.pipe(source, target, TargetParameters={"InputTemplate": "<$.body>"})
    before.pipe(target, before.queue("end")[1], Name="other", SourceParameters={"SqsQueueParameters": {"BatchSize": 1}})
    before.pipes.stop_pipe(Name="other")
    before.becomes("other", "STOPPED")
    wanted = {json.dumps({"n": number}) for number in range(60)}
    for text in wanted:
        before.send(source_url, text)
    up.kill()
    again = Up(tmp_path)
    try:
        after = Plumber.__new__(Plumber)
        after.account, after.pipes, after.sqs = again.root, again.root.client("pipes"), again.root.client("sqs")
        found: set[str] = set()

        def all_there() -> bool:
            for message in after.sqs.receive_message(QueueUrl=_moved(target_url, up, again), MaxNumberOfMessages=10).get(
                "Messages", []
            ):
                found.add(message["Body"])
            return found == wanted

        eventually(all_there)
        assert after.pipes.describe_pipe(Name=name)["CurrentState"] == "RUNNING"
        assert after.pipes.describe_pipe(Name="other")["CurrentState"] == "STOPPED"
    finally:
        again.stop()


def _moved(url: str, before: Up, after: Up) -> str:
    return url.replace(before.endpoint, after.endpoint)
