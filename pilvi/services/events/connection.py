"""Connections: how API destinations prove who they are. The secrets lie sealed beside them, and in Secrets Manager to be read.

Source: EventBridge API reference, CreateConnection, UpdateConnection, DeauthorizeConnection, DeleteConnection; user guide, "Connections for
API targets".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from pilvi.core.errors import AlreadyExists, NotFound, ServiceError
from pilvi.core.paging import decode_token, encode_token
from pilvi.core.service import Context, Operations
from pilvi.services.events import authorizing
from pilvi.services.events.bus import check_key
from pilvi.services.events.buses import rows_of
from pilvi.services.events.errors import already, invalid, no_connection, too_many
from pilvi.services.events.secret import merged, public, seal, secret_of, unseal
from pilvi.storage.records import Delete, Insert, Row

ops = Operations()

MOST: Final = 3000
AUTHORIZED: Final = "AUTHORIZED"
AUTHORIZING: Final = "AUTHORIZING"
DEAUTHORIZED: Final = "DEAUTHORIZED"
MEMBER_OF: Final = {
    "BASIC": "BasicAuthParameters",
    "API_KEY": "ApiKeyAuthParameters",
    "OAUTH_CLIENT_CREDENTIALS": "OAuthParameters",
}


@ops
def create_connection(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Keep what proves who calls an API destination; with OAuth, a token is fetched to see that it works.

    req: Name, AuthorizationType (BASIC, API_KEY, OAUTH_CLIENT_CREDENTIALS), AuthParameters, Description, KmsKeyIdentifier.
    Errors: ResourceAlreadyExistsException, LimitExceededException. ValidationException - parameters of another kind, or missing ones.
    The caller needs secretsmanager:CreateSecret.
    Differs: private connections (InvocationConnectivityParameters) are refused. OAuth's endpoint may be http, for tests at home. What is
    changed in Secrets Manager directly is not followed: calls use a copy that the server keeps sealed, while KmsKeyIdentifier seals the
    secret in Secrets Manager.
    """
    check(ctx, req)
    rows = rows_of(ctx, "Connection")
    if rows.find(req["Name"]) is not None:
        raise already(f"Connection {req['Name']}")
    if len(rows.scan(limit=MOST)) >= MOST:
        raise too_many()
    kind = req["AuthorizationType"]
    parameters = req["AuthParameters"]
    if MEMBER_OF[kind] not in parameters:
        raise invalid(f"Parameter(s) AuthParameters.{MEMBER_OF[kind]} must be specified for authorization type {kind}.")
    uid, now = ctx.ids.uuid(), ctx.clock.now()
    key = {"KmsKeyId": req["KmsKeyIdentifier"]} if req.get("KmsKeyIdentifier") else {}
    secret = secret_of(parameters)
    made = ctx.call(
        "secretsmanager", "CreateSecret", Name=f"events!connection/{req['Name']}/{uid}", SecretString=json.dumps(secret), **key
    )
    value = {
        **{name: req[name] for name in ("Name", "Description", "AuthorizationType", "KmsKeyIdentifier") if req.get(name)},
        "ConnectionArn": ctx.arn(f"connection/{req['Name']}/{ctx.ids.uuid()}", service="events"),
        "AuthParameters": public(parameters),
        "SecretArn": made["ARN"],
        "_secret": seal(ctx.cloud, secret),
        "CreationTime": now,
        "LastModifiedTime": now,
        **authorized(kind, now),
    }
    try:
        ctx.write(Insert(rows.table, req["Name"], value), *authorizing.changes(ctx, value))
    except AlreadyExists:
        forget_secret(ctx, made["ARN"])
        raise already(f"Connection {req['Name']}") from None
    authorizing.wake(ctx, value)
    return brief(value, without="LastAuthorizedTime")


