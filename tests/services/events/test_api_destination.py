"""API destinations and their connections, against a web server of the test's own."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.services.events.authorizing import token_request, understood
from pilvi.services.events.call_out import request_for
from pilvi.services.events.pacing import turn
from pilvi.testing.server import Account, eventually
from tests.services.events.conftest import Queue, entry


class Web:
    """Answers with what the test says, and remembers what it was asked."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.tokens = 0
        web = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                text = b""
                status, headers = 200, {}
                if self.path.startswith("/token"):
                    web.tokens += 1
                    status = 200 if b"client_secret=right" in body else 401
                    text = json.dumps({"access_token": f"t{web.tokens}", "token_type": "bearer", "expires_in": 3600}).encode()
                else:
                    web.calls.append({"method": self.command, "path": self.path, "headers": dict(self.headers), "body": body})
                    if web.answers:
                        status, headers = web.answers.pop(0)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_POST = do_PUT = do_GET = answer  # noqa: N815

            def log_message(self, *_: Any) -> None:
                """Nothing on the terminal."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def call(self) -> dict[str, Any]:
        eventually(lambda: self.calls)
        return self.calls.pop(0)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def web() -> Iterator[Web]:
    running = Web()
    yield running
    running.close()


BASIC = {"BasicAuthParameters": {"Username": "ann", "Password": "secret"}}


def oauth(web: Web, secret: str = "right") -> dict[str, Any]:
    client = {"ClientID": "me", "ClientSecret": secret}
    return {"OAuthParameters": {"ClientParameters": client, "AuthorizationEndpoint": f"{web.url}/token", "HttpMethod": "POST"}}


def connect(events: Any, kind: str = "BASIC", parameters: Any = None, name: str = "c") -> str:
    return str(events.create_connection(Name=name, AuthorizationType=kind, AuthParameters=parameters or BASIC)["ConnectionArn"])


def role_for(aws: Account) -> str:
    statement = {"Effect": "Allow", "Action": "events:InvokeApiDestination", "Resource": "*"}
    return aws.role("caller", "events.amazonaws.com", {"Version": "2012-10-17", "Statement": [statement]})


@pytest.fixture
def call_out(aws: Account, events: Any, rule: Callable[..., str]) -> Callable[..., str]:
    """Lets sales call an endpoint; gives the destination's ARN."""

    def make(endpoint: str, connection: str, method: str = "POST", rate: int = 300, **target: Any) -> str:
        arn = events.create_api_destination(
            Name="d", ConnectionArn=connection, InvocationEndpoint=endpoint, HttpMethod=method, InvocationRateLimitPerSecond=rate
        )["ApiDestinationArn"]
        rule({"source": ["shop"]}, {"Arn": arn, "RoleArn": role_for(aws), **target})
        return str(arn)

    return make


def test_an_event_calls_an_api_destination(events: Any, web: Web, call_out: Callable[..., str]) -> None:
    more = {
        "InvocationHttpParameters": {
            "HeaderParameters": [{"Key": "X-Own", "Value": "c", "IsValueSecret": True}],
            "QueryStringParameters": [{"Key": "from", "Value": "connection"}],
            "BodyParameters": [{"Key": "extra", "Value": "body"}],
        }
    }
    http = {
        "PathParameterValues": ["a/b", "$.detail.n"],
        "HeaderParameters": {"X-Kind": "$.detail-type"},
        "QueryStringParameters": {"q": "1"},
    }
    call_out(f"{web.url}/sales/*/of/*", connect(events, parameters=BASIC | more), HttpParameters=http, InputPath="$.detail")
    events.put_events(Entries=[entry({"n": 7})])
    call = web.call()
    assert call["method"] == "POST"
    assert call["path"] == "/sales/a%2Fb/of/7?q=1&from=connection"
    assert json.loads(call["body"]) == {"n": 7, "extra": "body"}
    headers = call["headers"]
    assert headers["Authorization"] == "Basic " + base64.b64encode(b"ann:secret").decode()
    assert (headers["X-Own"], headers["X-Kind"]) == ("c", "sale")
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    assert headers["User-Agent"] == "Amazon/EventBridge/ApiDestinations"


