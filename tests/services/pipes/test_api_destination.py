"""Pipes through and to web servers, as API destinations."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from pilvi.testing.server import eventually
from tests.services.pipes.conftest import Plumber


class Web:
    """Answers a POST with its body, doubled, and remembers what it was asked."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.status = 200
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                web.calls.append({"path": self.path, "key": self.headers.get("x-key"), "body": body})
                text = json.dumps({"double": 2 * body["n"]}).encode()
                self.send_response(web.status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: Any) -> None:
                """Nothing on the terminal."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def web() -> Iterator[Web]:
    made = Web()
    yield made
    made.close()


def destination(plumber: Plumber, url: str) -> str:
    events = plumber.account.client("events")
    key = {"ApiKeyAuthParameters": {"ApiKeyName": "x-key", "ApiKeyValue": "secret"}}
    connection = events.create_connection(Name="c", AuthorizationType="API_KEY", AuthParameters=key)["ConnectionArn"]
    made = events.create_api_destination(Name="d", ConnectionArn=connection, InvocationEndpoint=f"{url}/items/*", HttpMethod="POST")
    return str(made["ApiDestinationArn"])


def test_an_api_destination_is_a_target(plumber: Plumber, web: Web) -> None:
    url, source = plumber.queue()
    parameters = {"HttpParameters": {"PathParameterValues": ["$.body.id"]}, "InputTemplate": '{"n": <$.body.n>}'}
    name = plumber.pipe(source, destination(plumber, web.url), TargetParameters=parameters)
    assert plumber.pipes.describe_pipe(Name=name)["SourceParameters"]["SqsQueueParameters"]["BatchSize"] == 1
    plumber.send(url, {"id": "a b", "n": 1}, {"id": "c", "n": 2})
    eventually(lambda: len(web.calls) == 2)
    assert sorted(web.calls, key=str) == [
        {"path": "/items/a%20b", "key": "secret", "body": {"n": 1}},
        {"path": "/items/c", "key": "secret", "body": {"n": 2}},
    ]
    eventually(lambda: plumber.left(url) == (0, 0))


def test_an_api_destination_enriches(plumber: Plumber, web: Web) -> None:
    (url, source), (to, target) = plumber.queue(), plumber.queue()
    plumber.pipe(
        source,
        target,
        Enrichment=destination(plumber, web.url),
        EnrichmentParameters={"InputTemplate": '{"n": <$.body.n>}', "HttpParameters": {"PathParameterValues": ["x"]}},
        TargetParameters={"InputTemplate": "<$.double>"},
    )
    plumber.send(url, {"n": 21})
    assert plumber.received(to) == ["42"]


def test_what_a_destination_refuses_stays_in_the_queue(plumber: Plumber, web: Web) -> None:
    web.status = 500
    url, source = plumber.queue(VisibilityTimeout="600")
    plumber.pipe(source, destination(plumber, web.url), TargetParameters={"InputTemplate": '{"n": <$.body.n>}'})
    plumber.send(url, {"n": 1})
    eventually(lambda: web.calls)
    eventually(lambda: plumber.left(url) == (0, 1))


def test_the_role_must_be_let_invoke_the_destination(plumber: Plumber, web: Web) -> None:
    url, source = plumber.queue(VisibilityTimeout="600")
    read = {"Effect": "Allow", "Action": "sqs:*", "Resource": "*"}
    role = plumber.account.role("reader", "pipes.amazonaws.com", {"Version": "2012-10-17", "Statement": [read]})
    plumber.pipes.create_pipe(Name="half", Source=source, Target=destination(plumber, web.url), RoleArn=role)
    plumber.becomes("half", "RUNNING")
    plumber.send(url, {"n": 1})
    eventually(lambda: plumber.left(url) == (0, 1))
    assert web.calls == []
