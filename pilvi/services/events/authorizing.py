"""OAuth: tokens of connections, fetched where the connection says, kept in memory until they end.

A new connection is AUTHORIZING until a token came (AUTHORIZED) or did not (DEAUTHORIZED, with the reason); a consumer of the events room
sees to it, so a restart does not leave it half way.

Source: EventBridge User Guide, "Connections for API targets", OAuth client credentials.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from pilvi.core.errors import PilviError, ServiceError
from pilvi.core.service import Context
from pilvi.events.outgoing import post
from pilvi.services.events.buses import SERVICE
from pilvi.services.events.sealing import as_events
from pilvi.services.events.secret import unseal
from pilvi.storage.records import Change, Table, Update

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
    from pilvi.events import Fact

CONSUMER: Final = "events/authorizing"
TIMEOUT_S: Final = 10.0
EARLY_S: Final = 60.0
"""A token is not used in its last minute."""
LIFE_S: Final = 3600.0
"""Of tokens that do not say how long they hold."""
_MEMORY: Final = "events:tokens"


class NotAuthorized(ServiceError):
    """No token came."""

    def __init__(self, message: str) -> None:
        super().__init__("CONNECTION_FAILURE", message)


def changes(ctx: Context, connection: Mapping[str, Any]) -> Sequence[Change]:
    """What must be written for a token to be fetched."""
    if connection["ConnectionState"] != "AUTHORIZING":
        return ()
    fact = {"account": ctx.account, "region": ctx.region, "name": connection["Name"], "arn": connection["ConnectionArn"]}
    return (ctx.cloud.events.recording(CONSUMER, connection["ConnectionArn"], connection["ConnectionArn"], fact),)


def wake(ctx: Context, connection: Mapping[str, Any]) -> None:
    ctx.cloud.events.wake(CONSUMER, connection["ConnectionArn"])


async def authorize(cloud: Cloud, fact: Fact) -> None:
    """A consumer: fetch a token, and say what came of it."""
    table = Table(fact["account"], fact["region"], SERVICE, "Connection")
    row = cloud.store.get(table, fact["name"])
    if row is None or row.value["ConnectionArn"] != fact["arn"] or row.value["ConnectionState"] != "AUTHORIZING":
        return
    ctx = as_events(cloud, fact["account"], fact["region"], fact["arn"])
    value = {name: one for name, one in row.value.items() if name != "StateReason"}
    try:
        await token_of(ctx, row.value, unseal(cloud, row.value))
        value |= {"ConnectionState": "AUTHORIZED", "LastAuthorizedTime": cloud.clock.now()}
    except PilviError as error:
        value |= {"ConnectionState": "DEAUTHORIZED", "StateReason": error.message[:512]}
    await cloud.store.commit([Update(table, row.id, value, row.version)])


async def token_of(ctx: Context, connection: Mapping[str, Any], secret: Mapping[str, Any], *, afresh: bool = False) -> str:
    """The value of the Authorization header. CONNECTION_FAILURE where no token comes."""
    known = _tokens(ctx.cloud).get(connection["ConnectionArn"])
    if known is not None and not afresh and known[0] > ctx.clock.time_s():
        return known[1]
    url, method, headers, body = token_request(secret)
    try:
        answer = await post(url, body, headers, timeout_s=TIMEOUT_S, method=method, own=ctx.cloud.endpoint)
    except PilviError as error:
        raise NotAuthorized(f"The authorization endpoint cannot be reached: {error.message}") from error
    if not 200 <= answer.status < 300:
        raise NotAuthorized(f"The authorization endpoint answered with status {answer.status}.")
    token, life_s = understood(answer.body)
    _tokens(ctx.cloud)[connection["ConnectionArn"]] = (ctx.clock.time_s() + max(life_s - EARLY_S, 1.0), token)
    return token


def token_request(secret: Mapping[str, Any]) -> tuple[str, str, dict[str, str], bytes]:
    """Where and how a token is asked for: client id and secret as a form, with what the connection adds."""
    extra = secret.get("oauth_http_parameters") or {}
    form = {"grant_type": "client_credentials", "client_id": secret["client_id"], "client_secret": secret["client_secret"]}
    form |= {one["key"]: one["value"] for one in extra.get("body_parameters") or ()}
    query = {one["key"]: one["value"] for one in extra.get("query_string_parameters") or ()}
    headers = {"Accept": "application/json", "User-Agent": "Amazon/EventBridge/ApiDestinations"}
    method = str(secret.get("http_method") or "POST")
    url, body = str(secret["authorization_endpoint"]), b""
    if method == "GET":
        query = form | query
    else:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        body = urlencode(form).encode()
    headers |= {one["key"]: one["value"] for one in extra.get("header_parameters") or ()}
    if query:
        url += ("&" if "?" in url else "?") + urlencode(query)
    return url, method, headers, body


def understood(body: bytes) -> tuple[str, float]:
    """The header's value and how many seconds it holds."""
    try:
        found = json.loads(body)
        token, kind = found["access_token"], str(found.get("token_type") or "Bearer")
        life_s = float(found.get("expires_in") or LIFE_S)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise NotAuthorized("The authorization endpoint did not answer with an access token.") from None
    return f"{'Bearer' if kind.lower() == 'bearer' else kind} {token}", life_s


def forget(cloud: Cloud, arn: str) -> None:
    _tokens(cloud).pop(arn, None)


def _tokens(cloud: Cloud) -> dict[str, tuple[float, str]]:
    found: dict[str, tuple[float, str]] = cloud.memory.setdefault(_MEMORY, {})
    return found
