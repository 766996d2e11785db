"""Aliases: names that stand for keys, and may come to stand for others. `alias/aws/...` are AWS's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pilvi.core.errors import AlreadyExists, Conflict, ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.kms import managed
from pilvi.services.kms import spec as kinds
from pilvi.services.kms.errors import limit_exceeded, no_alias, validation
from pilvi.services.kms.keys import Key, arn_of, check_changeable, find, look
from pilvi.services.kms.listing import page_of
from pilvi.storage.records import Update

ops = Operations()

PER_KEY: Final = 50
_PREFIX: Final = "alias/"


@ops
def create_alias(ctx: Context, req: Mapping[str, Any]) -> None:
    """Give a key of this account and Region a name.

    req: AliasName ("alias/..."), TargetKeyId (id or ARN).
    Errors: AlreadyExistsException. NotFoundException. ValidationException - no alias. NotAuthorizedException - alias/aws/ is AWS's.
    LimitExceededException - 50 of one key. KMSInvalidStateException - the key is pending deletion.
    """
    name = _checked_name(req["AliasName"])
    now = ctx.clock.now()
    while True:
        key = find(ctx, req["TargetKeyId"], aliases=False)
        check_changeable(ctx, key, key.row)
        record = {"AliasName": name, "TargetKeyId": key.id, "CreationDate": now, "LastUpdatedDate": now}
        try:
            ctx.write(ctx.records("Alias").insertion(name, record), _names_of(ctx, key, add=name))
        except AlreadyExists:
            raise ServiceError(
                "AlreadyExistsException", f"An alias with the name {arn_of(ctx.account, ctx.region, name)} already exists"
            ) from None
        except Conflict:
            continue
        return


@ops
def update_alias(ctx: Context, req: Mapping[str, Any]) -> None:
    """Let an alias stand for another key of the same kind and use.

    Errors: NotFoundException - alias or key. ValidationException - the keys differ in kind or use. KMSInvalidStateException.
    LimitExceededException.
    """
    name = _checked_name(req["AliasName"])
    while True:
        row = ctx.records("Alias").row(name)
        if row is None:
            raise no_alias(arn_of(ctx.account, ctx.region, name))
        new = find(ctx, req["TargetKeyId"], aliases=False)
        check_changeable(ctx, new, new.row)
        old = look(ctx.cloud, ctx.account, ctx.region, row.value["TargetKeyId"])
        if old is not None and _kind(old) != _kind(new):
            raise validation(f"{new.arn} is not of the same type and usage as the key that {name} stands for.")
        record = row.value | {"TargetKeyId": new.id, "LastUpdatedDate": ctx.clock.now()}
        changes = [ctx.records("Alias").revision(name, record, row.version)]
        if old is None or old.id != new.id:
            changes.append(_names_of(ctx, new, add=name))
            changes += [_names_of(ctx, old, remove=name)] if old is not None else []
        try:
            ctx.write(*changes)
        except Conflict:
            continue
        return


@ops
def delete_alias(ctx: Context, req: Mapping[str, Any]) -> None:
    """Take a name away; the key stays.

    Errors: NotFoundException. NotAuthorizedException - one of AWS's.
    """
    name = _checked_name(req["AliasName"])
    while True:
        row = ctx.records("Alias").row(name)
        if row is None:
            raise no_alias(arn_of(ctx.account, ctx.region, name))
        key = look(ctx.cloud, ctx.account, ctx.region, row.value["TargetKeyId"])
        try:
            ctx.write(
                ctx.records("Alias").deletion(name, row.version), *([_names_of(ctx, key, remove=name)] if key is not None else [])
            )
        except Conflict:
            continue
        return


@ops
def list_aliases(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Aliases by name, of one key or all; AWS's own too, without a key until they are first used.

    req: KeyId (id or ARN), Limit (1-100, default 50), Marker.
    Errors: NotFoundException. InvalidArnException. InvalidMarkerException.
    """
    rows = {row["AliasName"]: row for row in ctx.records("Alias").all()}
    if req.get("KeyId"):
        key = find(ctx, req["KeyId"], aliases=False)
        found = [row for row in rows.values() if row["TargetKeyId"] == key.id]
    else:
        unused = [
            {"AliasName": f"{managed.PREFIX}{name}"} for name in managed.DESCRIPTIONS if f"{managed.PREFIX}{name}" not in rows
        ]
        there = [row for row in rows.values() if look(ctx.cloud, ctx.account, ctx.region, row["TargetKeyId"]) is not None]
        found = sorted([*there, *unused], key=lambda row: str(row["AliasName"]))
    items, more = page_of(found, req, default=50)
    return {"Aliases": [{**row, "AliasArn": arn_of(ctx.account, ctx.region, row["AliasName"])} for row in items], **more}


# -- names ------------------------------------------------------------------------------------------------------------------


def _checked_name(name: str) -> str:
    if not name.startswith(_PREFIX) or name == _PREFIX:
        raise validation(
            'Alias must start with the prefix "alias/". Please see https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html'
        )
    if ":" in name:
        raise ServiceError("InvalidAliasNameException", f"{name} contains invalid characters for an alias")
    if name.startswith(managed.PREFIX):
        raise ServiceError("NotAuthorizedException", "")
    return name


def _names_of(ctx: Context, key: Key, *, add: str = "", remove: str = "") -> Update:
    """The change of a key's own list of its aliases, by which policies see them."""
    row = ctx.records("Key").row(key.id)
    if row is None:
        raise Conflict
    names = [name for name in row.value["_aliases"] if name not in (add, remove)] + ([add] if add else [])
    if add and len(names) > PER_KEY:
        raise limit_exceeded(f"The number of aliases of {key.arn} exceeds the limit of {PER_KEY}.")
    return Update(ctx.records("Key").table, key.id, row.value | {"_aliases": names}, row.version)


def _kind(key: Key) -> tuple[bool, str]:
    return kinds.is_asymmetric(key.spec), key.usage
