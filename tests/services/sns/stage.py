"""What the tests of SNS play with: topics, queues that let SNS in, a web server."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pilvi.testing.server import Account, eventually

Refusal = Callable[..., tuple[str, str]]


# -- topics and queues --------------------------------------------------------------------------------------------------------


def new_topic(aws: Account, name: str = "news", **attributes: str) -> str:
    if name.endswith(".fifo"):
        attributes["FifoTopic"] = "true"
    return str(aws.client("sns").create_topic(Name=name, Attributes=attributes)["TopicArn"])


def new_queue(aws: Account, name: str = "one", *, topic: str = "*", **attributes: str) -> tuple[str, str]:
    """URL and ARN of a queue that lets SNS in."""
    if name.endswith(".fifo"):
        attributes["FifoQueue"] = "true"
    arn = f"arn:aws:sqs:us-east-1:{aws.account}:{name}"
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
        "Condition": {"ArnLike": {"aws:SourceArn": topic}},
    }
    attributes["Policy"] = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    return str(aws.client("sqs").create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]), arn


def subscribed(aws: Account, topic: str, endpoint: str, protocol: str = "sqs", **attributes: str) -> str:
    answer = aws.client("sns").subscribe(
        TopicArn=topic, Protocol=protocol, Endpoint=endpoint, Attributes=attributes, ReturnSubscriptionArn=True
    )
    return str(answer["SubscriptionArn"])


def received(aws: Account, url: str, many: int = 1) -> list[dict[str, Any]]:
    """That many messages of a queue, taken out of it."""
    sqs, found = aws.client("sqs"), []

    def enough() -> bool:
        got = sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1, MessageAttributeNames=["All"], AttributeNames=["All"]
        )
        for message in got.get("Messages", ()):
            found.append(message)
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return len(found) >= many

    eventually(enough, every_s=0.001)
    return found


def told(aws: Account, url: str, many: int = 1) -> list[str]:
    """What notifications in a queue say."""
    return [json.loads(message["Body"])["Message"] for message in received(aws, url, many)]


def is_empty(aws: Account, url: str) -> bool:
    counts = aws.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    return int(counts["ApproximateNumberOfMessages"]) + int(counts["ApproximateNumberOfMessagesNotVisible"]) == 0


# -- a web server ---------------------------------------------------------------------------------------------------------------


class Web:
    """A real one, on a free port: what it heard, and what it answers."""

    def __init__(self) -> None:
        self.heard: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.bodies: list[str] = []
        self.status = 200
        self.gate = threading.Event()
        self.gate.set()
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                web.gate.wait(30)
                web.bodies.append(body)
                try:
                    content = json.loads(body)
                except ValueError:
                    content = {}
                web.heard.append(({name.lower(): value for name, value in self.headers.items()}, content))
                self.send_response(web.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="web")
        self._thread.start()
        self.port: int = self._server.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def close(self) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        return [content for headers, content in self.heard if headers["x-amz-sns-message-type"] == kind]
