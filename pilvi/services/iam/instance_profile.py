"""Instance profiles: how a machine is given a role."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import AlreadyExists, InUse, LimitExceeded, NotFound
from pilvi.core.service import Context, Operations
from pilvi.services.iam import role
from pilvi.services.iam.entity import arn_of, find_changeable, now, tagged, tags_by_key, untagged
from pilvi.services.iam.entity import find as find_entity
from pilvi.services.iam.listing import page, rows_after, sorted_after
from pilvi.services.iam.tables import change, entities
from pilvi.storage.records import Change, Row

ops = Operations()


@ops
def create_instance_profile(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Create an instance profile, without a role as yet.

    Errors: EntityAlreadyExists - the name is taken in this account, in whatever case.
    """
    name, path = req["InstanceProfileName"], req.get("Path", "/")
    profile = {
        "Path": path,
        "InstanceProfileName": name,
        "InstanceProfileId": ctx.ids.iam("AIPA"),
        "Arn": arn_of(ctx.account, "instance-profile", path, name),
        "CreateDate": now(ctx),
        "Tags": tagged((), req.get("Tags", ()), "InstanceProfile"),
        "_role": "",
    }

    def decide() -> tuple[list[Change], None]:
        profiles = entities(ctx, "InstanceProfile")
        if profiles.find(name.lower()) is not None:
            raise AlreadyExists(f"Instance Profile {name} already exists.")
        return [profiles.insertion(name.lower(), profile)], None

    change(ctx, decide)
    return {"InstanceProfile": shown(ctx, profile)}


@ops
def get_instance_profile(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """One instance profile with its role.

    Errors: NoSuchEntity.
    """
    return {"InstanceProfile": shown(ctx, find(ctx, req["InstanceProfileName"]).value)}


@ops
def list_instance_profiles(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Instance profiles by name, optionally under a path."""
    prefix = req.get("PathPrefix", "/")
    return page(
        req,
        "InstanceProfiles",
        lambda after: (
            (id, {**shown(ctx, profile), "Tags": None})
            for id, profile in rows_after(entities(ctx, "InstanceProfile"), after)
            if profile["Path"].startswith(prefix)
        ),
    )


@ops
def list_instance_profiles_for_role(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The instance profiles a role is in.

    Errors: NoSuchEntity - no such role.
    """
    held = profiles_of(ctx, find_entity(ctx, "Role", req["RoleName"]).value)
    return page(req, "InstanceProfiles", lambda after: sorted_after(held, after))


def profiles_of(ctx: Context, holder: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    profiles = entities(ctx, "InstanceProfile")
    return {name: {**shown(ctx, profiles.get(name)), "Tags": None} for name in holder["_profiles"]}


@ops
def add_role_to_instance_profile(ctx: Context, req: Mapping[str, Any]) -> None:
    """Put a role into an instance profile; there is room for one.

    Errors: NoSuchEntity; LimitExceeded - it holds a role already; UnmodifiableEntity - the role belongs to a service.
    """

    def decide() -> tuple[list[Change], None]:
        profile, holder = find(ctx, req["InstanceProfileName"]), find_changeable(ctx, "Role", req["RoleName"])
        if profile.value["_role"]:
            raise LimitExceeded("Cannot exceed quota for InstanceSessionsPerInstanceProfile: 1")
        return joined(ctx, profile, holder, holder.id, [*holder.value["_profiles"], profile.id]), None

    change(ctx, decide)


@ops
def remove_role_from_instance_profile(ctx: Context, req: Mapping[str, Any]) -> None:
    """Take the role out of an instance profile.

    Errors: NoSuchEntity - no such profile, or the role is not in it; UnmodifiableEntity.
    """

    def decide() -> tuple[list[Change], None]:
        profile, holder = find(ctx, req["InstanceProfileName"]), find_changeable(ctx, "Role", req["RoleName"])
        if profile.value["_role"] != holder.id:
            raise NotFound(f"The role with name {req['RoleName']} cannot be found.")
        return joined(ctx, profile, holder, "", [name for name in holder.value["_profiles"] if name != profile.id]), None

    change(ctx, decide)


def joined(ctx: Context, profile: Row, holder: Row, role_name: str, profiles: list[str]) -> list[Change]:
    return [
        entities(ctx, "InstanceProfile").revision(profile.id, {**profile.value, "_role": role_name}, profile.version),
        entities(ctx, "Role").revision(holder.id, {**holder.value, "_profiles": profiles}, holder.version),
    ]


@ops
def delete_instance_profile(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove an instance profile that holds no role.

    Errors: NoSuchEntity; DeleteConflict.
    """

    def decide() -> tuple[list[Change], None]:
        row = find(ctx, req["InstanceProfileName"])
        if row.value["_role"]:
            raise InUse("Cannot delete entity, must remove roles from instance profile first.")
        return [entities(ctx, "InstanceProfile").deletion(row.id, row.version)], None

    change(ctx, decide)


@ops
def tag_instance_profile(ctx: Context, req: Mapping[str, Any]) -> None:
    """Add tags to an instance profile, or change their values."""
    row = find(ctx, req["InstanceProfileName"])
    entities(ctx, "InstanceProfile").update(
        row.id, lambda profile: {**profile, "Tags": tagged(profile["Tags"], req["Tags"], "InstanceProfile")}
    )


@ops
def untag_instance_profile(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove tags from an instance profile by key; keys it does not have are no error."""
    row = find(ctx, req["InstanceProfileName"])
    entities(ctx, "InstanceProfile").update(row.id, lambda profile: {**profile, "Tags": untagged(profile["Tags"], req["TagKeys"])})


@ops
def list_instance_profile_tags(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """An instance profile's tags, by key."""
    profile = find(ctx, req["InstanceProfileName"]).value
    return page(req, "Tags", lambda after: sorted_after(tags_by_key(profile), after))


def find(ctx: Context, name: str) -> Row:
    row = entities(ctx, "InstanceProfile").row(name.lower())
    if row is None:
        raise NotFound(f"Instance Profile {name} cannot be found.")
    return row


def shown(ctx: Context, profile: Mapping[str, Any]) -> dict[str, Any]:
    roles = []
    if profile["_role"] and (holder := entities(ctx, "Role").find(profile["_role"])) is not None:
        roles = [{**role.shown(holder), "Tags": None, "PermissionsBoundary": None}]
    return {**profile, "Tags": profile["Tags"] or None, "Roles": roles}
