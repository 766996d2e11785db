"""Functions: invocations a second, and how long after an upload or a message the first line of a warm function runs, beside MiniStack.

    python benchmarks/functions.py [--only pilvi,ministack] [--seconds 2] [--events 40]

Pilvi with its default settings: signed, authorised, each function in an isolated process of its own with its role's keys. Requests are
boto3's, signed beforehand. `cpu us` is what the server's processes, functions included, spend on an invocation. Events are made one after the
other; a function tells this program the instant of its first line.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import tempfile
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import servers
from load import Result, as_sent, replay
from sqs import quietly
from tree import cpu_s

TRIVIAL = "def handler(event, context):\n    return event\n"
TELLING = """
import time
import http.client, os
host, port = os.environ["LISTENER"].split(":")
def handler(event, context):
    stamp = time.time()
    connection = http.client.HTTPConnection(host, int(port))
    connection.request("GET", f"/{stamp}")
    connection.getresponse().read()
    connection.close()
"""
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
ALLOWED = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["sqs:*", "logs:*"], "Resource": "*"}]}
STARTS = {"pilvi": servers.pilvi, "ministack": servers.ministack}


class Listener:
    """Hears of first lines."""

    def __init__(self) -> None:
        self.stamps: list[float] = []
        self.heard = threading.Condition()
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with listener.heard:
                    listener.stamps.append(float(self.path[1:]))
                    listener.heard.notify()
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.server_address[1]}"

    def next(self, within_s: float = 30.0) -> float:
        with self.heard:
            if not self.heard.wait_for(lambda: self.stamps, within_s):
                raise TimeoutError("no function has run")
            return self.stamps.pop(0)


def zipped(code: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("index.py", code)
    return buffer.getvalue()


def create(server: servers.Server, name: str, code: str, **variables: str) -> str:
    iam: Any = server.client("iam")
    try:
        role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]["Arn"]
        iam.put_role_policy(RoleName=name, PolicyName="all", PolicyDocument=json.dumps(ALLOWED))
    except iam.exceptions.EntityAlreadyExistsException:
        role = iam.get_role(RoleName=name)["Role"]["Arn"]
    client: Any = server.client("lambda")
    made = client.create_function(
        FunctionName=name,
        Runtime="python3.12",
        Handler="index.handler",
        Role=role,
        Code={"ZipFile": zipped(code)},
        Timeout=10,
        Environment={"Variables": variables},
    )
    client.get_waiter("function_active_v2").wait(FunctionName=name)
    return str(made["FunctionArn"])


def invokes(server: servers.Server, connections: int, seconds: float, folder: Path) -> tuple[Result, float]:
    client: Any = server.client("lambda")
    (request,) = as_sent(client, [quietly(client.invoke, FunctionName="trivial", Payload=b'{"a": 1}')])
    replay(server.endpoint, [request], connections, 1.0, folder)  # so many are warm
    before_s = cpu_s(server.pid)
    result = replay(server.endpoint, [request], connections, seconds, folder)
    return result, (cpu_s(server.pid) - before_s) / max(1, result.requests) * 1e6


def uploads(server: servers.Server, listener: Listener, many: int) -> list[float]:
    """Milliseconds from the moment PutObject is called to the function's first line."""
    s3: Any = server.client("s3")
    arn = create(server, "uploaded", TELLING, LISTENER=listener.address)
    client: Any = server.client("lambda")
    client.add_permission(FunctionName="uploaded", StatementId="s3", Action="lambda:InvokeFunction", Principal="s3.amazonaws.com")
    s3.create_bucket(Bucket="bench-uploads")
    s3.put_bucket_notification_configuration(
        Bucket="bench-uploads",
        NotificationConfiguration={"LambdaFunctionConfigurations": [{"LambdaFunctionArn": arn, "Events": ["s3:ObjectCreated:*"]}]},
    )
    return times(lambda number: s3.put_object(Bucket="bench-uploads", Key=f"key{number}", Body=b"x" * 1024), listener, many)


def messages(server: servers.Server, listener: Listener, many: int) -> list[float]:
    """The same from SendMessage, over an event source mapping."""
    sqs: Any = server.client("sqs")
    create(server, "received", TELLING, LISTENER=listener.address)
    url = sqs.create_queue(QueueName="bench-received")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    client: Any = server.client("lambda")
    client.create_event_source_mapping(FunctionName="received", EventSourceArn=arn)
    return times(lambda number: sqs.send_message(QueueUrl=url, MessageBody=str(number)), listener, many)


def times(cause: Any, listener: Listener, many: int) -> list[float]:
    found: list[float] = []
    for number in range(many + 3):
        began = time.time()
        cause(number)
        found.append((listener.next() - began) * 1000)
        time.sleep(0.02)  # the function is warm again
    return found[3:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="pilvi,ministack")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--events", type=int, default=40)
    options = parser.parse_args()
    print(f"{'server':<10} {'part':<10} {'a second':>9} {'cpu us':>7} {'p50 ms':>8} {'p99 ms':>8} refused", flush=True)
    rates: dict[tuple[str, str], float] = {}
    for name in options.only.split(","):
        with tempfile.TemporaryDirectory() as folder:
            listener = Listener()
            server = STARTS[name](Path(folder))
            try:
                create(server, "trivial", TRIVIAL)
                for part, connections in (("invoke", 1), ("invoke4", 4), ("invoke16", 16)):
                    result, cpu_us = invokes(server, connections, options.seconds, Path(folder))
                    rates[name, part] = result.per_s
                    told = f"{result.p50_us / 1000:>8.2f} {result.p99_us / 1000:>8.2f} {result.refused + result.broken}"
                    print(f"{name:<10} {part:<10} {result.per_s:>9.0f} {cpu_us:>7.0f} {told}", flush=True)
                for part, measured in (("upload", uploads), ("message", messages)):
                    found = sorted(measured(server, listener, options.events))
                    told = f"{statistics.median(found):>8.2f} {found[int(len(found) * 0.99)]:>8.2f} 0"
                    print(f"{name:<10} {part:<10} {'':>9} {'':>7} {told}", flush=True)
            finally:
                server.stop()
                listener.server.shutdown()
                listener.server.server_close()
    for part in ("invoke", "invoke4", "invoke16"):
        if ("ministack", part) in rates and ("pilvi", part) in rates:
            print(f"{part}: {rates['pilvi', part] / rates['ministack', part]:.0f} times MiniStack's rate")


if __name__ == "__main__":
    main()
