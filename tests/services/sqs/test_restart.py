"""A server that stops and starts again: queues are as they were."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from pilvi.testing.server import Account, TestServer, eventually
from tests.services.sqs.test_message import bodies, new_queue
from tests.services.sqs.test_message_move_task import arn_of, with_dead_letters
from tests.services.sqs.test_receive import receive, send

ACCOUNT = "630000000001"


def moved(aws: Account, url: str) -> str:
    """A queue's URL at another server."""
    return f"{aws.endpoint}/{'/'.join(url.split('/')[3:])}"


def test_messages_receives_and_handles_outlive_a_restart(tmp_path: Path) -> None:
    with TestServer(tmp_path) as first:
        aws = first.account(ACCOUNT)
        url = new_queue(aws, VisibilityTimeout="600")
        fifo = new_queue(aws, "f.fifo", VisibilityTimeout="600", ContentBasedDeduplication="true")
        send(aws, url, "flying", "x" * 9000)
        send(aws, url, "late", DelaySeconds=900)
        send(aws, fifo, "1", "2", MessageGroupId="g")
        (message, large) = receive(aws, url)
        (head,) = receive(aws, fifo, 1)
        aws.client("sqs").change_message_visibility(QueueUrl=url, ReceiptHandle=large["ReceiptHandle"], VisibilityTimeout=0)
    with TestServer(tmp_path) as second:
        aws = second.account(ACCOUNT)
        sqs, url, fifo = aws.client("sqs"), moved(aws, url), moved(aws, fifo)
        assert bodies(aws, fifo) == []
        assert bodies(aws, url) == ["x" * 9000]
        counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        assert counts["ApproximateNumberOfMessagesDelayed"] == "1"
        assert counts["ApproximateNumberOfMessagesNotVisible"] == "2"
        sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0)
        (again,) = receive(aws, url)
        assert (again["Body"], again["Attributes"]["ApproximateReceiveCount"]) == ("flying", "2")
        sqs.delete_message(QueueUrl=url, ReceiptHandle=again["ReceiptHandle"])
        sqs.delete_message(QueueUrl=fifo, ReceiptHandle=head["ReceiptHandle"])
        assert bodies(aws, fifo) == ["2"]
        sent = sqs.send_message(QueueUrl=fifo, MessageBody="2", MessageGroupId="g")
        assert sent["SequenceNumber"] == receive_number(aws, fifo, head)
    with TestServer(tmp_path) as third:
        aws = third.account(ACCOUNT)
        counts = aws.client("sqs").get_queue_attributes(QueueUrl=moved(aws, url), AttributeNames=["All"])["Attributes"]
        assert counts["ApproximateNumberOfMessagesNotVisible"] == "1"


def receive_number(aws: Account, fifo: str, head: dict[str, object]) -> str:
    """The sequence number of the message "2", which is in flight: told when it is sent again within five minutes."""
    again = aws.client("sqs").send_message(QueueUrl=fifo, MessageBody="2", MessageGroupId="g")
    assert int(again["SequenceNumber"]) > int(head["Attributes"]["SequenceNumber"])  # type: ignore[index]
    return str(again["SequenceNumber"])


def test_move_tasks_and_purges_go_on_after_a_restart(tmp_path: Path) -> None:
    with TestServer(tmp_path) as first:
        aws = first.account(ACCOUNT)
        source, dead = with_dead_letters(aws)
        send(aws, dead, *"abcde")
        sqs = aws.client("sqs")
        sqs.start_message_move_task(SourceArn=arn_of(aws, dead), DestinationArn=arn_of(aws, source), MaxNumberOfMessagesPerSecond=1)
        other = new_queue(aws, "purged")
        send(aws, other, "x")
        sqs.purge_queue(QueueUrl=other)
    with TestServer(tmp_path) as second:
        aws = second.account(ACCOUNT)
        sqs, source, dead = aws.client("sqs"), moved(aws, source), moved(aws, dead)

        def status() -> str:
            return str(sqs.list_message_move_tasks(SourceArn=arn_of(aws, dead))["Results"][0]["Status"])

        eventually(lambda: status() == "COMPLETED")
        counts = sqs.get_queue_attributes(QueueUrl=source, AttributeNames=["All"])["Attributes"]
        assert counts["ApproximateNumberOfMessages"] == "5"
        assert bodies(aws, dead) == []
        eventually(lambda: not second.cloud.store.tables(service="sqsjobs", noun="Trash"))


def test_a_stop_answers_who_waits(tmp_path: Path) -> None:
    answers: list[object] = []
    with TestServer(tmp_path) as server:
        aws = server.account(ACCOUNT)
        sqs, url = aws.client("sqs"), new_queue(aws)
        waiting = threading.Thread(target=lambda: answers.append(sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20)))
        waiting.start()
        waiting.join(0.3)
        begun = time.monotonic()
    waiting.join(10)
    assert time.monotonic() - begun < 8
    assert len(answers) == 1
