"""Receiving, through boto3."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from botocore.config import Config as ClientConfig
from botocore.exceptions import ReadTimeoutError

from pilvi.core.service import Context
from pilvi.services.sqs import receive as receiving
from pilvi.services.sqs.engine import engine_of
from pilvi.testing.server import Account, eventually
from tests.services.sqs.test_message import bodies, new_queue

Refusal = Callable[..., tuple[str, str]]


def send(aws: Account, url: str, *texts: str, **options: Any) -> None:
    for text in texts:
        aws.client("sqs").send_message(QueueUrl=url, MessageBody=text, **options)


def receive(aws: Account, url: str, many: int = 10, **options: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (
        aws.client("sqs")
        .receive_message(QueueUrl=url, MaxNumberOfMessages=many, AttributeNames=["All"], **options)
        .get("Messages", [])
    )
    return found


def test_receive_message_again_after_the_timeout(later_aws: Account, passes: Callable[[float], None]) -> None:
    url = new_queue(later_aws, VisibilityTimeout="60")
    send(later_aws, url, "x")
    assert bodies(later_aws, url) == ["x"]
    passes(59)
    assert bodies(later_aws, url) == []
    passes(2)
    (message,) = receive(later_aws, url)
    assert message["Attributes"]["ApproximateReceiveCount"] == "2"
    assert int(message["Attributes"]["ApproximateFirstReceiveTimestamp"]) >= int(message["Attributes"]["SentTimestamp"])


def test_receive_message_not_before_its_delay(later_aws: Account, passes: Callable[[float], None]) -> None:
    url = new_queue(later_aws, DelaySeconds="30", VisibilityTimeout="3600")
    send(later_aws, url, "queue")
    send(later_aws, url, "own", DelaySeconds=600)
    send(later_aws, url, "now", DelaySeconds=0)
    assert bodies(later_aws, url) == ["now"]
    passes(31)
    assert bodies(later_aws, url) == ["queue"]
    passes(570)
    assert "own" in bodies(later_aws, url)


def test_receive_message_not_after_retention(later_aws: Account, passes: Callable[[float], None]) -> None:
    sqs, url = later_aws.client("sqs"), new_queue(later_aws, MessageRetentionPeriod="60")
    send(later_aws, url, "old")
    passes(50)
    send(later_aws, url, "new")
    passes(20)
    assert bodies(later_aws, url) == ["new"]
    passes(3600)
    counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert counts["ApproximateNumberOfMessages"] == "0"


def test_receive_message_wakes_when_a_message_comes(aws: Account) -> None:
    url = new_queue(aws, ReceiveMessageWaitTimeSeconds="20")
    found: list[tuple[list[str], float]] = []

    def wait() -> None:
        begun = time.monotonic()
        found.append((bodies(aws, url, 1), time.monotonic() - begun))

    waiting = threading.Thread(target=wait)
    waiting.start()
    sent = aws.client("sqs", region="us-east-1")
    waiting.join(0.3)
    sent.send_message(QueueUrl=url, MessageBody="come")
    waiting.join(10)
    assert found[0][0] == ["come"]
    assert found[0][1] < 5


def test_receive_message_waits_no_longer_than_told(aws: Account) -> None:
    url = new_queue(aws)
    begun = time.monotonic()
    assert bodies(aws, url, WaitTimeSeconds=1) == []
    assert 0.9 < time.monotonic() - begun < 5


def test_receive_message_while_it_waits_a_message_becomes_visible(later_aws: Account, passes: Callable[[float], None]) -> None:
    url = new_queue(later_aws)
    send(later_aws, url, "late", DelaySeconds=900)
    found: list[list[str]] = []
    waiting = threading.Thread(target=lambda: found.append(bodies(later_aws, url, WaitTimeSeconds=20)))
    waiting.start()
    waiting.join(0.2)
    passes(901)
    waiting.join(10)
    assert found == [["late"]]


def test_receive_message_of_a_deleted_queue_ends_the_wait(aws: Account) -> None:
    sqs, url = aws.client("sqs"), new_queue(aws)
    failed: list[str] = []

    def wait() -> None:
        try:
            sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20)
        except sqs.exceptions.QueueDoesNotExist:
            failed.append("gone")

    waiting = threading.Thread(target=wait)
    waiting.start()
    waiting.join(0.3)
    sqs.delete_queue(QueueUrl=url)
    waiting.join(10)
    assert failed == ["gone"]


@pytest.mark.parametrize(
    "options",
    [
        {"MaxNumberOfMessages": 0},
        {"MaxNumberOfMessages": 11},
        {"VisibilityTimeout": 43201},
        {"WaitTimeSeconds": 21},
        {"AttributeNames": ["Nothing"]},
        {"ReceiveRequestAttemptId": "a"},
    ],
)
def test_receive_message_refuses(aws: Account, refusal: Refusal, options: dict[str, Any]) -> None:
    code, _ = refusal(aws.client("sqs").receive_message, QueueUrl=new_queue(aws), **options)
    assert code == "InvalidParameterValue"


def test_receive_message_over_the_limit(server: Any, aws: Account, refusal: Refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    from pilvi.services.sqs import receive as module

    monkeypatch.setattr(module, "IN_FLIGHT", 3)
    url, fifo = new_queue(aws), new_queue(aws, "f.fifo", ContentBasedDeduplication="true")
    send(aws, url, *"abcd")
    assert len(bodies(aws, url)) == 3
    assert refusal(aws.client("sqs").receive_message, QueueUrl=url)[0] == "OverLimit"
    assert bodies(aws, url, WaitTimeSeconds=1) == []
    for text in "abcd":
        send(aws, fifo, text, MessageGroupId=text)
    assert len(bodies(aws, fifo)) == 3
    assert bodies(aws, fifo) == []


# -- FIFO -----------------------------------------------------------------------------------------------------------------


def test_receive_message_in_the_order_of_each_group(aws: Account) -> None:
    sqs, url = aws.client("sqs"), new_queue(aws, "order.fifo", ContentBasedDeduplication="true")
    for number in range(6):
        for group in "ab":
            send(aws, url, f"{group}{number}", MessageGroupId=group)
    seen: dict[str, list[str]] = {"a": [], "b": []}
    while messages := receive(aws, url, 3):
        groups = {message["Attributes"]["MessageGroupId"] for message in messages}
        others = receive(aws, url, 3)
        assert not groups & {message["Attributes"]["MessageGroupId"] for message in others}
        for message in (*messages, *others):
            seen[message["Attributes"]["MessageGroupId"]].append(message["Body"])
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    assert seen == {group: [f"{group}{number}" for number in range(6)] for group in "ab"}


def test_receive_message_of_a_group_waits_for_those_in_flight(aws: Account) -> None:
    sqs, url = aws.client("sqs"), new_queue(aws, "flight.fifo", ContentBasedDeduplication="true")
    send(aws, url, "1", "2", "3", MessageGroupId="g")
    first, second = receive(aws, url, 2)
    assert receive(aws, url) == []
    sqs.delete_message(QueueUrl=url, ReceiptHandle=second["ReceiptHandle"])
    assert receive(aws, url) == []
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=first["ReceiptHandle"], VisibilityTimeout=0)
    again = receive(aws, url)
    assert [message["Body"] for message in again] == ["1", "3"]
    assert [int(message["Attributes"]["SequenceNumber"]) for message in again] == sorted(
        int(message["Attributes"]["SequenceNumber"]) for message in again
    )
    assert again[0]["Attributes"]["MessageDeduplicationId"]


def test_receive_message_again_by_attempt_id(aws: Account) -> None:
    sqs, url = aws.client("sqs"), new_queue(aws, "attempt.fifo", ContentBasedDeduplication="true")
    send(aws, url, "1", "2", MessageGroupId="g")
    first = receive(aws, url, 1, ReceiveRequestAttemptId="try")
    again = receive(aws, url, 1, ReceiveRequestAttemptId="try")
    assert [m["ReceiptHandle"][:0] + m["Body"] for m in again] == [m["Body"] for m in first] == ["1"]
    assert again[0]["Attributes"]["ApproximateReceiveCount"] == "1"
    sqs.delete_message(QueueUrl=url, ReceiptHandle=again[0]["ReceiptHandle"])
    assert [m["Body"] for m in receive(aws, url, 1, ReceiveRequestAttemptId="try")] == ["2"]


def test_receive_message_of_long_queues_in_pages(aws: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    from pilvi.services.sqs import live as module

    monkeypatch.setattr(module, "WINDOW", 20)
    monkeypatch.setattr(module, "PAGE", 7)
    sqs = aws.client("sqs")
    for url in (new_queue(aws), new_queue(aws, "long.fifo", ContentBasedDeduplication="true")):
        extra = {"MessageGroupId": "g"} if url.endswith(".fifo") else {}
        for start in range(0, 100, 10):
            entries = [{"Id": str(n), "MessageBody": f"{n:03}", **extra} for n in range(start, start + 10)]
            sqs.send_message_batch(QueueUrl=url, Entries=entries)
        counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        assert counts["ApproximateNumberOfMessages"] == "100"
        seen = []
        while messages := receive(aws, url):
            seen += [message["Body"] for message in messages]
            sqs.delete_message_batch(
                QueueUrl=url,
                Entries=[{"Id": str(n), "ReceiptHandle": m["ReceiptHandle"]} for n, m in enumerate(messages)],
            )
        assert seen == [f"{n:03}" for n in range(100)]


def hang_up(server: Any, account: Account, url: str) -> None:
    """A long poll whose client vanishes while it waits."""
    sqs = account.client("sqs", config=ClientConfig(retries={"total_max_attempts": 1}, read_timeout=0.3))
    with pytest.raises(ReadTimeoutError):
        sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20)
    sqs.close()
    eventually(lambda: not any(live.is_awaited for live in engine_of(server.cloud).lives.values() if live.queue.name in url))


@pytest.mark.parametrize("fifo", [False, True])
def test_receive_message_of_a_vanished_client_hides_nothing(server: Any, aws: Account, fifo: bool) -> None:
    sqs = aws.client("sqs")
    extra = {"FifoQueue": "true", "ContentBasedDeduplication": "true"} if fifo else {}
    url = sqs.create_queue(QueueName="poll.fifo" if fifo else "poll", Attributes=extra)["QueueUrl"]
    hang_up(server, aws, url)
    sqs.send_message(QueueUrl=url, MessageBody="here", **({"MessageGroupId": "g"} if fifo else {}))
    (message,) = sqs.receive_message(QueueUrl=url, AttributeNames=["All"])["Messages"]
    assert message["Attributes"]["ApproximateReceiveCount"] == "1"


def test_receive_message_of_a_client_that_vanishes_as_it_is_answered(server: Any, aws: Account, monkeypatch: Any) -> None:
    """The message was taken already, and nobody gets the answer: it is visible again, as if never received."""
    url = new_queue(aws)
    send(aws, url, "one", "two")

    async def told(ctx: Context, *arguments: Any) -> Any:
        messages = await real(ctx, *arguments)
        assert ctx.request is not None
        ctx.request.leave()
        return messages

    real = receiving._told
    with monkeypatch.context() as patch:
        patch.setattr(receiving, "_told", told)
        assert bodies(aws, url, 10) == []
    messages = aws.client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10, AttributeNames=["All"])["Messages"]
    assert sorted(message["Body"] for message in messages) == ["one", "two"]
    assert {message["Attributes"]["ApproximateReceiveCount"] for message in messages} == {"1"}


def test_receive_message_that_is_cut_short_hides_nothing(server: Any, aws: Account, monkeypatch: Any) -> None:
    """A poller of the server's own may be ended while a message of its is being opened."""
    url = new_queue(aws)
    send(aws, url, "one")
    ctx = server.cloud.context(server.cloud.identities.find(aws.access_key_id, None).principal, "lambda")

    async def told(*_: Any) -> Any:
        await asyncio.Event().wait()

    async def poll() -> None:
        async with asyncio.timeout(0.05):
            await ctx.acall("sqs", "ReceiveMessage", QueueUrl=url)

    with monkeypatch.context() as patch:
        patch.setattr(receiving, "_told", told)
        with pytest.raises(TimeoutError):
            asyncio.run_coroutine_threadsafe(poll(), server.cloud.dispatcher.loop).result(10)
    (message,) = aws.client("sqs").receive_message(QueueUrl=url, AttributeNames=["All"])["Messages"]
    assert message["Attributes"]["ApproximateReceiveCount"] == "1"
