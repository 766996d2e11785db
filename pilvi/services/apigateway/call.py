"""One request to a deployed API, with everything that integrations, templates and mappings may ask about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl

from pilvi.core.arn import Arn, partition_of

JSON = "application/json"


@dataclass
class Call:
    api_id: str
    account: str
    region: str
    stage: str
    variables: Mapping[str, str]
    """Stage variables."""
    deployment_id: str
    verb: str
    path: str
    """As sent, after the stage; '/' at least."""
    query: str
    headers: Mapping[str, list[str]]
    """As the integration sees them, values of one name in order."""
    body: bytes
    source_ip: str
    request_id: str
    extended_id: str
    trace_id: str
    at: datetime
    binary_types: tuple[str, ...] = ()
    resource: Mapping[str, Any] = field(default_factory=dict)
    method: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    api: Mapping[str, Any] = field(default_factory=dict)
    """What the API as a whole holds for its methods: `_validators`, `_models`, `_authorizers`."""
    log: list[str] | None = None
    """Lines of a test invocation's log; None when nobody asked."""

    def note(self, line: str) -> None:
        if self.log is not None:
            self.log.append(line)

    def header(self, name: str) -> str | None:
        """The last value of a header, whatever its case."""
        wanted = name.lower()
        for key, values in self.headers.items():
            if key.lower() == wanted:
                return values[-1]
        return None

    @cached_property
    def arguments(self) -> dict[str, list[str]]:
        """The query string, decoded."""
        found: dict[str, list[str]] = {}
        for name, value in parse_qsl(self.query, keep_blank_values=True):
            found.setdefault(name, []).append(value)
        return found

    @cached_property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    @property
    def content_type(self) -> str:
        """Without parameters; JSON when the client said nothing, as AWS takes it."""
        return (self.header("content-type") or JSON).split(";")[0].strip().lower()

    @property
    def arn(self) -> str:
        """What the call is, for permissions: the resource's path with its variables."""
        return self.arn_of(self.resource.get("path", "/"))

    def arn_of(self, path: str) -> str:
        """This stage and verb with another path."""
        resource = f"{self.api_id}/{self.stage}/{self.verb}{path}"
        return str(Arn(partition_of(self.region), "execute-api", self.region, self.account, resource))

    @cached_property
    def context(self) -> dict[str, Any]:
        """The request context of a proxied event, and `$context` of templates."""
        return {
            "resourceId": self.resource.get("id"),
            "resourcePath": self.resource.get("path"),
            "httpMethod": self.verb,
            "extendedRequestId": self.extended_id,
            "requestTime": self.at.strftime("%d/%b/%Y:%H:%M:%S +0000"),
            "path": f"/{self.stage}{self.path}",
            "accountId": self.account,
            "protocol": "HTTP/1.1",
            "stage": self.stage,
            "domainPrefix": self.api_id,
            "requestTimeEpoch": int(self.at.timestamp() * 1000),
            "requestId": self.request_id,
            "identity": {
                "cognitoIdentityPoolId": None,
                "accountId": None,
                "cognitoIdentityId": None,
                "caller": None,
                "sourceIp": self.source_ip,
                "principalOrgId": None,
                "accessKey": None,
                "cognitoAuthenticationType": None,
                "cognitoAuthenticationProvider": None,
                "userArn": None,
                "userAgent": self.header("user-agent"),
                "user": None,
            },
            "domainName": f"{self.api_id}.execute-api.{self.region}.amazonaws.com",
            "deploymentId": self.deployment_id,
            "apiId": self.api_id,
        }


@dataclass
class Answer:
    """What goes back to the client."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Failure(Exception):
    """API Gateway's own answer in place of an integration's: its default gateway responses.

    Source: Developer Guide, "Gateway response types for API Gateway"; bodies and their spacing as AWS sends them.
    """

    def __init__(self, status: int, kind: str, body: str, reason: str = "") -> None:
        super().__init__(reason or body)
        self.status = status
        self.kind = kind
        self.body = body
        self.reason = reason
        """For the log; never shown to the client."""

    def answer(self) -> Answer:
        return Answer(self.status, [("Content-Type", JSON), ("x-amzn-ErrorType", self.kind)], self.body.encode())


def missing_token() -> Failure:
    return Failure(403, "MissingAuthenticationTokenException", '{"message":"Missing Authentication Token"}')


def forbidden() -> Failure:
    return Failure(403, "ForbiddenException", '{"message":"Forbidden"}')


def too_long() -> Failure:
    return Failure(413, "RequestTooLargeException", '{"message":"Request Too Long"}')


def unsupported_type() -> Failure:
    return Failure(415, "BadRequestException", '{"message": "Unsupported Media Type"}')


def timed_out() -> Failure:
    return Failure(504, "InternalServerErrorException", '{"message": "Endpoint request timed out"}', "Endpoint request timed out")


def broken(reason: str) -> Failure:
    """Misconfigured or not allowed: 500."""
    return Failure(500, "InternalServerErrorException", '{"message": "Internal server error"}', reason)


def bad_answer(reason: str) -> Failure:
    """What came from behind makes no sense: 502."""
    return Failure(502, "InternalServerErrorException", '{"message": "Internal server error"}', reason)