def test_an_api_key_goes_in_its_header(events: Any, web: Web, call_out: Callable[..., str]) -> None:
    key = {"ApiKeyAuthParameters": {"ApiKeyName": "X-Api-Key", "ApiKeyValue": "k"}}
    call_out(web.url, connect(events, "API_KEY", key), "GET")
    events.put_events(Entries=[entry()])
    call = web.call()
    assert (call["method"], call["headers"]["X-Api-Key"], call["body"]) == ("GET", "k", b"")


def test_oauth_fetches_a_token_and_another_when_it_is_refused(events: Any, web: Web, call_out: Callable[..., str]) -> None:
    connection = connect(events, "OAUTH_CLIENT_CREDENTIALS", oauth(web))
    eventually(lambda: events.describe_connection(Name="c")["ConnectionState"] == "AUTHORIZED")
    call_out(web.url, connection)
    assert events.describe_api_destination(Name="d")["ApiDestinationState"] == "ACTIVE"
    web.answers = [(200, {}), (401, {})]
    events.put_events(Entries=[entry({"n": 1})])
    assert web.call()["headers"]["Authorization"] == "Bearer t1"
    events.put_events(Entries=[entry({"n": 2})])
    assert web.call()["headers"]["Authorization"] == "Bearer t1"
    assert web.call()["headers"]["Authorization"] == "Bearer t2"
    assert web.tokens == 2


def test_oauth_that_is_refused_deauthorizes_the_connection(events: Any, web: Web) -> None:
    connection = connect(events, "OAUTH_CLIENT_CREDENTIALS", oauth(web, "wrong"))
    found = eventually(lambda: (one := events.describe_connection(Name="c"))["ConnectionState"] == "DEAUTHORIZED" and one)
    assert "status 401" in found["StateReason"]
    events.create_api_destination(Name="d", ConnectionArn=connection, InvocationEndpoint=web.url, HttpMethod="POST")
    assert events.describe_api_destination(Name="d")["ApiDestinationState"] == "INACTIVE"
    parameters = {"OAuthParameters": {"ClientParameters": {"ClientSecret": "right"}}}
    assert events.update_connection(Name="c", AuthParameters=parameters)["ConnectionState"] == "AUTHORIZING"
    eventually(lambda: events.describe_connection(Name="c")["ConnectionState"] == "AUTHORIZED")
    assert "StateReason" not in events.describe_connection(Name="c")


def test_what_a_destination_refuses_becomes_a_dead_letter(
    events: Any, web: Web, queue: Queue, call_out: Callable[..., str]
) -> None:
    call_out(web.url, connect(events), DeadLetterConfig={"Arn": queue.arn})
    web.answers = [(400, {})]
    events.put_events(Entries=[entry()])
    attributes = queue.messages()[0]["MessageAttributes"]
    assert attributes["ERROR_CODE"]["StringValue"] == "ERROR_FROM_TARGET"
    assert "status 400" in attributes["ERROR_MESSAGE"]["StringValue"]


def test_what_a_destination_cannot_take_now_is_tried_again(events: Any, web: Web, call_out: Callable[..., str]) -> None:
    call_out(web.url, connect(events))
    web.answers = [(503, {}), (429, {"Retry-After": "1"})]
    events.put_events(Entries=[entry()])
    eventually(lambda: len(web.calls) == 3)
    assert len({call["body"] for call in web.calls}) == 1


