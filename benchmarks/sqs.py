"""Queues: sends, receives and deletes a second, beside MiniStack, with few and with many messages in the queue.

    python benchmarks/sqs.py [--only pilvi,ministack] [--queued 10,100000] [--seconds 2] [--connections 16]

Pilvi with its default settings: signed, authorised, sealed, each send and each delete synced. Requests are boto3's, signed beforehand.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import servers
from botocore.parsers import ResponseParserError
from load import Result, as_sent, replay
from send import send_small

BODY = "x" * 256
DELETED = 2000
BATCH = 10
STARTS = {"pilvi": servers.pilvi, "ministack": servers.ministack}


def quietly(call: Any, **arguments: Any) -> Any:
    """A call whose answer is not there, as it is only made to be caught."""

    def made() -> None:
        try:
            call(**arguments)
        except (ResponseParserError, KeyError):
            return

    return made


def fill(sqs: Any, server: servers.Server, url: str, many: int) -> None:
    """Put messages into a queue, in batches over several connections."""
    (request,) = as_sent(
        sqs, [quietly(sqs.send_message_batch, QueueUrl=url, Entries=[{"Id": str(n), "MessageBody": BODY} for n in range(BATCH)])]
    )
    send_small(server.endpoint, (request for _ in range(many // BATCH)), 16)


def handles(sqs: Any, url: str, many: int) -> Iterator[str]:
    """Receipt handles of messages in flight."""
    while many > 0:
        messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=3600).get("Messages", [])
        if not messages:
            return
        for message in messages:
            many -= 1
            yield message["ReceiptHandle"]


def measure(server: servers.Server, queued: int, options: argparse.Namespace, folder: Path) -> dict[str, Result]:
    sqs: Any = server.client("sqs")
    url = sqs.create_queue(QueueName=f"bench-{queued}", Attributes={"VisibilityTimeout": "3600"})["QueueUrl"]
    fill(sqs, server, url, queued)
    (send,) = as_sent(sqs, [quietly(sqs.send_message, QueueUrl=url, MessageBody=BODY)])
    (receive,) = as_sent(sqs, [quietly(sqs.receive_message, QueueUrl=url)])
    found = {"send": replay(server.endpoint, [send], options.connections, options.seconds, folder)}
    found["receive"] = replay(server.endpoint, [receive], options.connections, options.seconds, folder)
    fill(sqs, server, url, DELETED)
    known = list(handles(sqs, url, DELETED))
    deletes = as_sent(sqs, [quietly(sqs.delete_message, QueueUrl=url, ReceiptHandle=handle) for handle in known])
    found["delete"] = send_small(server.endpoint, deletes, options.connections)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="pilvi,ministack")
    parser.add_argument("--queued", default="10,100000")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--connections", type=int, default=16)
    options = parser.parse_args()
    print(f"{'server':<10} {'queued':>9} {'part':<8} {'a second':>9} {'p50 us':>7} {'p99 us':>7} refused")
    for name in options.only.split(","):
        with tempfile.TemporaryDirectory() as folder:
            server = STARTS[name](Path(folder))
            try:
                for queued in map(int, options.queued.split(",")):
                    for part, result in measure(server, queued, options, Path(folder)).items():
                        figures = f"{result.per_s:>9.0f} {result.p50_us:>7} {result.p99_us:>7} {result.refused + result.broken}"
                        print(f"{name:<10} {queued:>9} {part:<8} {figures}")
            finally:
                server.stop()


if __name__ == "__main__":
    main()
