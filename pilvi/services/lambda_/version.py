"""Published versions: numbered, frozen copies of a function's code and settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pilvi.core.errors import Conflict
from pilvi.core.paging import decode_token, encode_token
from pilvi.core.service import Context, Operations
from pilvi.services.lambda_.names import LATEST, FunctionRef, function_not_found, function_ref, invalid, stale_revision, version_id
from pilvi.services.lambda_.settings import listed, shown
from pilvi.storage.records import Change

if TYPE_CHECKING:
    from types_boto3_lambda import type_defs as t

ops = Operations()


@ops
def publish_version(ctx: Context, req: t.PublishVersionRequestTypeDef) -> Mapping[str, Any]:
    """Freeze $LATEST under the next number; the last version again when nothing has changed since.

    req: FunctionName, CodeSha256 and RevisionId (publish only that), Description (else $LATEST's).
    Errors: ResourceNotFoundException; InvalidParameterValueException - CodeSha256 is another; PreconditionFailedException.
    Source: Lambda API reference, PublishVersion; developer guide, "Manage Lambda function versions".
    """
    ref = function_ref(ctx, req)
    functions = ctx.records("Function")
    while True:
        row = functions.row(ref.name)
        if row is None:
            raise function_not_found(ref)
        if req.get("RevisionId") not in (None, row.value["RevisionId"]):
            raise stale_revision()
        if req.get("CodeSha256") not in (None, "", row.value["CodeSha256"]):
            raise invalid(
                f"CodeSHA256 ({req['CodeSha256']}) is different from current CodeSHA256 in $LATEST ({row.value['CodeSha256']}). "
                "Please try again with the CodeSHA256 in $LATEST."
            )
        published = publish(ctx, row.value, req.get("Description"))
        if published is None:
            last = newest(ctx, ref.name)
            assert last is not None
            return shown(ctx, last)
        record, version, changes = published
        try:
            ctx.write(functions.revision(ref.name, record, row.version), *changes)
        except Conflict:
            continue
        return shown(ctx, version)


@ops
def list_versions_by_function(ctx: Context, req: t.ListVersionsByFunctionRequestTypeDef) -> Mapping[str, Any]:
    """$LATEST, then every version in order of its number.

    Source: Lambda API reference, ListVersionsByFunction (at most 50 a page).
    """
    ref = function_ref(ctx, req)
    latest = ctx.records("Function").find(ref.name)
    if latest is None:
        raise function_not_found(ref)
    after, limit = decode_token(req.get("Marker")), min(req.get("MaxItems") or 50, 50)
    found = [] if after else [listed(ctx, latest, f"{latest['FunctionArn']}:{LATEST}")]
    rows = ctx.records("Version").scan(prefix=f"{ref.name}/", after=after or f"{ref.name}/", limit=limit + 1)
    room = limit - len(found)
    found += [listed(ctx, row.value) for row in rows[:room]]
    if len(rows) <= room:
        return {"Versions": found}
    return {"Versions": found, "NextMarker": encode_token(rows[room - 1].id if room else f"{ref.name}/")}


def publish(
    ctx: Context, latest: Mapping[str, Any], description: str | None
) -> tuple[dict[str, Any], dict[str, Any], list[Change]] | None:
    """$LATEST after publishing, the new version, and the changes that make it; None when there is nothing to publish."""
    if not latest["_changed"] and newest(ctx, latest["FunctionName"]) is not None:
        return None
    number = str(latest["_next"])
    version = {
        **{
            key: value
            for key, value in latest.items()
            if key not in ("_tags", "_reserved", "_next", "_changed", "_recursion", "_runtime_management")
        },
        "Version": number,
        "FunctionArn": f"{latest['FunctionArn']}:{number}",
        "RevisionId": ctx.ids.uuid(),
    }
    if description is not None:
        version["Description"] = description
    record = {**latest, "_next": latest["_next"] + 1, "_changed": False, "RevisionId": ctx.ids.uuid()}
    insertion = ctx.records("Version").insertion(version_id(latest["FunctionName"], number), version)
    return record, version, [insertion]


def newest(ctx: Context, name: str) -> dict[str, Any] | None:
    """The version with the highest number that still exists."""
    rows = ctx.records("Version").scan(prefix=f"{name}/", limit=1, reverse=True)
    return rows[0].value if rows else None


def versions_of(ctx: Context, name: str) -> list[dict[str, Any]]:
    return ctx.records("Version").all(prefix=f"{name}/")


def find_version(ctx: Context, ref: FunctionRef) -> dict[str, Any]:
    """The record a reference means: $LATEST, a version, or the version an alias points to."""
    functions = ctx.records("Function", account=ref.account)
    latest = functions.find(ref.name)
    if latest is None:
        raise function_not_found(ref)
    wanted = ref.version_or_alias
    if not wanted:
        return latest
    if not wanted.isdigit():
        alias = ctx.records("Alias", account=ref.account).find(f"{ref.name}/{wanted}")
        if alias is None:
            raise function_not_found(ref)
        wanted = alias["FunctionVersion"]
        if wanted == LATEST:
            return latest
    found = ctx.records("Version", account=ref.account).find(version_id(ref.name, wanted))
    if found is None:
        raise function_not_found(ref)
    return found