def test_a_role_must_be_let_invoke_it(aws: Account, events: Any, web: Web, queue: Queue, rule: Callable[..., str]) -> None:
    arn = events.create_api_destination(Name="d", ConnectionArn=connect(events), InvocationEndpoint=web.url, HttpMethod="POST")[
        "ApiDestinationArn"
    ]
    with pytest.raises(ClientError, match="RoleArn is required for target"):
        rule({"source": ["shop"]}, {"Arn": arn})
    rule(
        {"source": ["shop"]},
        {"Arn": arn, "RoleArn": aws.role("none", "events.amazonaws.com"), "DeadLetterConfig": {"Arn": queue.arn}},
    )
    events.put_events(Entries=[entry()])
    assert queue.messages()[0]["MessageAttributes"]["ERROR_CODE"]["StringValue"] == "NO_PERMISSIONS"
    assert web.calls == []


def test_the_servers_own_paths_are_not_called(server: Any, events: Any, queue: Queue, call_out: Callable[..., str]) -> None:
    with pytest.raises(ClientError, match="own paths"):
        events.create_api_destination(
            Name="x",
            ConnectionArn=connect(events, name="x"),
            InvocationEndpoint=f"{server.endpoint}/_pilvi/clock",
            HttpMethod="POST",
        )
    call_out(
        f"{server.endpoint}/*/clock",
        connect(events),
        DeadLetterConfig={"Arn": queue.arn},
        HttpParameters={"PathParameterValues": ["_pilvi"]},
    )
    events.put_events(Entries=[entry()])
    assert queue.messages()[0]["MessageAttributes"]["ERROR_CODE"]["StringValue"] == "NO_PERMISSIONS"


# -- the records --------------------------------------------------------------------------------------------------------------


def test_create_connection_keeps_its_secret_in_secrets_manager(aws: Account, events: Any) -> None:
    made = events.create_connection(Name="c", AuthorizationType="BASIC", AuthParameters=BASIC, Description="d")
    assert made["ConnectionState"] == "AUTHORIZED"
    described = events.describe_connection(Name="c")
    assert described["AuthParameters"] == {"BasicAuthParameters": {"Username": "ann"}}
    assert described["AuthorizationType"] == "BASIC"
    secrets = aws.client("secretsmanager")
    kept = secrets.get_secret_value(SecretId=described["SecretArn"])
    assert json.loads(kept["SecretString"]) == {"username": "ann", "password": "secret"}
    assert kept["Name"].startswith("events!connection/c/")
    events.update_connection(Name="c", AuthParameters={"BasicAuthParameters": {"Password": "new"}})
    kept = secrets.get_secret_value(SecretId=described["SecretArn"])
    assert json.loads(kept["SecretString"]) == {"username": "ann", "password": "new"}
    assert events.delete_connection(Name="c")["ConnectionState"] == "DELETING"
    with pytest.raises(ClientError, match="Connection 'c' does not exist"):
        events.describe_connection(Name="c")
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        secrets.get_secret_value(SecretId=described["SecretArn"])


def test_deauthorize_connection_throws_the_secret_away(aws: Account, events: Any) -> None:
    connect(events)
    arn = events.describe_connection(Name="c")["SecretArn"]
    assert events.deauthorize_connection(Name="c")["ConnectionState"] == "DEAUTHORIZED"
    assert "SecretArn" not in events.describe_connection(Name="c")
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        aws.client("secretsmanager").get_secret_value(SecretId=arn)
    events.update_connection(Name="c", AuthParameters=BASIC)
    assert events.describe_connection(Name="c")["ConnectionState"] == "AUTHORIZED"


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"Name": "there"}, "ResourceAlreadyExistsException"),
        ({"AuthorizationType": "API_KEY"}, "ValidationException"),
        ({"Name": "with space"}, "ValidationException"),
    ],
)
def test_create_connection_says_what_is_wrong(events: Any, given: dict[str, str], code: str) -> None:
    connect(events, name="there")
    with pytest.raises(ClientError) as raised:
        events.create_connection(**({"Name": "c", "AuthorizationType": "BASIC", "AuthParameters": BASIC} | given))
    assert raised.value.response["Error"]["Code"] == code