@ops
def describe_connection(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """A connection without its secrets.

    Errors: ResourceNotFoundException.
    """
    return find_connection(ctx, req["Name"])


@ops
def list_connections(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Connections by name, up to 100 a page; NamePrefix and ConnectionState narrow."""
    found, token = page_of(ctx, "Connection", req, lambda one: req.get("ConnectionState") in (None, one["ConnectionState"]))
    return {"Connections": found, "NextToken": token}


@ops
def update_connection(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Change what proves who calls; what is not named stays. With OAuth, a token is fetched anew.

    Errors: ResourceNotFoundException, ValidationException.
    """
    check(ctx, req)
    there = find_connection(ctx, req["Name"])
    kind = req.get("AuthorizationType") or there["AuthorizationType"]
    parameters = req.get("AuthParameters") or {}
    if kind != there["AuthorizationType"] and MEMBER_OF[kind] not in parameters:
        raise invalid(f"Parameter(s) AuthParameters.{MEMBER_OF[kind]} must be specified for authorization type {kind}.")
    now = ctx.clock.now()
    is_same = kind == there["AuthorizationType"]
    secret = merged(unseal(ctx.cloud, there) if is_same and "_secret" in there else {}, secret_of(parameters))
    arn = there.get("SecretArn") or _new_secret(ctx, req["Name"])
    ctx.call("secretsmanager", "PutSecretValue", SecretId=arn, SecretString=json.dumps(secret))
    shown = {name: one for name, one in there["AuthParameters"].items() if is_same or name == "InvocationHttpParameters"}

    def updated(value: dict[str, Any]) -> dict[str, Any]:
        kept = {name: one for name, one in value.items() if name not in ("StateReason",)}
        given = {name: req[name] for name in ("Description", "KmsKeyIdentifier") if req.get(name)}
        return {
            **kept,
            **given,
            "AuthorizationType": kind,
            "AuthParameters": merged(shown, public(parameters)),
            "SecretArn": arn,
            "_secret": seal(ctx.cloud, secret),
            "LastModifiedTime": now,
            **authorized(kind, now),
        }

    value = change(ctx, req["Name"], updated)
    authorizing.forget(ctx.cloud, value["ConnectionArn"])
    ctx.write(*authorizing.changes(ctx, value))
    authorizing.wake(ctx, value)
    return brief(value)


@ops
def deauthorize_connection(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Throw away what proves who calls; the connection stays.

    Errors: ResourceNotFoundException.
    """
    there = find_connection(ctx, req["Name"])
    value = change(
        ctx,
        req["Name"],
        lambda value: (
            {name: one for name, one in value.items() if name not in ("SecretArn", "_secret")} | {"ConnectionState": DEAUTHORIZED}
        ),
    )
    authorizing.forget(ctx.cloud, value["ConnectionArn"])
    if "SecretArn" in there:
        forget_secret(ctx, there["SecretArn"])
    return brief(value)


@ops
def delete_connection(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Remove a connection and its secret.

    Errors: ResourceNotFoundException.
    """
    there = find_connection(ctx, req["Name"])
    try:
        ctx.write(Delete(rows_of(ctx, "Connection").table, req["Name"]))
    except NotFound:
        raise no_connection(req["Name"]) from None
    authorizing.forget(ctx.cloud, there["ConnectionArn"])
    if "SecretArn" in there:
        forget_secret(ctx, there["SecretArn"])
    return brief(there) | {"ConnectionState": "DELETING"}


# -- helpers ------------------------------------------------------------------------------------------------------------------


def check(ctx: Context, req: Mapping[str, Any]) -> None:
    is_private = (req.get("AuthParameters") or {}).get("ConnectivityParameters") or req.get("InvocationConnectivityParameters")
    if is_private:
        raise ServiceError("NotImplemented", "Private connections are not built into this cloud yet.", 501)
    endpoint = ((req.get("AuthParameters") or {}).get("OAuthParameters") or {}).get("AuthorizationEndpoint")
    if endpoint is not None and not endpoint.startswith(("https://", "http://")):
        raise invalid("Parameter AuthorizationEndpoint is not valid. Reason: it must be an HTTPS endpoint.")
    if req.get("KmsKeyIdentifier"):
        check_key(ctx, req["KmsKeyIdentifier"])


def authorized(kind: str, now: Any) -> dict[str, Any]:
    return {"ConnectionState": AUTHORIZING if kind.startswith("OAUTH") else AUTHORIZED, "LastAuthorizedTime": now}


def find_connection(ctx: Context, name: str) -> dict[str, Any]:
    found = rows_of(ctx, "Connection").find(name)
    if found is None:
        raise no_connection(name)
    return found


def change(ctx: Context, name: str, changed: Any) -> dict[str, Any]:
    try:
        return rows_of(ctx, "Connection").update(name, changed)
    except NotFound:
        raise no_connection(name) from None


def brief(value: Mapping[str, Any], without: str = "") -> dict[str, Any]:
    names = ("ConnectionArn", "ConnectionState", "CreationTime", "LastModifiedTime", "LastAuthorizedTime")
    return {name: value[name] for name in names if name in value and name != without}


def page_of(ctx: Context, noun: str, req: Mapping[str, Any], wanted: Any) -> tuple[list[dict[str, Any]], str | None]:
    """A page of rows by name that are wanted, and the token of the next."""
    limit, after = req.get("Limit") or 100, decode_token(req.get("NextToken"))
    found: list[Row] = []
    while rows := rows_of(ctx, noun).scan(prefix=req.get("NamePrefix") or "", after=after, limit=200):
        for row in rows:
            if not wanted(row.value):
                continue
            if len(found) == limit:
                return [one.value for one in found], encode_token(found[-1].id)
            found.append(row)
        after = rows[-1].id
    return [one.value for one in found], None


def forget_secret(ctx: Context, arn: str) -> None:
    try:
        ctx.call("secretsmanager", "DeleteSecret", SecretId=arn, ForceDeleteWithoutRecovery=True)
    except ServiceError as error:
        if error.code != "ResourceNotFoundException":
            raise


def _new_secret(ctx: Context, name: str) -> str:
    made = ctx.call("secretsmanager", "CreateSecret", Name=f"events!connection/{name}/{ctx.ids.uuid()}", SecretString="{}")
    return str(made["ARN"])
