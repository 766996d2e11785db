"""kill -9 while messages are sent and received: what was acknowledged is received, what was deleted stays away."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from pilvi.testing.up import Up

MESSAGES = 1000
SENDERS = 16


def client_of(server: Up) -> Any:
    return server.root.client("sqs", config=Config(max_pool_connections=SENDERS, retries={"total_max_attempts": 1}))


def drained(sqs: Any, url: str) -> dict[str, list[str]]:
    """Every message that is there, by body, with its receipt handles."""
    found: dict[str, list[str]] = {}
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=600).get("Messages"):
        for message in messages:
            found.setdefault(message["Body"], []).append(message["ReceiptHandle"])
    return found


def test_a_thousand_messages_outlive_a_kill(up: Callable[..., Up]) -> None:
    server = up()
    sqs = client_of(server)
    for name, attributes in (("jobs", {}), ("jobs.fifo", {"FifoQueue": "true"})):
        url = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        for start in range(0, MESSAGES, 10):
            extra = [
                {"MessageGroupId": f"g{start % 7}", "MessageDeduplicationId": str(start + n)} if attributes else {}
                for n in range(10)
            ]
            entries = [{"Id": str(n), "MessageBody": f"{start + n:04}", **extra[n]} for n in range(10)]
            assert len(sqs.send_message_batch(QueueUrl=url, Entries=entries)["Successful"]) == 10
    server.kill()
    server = up()
    sqs = client_of(server)
    wanted = {f"{n:04}" for n in range(MESSAGES)}
    url = sqs.get_queue_url(QueueName="jobs")["QueueUrl"]
    found = drained(sqs, url)
    assert set(found) == wanted
    assert all(len(handles) == 1 for handles in found.values())
    fifo = sqs.get_queue_url(QueueName="jobs.fifo")["QueueUrl"]
    seen: list[str] = []
    again = sqs.send_message(QueueUrl=fifo, MessageBody="twice", MessageGroupId="g0", MessageDeduplicationId="5")
    assert again["MessageId"]
    while messages := sqs.receive_message(QueueUrl=fifo, MaxNumberOfMessages=10, AttributeNames=["All"]).get("Messages"):
        seen += [message["Body"] for message in messages]
        entries = [{"Id": str(n), "ReceiptHandle": message["ReceiptHandle"]} for n, message in enumerate(messages)]
        assert len(sqs.delete_message_batch(QueueUrl=fifo, Entries=entries)["Successful"]) == len(entries)
    assert sorted(seen) == sorted(wanted)
    for group in range(7):
        mine = [body for body in seen if (int(body) // 10 * 10) % 7 == group]
        assert mine == sorted(mine)


def test_what_was_acknowledged_while_it_was_killed(up: Callable[..., Up]) -> None:
    server = up()
    sqs = client_of(server)
    url = sqs.create_queue(QueueName="busy")["QueueUrl"]
    sent: set[str] = set()
    begun: set[str] = set()
    deleted: set[str] = set()
    enough = threading.Event()

    def work(number: int) -> None:
        for turn in range(MESSAGES):
            body = f"{number}-{turn}"
            try:
                sqs.send_message(QueueUrl=url, MessageBody=body)
                sent.add(body)
                if turn % 3 == 0:
                    for message in sqs.receive_message(QueueUrl=url).get("Messages", ()):
                        begun.add(message["Body"])
                        sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                        deleted.add(message["Body"])
            except (BotoCoreError, ClientError):
                return
            if len(sent) >= 300:
                enough.set()

    with ThreadPoolExecutor(SENDERS) as pool:
        working = [pool.submit(work, number) for number in range(SENDERS)]
        assert enough.wait(60)
        server.kill()
        for one in working:
            one.result()
    server = up()
    sqs = client_of(server)
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "0"})
    server.stop()
    server = up()  # and once more, in peace
    sqs = client_of(server)
    found = set(drained(sqs, url))
    hidden = begun - deleted
    assert sent - begun <= found
    assert not deleted & found
    assert found <= sent | hidden | {body for body in found if body not in sent}
