"""IAM groups: users who share policies. Groups do not nest and have no credentials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import AlreadyExists, InUse, LimitExceeded
from pilvi.core.service import Context, Operations
from pilvi.services.iam import usage
from pilvi.services.iam.entity import arn_of, find, now
from pilvi.services.iam.listing import page, rows_after, sorted_after
from pilvi.services.iam.tables import change, entities
from pilvi.storage.records import Change, Row

GROUPS_PER_USER = 10
"""Source: IAM User Guide, "IAM and AWS STS quotas"."""

ops = Operations()


@ops
def create_group(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Create a group.

    req: GroupName (1-128), Path ('/').
    Errors: EntityAlreadyExists - the name is taken in this account, in whatever case.
    """
    name, path = req["GroupName"], req.get("Path", "/")
    group = {
        "Path": path,
        "GroupName": name,
        "GroupId": ctx.ids.iam("AGPA"),
        "Arn": arn_of(ctx.account, "group", path, name),
        "CreateDate": now(ctx),
        "_attached": [],
        "_inline": {},
    }

    def decide() -> tuple[list[Change], None]:
        groups = entities(ctx, "Group")
        if groups.find(name.lower()) is not None:
            raise AlreadyExists(f"Group with name {name} already exists.")
        return [groups.insertion(name.lower(), group)], None

    change(ctx, decide)
    return {"Group": group}


@ops
def get_group(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """A group and a page of its members.

    Errors: NoSuchEntity.
    """
    row = find(ctx, "Group", req["GroupName"])
    return {"Group": row.value, **page(req, "Users", lambda after: members_after(ctx, row.id, after))}


@ops
def list_groups(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Groups by name, optionally under a path."""
    prefix = req.get("PathPrefix", "/")
    return page(
        req,
        "Groups",
        lambda after: (pair for pair in rows_after(entities(ctx, "Group"), after) if pair[1]["Path"].startswith(prefix)),
    )


@ops
def list_groups_for_user(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The groups a user is in.

    Errors: NoSuchEntity - no such user.
    """
    groups = entities(ctx, "Group")
    held = {name: groups.get(name) for name in find(ctx, "User", req["UserName"]).value["_groups"]}
    return page(req, "Groups", lambda after: sorted_after(held, after))


@ops
def add_user_to_group(ctx: Context, req: Mapping[str, Any]) -> None:
    """Put a user into a group; harmless when it is in there.

    Errors: NoSuchEntity - no such user or group; LimitExceeded - the user is in 10 groups.
    """

    def decide() -> tuple[list[Change], None]:
        group, user = find(ctx, "Group", req["GroupName"]), find(ctx, "User", req["UserName"])
        held = user.value["_groups"]
        if group.id in held:
            return [], None
        if len(held) >= GROUPS_PER_USER:
            raise LimitExceeded(f"Cannot exceed quota for GroupsPerUser: {GROUPS_PER_USER}")
        return [
            *membership_of(ctx, group, user, [*held, group.id]),
            entities(ctx, "Membership").insertion(member_id(group, user), {}),
        ], None

    change(ctx, decide)


@ops
def remove_user_from_group(ctx: Context, req: Mapping[str, Any]) -> None:
    """Take a user out of a group; harmless when it is not in there.

    Errors: NoSuchEntity - no such user or group.
    """

    def decide() -> tuple[list[Change], None]:
        group, user = find(ctx, "Group", req["GroupName"]), find(ctx, "User", req["UserName"])
        held = user.value["_groups"]
        if group.id not in held:
            return [], None
        left = [other for other in held if other != group.id]
        return [*membership_of(ctx, group, user, left), entities(ctx, "Membership").deletion(member_id(group, user))], None

    change(ctx, decide)


@ops
def update_group(ctx: Context, req: Mapping[str, Any]) -> None:
    """Rename a group or move it to another path. Members and policies stay; its ARN changes.

    Errors: NoSuchEntity; EntityAlreadyExists - the new name is another group's.
    """

    def decide() -> tuple[list[Change], None]:
        row = find(ctx, "Group", req["GroupName"])
        name, path = req.get("NewGroupName", row.value["GroupName"]), req.get("NewPath", row.value["Path"])
        moved = {**row.value, "GroupName": name, "Path": path, "Arn": arn_of(ctx.account, "group", path, name)}
        groups = entities(ctx, "Group")
        if name.lower() == row.id:
            return [groups.revision(row.id, moved, row.version)], None
        if groups.find(name.lower()) is not None:
            raise AlreadyExists(f"Group with name {name} already exists.")
        return [groups.deletion(row.id, row.version), groups.insertion(name.lower(), moved), *moves(ctx, row, moved)], None

    change(ctx, decide)


def moves(ctx: Context, row: Row, moved: Mapping[str, Any]) -> list[Change]:
    """What else names a group, under its new name."""
    new, users, memberships = moved["GroupName"].lower(), entities(ctx, "User"), entities(ctx, "Membership")
    changes: list[Change] = []
    for id, _ in rows_after(memberships, "", f"{row.id}\t"):
        name = id.partition("\t")[2]
        changes += [memberships.deletion(id), memberships.insertion(f"{new}\t{name}", {})]
        user = users.row(name)
        if user is not None:
            groups = [new if group == row.id else group for group in user.value["_groups"]]
            changes.append(users.revision(name, {**user.value, "_groups": groups}, user.version))
    return changes + usage.renames(ctx, "Group", row.value, moved)


@ops
def delete_group(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove a group that has neither members nor policies.

    Errors: NoSuchEntity; DeleteConflict.
    """

    def decide() -> tuple[list[Change], None]:
        row = find(ctx, "Group", req["GroupName"])
        if entities(ctx, "Membership").scan(prefix=f"{row.id}\t", limit=1):
            raise InUse("Cannot delete entity, must remove users from group first.")
        if row.value["_attached"]:
            raise InUse("Cannot delete entity, must detach all policies first.")
        if row.value["_inline"]:
            raise InUse("Cannot delete entity, must delete policies first.")
        return [entities(ctx, "Group").deletion(row.id, row.version)], None

    change(ctx, decide)


# -- members ------------------------------------------------------------------------------------------------------------


def member_id(group: Row, user: Row) -> str:
    return f"{group.id}\t{user.id}"


def membership_of(ctx: Context, group: Row, user: Row, groups: list[str]) -> list[Change]:
    """The user's row with its new groups. The group's row is written too, so nobody deletes it meanwhile."""
    return [
        entities(ctx, "User").revision(user.id, {**user.value, "_groups": groups}, user.version),
        entities(ctx, "Group").revision(group.id, group.value, group.version),
    ]


def members_after(ctx: Context, group: str, after: str) -> Any:
    users, start = entities(ctx, "User"), f"{group}\t"
    for id, _ in rows_after(entities(ctx, "Membership"), start + after if after else "", start):
        name = id.removeprefix(start)
        if (user := users.find(name)) is not None:
            yield name, {**user, "Tags": None}
