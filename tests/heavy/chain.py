"""`make chain`: uploads go from S3 over a topic to two queues, from each to a function, and from there to S3 again, while the server is
killed again and again; then every acknowledged upload is looked for at both ends, and duplicates are counted.

    CHAIN_UPLOADS (10000)    CHAIN_SECONDS (180)    CHAIN_ROUND_S (10) seconds from one kill -9 to the next    CHAIN_OPTIONS of `pilvi up`

    bucket chain-in -> topic -> queue plain (raw messages)      -> function plain   -> bucket chain-out: plain/KEY/..., once an invocation
                             -> queue wrapped (SNS's envelope)  -> function wrapped -> bucket chain-out: wrapped/KEY/...
"""

from __future__ import annotations

import io
import json
import os
import shlex
import sys
import tempfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from pilvi.cli.clock import ask
from pilvi.testing.server import Account
from pilvi.testing.up import Up

SOURCE, TARGET = "chain-in", "chain-out"
ENDS = ("plain", "wrapped")
UPLOADERS = 8
ALIVE_S = 3.0
"""A server that took long to start is left alone for so long at least."""
PATIENCE_S = 300.0
"""After the last upload."""
CUT = (BotoCoreError, ClientError)
CONFIG = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=20, proxies={}, max_pool_connections=UPLOADERS)
CODE = """
import json, os
import boto3

s3 = boto3.client("s3")


def handler(event, context):
    for message in event["Records"]:
        told = json.loads(message["body"])
        told = json.loads(told["Message"]) if "Message" in told else told
        for record in told.get("Records", ()):
            key = record["s3"]["object"]["key"]
            mark = f"{message['messageId']}.{message['attributes']['ApproximateReceiveCount']}.{context.aws_request_id}"
            s3.put_object(Bucket="chain-out", Key=f"{os.environ['END']}/{key}/{mark}", Body=b"")
"""


@dataclass
class Report:
    uploads: int = 0
    took_s: float = 0.0
    kills: int = 0
    starts_s: list[float] = field(default_factory=list)
    arrived: dict[str, Counter[str]] = field(default_factory=lambda: {end: Counter() for end in ENDS})
    again: dict[str, int] = field(default_factory=dict)
    """Arrivals of a message that had arrived already: the queue gave it out again. Other duplicates are messages of their own."""
    settled_s: float = 0.0
    """From the last upload to the last arrival."""
    dead: dict[str, int] = field(default_factory=dict)

    def missing(self, end: str, acknowledged: Sequence[str]) -> list[str]:
        return [key for key in acknowledged if key not in self.arrived[end]]

    def duplicates(self, end: str) -> int:
        return sum(times - 1 for times in self.arrived[end].values())


