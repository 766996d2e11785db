"""Facts in NATS JetStream: kill -9 of the server, of NATS, of both; what was acknowledged is told, and the server says what is wrong."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pilvi.cli.main import main
from pilvi.testing.peers import Missing, Nats
from pilvi.testing.server import eventually
from pilvi.testing.up import Up

BUCKET = "told-by-nats"


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[Nats]:
    try:
        running = Nats(tmp_path / "nats")
    except Missing as error:
        pytest.skip(str(error))
    yield running
    running.kill()


def prepared(server: Up) -> str:
    s3, sqs = server.root.client("s3"), server.root.client("sqs")
    s3.create_bucket(Bucket=BUCKET)
    url: str = sqs.create_queue(QueueName="told", Attributes={"VisibilityTimeout": "600"})["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    allow = {"Effect": "Allow", "Principal": {"Service": "s3.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": arn}
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps({"Version": "2012-10-17", "Statement": [allow]})})
    notify = {"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]}
    s3.put_bucket_notification_configuration(Bucket=BUCKET, NotificationConfiguration=notify)
    return "told"


def put(server: Up, first: int, many: int = 25) -> set[str]:
    s3 = server.root.client("s3")
    for number in range(first, first + many):
        s3.put_object(Bucket=BUCKET, Key=f"k{number:04}", Body=b"x")
    return {f"k{number:04}" for number in range(first, first + many)}


def arrived(server: Up, found: list[str]) -> list[str]:
    """Adds keys that the queue has been told of."""
    sqs: Any = server.root.client("sqs")
    url = sqs.get_queue_url(QueueName="told")["QueueUrl"]
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            found += [record["s3"]["object"]["key"] for record in json.loads(message["Body"]).get("Records", ())]
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return found


def said(server: Up) -> dict[str, Any]:
    with urllib.request.urlopen(f"{server.endpoint}/_pilvi/health", timeout=10) as answer:
        told: dict[str, Any] = json.loads(answer.read())["events"]
    return told


def test_facts_in_nats_outlive_kills_of_either_side(up: Callable[..., Up], nats: Nats, capsys: pytest.CaptureFixture[str]) -> None:
    server = up("--events", nats.url)
    prepared(server)
    found: list[str] = []
    wanted = put(server, 0)
    eventually(lambda: set(arrived(server, found)) == wanted, within_s=60)
    assert sorted(found) == sorted(wanted)
    assert said(server) == {"log": "nats", "server": nats.url, "outbox": 0, "dead": 0}

    nats.kill()
    wanted |= put(server, 100)  # the write waits for nobody
    eventually(lambda: "away" in said(server))
    assert said(server)["outbox"] == 25
    assert main(["status", "--data-dir", str(server.data_dir)]) == 0
    assert f"events  nats  {nats.url}  AWAY since" in capsys.readouterr().out
    assert main(["events", "--data-dir", str(server.data_dir)]) == 0
    assert "facts wait in the outbox (25)" in capsys.readouterr().out
    assert set(arrived(server, found)) < wanted
    nats.start()
    eventually(lambda: set(arrived(server, found)) == wanted, within_s=60)
    assert "away" not in said(server)

    wanted |= put(server, 200)
    server.kill()
    server = up("--events", nats.url)
    eventually(lambda: set(arrived(server, found)) == wanted, within_s=60)

    nats.kill()
    wanted |= put(server, 300)
    server.kill()
    server = up("--events", nats.url)  # starts without NATS
    assert server.ready_line
    eventually(lambda: "away" in said(server))
    nats.start()
    eventually(lambda: set(arrived(server, found)) == wanted, within_s=60)
    assert len(found) < 2 * len(wanted)
    eventually(lambda: said(server)["outbox"] == 0)


def test_facts_of_the_outbox_are_told_without_nats_too(up: Callable[..., Up], nats: Nats) -> None:
    """Who gives NATS up loses what lies in it, but not what lies in the outbox."""
    server = up("--events", nats.url)
    prepared(server)
    nats.kill()
    wanted = put(server, 0)
    server.stop()
    server = up()
    found: list[str] = []
    eventually(lambda: set(arrived(server, found)) == wanted, within_s=60)
