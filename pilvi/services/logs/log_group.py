"""Log groups: where streams live, how long their events are kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pilvi.core.arn import Arn
from pilvi.core.errors import AlreadyExists, Invalid, NotFound, ServiceError, Unsupported
from pilvi.core.paging import decode_token, encode_token
from pilvi.core.service import Context, Operations
from pilvi.services.logs import event_store
from pilvi.services.logs.access import group_name_of

ops = Operations()

RETENTION_DAYS = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653)
"""Source: the documentation of PutRetentionPolicy's retentionInDays."""
PAGE_LIMIT = 50


@ops
def create_log_group(ctx: Context, req: Mapping[str, Any]) -> None:
    """Create a group whose events never expire until a retention is set.

    req: logGroupName (1-512), tags (at most 50), deletionProtectionEnabled.
    Errors: ResourceAlreadyExistsException - the name is taken. InvalidParameterException - it starts with `aws/`.
    Differs: only the STANDARD class is built, and no customer key; both answer NotImplemented. Events are sealed with the server's key.
    """
    name = req["logGroupName"]
    if name.startswith("aws/"):
        raise Invalid("Log groups starting with 'aws/' are reserved for AWS.")
    if req.get("kmsKeyId"):
        raise Unsupported("logs CreateLogGroup with kmsKeyId is not built.")
    if req.get("logGroupClass", "STANDARD") != "STANDARD":
        raise Unsupported(f"logs CreateLogGroup with logGroupClass {req['logGroupClass']} is not built.")
    event_store.purge_removed(ctx)
    group = {
        "logGroupName": name,
        "creationTime": event_store.now_ms(ctx),
        "metricFilterCount": 0,
        "arn": f"{group_arn(ctx, name)}:*",
        "logGroupArn": group_arn(ctx, name),
        "logGroupClass": "STANDARD",
        "deletionProtectionEnabled": bool(req.get("deletionProtectionEnabled")),
        "_uid": ctx.ids.hex(16),
        "_tags": dict(req.get("tags") or {}),
    }
    try:
        ctx.records("LogGroup").insert(name, group)
    except AlreadyExists:
        raise AlreadyExists("The specified log group already exists") from None


