"""What access points of both kinds have in common: a row under their ARN on the shelf of the buckets, and one under their alias."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from pilvi.core.errors import AlreadyExists, Conflict, Invalid, ServiceError
from pilvi.core.paging import decode_token, encode_token
from pilvi.core.service import Context
from pilvi.services.s3control.errors import invalid_request
from pilvi.storage.records import Delete, Insert, Row, Table, Update

SHELF: Final = "s3bucket"
ALIASES = Table("", "", SHELF, "Alias")
ALIAS_SUFFIXES: Final = ("-s3alias", "--ol-s3")
"""Of access points, and of Object Lambda access points."""

_ALIAS_BYTES = 63
_NAME = re.compile(r"[a-z0-9][a-z0-9-]+[a-z0-9]\Z")
_SCAN = 1000


def check_name(name: str, longest: int) -> None:
    """Three to `longest` characters. Errors: InvalidAccessPoint."""
    fits = 3 <= len(name) <= longest and _NAME.match(name) is not None
    if not fits or name.startswith("xn--") or name.endswith(ALIAS_SUFFIXES):
        raise ServiceError("InvalidAccessPoint", "The specified access point name or account is not valid.", 400)


def check_room(ctx: Context, table: Table, prefix: str, limit: int) -> None:
    """Errors: TooManyAccessPoints."""
    if len(ctx.store.scan(table, prefix=prefix, limit=limit)) >= limit:
        raise ServiceError(
            "TooManyAccessPoints", "You have attempted to create more access points than are allowed for an account.", 400
        )


def alias_for(ctx: Context, name: str, suffix: str) -> str:
    """`NAME-34 letters` and the suffix, as long as a bucket's name may be."""
    stem = name[: _ALIAS_BYTES - 35 - len(suffix)].rstrip("-")
    return f"{stem}-{ctx.ids.hex(34)}{suffix}"


def insert(ctx: Context, table: Table, arn: str, value: dict[str, Any]) -> None:
    """Errors: AccessPointAlreadyOwnedByYou."""
    try:
        ctx.write(Insert(table, arn, value), Insert(ALIASES, value["Alias"], {"Arn": arn}))
    except AlreadyExists:
        raise ServiceError(
            "AccessPointAlreadyOwnedByYou", "An access point with an identical name already exists in your account.", 409
        ) from None


def find(ctx: Context, table: Table, arn: str, name: str) -> Row:
    """Errors: NoSuchAccessPoint."""
    row = ctx.store.get(table, arn)
    if row is None:
        raise ServiceError("NoSuchAccessPoint", "The specified accesspoint does not exist", 404, AccessPointName=name)
    return row


def page(
    ctx: Context, table: Table, prefix: str, req: Mapping[str, Any], wanted: Callable[[Row], bool] = lambda _: True
) -> tuple[list[Row], dict[str, Any]]:
    """The rows of a page (MaxResults, 1,000; NextToken), by name, and what the answer says of the next. Errors: InvalidRequest."""
    limit = req.get("MaxResults") or _SCAN
    try:
        after = decode_token(req.get("NextToken"))
    except Invalid:
        raise invalid_request("The continuation token provided is incorrect") from None
    found: list[Row] = []
    while len(found) <= limit:
        rows = ctx.store.scan(table, prefix=prefix, after=after, limit=_SCAN)
        found += filter(wanted, rows)
        if len(rows) < _SCAN:
            break
        after = rows[-1].id
    return found[:limit], {"NextToken": encode_token(found[limit - 1].id)} if len(found) > limit else {}


def with_policy(row: Row) -> dict[str, Any]:
    """Errors: NoSuchAccessPointPolicy."""
    if "Policy" not in row.value:
        raise ServiceError(
            "NoSuchAccessPointPolicy", "The specified accesspoint policy does not exist", 404, AccessPointName=row.value["Name"]
        )
    return row.value


def change(ctx: Context, table: Table, look_up: Callable[[], Row], **members: Any) -> None:
    """Set members of a row; None removes one. Again when somebody else changed it in between."""
    while True:
        row = look_up()
        value = {key: member for key, member in {**row.value, **members}.items() if member is not None}
        try:
            ctx.write(Update(table, row.id, value, row.version))
        except Conflict:
            continue
        return


def delete(ctx: Context, table: Table, row: Row) -> None:
    """With its policy and its alias."""
    ctx.write(Delete(table, row.id, row.version), Delete(ALIASES, row.value["Alias"]))
