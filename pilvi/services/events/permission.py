"""Who else may use a bus: statements of its policy, one by one or as a whole.

Source: EventBridge API reference, PutPermission, RemovePermission; user guide, "Permissions for Amazon EventBridge event buses".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from pilvi.auth.policy import MalformedPolicy, parse
from pilvi.core.arn import partition_of
from pilvi.core.errors import ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.events.bus import changed
from pilvi.services.events.buses import Place, find_bus
from pilvi.services.events.errors import bad_parameter, invalid, not_found

ops = Operations()

MOST_BYTES: Final = 10_240


@ops
def put_permission(ctx: Context, req: Mapping[str, Any]) -> None:
    """Let an account, an organisation or everybody put events on a bus; or (Policy) say all of its policy at once.

    req: StatementId, Principal (12 digits or *), Action (events:PutEvents); Condition (StringEquals on aws:PrincipalOrgID).
    Errors: ResourceNotFoundException. ValidationException. PolicyLengthExceededException - over 10 KB.
    """
    bus = find_bus(ctx, req.get("EventBusName"))
    if req.get("Policy"):
        changed(ctx, bus.place, lambda value: value | {"Policy": whole(req)})
        return
    for name in ("Action", "Principal", "StatementId"):
        if not req.get(name):
            raise invalid(f"Parameter(s) {name} must be specified.")
    if req["Action"] != "events:PutEvents":
        raise bad_parameter("Action", "Provided value in parameter 'action' is not supported.")
    statement = statement_of(bus.place, req)
    changed(ctx, bus.place, lambda value: value | {"Policy": with_statement(value.get("Policy"), statement)})


@ops
def remove_permission(ctx: Context, req: Mapping[str, Any]) -> None:
    """Take a statement, or all of them, out of a bus's policy.

    Errors: ResourceNotFoundException - the bus, its policy or the statement is not there.
    """
    bus = find_bus(ctx, req.get("EventBusName"))
    if req.get("RemoveAllPermissions"):
        if bus.policy is not None:
            changed(ctx, bus.place, without_policy)
        return
    if not req.get("StatementId"):
        raise bad_parameter("StatementId", "Parameter StatementId must be specified when RemoveAllPermissions is not set.")
    if bus.policy is None:
        raise no_statement()
    changed(ctx, bus.place, lambda value: without(value, req["StatementId"]))


def whole(req: Mapping[str, Any]) -> str:
    """A policy given as a document."""
    text: str = req["Policy"]
    check_length(text)
    try:
        parse(text, "resource")
    except MalformedPolicy as error:
        raise bad_parameter("Policy", str(error)) from error
    return text


def statement_of(place: Place, req: Mapping[str, Any]) -> dict[str, Any]:
    principal = req["Principal"]
    found: dict[str, Any] = {
        "Sid": req["StatementId"],
        "Effect": "Allow",
        "Principal": "*" if principal == "*" else {"AWS": f"arn:{partition_of(place.region)}:iam::{principal}:root"},
        "Action": "events:PutEvents",
        "Resource": place.arn,
    }
    if condition := req.get("Condition"):
        if condition["Type"] != "StringEquals" or condition["Key"] != "aws:PrincipalOrgID" or principal != "*":
            raise bad_parameter("Condition", "Only StringEquals on aws:PrincipalOrgID, for the principal *, is supported.")
        found["Condition"] = {condition["Type"]: {condition["Key"]: condition["Value"]}}
    return found


def with_statement(policy: str | None, statement: Mapping[str, Any]) -> str:
    """A policy in which a statement stands under its id."""
    document = json.loads(policy) if policy else {"Version": "2012-10-17", "Statement": []}
    others = [one for one in statements_of(document) if one.get("Sid") != statement["Sid"]]
    text = json.dumps({**document, "Statement": [*others, statement]}, separators=(",", ":"))
    check_length(text)
    return text


def without(value: dict[str, Any], sid: str) -> dict[str, Any]:
    document = json.loads(value.get("Policy") or '{"Statement": []}')
    kept = [one for one in statements_of(document) if one.get("Sid") != sid]
    if len(kept) == len(statements_of(document)):
        raise no_statement()
    if not kept:
        return without_policy(value)
    return value | {"Policy": json.dumps({**document, "Statement": kept}, separators=(",", ":"))}


def without_policy(value: dict[str, Any]) -> dict[str, Any]:
    return {name: one for name, one in value.items() if name != "Policy"}


def statements_of(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = document["Statement"]
    return list(found) if isinstance(found, list) else [found]


def no_statement() -> ServiceError:
    return not_found("Statement with the provided id does not exist.")


def check_length(text: str) -> None:
    if len(text.encode()) > MOST_BYTES:
        raise ServiceError("PolicyLengthExceededException", "The resource policy exceeds the maximum length of 10240 bytes.", 400)
