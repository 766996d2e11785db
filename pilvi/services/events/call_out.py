"""Calling an API destination: one HTTP request for each event, as fast as the destination allows.

What answers 2xx has taken the event; 401 and 407 are tried with a new token, 409, 429 and 5xx again later (not before Retry-After), and
everything else is final.

Source: EventBridge User Guide, "API destinations as targets", "Headers sent as part of requests to API destinations", "Error codes".
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from pilvi.core.errors import ServiceError
from pilvi.core.service import Access, Context
from pilvi.events.outgoing import Answer, post
from pilvi.events.paths import NOTHING
from pilvi.services.events import pacing
from pilvi.services.events.api_destination import find_by_arn
from pilvi.services.events.authorizing import token_of
from pilvi.services.events.secret import unseal
from pilvi.services.events.transform import PATHS
from pilvi.services.events.usage import count_call

TIMEOUT_S: Final = 5.0
_AGAIN: Final = (401, 407, 408, 409, 429)
_BODYLESS: Final = ("GET", "HEAD")


class CallFailed(ServiceError):
    """The destination answered, but did not take the event."""

    def __init__(self, status: int, retry_after_s: float) -> None:
        super().__init__("ERROR_FROM_TARGET", f"The API destination answered with status {status}.")
        self.is_final = status < 500 and status not in _AGAIN
        self.retry_after_s = retry_after_s


class Request(NamedTuple):
    method: str
    url: str
    headers: dict[str, str]
    body: bytes


async def invoke_api_destination(ctx: Context, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """For other services (pipes), as their caller: an event to a destination, and what that answers.

    params: Arn, HttpParameters, Event (what paths in these look into), Body -> Status, Body.
    """
    target = {"Arn": params["Arn"], "HttpParameters": params.get("HttpParameters")}
    answer = await call_destination(ctx, target, params["Event"], params["Body"])
    count_call(ctx.cloud, ctx.account, ctx.region, len(params["Body"]))
    return {"Status": answer.status, "Body": answer.body}


async def call_destination(ctx: Context, target: Mapping[str, Any], event: Mapping[str, Any], body: str) -> Answer:
    """Hand an event over, as the role of the target, which must be let invoke it."""
    destination = find_by_arn(ctx, "ApiDestination", target["Arn"])
    ctx.to("events", "InvokeApiDestination").authorize(Access("events:InvokeApiDestination", target["Arn"]))
    connection = find_by_arn(ctx, "Connection", destination["ConnectionArn"])
    secret = unseal(ctx.cloud, connection)
    is_oauth = connection["AuthorizationType"] == "OAUTH_CLIENT_CREDENTIALS"
    token = await token_of(ctx, connection, secret) if is_oauth else ""
    await pacing.turn(ctx.cloud, target["Arn"], destination["InvocationRateLimitPerSecond"])
    request = request_for(destination, secret, target.get("HttpParameters") or {}, event, body)
    answer = await _sent(ctx, request, token)
    if is_oauth and answer.status in (401, 407):
        answer = await _sent(ctx, request, await token_of(ctx, connection, secret, afresh=True))
    if not 200 <= answer.status < 300:
        raise CallFailed(answer.status, retry_after_s(answer))
    return answer


async def _sent(ctx: Context, request: Request, token: str) -> Answer:
    headers = {**request.headers, "Authorization": token} if token else request.headers
    return await post(request.url, request.body, headers, timeout_s=TIMEOUT_S, method=request.method, own=ctx.cloud.endpoint)


def retry_after_s(answer: Answer) -> float:
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isdecimal() else 0.0


# -- the request, pure ----------------------------------------------------------------------------------------------------------


def request_for(
    destination: Mapping[str, Any], secret: Mapping[str, Any], parameters: Mapping[str, Any], event: Mapping[str, Any], body: str
) -> Request:
    """What is sent: the target's parameters, and over them the connection's."""
    own = secret.get("invocation_http_parameters") or {}
    method = destination["HttpMethod"]
    headers = {
        "User-Agent": "Amazon/EventBridge/ApiDestinations",
        "Content-Type": "application/json; charset=utf-8",
        "Range": "bytes=0-1048575",
    }
    for name, value in (parameters.get("HeaderParameters") or {}).items():
        _set(headers, name, dynamic(value, event))
    for one in own.get("header_parameters") or ():
        _set(headers, one["key"], one["value"])
    for name, value in credentials(secret).items():
        _set(headers, name, value)
    query = {name: dynamic(value, event) for name, value in (parameters.get("QueryStringParameters") or {}).items()}
    query |= {one["key"]: one["value"] for one in own.get("query_string_parameters") or ()}
    path = [dynamic(value, event) for value in parameters.get("PathParameterValues") or ()]
    text = with_members(body, own.get("body_parameters") or ())
    return Request(
        method, url_of(destination["InvocationEndpoint"], path, query), headers, b"" if method in _BODYLESS else text.encode()
    )


def credentials(secret: Mapping[str, Any]) -> dict[str, str]:
    if "username" in secret:
        return {"Authorization": "Basic " + base64.b64encode(f"{secret['username']}:{secret['password']}".encode()).decode()}
    return {secret["api_key_name"]: secret["api_key_value"]} if "api_key_name" in secret else {}


def dynamic(value: str, event: Mapping[str, Any]) -> str:
    """A parameter's value; `$.detail.id` is looked up in the event."""
    if not value.startswith("$."):
        return value
    found = PATHS.value_at(event, value)
    if found is NOTHING:
        return ""
    return found if isinstance(found, str) else json.dumps(found, separators=(",", ":"))


def url_of(endpoint: str, path: list[str], query: Mapping[str, str]) -> str:
    """The endpoint with its asterisks filled in, one after the other, and what is asked behind it."""
    parts = urlsplit(endpoint)
    filled = parts.path
    for value in path:
        filled = filled.replace("*", quote(value, safe=""), 1)
    asked = urlencode([*parse_qsl(parts.query, keep_blank_values=True), *query.items()])
    return urlunsplit(parts._replace(path=filled, query=asked))


def with_members(body: str, members: Any) -> str:
    """A body with the connection's members; only objects can have them."""
    if not members:
        return body
    try:
        parsed = json.loads(body)
    except ValueError:
        return body
    if not isinstance(parsed, dict):
        return body
    return json.dumps({**parsed, **{one["key"]: one["value"] for one in members}}, separators=(",", ":"), ensure_ascii=False)


def _set(headers: dict[str, str], name: str, value: str) -> None:
    for there in [one for one in headers if one.lower() == name.lower()]:
        del headers[there]
    headers[name] = value