class Chain:
    """The chain on one data directory."""

    def __init__(self, start: Callable[..., Up]) -> None:
        """start: takes the server before this one as `like`."""
        self._start = start
        self._take(start())
        self.acknowledged: list[str] = []
        self.report = Report()

    def _take(self, server: Up) -> None:
        self.server = server
        self._s3: Any = server.root.client("s3", config=CONFIG)

    @property
    def root(self) -> Account:
        return self.server.root

    def prepare(self, hidden_s: int = 30) -> None:
        """hidden_s: what was in flight when the server was killed comes back after so long."""
        s3, sns, sqs, lam = (self.root.client(name) for name in ("s3", "sns", "sqs", "lambda"))
        for bucket in (SOURCE, TARGET):
            s3.create_bucket(Bucket=bucket)
        topic = sns.create_topic(Name="chain")["TopicArn"]
        sns.set_topic_attributes(
            TopicArn=topic,
            AttributeName="Policy",
            AttributeValue=allowing("s3.amazonaws.com", "sns:Publish", topic, f"arn:aws:s3:::{SOURCE}"),
        )
        role = self.root.role("chain", "lambda.amazonaws.com", EVERYTHING)
        for end in ENDS:
            url = sqs.create_queue(QueueName=f"chain-{end}", Attributes={"VisibilityTimeout": str(hidden_s)})["QueueUrl"]
            queue = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
            sqs.set_queue_attributes(
                QueueUrl=url, Attributes={"Policy": allowing("sns.amazonaws.com", "sqs:SendMessage", queue, topic)}
            )
            raw = {"RawMessageDelivery": "true"} if end == "plain" else {}
            sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue, Attributes=raw)
            lam.create_function(
                FunctionName=f"chain-{end}",
                Runtime="python3.11",
                Handler="index.handler",
                Role=role,
                Timeout=hidden_s,
                Code={"ZipFile": zipped("index.py", CODE)},
                Environment={"Variables": {"END": end}},
            )
            lam.create_event_source_mapping(FunctionName=f"chain-{end}", EventSourceArn=queue, BatchSize=10)
        told = {"TopicArn": topic, "Events": ["s3:ObjectCreated:*"]}
        s3.put_bucket_notification_configuration(Bucket=SOURCE, NotificationConfiguration={"TopicConfigurations": [told]})

    # -- under fire ---------------------------------------------------------------------------------------------------

    def run(self, uploads: int, seconds: float, round_s: float) -> None:
        """Upload evenly over the time, or as fast as it goes, and kill the server every round until everything is uploaded."""
        begun = time.monotonic()
        numbers = iter(range(uploads))
        lock = threading.Lock()

        def work() -> None:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                time.sleep(max(0.0, begun + seconds * number / uploads - time.monotonic()))
                self._upload(f"k{number:06d}")

        with ThreadPoolExecutor(UPLOADERS) as pool:
            working = [pool.submit(work) for _ in range(UPLOADERS)]
            killed = begun
            while time.monotonic() - begun < seconds or not all(one.done() for one in working):
                time.sleep(max(ALIVE_S, killed + round_s - time.monotonic()))
                killed = time.monotonic()
                self.restart()
            for one in working:
                one.result()
        self.report.uploads = len(self.acknowledged)
        self.report.took_s = time.monotonic() - begun

    def _upload(self, key: str) -> None:
        """Until it is acknowledged; the server may be away."""
        while True:
            try:
                self._s3.put_object(Bucket=SOURCE, Key=key, Body=b"x")
            except CUT:
                time.sleep(0.1)
            else:
                self.acknowledged.append(key)
                return

    def restart(self) -> None:
        self.server.kill()
        begun = time.monotonic()
        self._take(self._start(like=self.server))
        self.report.kills += 1
        self.report.starts_s.append(time.monotonic() - begun)

    # -- what came ----------------------------------------------------------------------------------------------------

    def settle(self, patience_s: float = PATIENCE_S) -> Report:
        """Wait until everything acknowledged is there, then until nothing more comes."""
        begun = time.monotonic()
        while time.monotonic() - begun < patience_s:
            self.look()
            if not any(self.report.missing(end, self.acknowledged) for end in ENDS) and self.is_empty():
                break
            time.sleep(0.5)
        self.report.settled_s = time.monotonic() - begun
        self.look()
        self.report.dead = self.dead_letters()
        return self.report

    def look(self) -> None:
        pages = self.root.client("s3").get_paginator("list_objects_v2").paginate(Bucket=TARGET)
        arrived: dict[str, Counter[str]] = {end: Counter() for end in ENDS}
        messages: dict[str, Counter[str]] = {end: Counter() for end in ENDS}
        for page in pages:
            for one in page.get("Contents", ()):
                end, key, mark = one["Key"].split("/")
                arrived[end][key] += 1
                messages[end][f"{key}/{mark.partition('.')[0]}"] += 1
        self.report.arrived = arrived
        self.report.again = {end: sum(many - 1 for many in messages[end].values()) for end in ENDS}

    def is_empty(self) -> bool:
        sqs = self.root.client("sqs")
        counts = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        for end in ENDS:
            url = sqs.get_queue_url(QueueName=f"chain-{end}")["QueueUrl"]
            if any(int(many) for many in sqs.get_queue_attributes(QueueUrl=url, AttributeNames=counts)["Attributes"].values()):
                return False
        return True

    def dead_letters(self) -> dict[str, int]:
        """Of the events room, by consumer."""
        told = ask(self.server.data_dir, "POST", json.dumps({"action": "status"}).encode(), "/_pilvi/events")
        found: dict[str, int] = told["by_consumer"]
        return found


EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


def allowing(service: str, action: str, resource: str, source_arn: str) -> str:
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": service},
        "Action": action,
        "Resource": resource,
        "Condition": {"ArnLike": {"aws:SourceArn": source_arn}},
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def zipped(name: str, text: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, text)
    return buffer.getvalue()


def main() -> int:
    uploads = int(os.environ.get("CHAIN_UPLOADS", "10000"))
    seconds, round_s = float(os.environ.get("CHAIN_SECONDS", "180")), float(os.environ.get("CHAIN_ROUND_S", "10"))
    options = shlex.split(os.environ.get("CHAIN_OPTIONS", ""))
    with tempfile.TemporaryDirectory(prefix="pilvi-chain-") as folder:
        chain = Chain(lambda like=None: Up(Path(folder) / "data", *options, like=like))
        try:
            chain.prepare()
            print(f"{uploads} uploads in {seconds:.0f} s, kill -9 every {round_s:.0f} s", flush=True)
            chain.run(uploads, seconds, round_s)
            report = chain.settle()
        finally:
            chain.server.stop()
    slowest = max(report.starts_s, default=0.0)
    print(f"{report.uploads} uploads in {report.took_s:.0f} s through {report.kills} kills; a start took {slowest:.1f} s at most")
    lost = 0
    for end in ENDS:
        missing = report.missing(end, chain.acknowledged)
        lost += len(missing)
        arrived, twice = len(report.arrived[end]), report.duplicates(end)
        print(
            f"{end:<8} {arrived} arrived, {len(missing)} missing {missing[:5]}, {twice} duplicates ({twice / max(1, arrived):.2%}), "
            f"{report.again[end]} of them messages that the queue gave out again"
        )
    print(f"all was there {report.settled_s:.1f} s after the last upload; dead letters: {report.dead or 'none'}")
    return 1 if lost or report.dead else 0


if __name__ == "__main__":
    sys.exit(main())
