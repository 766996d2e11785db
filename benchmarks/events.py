"""How long events take: from PutObject, called, to the message in the hand of a client that polls a queue; beside MiniStack.

    python benchmarks/events.py [--only pilvi,ministack] [--events 200] [--parts send,queue,topic,bus]

One after the other, with boto3 at both ends, the receiver in a long poll. `send`: SendMessage instead of PutObject. `queue`: the bucket tells
the queue. `topic`: the bucket tells a topic, and that the queue. `bus`: the bucket tells EventBridge, and a rule the queue.
"""

from __future__ import annotations

import argparse
import json
import queue
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import servers
from botocore.exceptions import ClientError

STARTS = {"pilvi": servers.pilvi, "ministack": servers.ministack}
WARM = 10


class Receiver:
    """Polls a queue in a thread, and says when something came."""

    def __init__(self, server: servers.Server, url: str) -> None:
        self._sqs: Any = server.client("sqs")
        self._url = url
        self._came: queue.SimpleQueue[float] = queue.SimpleQueue()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self._thread.start()

    def _poll(self) -> None:
        while not self._ends.is_set():
            found = self._sqs.receive_message(QueueUrl=self._url, WaitTimeSeconds=1, MaxNumberOfMessages=10)
            instant = time.perf_counter()
            for message in found.get("Messages", ()):
                if "s3:TestEvent" not in message["Body"]:
                    self._came.put(instant)
                self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])

    def next(self) -> float:
        return self._came.get(timeout=30)

    def stop(self) -> None:
        self._ends.set()
        self._thread.join()


def new_queue(server: servers.Server, name: str) -> tuple[str, str]:
    """URL and ARN; every service may send to it."""
    sqs: Any = server.client("sqs")
    url: str = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn: str = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": open_to_services("sqs:SendMessage", arn)})
    return url, arn


def open_to_services(action: str, resource: str) -> str:
    services = [f"{name}.amazonaws.com" for name in ("s3", "sns", "events")]
    allow = {"Effect": "Allow", "Principal": {"Service": services}, "Action": action, "Resource": resource}
    return json.dumps({"Version": "2012-10-17", "Statement": [allow]})


def prepare(server: servers.Server, part: str) -> tuple[str, Callable[[int], object]]:
    """The queue's URL, and what makes an event."""
    url, arn = new_queue(server, f"bench-{part}")
    if part == "send":
        sqs: Any = server.client("sqs")
        return url, lambda number: sqs.send_message(QueueUrl=url, MessageBody=str(number))
    s3: Any = server.client("s3")
    bucket = f"bench-events-{part}"
    s3.create_bucket(Bucket=bucket)
    told = {"Events": ["s3:ObjectCreated:*"]}
    wanted: dict[str, Any]
    if part == "queue":
        wanted = {"QueueConfigurations": [{"QueueArn": arn, **told}]}
    elif part == "topic":
        sns: Any = server.client("sns")
        topic = sns.create_topic(Name="bench")["TopicArn"]
        sns.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=open_to_services("sns:Publish", topic))
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
        wanted = {"TopicConfigurations": [{"TopicArn": topic, **told}]}
    else:
        events: Any = server.client("events")
        events.put_rule(Name="bench", EventPattern=json.dumps({"source": ["aws.s3"], "detail": {"bucket": {"name": [bucket]}}}))
        events.put_targets(Rule="bench", Targets=[{"Id": "queue", "Arn": arn}])
        wanted = {"EventBridgeConfiguration": {}}
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=wanted)
    return url, lambda number: s3.put_object(Bucket=bucket, Key=f"key{number}", Body=b"x" * 1024)


def measure(server: servers.Server, part: str, many: int) -> list[float]:
    """Milliseconds."""
    url, cause = prepare(server, part)
    receiver = Receiver(server, url)
    found: list[float] = []
    try:
        for number in range(many + WARM):
            began = time.perf_counter()
            cause(number)
            found.append((receiver.next() - began) * 1000)
            time.sleep(0.005)  # the receiver polls again
    finally:
        receiver.stop()
    return sorted(found[WARM:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="pilvi,ministack")
    parser.add_argument("--parts", default="send,queue,topic,bus")
    parser.add_argument("--events", type=int, default=200)
    options = parser.parse_args()
    print(f"{'server':<10} {'part':<6} {'p50 ms':>8} {'p99 ms':>8}", flush=True)
    for name in options.only.split(","):
        with tempfile.TemporaryDirectory() as folder:
            server = STARTS[name](Path(folder))
            try:
                for part in options.parts.split(","):
                    try:
                        found = measure(server, part, options.events)
                    except (ClientError, queue.Empty) as error:
                        print(f"{name:<10} {part:<6} {error!r}", flush=True)
                        continue
                    print(
                        f"{name:<10} {part:<6} {statistics.median(found):>8.2f} {found[int(len(found) * 0.99)]:>8.2f}", flush=True
                    )
            finally:
                server.stop()


if __name__ == "__main__":
    main()
