"""API destinations: HTTP endpoints as targets, each with a connection that proves who calls.

Source: EventBridge API reference, CreateApiDestination, UpdateApiDestination, ListApiDestinations; user guide, "API destinations as
targets".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from pilvi.core.arn import Arn
from pilvi.core.errors import AlreadyExists, NotFound
from pilvi.core.service import Context, Operations
from pilvi.services.events.buses import rows_of
from pilvi.services.events.connection import page_of
from pilvi.services.events.errors import already, bad_parameter, no_connection, no_destination, too_many
from pilvi.storage.records import Insert

ops = Operations()

MOST: Final = 3000
RATE: Final = 300
"""Calls a second, where nothing is said."""
_SETTINGS: Final = ("Description", "ConnectionArn", "InvocationEndpoint", "HttpMethod", "InvocationRateLimitPerSecond")


@ops
def create_api_destination(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make an HTTP endpoint a target.

    req: Name, ConnectionArn, InvocationEndpoint (`*` stands for path parameters of the target), HttpMethod, InvocationRateLimitPerSecond
    (300), Description.
    Errors: ResourceAlreadyExistsException, LimitExceededException. ResourceNotFoundException - the connection. ValidationException.
    Differs: the endpoint may be http, for tests at home.
    """
    check_endpoint(req["InvocationEndpoint"])
    find_by_arn(ctx, "Connection", req["ConnectionArn"])
    rows = rows_of(ctx, "ApiDestination")
    if len(rows.scan(limit=MOST)) >= MOST:
        raise too_many()
    now = ctx.clock.now()
    value = {
        "Name": req["Name"],
        "ApiDestinationArn": ctx.arn(f"api-destination/{req['Name']}/{ctx.ids.uuid()}", service="events"),
        "InvocationRateLimitPerSecond": RATE,
        **{name: req[name] for name in _SETTINGS if req.get(name) is not None},
        "CreationTime": now,
        "LastModifiedTime": now,
    }
    try:
        ctx.write(Insert(rows.table, req["Name"], value))
    except AlreadyExists:
        raise already(f"An api-destination '{req['Name']}'") from None
    return brief(ctx, value)


@ops
def describe_api_destination(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """An API destination; ACTIVE while its connection is authorized.

    Errors: ResourceNotFoundException.
    """
    return shown(ctx, find_destination(ctx, req["Name"]))


@ops
def list_api_destinations(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """API destinations by name, up to 100 a page; NamePrefix and ConnectionArn narrow."""
    found, token = page_of(ctx, "ApiDestination", req, lambda one: req.get("ConnectionArn") in (None, one["ConnectionArn"]))
    return {"ApiDestinations": [shown(ctx, one) for one in found], "NextToken": token}


@ops
def update_api_destination(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Change an API destination; what is not named stays.

    Errors: ResourceNotFoundException, ValidationException.
    """
    if req.get("InvocationEndpoint"):
        check_endpoint(req["InvocationEndpoint"])
    if req.get("ConnectionArn"):
        find_by_arn(ctx, "Connection", req["ConnectionArn"])
    given = {name: req[name] for name in _SETTINGS if req.get(name) is not None} | {"LastModifiedTime": ctx.clock.now()}
    try:
        return brief(ctx, rows_of(ctx, "ApiDestination").update(req["Name"], lambda value: value | given))
    except NotFound:
        raise no_destination(req["Name"]) from None


@ops
def delete_api_destination(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove an API destination.

    Errors: ResourceNotFoundException.
    """
    try:
        rows_of(ctx, "ApiDestination").delete(req["Name"])
    except NotFound:
        raise no_destination(req["Name"]) from None


# -- helpers ------------------------------------------------------------------------------------------------------------------


def check_endpoint(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise bad_parameter("InvocationEndpoint", "It must be a valid HTTPS URL.")
    if parts.path.startswith("/_pilvi"):
        raise bad_parameter("InvocationEndpoint", "The server's own paths cannot be called.")


def find_destination(ctx: Context, name: str) -> dict[str, Any]:
    found = rows_of(ctx, "ApiDestination").find(name)
    if found is None:
        raise no_destination(name)
    return found


def find_by_arn(ctx: Context, noun: str, arn: str) -> dict[str, Any]:
    """A connection or an API destination of this account. ResourceNotFoundException."""
    parsed = Arn.parse(arn)
    name = parsed.resource.split("/")[1] if parsed is not None and parsed.resource.count("/") >= 1 else arn
    found = rows_of(ctx, noun).find(name)
    if found is None or found[f"{noun}Arn"] != arn:
        raise no_connection(name) if noun == "Connection" else no_destination(name)
    return found


def shown(ctx: Context, value: Mapping[str, Any]) -> dict[str, Any]:
    name = value["ConnectionArn"].split("/")[1]
    connection = rows_of(ctx, "Connection").find(name)
    is_active = connection is not None and connection["ConnectionState"] == "AUTHORIZED"
    return {**value, "ApiDestinationState": "ACTIVE" if is_active else "INACTIVE"}


def brief(ctx: Context, value: Mapping[str, Any]) -> dict[str, Any]:
    whole = shown(ctx, value)
    return {name: whole[name] for name in ("ApiDestinationArn", "ApiDestinationState", "CreationTime", "LastModifiedTime")}
