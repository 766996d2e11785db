"""Managed policies attached to users, groups and roles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import LimitExceeded, NotFound
from pilvi.core.service import Context, Operations
from pilvi.services.iam import usage
from pilvi.services.iam.entity import find, find_changeable
from pilvi.services.iam.listing import page, rows_after, sorted_after
from pilvi.services.iam.tables import change, entities
from pilvi.storage.records import Change

PER_ENTITY = {"User": 20, "Group": 10, "Role": 25}
"""Attached policies at most. Source: IAM User Guide, "IAM and AWS STS quotas": groups 10 by default, roles and users 10, adjustable
to 25 and 20. The adjusted ones hold here, since nobody can be asked to raise them."""

ops = Operations()


@ops
def attach_user_policy(ctx: Context, req: Mapping[str, Any]) -> None:
    """Attach a managed policy to a user. Attaching it again changes nothing.

    Errors: NoSuchEntity - no such user or policy; LimitExceeded.
    Differs: the limit is 20 policies, which AWS grants on request.
    """
    attach(ctx, "User", req["UserName"], req["PolicyArn"])


@ops
def attach_group_policy(ctx: Context, req: Mapping[str, Any]) -> None:
    """Attach a managed policy to a group, for all its members. Attaching it again changes nothing.

    Errors: NoSuchEntity - no such group or policy; LimitExceeded - a group has 10 already.
    """
    attach(ctx, "Group", req["GroupName"], req["PolicyArn"])


@ops
def attach_role_policy(ctx: Context, req: Mapping[str, Any]) -> None:
    """Attach a managed policy to a role. Attaching it again changes nothing.

    Errors: NoSuchEntity - no such role or policy; UnmodifiableEntity - the role belongs to a service; LimitExceeded.
    Differs: the limit is 25 policies, which AWS grants on request.
    """
    attach(ctx, "Role", req["RoleName"], req["PolicyArn"])


@ops
def detach_user_policy(ctx: Context, req: Mapping[str, Any]) -> None:
    """Take a managed policy from a user.

    Errors: NoSuchEntity - no such user, or the policy is not attached to it.
    """
    detach(ctx, "User", req["UserName"], req["PolicyArn"])


@ops
def detach_group_policy(ctx: Context, req: Mapping[str, Any]) -> None:
    """Take a managed policy from a group.

    Errors: NoSuchEntity - no such group, or the policy is not attached to it.
    """
    detach(ctx, "Group", req["GroupName"], req["PolicyArn"])


@ops
def detach_role_policy(ctx: Context, req: Mapping[str, Any]) -> None:
    """Take a managed policy from a role.

    Errors: NoSuchEntity - no such role, or the policy is not attached to it; UnmodifiableEntity.
    """
    detach(ctx, "Role", req["RoleName"], req["PolicyArn"])


@ops
def list_attached_user_policies(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The managed policies attached to a user, optionally only those under a path.

    Errors: NoSuchEntity - no such user.
    """
    return attached(ctx, req, "User", req["UserName"])


@ops
def list_attached_group_policies(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The managed policies attached to a group, optionally only those under a path.

    Errors: NoSuchEntity - no such group.
    """
    return attached(ctx, req, "Group", req["GroupName"])


@ops
def list_attached_role_policies(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The managed policies attached to a role, optionally only those under a path.

    Errors: NoSuchEntity - no such role.
    """
    return attached(ctx, req, "Role", req["RoleName"])


@ops
def list_entities_for_policy(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The users, groups and roles that a managed policy is attached to or bounds.

    req: PolicyArn; EntityFilter (User, Role, Group), PathPrefix, PolicyUsageFilter.
    Errors: NoSuchEntity - no such policy.
    """
    arn, wanted = req["PolicyArn"], req.get("EntityFilter")
    if not usage.exists(ctx, arn):
        raise NotFound(f"Policy {arn} was not found.")
    only = {"PermissionsPolicy": "policy", "PermissionsBoundary": "boundary"}.get(req.get("PolicyUsageFilter", ""))
    path, start = req.get("PathPrefix", "/"), f"{arn}\t"

    def pairs_after(after: str) -> Any:
        for id, held in rows_after(entities(ctx, "Attachment"), start + after if after else "", start):
            kind, noun = id.split("\t")[1:3]
            if wanted in (None, noun) and only in (None, kind) and held["Path"].startswith(path):
                yield id.removeprefix(start), (noun, held)

    found = page(req, "", pairs_after)
    held = {(noun, entity["Id"]): entity for noun, entity in found.pop("")}
    for noun in ("User", "Group", "Role"):
        found[f"Policy{noun}s"] = [
            {f"{noun}Name": entity["Name"], f"{noun}Id": entity["Id"]} for (kind, _), entity in held.items() if kind == noun
        ]
    return found


# -- how ----------------------------------------------------------------------------------------------------------------


def attach(ctx: Context, noun: str, name: str, arn: str) -> None:
    def decide() -> tuple[list[Change], None]:
        row = find_changeable(ctx, noun, name)
        used = usage.added(ctx, arn, "policy", noun, row.value)
        held = row.value["_attached"]
        if arn in held:
            return [], None
        if len(held) >= PER_ENTITY[noun]:
            raise LimitExceeded(f"Cannot exceed quota for PoliciesPer{noun}: {PER_ENTITY[noun]}")
        return [entities(ctx, noun).revision(row.id, {**row.value, "_attached": [*held, arn]}, row.version), *used], None

    change(ctx, decide)


def detach(ctx: Context, noun: str, name: str, arn: str) -> None:
    def decide() -> tuple[list[Change], None]:
        row = find_changeable(ctx, noun, name)
        held = row.value["_attached"]
        if arn not in held:
            raise NotFound(f"Policy {arn} was not found.")
        left = {**row.value, "_attached": [other for other in held if other != arn]}
        used = usage.removed(ctx, arn, "policy", noun, row.value)
        return [entities(ctx, noun).revision(row.id, left, row.version), *used], None

    change(ctx, decide)


def attached(ctx: Context, req: Mapping[str, Any], noun: str, name: str) -> Mapping[str, Any]:
    """One page of what is attached, optionally only policies under a path."""
    prefix = req.get("PathPrefix", "/")
    shown = {
        f"{policy_name(arn).lower()}\t{arn}": {"PolicyName": policy_name(arn), "PolicyArn": arn}
        for arn in find(ctx, noun, name).value["_attached"]
        if path_of(arn).startswith(prefix)
    }
    return page(req, "AttachedPolicies", lambda after: sorted_after(shown, after))


def policy_name(arn: str) -> str:
    return arn.rpartition("/")[2]


def path_of(arn: str) -> str:
    """The path within a policy's ARN: '/service-role/', or '/'."""
    return arn.partition(":policy")[2].rpartition("/")[0] + "/"


def summary(arns: list[str]) -> list[dict[str, str]]:
    """Attached policies as account details show them."""
    return [{"PolicyName": policy_name(arn), "PolicyArn": arn} for arn in arns]
