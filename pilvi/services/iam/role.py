"""IAM roles: permissions without lasting credentials, and a trust policy that says who may take them on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import AlreadyExists, InUse
from pilvi.core.service import Context, Operations
from pilvi.services.iam import trust, usage
from pilvi.services.iam.entity import arn_of, boundary_shown, encoded, find, find_changeable, now, tagged, tags_by_key, untagged
from pilvi.services.iam.listing import page, rows_after, sorted_after
from pilvi.services.iam.tables import change, entities
from pilvi.storage.records import Change

DEFAULT_SESSION_S = 3600

ops = Operations()


@ops
def create_role(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Create a role, which may do nothing yet.

    req: RoleName (1-64), AssumeRolePolicyDocument (at most 2048 characters without white space), Path ('/'), Description,
        MaxSessionDuration (3600-43200 s), PermissionsBoundary (ARN), Tags (at most 50).
    Errors: EntityAlreadyExists - the name is taken in this account, in whatever case; MalformedPolicyDocument - the trust policy is
        no such policy, or names a principal that does not exist; NoSuchEntity - no such boundary policy; LimitExceeded.
    """
    trust.check(ctx, req["AssumeRolePolicyDocument"])
    role = new_role(ctx, req["RoleName"], req.get("Path", "/"), req["AssumeRolePolicyDocument"], req)

    def decide() -> tuple[list[Change], None]:
        return creation(ctx, role), None

    change(ctx, decide)
    return {"Role": shown(role)}


def new_role(ctx: Context, name: str, path: str, document: str, req: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "Path": path,
        "RoleName": name,
        "RoleId": ctx.ids.iam("AROA"),
        "Arn": arn_of(ctx.account, "role", path, name),
        "CreateDate": now(ctx),
        "AssumeRolePolicyDocument": document,
        "Description": req.get("Description"),
        "MaxSessionDuration": req.get("MaxSessionDuration", DEFAULT_SESSION_S),
        "Tags": tagged((), req.get("Tags", ()), "Role"),
        "_attached": [],
        "_inline": {},
        "_boundary": req.get("PermissionsBoundary"),
        "_profiles": [],
    }


def creation(ctx: Context, role: dict[str, Any]) -> list[Change]:
    roles, name = entities(ctx, "Role"), role["RoleName"]
    if roles.find(name.lower()) is not None:
        raise AlreadyExists(f"Role with name {name} already exists.")
    return [roles.insertion(name.lower(), role), *usage.boundary_changes(ctx, "Role", {}, role)]


@ops
def get_role(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """One role with its trust policy.

    Errors: NoSuchEntity.
    Differs: RoleLastUsed is empty; the last use is not kept yet.
    """
    return {"Role": {**shown(find(ctx, "Role", req["RoleName"]).value), "RoleLastUsed": {}}}


@ops
def list_roles(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Roles by name, optionally under a path; without tags and boundaries, as on AWS."""
    prefix = req.get("PathPrefix", "/")
    return page(
        req,
        "Roles",
        lambda after: (
            (id, {**shown(role), "Tags": None, "PermissionsBoundary": None})
            for id, role in rows_after(entities(ctx, "Role"), after)
            if role["Path"].startswith(prefix)
        ),
    )


@ops
def update_role(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Change a role's description and the longest session it allows; what is not given stays.

    Errors: NoSuchEntity; UnmodifiableEntity - the role belongs to a service.
    """
    row = find_changeable(ctx, "Role", req["RoleName"])
    given = {key: req[key] for key in ("Description", "MaxSessionDuration") if key in req}
    entities(ctx, "Role").update(row.id, lambda role: {**role, **given})
    return {}


@ops
def update_role_description(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Change a role's description.

    Errors: NoSuchEntity; UnmodifiableEntity.
    """
    row = find_changeable(ctx, "Role", req["RoleName"])
    return {"Role": shown(entities(ctx, "Role").update(row.id, lambda role: {**role, "Description": req["Description"]}))}


@ops
def update_assume_role_policy(ctx: Context, req: Mapping[str, Any]) -> None:
    """Replace a role's trust policy. Sessions that exist go on.

    Errors: NoSuchEntity; MalformedPolicyDocument; LimitExceeded; UnmodifiableEntity.
    """
    row = find_changeable(ctx, "Role", req["RoleName"])
    trust.check(ctx, req["PolicyDocument"])
    entities(ctx, "Role").update(row.id, lambda role: {**role, "AssumeRolePolicyDocument": req["PolicyDocument"]})


@ops
def delete_role(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove a role that holds nothing any more. Its sessions can do nothing from then on.

    Errors: NoSuchEntity; DeleteConflict - it has policies or is in an instance profile; UnmodifiableEntity.
    """

    def decide() -> tuple[list[Change], None]:
        row = find_changeable(ctx, "Role", req["RoleName"])
        refuse_while_needed(row.value)
        return [entities(ctx, "Role").deletion(row.id, row.version), *usage.boundary_changes(ctx, "Role", row.value, {})], None

    change(ctx, decide)


def refuse_while_needed(role: Mapping[str, Any]) -> None:
    if role["_profiles"]:
        raise InUse("Cannot delete entity, must remove roles from instance profile first.")
    if role["_attached"]:
        raise InUse("Cannot delete entity, must detach all policies first.")
    if role["_inline"]:
        raise InUse("Cannot delete entity, must delete policies first.")


@ops
def tag_role(ctx: Context, req: Mapping[str, Any]) -> None:
    """Add tags to a role, or change their values."""
    row = find(ctx, "Role", req["RoleName"])
    entities(ctx, "Role").update(row.id, lambda role: {**role, "Tags": tagged(role["Tags"], req["Tags"], "Role")})


@ops
def untag_role(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove tags from a role by key; keys it does not have are no error."""
    row = find(ctx, "Role", req["RoleName"])
    entities(ctx, "Role").update(row.id, lambda role: {**role, "Tags": untagged(role["Tags"], req["TagKeys"])})


@ops
def list_role_tags(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """A role's tags, by key."""
    role = find(ctx, "Role", req["RoleName"]).value
    return page(req, "Tags", lambda after: sorted_after(tags_by_key(role), after))


def shown(role: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **role,
        "AssumeRolePolicyDocument": encoded(role["AssumeRolePolicyDocument"]),
        "Tags": role["Tags"] or None,
        "PermissionsBoundary": boundary_shown(role),
    }
