"""Queues: sends, receives and deletes a second, beside MiniStack, with few and with many messages in the queue.

    python benchmarks/sqs.py [--only pilvi,ministack] [--queued 10,100000] [--seconds 2] [--connections 16]

Pilvi with its default settings: signed, authorised, sealed, each send and each delete synced. Requests are boto3's, signed beforehand.
`send10`, `receive10` and `delete10` are batches of ten; they count messages. `cpu us` is what the server's processes spend on a message.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import servers
from botocore.parsers import ResponseParserError
from load import Result, as_sent, replay
from send import send_small
from tree import cpu_s

BODY = "x" * 256
DELETED = 2000
BATCH = 10
STARTS = {"pilvi": servers.pilvi, "ministack": servers.ministack}


class Figures(NamedTuple):
    result: Result
    each: int
    """Messages in a request."""
    cpu_us: float

    @property
    def per_s(self) -> float:
        return self.result.per_s * self.each


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


def measure(server: servers.Server, queued: int, options: argparse.Namespace, folder: Path) -> dict[str, Figures]:
    sqs: Any = server.client("sqs")
    url = sqs.create_queue(QueueName=f"bench-{queued}", Attributes={"VisibilityTimeout": "3600"})["QueueUrl"]
    fill(sqs, server, url, queued)
    ten = [{"Id": str(n), "MessageBody": BODY} for n in range(BATCH)]
    repeated: dict[str, tuple[Callable[[], None], int]] = {
        "send": (quietly(sqs.send_message, QueueUrl=url, MessageBody=BODY), 1),
        "send10": (quietly(sqs.send_message_batch, QueueUrl=url, Entries=ten), BATCH),
        "receive": (quietly(sqs.receive_message, QueueUrl=url), 1),
        "receive10": (quietly(sqs.receive_message, QueueUrl=url, MaxNumberOfMessages=BATCH), BATCH),
    }
    found: dict[str, Figures] = {}
    for name, (call, each) in repeated.items():
        (request,) = as_sent(sqs, [call])
        found[name] = counted(
            server, each, lambda request=request: replay(server.endpoint, [request], options.connections, options.seconds, folder)
        )
    fill(sqs, server, url, DELETED * 2)
    known = list(handles(sqs, url, DELETED * 2))
    single, batched = known[:DELETED], known[DELETED:]
    deletes = as_sent(sqs, [quietly(sqs.delete_message, QueueUrl=url, ReceiptHandle=handle) for handle in single])
    found["delete"] = counted(server, 1, lambda: send_small(server.endpoint, deletes, options.connections))
    tens = [
        quietly(
            sqs.delete_message_batch,
            QueueUrl=url,
            Entries=[{"Id": str(n), "ReceiptHandle": handle} for n, handle in enumerate(batched[start : start + BATCH])],
        )
        for start in range(0, len(batched), BATCH)
    ]
    deletes = as_sent(sqs, tens)
    found["delete10"] = counted(server, BATCH, lambda: send_small(server.endpoint, deletes, options.connections))
    return found


def counted(server: servers.Server, each: int, load: Callable[[], Result]) -> Figures:
    before_s = cpu_s(server.pid)
    result = load()
    return Figures(result, each, (cpu_s(server.pid) - before_s) / max(1, result.requests * each) * 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="pilvi,ministack")
    parser.add_argument("--queued", default="10,100000")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--connections", type=int, default=16)
    options = parser.parse_args()
    print(f"{'server':<10} {'queued':>9} {'part':<9} {'a second':>9} {'cpu us':>7} {'p50 us':>7} {'p99 us':>7} refused", flush=True)
    for name in options.only.split(","):
        with tempfile.TemporaryDirectory() as folder:
            server = STARTS[name](Path(folder))
            try:
                for queued in map(int, options.queued.split(",")):
                    for part, one in measure(server, queued, options, Path(folder)).items():
                        result = one.result
                        times = f"{result.p50_us:>7} {result.p99_us:>7} {result.refused + result.broken}"
                        print(f"{name:<10} {queued:>9} {part:<9} {one.per_s:>9.0f} {one.cpu_us:>7.0f} {times}", flush=True)
            finally:
                server.stop()


if __name__ == "__main__":
    main()
