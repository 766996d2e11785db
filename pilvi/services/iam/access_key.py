"""Access keys of users and of the root user. The secret is shown once, when the key is made, and kept sealed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import LimitExceeded, NotFound
from pilvi.core.service import Context, Operations
from pilvi.services.iam.entity import find, now, user_meant
from pilvi.services.iam.key_id import access_key_id, secret_context
from pilvi.services.iam.listing import page, sorted_after
from pilvi.services.iam.tables import change, entities, worldwide
from pilvi.storage.records import Change, Row, Rows

KEYS_PER_USER = 2
"""Source: IAM User Guide, "IAM and AWS STS quotas"."""

ops = Operations()


@ops
def create_access_key(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make an access key for a user, or for the caller. Its secret is answered this once.

    Errors: NoSuchEntity; LimitExceeded - there are two already.
    """
    key_id, secret = access_key_id("AKIA", ctx.account, ctx.ids), ctx.ids.secret()

    def decide() -> tuple[list[Change], dict[str, Any]]:
        rows, row, name = owner(ctx, req)
        if len(row.value["_keys"]) >= KEYS_PER_USER:
            raise LimitExceeded(f"Cannot exceed quota for AccessKeysPerUser: {KEYS_PER_USER}")
        key = {
            "UserName": name or None,
            "AccessKeyId": key_id,
            "Status": "Active",
            "CreateDate": now(ctx),
            "_account": ctx.account,
            "_user": row.id if name else "",
        }
        sealed = {**key, "_secret": ctx.keyring.seal(secret.encode(), secret_context(key_id))}
        holding = {**row.value, "_keys": [*row.value["_keys"], key_id]}
        return [rows.revision(row.id, holding, row.version), worldwide(ctx, "AccessKey").insertion(key_id, sealed)], key

    return {"AccessKey": {**change(ctx, decide), "SecretAccessKey": secret}}


@ops
def list_access_keys(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The keys of a user, or of the caller, without their secrets."""
    _, row, _ = owner(ctx, req)
    keys = worldwide(ctx, "AccessKey")
    held = {key_id: keys.get(key_id) for key_id in row.value["_keys"]}
    return page(req, "AccessKeyMetadata", lambda after: sorted_after(held, after))


@ops
def update_access_key(ctx: Context, req: Mapping[str, Any]) -> None:
    """Switch a key off or on. An inactive key is refused as if it did not exist.

    req: AccessKeyId, Status (Active, Inactive), UserName (else the caller).
    Errors: NoSuchEntity - the user has no such key.
    """

    def decide() -> tuple[list[Change], None]:
        _, row, _ = owner(ctx, req)
        keys = worldwide(ctx, "AccessKey")
        key = keys.row(req["AccessKeyId"])
        if key is None or key.id not in row.value["_keys"]:
            raise missing(req)
        return [keys.revision(key.id, {**key.value, "Status": req["Status"]}, key.version)], None

    change(ctx, decide)


@ops
def delete_access_key(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove a key for good.

    Errors: NoSuchEntity - the user has no such key.
    """

    def decide() -> tuple[list[Change], None]:
        rows, row, _ = owner(ctx, req)
        key_id = req["AccessKeyId"]
        if key_id not in row.value["_keys"]:
            raise missing(req)
        left = {**row.value, "_keys": [other for other in row.value["_keys"] if other != key_id]}
        return [rows.revision(row.id, left, row.version), worldwide(ctx, "AccessKey").deletion(key_id)], None

    change(ctx, decide)


# -- whose --------------------------------------------------------------------------------------------------------------


def owner(ctx: Context, req: Mapping[str, Any]) -> tuple[Rows, Row, str]:
    """The row that holds the keys, its table, and the user's name ('' for the root user)."""
    if name := user_meant(ctx, req):
        row = find(ctx, "User", name)
        return entities(ctx, "User"), row, row.value["UserName"]
    accounts = worldwide(ctx, "Account")
    row_of_root = accounts.row(ctx.account)
    if row_of_root is None:
        raise NotFound(f"The user with name {ctx.account} cannot be found.")
    return accounts, row_of_root, ""


def missing(req: Mapping[str, Any]) -> NotFound:
    return NotFound(f"The Access Key with id {req['AccessKeyId']} cannot be found.")
