"""The account as a whole: its alias, its numbers, and everything in it at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pilvi.core.errors import AlreadyExists, NotFound
from pilvi.core.service import Context, Operations
from pilvi.services.iam import attachment, inline_policy, instance_profile, policy, role, user
from pilvi.services.iam.entity import boundary_shown
from pilvi.services.iam.listing import page, rows_after
from pilvi.services.iam.tables import change, entities, worldwide
from pilvi.storage.records import Change

QUOTAS = {
    "UsersQuota": 5000,
    "GroupsQuota": 300,
    "RolesQuota": 1000,
    "PoliciesQuota": 1500,
    "InstanceProfilesQuota": 1000,
    "AccessKeysPerUserQuota": 2,
    "GroupsPerUserQuota": 10,
    "AttachedPoliciesPerGroupQuota": attachment.PER_ENTITY["Group"],
    "AttachedPoliciesPerRoleQuota": attachment.PER_ENTITY["Role"],
    "AttachedPoliciesPerUserQuota": attachment.PER_ENTITY["User"],
    "VersionsPerPolicyQuota": policy.VERSIONS,
    "PolicySizeQuota": policy.CHARACTERS,
    "UserPolicySizeQuota": inline_policy.CHARACTERS["User"],
    "GroupPolicySizeQuota": inline_policy.CHARACTERS["Group"],
    "RolePolicySizeQuota": inline_policy.CHARACTERS["Role"],
    "AssumeRolePolicySizeQuota": 2048,
    "GlobalEndpointTokenVersion": 2,
}
"""Source: IAM API reference, GetAccountSummary."""

ops = Operations()


@ops
def create_account_alias(ctx: Context, req: Mapping[str, Any]) -> None:
    """Give the account a name, unique over all accounts, in place of an earlier one.

    req: AccountAlias (3-63 of a-z, 0-9 and single hyphens).
    Errors: EntityAlreadyExists - it is taken.
    """
    alias = req["AccountAlias"]

    def decide() -> tuple[list[Change], None]:
        aliases, accounts = worldwide(ctx, "Alias"), worldwide(ctx, "Account")
        taken, row = aliases.find(alias), accounts.row(ctx.account)
        if taken is not None:
            raise AlreadyExists(f"The account alias {alias} already exists.")
        if row is None:
            raise NotFound(f"The account {ctx.account} cannot be found.")
        old = row.value.get("_alias")
        gone: list[Change] = [aliases.deletion(old)] if old else []
        named = {**row.value, "_alias": alias}
        return [*gone, aliases.insertion(alias, {"_account": ctx.account}), accounts.revision(row.id, named, row.version)], None

    change(ctx, decide)


@ops
def list_account_aliases(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: ARG001
    """The account's alias, if it has one."""
    alias = (worldwide(ctx, "Account").find(ctx.account) or {}).get("_alias")
    return {"AccountAliases": [alias] if alias else [], "IsTruncated": False}


@ops
def delete_account_alias(ctx: Context, req: Mapping[str, Any]) -> None:
    """Give up the account's alias.

    Errors: NoSuchEntity - it is not this account's.
    """
    alias = req["AccountAlias"]

    def decide() -> tuple[list[Change], None]:
        row = worldwide(ctx, "Account").row(ctx.account)
        if row is None or row.value.get("_alias") != alias:
            raise NotFound(f"The account alias {alias} cannot be found.")
        bare = {**row.value, "_alias": None}
        return [worldwide(ctx, "Alias").deletion(alias), worldwide(ctx, "Account").revision(row.id, bare, row.version)], None

    change(ctx, decide)


@ops
def get_account_summary(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: ARG001
    """How many of everything there are, and how many there may be.

    Differs: names no certificates and identity providers: there are none yet.
    """
    counts = {noun: list(rows_after(entities(ctx, noun), "")) for noun in ("User", "Group", "Role", "Policy", "InstanceProfile")}
    root = worldwide(ctx, "Account").find(ctx.account) or {"_keys": []}
    devices = [device for _, device in rows_after(entities(ctx, "MFADevice"), "")]
    return {
        "SummaryMap": {
            "Users": len(counts["User"]),
            "Groups": len(counts["Group"]),
            "Roles": len(counts["Role"]),
            "Policies": len(counts["Policy"]),
            "InstanceProfiles": len(counts["InstanceProfile"]),
            "PolicyVersionsInUse": sum(len(found["_versions"]) for _, found in counts["Policy"]),
            "AccountAccessKeysPresent": int(bool(root["_keys"])),
            "AccountMFAEnabled": int(bool(root.get("_mfa"))),
            "MFADevices": len(devices),
            "MFADevicesInUse": sum("EnableDate" in device for device in devices),
            **QUOTAS,
        }
    }


@ops
def get_account_authorization_details(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Every user, group, role and managed policy with all that binds it, in pages that run through all four kinds.

    req: Filter (User, Role, Group, LocalManagedPolicy, AWSManagedPolicy), MaxItems, Marker.
    """
    wanted = req.get("Filter") or ["User", "Role", "Group", "LocalManagedPolicy", "AWSManagedPolicy"]

    def pairs_after(after: str) -> Iterator[tuple[str, tuple[str, dict[str, Any]]]]:
        for kind, start in sections_after(after):
            if kind in wanted:
                for id, shown in section(ctx, kind, start):
                    yield f"{kind}/{id}", (MEMBERS[kind], shown)

    found = page(req, "", pairs_after)
    shown_by_member: dict[str, list[dict[str, Any]]] = {member: [] for member in MEMBERS.values()}
    for member, shown in found.pop(""):
        shown_by_member[member].append(shown)
    return {**found, **shown_by_member}


MEMBERS = {
    "User": "UserDetailList",
    "Group": "GroupDetailList",
    "Role": "RoleDetailList",
    "LocalManagedPolicy": "Policies",
    "AWSManagedPolicy": "Policies",
}
"""In the order of the pages."""


def sections_after(after: str) -> Iterator[tuple[str, str]]:
    """The kinds still to come, each with the id to go on behind."""
    kind, _, id = after.partition("/")
    kinds = list(MEMBERS)
    for index, other in enumerate(kinds):
        if not kind or index > kinds.index(kind):
            yield other, ""
        elif other == kind:
            yield other, id


def section(ctx: Context, kind: str, after: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if kind in ("User", "Group", "Role"):
        for id, entity in rows_after(entities(ctx, kind), after):
            yield id, details(ctx, kind, entity)
        return
    scope, prefix = ("Local", "local/") if kind == "LocalManagedPolicy" else ("AWS", "aws/")
    for id, found in policy.all_after(ctx, scope, prefix + after if after else ""):
        yield id.removeprefix(prefix), {**found, "PolicyVersionList": policy.versions_of(ctx, found["Arn"])}


def details(ctx: Context, kind: str, entity: Mapping[str, Any]) -> dict[str, Any]:
    found = {
        **entity,
        f"{kind}PolicyList": inline_policy.details(entity),
        "AttachedManagedPolicies": attachment.summary(entity["_attached"]),
        "PermissionsBoundary": boundary_shown(entity),
    }
    if kind == "User":
        groups = entities(ctx, "Group")
        found = {**user.shown(found), "GroupList": [groups.get(name)["GroupName"] for name in entity["_groups"]]}
    if kind == "Role":
        profiles = list(instance_profile.profiles_of(ctx, entity).values())
        found = {**role.shown(found), "RoleLastUsed": {}, "InstanceProfileList": profiles}
    return found
