"""IAM users.

Source of every operation: IAM API reference; texts of errors as quoted in public issue trackers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import AlreadyExists, InUse
from pilvi.core.service import Context, Operations
from pilvi.services.iam import usage
from pilvi.services.iam.entity import arn_of, boundary_shown, find, now, tagged, tags_by_key, untagged, user_meant
from pilvi.services.iam.listing import page, rows_after, sorted_after
from pilvi.services.iam.tables import change, entities, worldwide
from pilvi.storage.records import Change, Row

ops = Operations()


@ops
def create_user(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Create a user, who may do nothing yet.

    req: UserName (1-64), Path ('/'), PermissionsBoundary (ARN of a managed policy), Tags (at most 50).
    Errors: EntityAlreadyExists - the name is taken in this account, in whatever case; NoSuchEntity - no such boundary policy.
    """
    name, path = req["UserName"], req.get("Path", "/")
    user = {
        "Path": path,
        "UserName": name,
        "UserId": ctx.ids.iam("AIDA"),
        "Arn": arn_of(ctx.account, "user", path, name),
        "CreateDate": now(ctx),
        "Tags": tagged((), req.get("Tags", ()), "User"),
        "_attached": [],
        "_inline": {},
        "_groups": [],
        "_keys": [],
        "_boundary": req.get("PermissionsBoundary"),
    }

    def decide() -> tuple[list[Change], None]:
        users = entities(ctx, "User")
        if users.find(name.lower()) is not None:
            raise AlreadyExists(f"User with name {name} already exists.")
        return [users.insertion(name.lower(), user), *usage.boundary_changes(ctx, "User", {}, user)], None

    change(ctx, decide)
    return {"User": shown(user)}


@ops
def get_user(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """One user: the named one, else the caller; the root user has neither path nor name.

    Errors: NoSuchEntity; ValidationError - no name, called by a role.
    """
    name = user_meant(ctx, req)
    if not name:
        account = worldwide(ctx, "Account").get(ctx.account)
        return {"User": {"UserId": ctx.account, "Arn": ctx.principal.arn, "CreateDate": account["CreateDate"]}}
    return {"User": shown(find(ctx, "User", name).value)}


@ops
def list_users(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Users by name, optionally under a path; without tags and boundaries, as on AWS."""
    prefix = req.get("PathPrefix", "/")
    return page(
        req,
        "Users",
        lambda after: (
            (id, {**user, "Tags": None}) for id, user in rows_after(entities(ctx, "User"), after) if user["Path"].startswith(prefix)
        ),
    )


@ops
def update_user(ctx: Context, req: Mapping[str, Any]) -> None:
    """Rename a user or move it to another path. Its keys, groups and policies go with it; its ARN changes.

    Errors: NoSuchEntity; EntityAlreadyExists - the new name is another user's.
    """

    def decide() -> tuple[list[Change], None]:
        row = find(ctx, "User", req["UserName"])
        name, path = req.get("NewUserName", row.value["UserName"]), req.get("NewPath", row.value["Path"])
        moved = {**row.value, "UserName": name, "Path": path, "Arn": arn_of(ctx.account, "user", path, name)}
        users = entities(ctx, "User")
        if name.lower() == row.id:
            return [users.revision(row.id, moved, row.version)], None
        if users.find(name.lower()) is not None:
            raise AlreadyExists(f"User with name {name} already exists.")
        return [users.deletion(row.id, row.version), users.insertion(name.lower(), moved), *moves(ctx, row, moved)], None

    change(ctx, decide)


def moves(ctx: Context, row: Row, moved: Mapping[str, Any]) -> list[Change]:
    """What else names a user, under its new name."""
    new = moved["UserName"].lower()
    memberships, keys = entities(ctx, "Membership"), worldwide(ctx, "AccessKey")
    changes: list[Change] = []
    for group in row.value["_groups"]:
        changes += [memberships.deletion(f"{group}\t{row.id}"), memberships.insertion(f"{group}\t{new}", {})]
    for key_id in row.value["_keys"]:
        key = keys.row(key_id)
        if key is not None:
            value = {**key.value, "_user": new, "UserName": moved["UserName"]}
            changes.append(keys.revision(key_id, value, key.version))
    devices = entities(ctx, "MFADevice")
    for serial in row.value.get("_mfa", ()):
        if (device := devices.row(serial)) is not None:
            changes.append(devices.revision(serial, {**device.value, "_user": new, "UserName": moved["UserName"]}, device.version))
    return changes + usage.renames(ctx, "User", row.value, moved)


@ops
def delete_user(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove a user who holds nothing any more.

    Errors: NoSuchEntity; DeleteConflict - it still has access keys, policies or groups.
    """

    def decide() -> tuple[list[Change], None]:
        row = find(ctx, "User", req["UserName"])
        refuse_while_needed(row.value)
        return [entities(ctx, "User").deletion(row.id, row.version), *usage.boundary_changes(ctx, "User", row.value, {})], None

    change(ctx, decide)


def refuse_while_needed(user: Mapping[str, Any]) -> None:
    for held, what in (
        ("_keys", "delete access keys"),
        ("_mfa", "delete MFA device"),
        ("_attached", "detach all policies"),
        ("_inline", "delete policies"),
        ("_groups", "remove users from group"),
    ):
        if user.get(held):
            raise InUse(f"Cannot delete entity, must {what} first.")


@ops
def tag_user(ctx: Context, req: Mapping[str, Any]) -> None:
    """Add tags to a user, or change their values."""
    row = find(ctx, "User", req["UserName"])
    entities(ctx, "User").update(row.id, lambda user: {**user, "Tags": tagged(user["Tags"], req["Tags"], "User")})


@ops
def untag_user(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove tags from a user by key; keys it does not have are no error."""
    row = find(ctx, "User", req["UserName"])
    entities(ctx, "User").update(row.id, lambda user: {**user, "Tags": untagged(user["Tags"], req["TagKeys"])})


@ops
def list_user_tags(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """A user's tags, by key."""
    user = find(ctx, "User", req["UserName"]).value
    return page(req, "Tags", lambda after: sorted_after(tags_by_key(user), after))


def shown(user: Mapping[str, Any]) -> dict[str, Any]:
    return {**user, "Tags": user["Tags"] or None, "PermissionsBoundary": boundary_shown(user)}