@ops
def describe_log_groups(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Groups in the order of their names, with the bytes they really occupy.

    req: logGroupNamePrefix or logGroupNamePattern (a case-sensitive part of the name), logGroupIdentifiers, limit (at most 50).
    Errors: InvalidParameterException - prefix and pattern together.
    Differs: storedBytes is exact and current (compressed and sealed); AWS updates it now and then. No linked accounts.
    """
    prefix, pattern = req.get("logGroupNamePrefix") or "", req.get("logGroupNamePattern") or ""
    if prefix and pattern:
        raise Invalid("LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.")
    if identifiers := req.get("logGroupIdentifiers"):
        if prefix or pattern or req.get("logGroupClass"):
            raise Invalid("logGroupIdentifiers cannot be combined with other filters.")
        names = sorted({group_name_of(identifier) for identifier in identifiers})
        found = [group for name in names if (group := ctx.records("LogGroup").find(name))]
        return {"logGroups": [described(ctx, group) for group in found]}
    groups, token = page(
        ctx,
        req,
        lambda group: (
            pattern in group["logGroupName"] and req.get("logGroupClass", group["logGroupClass"]) == group["logGroupClass"]
        ),
        prefix,
    )
    if pattern:
        wanted = ("arn", "creationTime", "logGroupName")
        return {"logGroups": [{key: group[key] for key in wanted} for group in groups], "nextToken": token}
    return {"logGroups": [described(ctx, group) for group in groups], "nextToken": token}


@ops
def list_log_groups(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Names, ARNs and classes of groups.

    req: logGroupNamePattern (alternatives joined by `|`, each a part of the name, `^` binds it to the start), limit (at most 1,000).
    Differs: filters by data source, field index or tag answer NotImplemented.
    """
    for member in ("dataSources", "fieldIndexNames", "logGroupTags"):
        if req.get(member):
            raise Unsupported(f"logs ListLogGroups with {member} is not built.")
    wanted = [re.compile(re.escape(part.lstrip("^"))) for part in (req.get("logGroupNamePattern") or "").split("|")]
    anchored = [part.startswith("^") for part in (req.get("logGroupNamePattern") or "").split("|")]

    def chosen(group: Mapping[str, Any]) -> bool:
        name, of_class = group["logGroupName"], req.get("logGroupClass")
        if of_class and of_class != group["logGroupClass"]:
            return False
        return any((part.match if start else part.search)(name) for part, start in zip(wanted, anchored, strict=True))

    groups, token = page(ctx, req, chosen)
    return {"logGroups": groups, "nextToken": token}


@ops
def put_retention_policy(ctx: Context, req: Mapping[str, Any]) -> None:
    """Keep events for a number of days; older ones are gone from the next read on, and removed from the disk.

    Errors: InvalidParameterException - not one of the allowed numbers. ResourceNotFoundException - no such group.
    """
    if req["retentionInDays"] not in RETENTION_DAYS:
        raise Invalid(
            f"1 validation error detected: Value '{req['retentionInDays']}' at 'retentionInDays' failed to satisfy constraint: "
            f"Member must satisfy enum value set: [{', '.join(map(str, RETENTION_DAYS))}]"
        )
    changed = change(ctx, req["logGroupName"], lambda group: group | {"retentionInDays": req["retentionInDays"]})
    event_store.sweep(ctx, changed, force=True)


@ops
def delete_retention_policy(ctx: Context, req: Mapping[str, Any]) -> None:
    """Keep events for ever from now on.

    Errors: ResourceNotFoundException - no such group.
    """
    change(ctx, req["logGroupName"], lambda group: {key: value for key, value in group.items() if key != "retentionInDays"})


@ops
def put_log_group_deletion_protection(ctx: Context, req: Mapping[str, Any]) -> None:
    """Refuse to delete this group, or stop refusing.

    Errors: ResourceNotFoundException - no such group.
    """
    name = find_group(ctx, {"logGroupIdentifier": req["logGroupIdentifier"]})["logGroupName"]
    change(ctx, name, lambda group: group | {"deletionProtectionEnabled": req["deletionProtectionEnabled"]})


@ops
def delete_log_group(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove a group with its streams and events: unreachable at once, then wiped; a wipe cut short goes on later.

    Errors: ResourceNotFoundException - no such group. ValidationException - deletion protection is on.
    """
    row = ctx.records("LogGroup").row(req["logGroupName"])
    if row is None:
        raise NotFound("The specified log group does not exist.")
    if row.value.get("deletionProtectionEnabled"):
        raise ServiceError("ValidationException", "The log group cannot be deleted because deletion protection is enabled.")
    ctx.write(
        ctx.records("LogGroup").deletion(row.id),
        event_store.removal_of_group(ctx, row.value["_uid"]),
    )
    event_store.purge_removed(ctx)


# -- for the other nouns ------------------------------------------------------------------------------------------------


def group_arn(ctx: Context, name: str) -> str:
    return ctx.arn(f"log-group:{name}")


def find_group(ctx: Context, req: Mapping[str, Any]) -> dict[str, Any]:
    """The group a request names by logGroupName or by logGroupIdentifier (a name or an ARN); exactly one of them."""
    name, identifier = req.get("logGroupName"), req.get("logGroupIdentifier")
    if bool(name) == bool(identifier):
        raise Invalid("Exactly one of logGroupName and logGroupIdentifier must be provided.")
    if identifier and (arn := Arn.parse(identifier)) is not None and (arn.account, arn.region) != (ctx.account, ctx.region):
        raise NotFound("The specified log group does not exist.")
    group = ctx.records("LogGroup").find(name or group_name_of(identifier or ""))
    if group is None:
        raise NotFound("The specified log group does not exist.")
    return group


def change(ctx: Context, name: str, changed: Any) -> dict[str, Any]:
    """Read, change, write a group."""
    try:
        return ctx.records("LogGroup").update(name, changed)
    except NotFound:
        raise NotFound("The specified log group does not exist.") from None


def page(ctx: Context, req: Mapping[str, Any], chosen: Any, prefix: str = "") -> tuple[list[dict[str, Any]], str | None]:
    """One page of the groups that are chosen, and the token of the next."""
    limit = req.get("limit") or PAGE_LIMIT
    after = decode_token(req.get("nextToken"))
    found: list[dict[str, Any]] = []
    while rows := ctx.records("LogGroup").scan(prefix=prefix, after=after, limit=limit + 1):
        for row in rows:
            if chosen(row.value):
                if len(found) == limit:
                    return found, encode_token(found[-1]["logGroupName"])
                found.append(row.value)
        after = rows[-1].id
    return found, None


def described(ctx: Context, group: Mapping[str, Any]) -> dict[str, Any]:
    return {**group, "storedBytes": event_store.stored_bytes(ctx, group)}