def test_list_connections_narrows_and_pages(events: Any) -> None:
    for name in ("c1", "c2", "c3", "x"):
        connect(events, name=name)
    events.deauthorize_connection(Name="c2")
    first = events.list_connections(NamePrefix="c", Limit=2)
    assert [one["Name"] for one in first["Connections"]] == ["c1", "c2"]
    assert [one["Name"] for one in events.list_connections(NamePrefix="c", NextToken=first["NextToken"])["Connections"]] == ["c3"]
    assert [one["Name"] for one in events.list_connections(ConnectionState="DEAUTHORIZED")["Connections"]] == ["c2"]


def test_api_destinations_are_kept_changed_listed_deleted(events: Any) -> None:
    arn = connect(events)
    url = "https://example.com/hook"
    for name in ("d1", "d2", "d3"):
        made = events.create_api_destination(
            Name=name, ConnectionArn=arn, InvocationEndpoint=url, HttpMethod="POST", Description="d"
        )
        assert made["ApiDestinationState"] == "ACTIVE"
    with pytest.raises(ClientError, match="already exists"):
        events.create_api_destination(Name="d1", ConnectionArn=arn, InvocationEndpoint=url, HttpMethod="POST")
    events.update_api_destination(Name="d1", HttpMethod="PUT", InvocationRateLimitPerSecond=5)
    described = events.describe_api_destination(Name="d1")
    assert (described["HttpMethod"], described["InvocationRateLimitPerSecond"], described["Description"]) == ("PUT", 5, "d")
    first = events.list_api_destinations(Limit=2, ConnectionArn=arn)
    assert [one["Name"] for one in first["ApiDestinations"]] == ["d1", "d2"]
    assert [one["Name"] for one in events.list_api_destinations(NextToken=first["NextToken"])["ApiDestinations"]] == ["d3"]
    events.delete_api_destination(Name="d1")
    for call in (events.describe_api_destination, events.delete_api_destination, events.update_api_destination):
        with pytest.raises(ClientError, match="An api-destination 'd1' does not exist"):
            call(Name="d1")


def test_create_api_destination_says_what_is_wrong(events: Any) -> None:
    arn = connect(events)
    with pytest.raises(ClientError, match="must be a valid HTTPS URL"):
        events.create_api_destination(Name="d", ConnectionArn=arn, InvocationEndpoint="ftp://x", HttpMethod="POST")
    with pytest.raises(ClientError, match="does not exist"):
        events.create_api_destination(
            Name="d", ConnectionArn=arn[:-1] + ("1" if arn[-1] == "0" else "0"), InvocationEndpoint="https://x", HttpMethod="POST"
        )


# -- pure -----------------------------------------------------------------------------------------------------------------------


def test_token_request_of_get_asks_in_the_query() -> None:
    secret = {
        "client_id": "me",
        "client_secret": "s",
        "authorization_endpoint": "https://x/token?a=b",
        "http_method": "GET",
        "oauth_http_parameters": {"header_parameters": [{"key": "X", "value": "y"}]},
    }
    url, method, headers, body = token_request(secret)
    assert url == "https://x/token?a=b&grant_type=client_credentials&client_id=me&client_secret=s"
    assert (method, headers["X"], body) == ("GET", "y", b"")
    assert understood(b'{"access_token": "t"}') == ("Bearer t", 3600.0)


def test_request_for_leaves_a_body_that_is_no_object() -> None:
    destination = {"InvocationEndpoint": "https://x/y", "HttpMethod": "POST"}
    secret = {"invocation_http_parameters": {"body_parameters": [{"key": "a", "value": "b"}]}}
    assert request_for(destination, secret, {}, {}, '"text"').body == b'"text"'


def test_turn_lets_so_many_a_second_through() -> None:
    class Memory:
        memory: dict[str, Any] = {}  # noqa: RUF012

    async def run() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for _ in range(110):
            await turn(Memory(), "destination", 100)  # type: ignore[arg-type]
        return loop.time() - began

    assert asyncio.run(run()) >= 0.09
