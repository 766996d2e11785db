"""Managed policies: customers' own, with up to five versions, beside those of AWS (managed/)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pilvi.core.errors import AlreadyExists, Denied, InUse, LimitExceeded, NotFound
from pilvi.core.service import Context, Operations
from pilvi.services.iam import managed, usage
from pilvi.services.iam.entity import arn_of, checked_document, encoded, now, size_of, tagged, tags_by_key, untagged
from pilvi.services.iam.listing import page, rows_after, sorted_after
from pilvi.services.iam.tables import change, entities
from pilvi.storage.records import Change, Row

VERSIONS = 5
CHARACTERS = 6144
"""Without white space. Source of both: IAM User Guide, "IAM and AWS STS quotas"."""

ops = Operations()


@ops
def create_policy(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Create a managed policy; its document becomes version v1.

    req: PolicyName (1-128), PolicyDocument (at most 6144 characters without white space), Path ('/'), Description, Tags.
    Errors: EntityAlreadyExists - the name is taken in this account, in whatever case and path; MalformedPolicyDocument; LimitExceeded.
    """
    name, path, made = req["PolicyName"], req.get("Path", "/"), now(ctx)
    check(req["PolicyDocument"])
    policy = {
        "PolicyName": name,
        "PolicyId": ctx.ids.iam("ANPA"),
        "Arn": arn_of(ctx.account, "policy", path, name),
        "Path": path,
        "DefaultVersionId": "v1",
        "AttachmentCount": 0,
        "PermissionsBoundaryUsageCount": 0,
        "IsAttachable": True,
        "Description": req.get("Description"),
        "CreateDate": made,
        "UpdateDate": made,
        "Tags": tagged((), req.get("Tags", ()), "Policy"),
        "_versions": {"v1": {"Document": req["PolicyDocument"], "CreateDate": made}},
        "_newest": 1,
    }

    def decide() -> tuple[list[Change], None]:
        policies = entities(ctx, "Policy")
        if policies.find(name.lower()) is not None:
            raise AlreadyExists(f"A policy called {name} already exists. Duplicate names are not allowed.")
        return [policies.insertion(name.lower(), policy)], None

    change(ctx, decide)
    return {"Policy": {**shown(policy), "Description": None}}


@ops
def get_policy(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """One managed policy, AWS's or the account's own; its text is in its versions.

    Errors: NoSuchEntity.
    """
    arn = req["PolicyArn"]
    if (builtin := managed.find(arn)) is not None:
        return {"Policy": shown_builtin(ctx, builtin)}
    return {"Policy": shown(find(ctx, arn).value)}


@ops
def list_policies(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Managed policies by name.

    req: Scope (All, AWS, Local), OnlyAttached, PathPrefix, PolicyUsageFilter (PermissionsPolicy, PermissionsBoundary).
    Differs: of AWS's own policies those are there that managed/README.md lists.
    """
    count = {"PermissionsBoundary": "PermissionsBoundaryUsageCount"}.get(req.get("PolicyUsageFilter", ""), "AttachmentCount")
    path = req.get("PathPrefix", "/")
    only_used = req.get("OnlyAttached", False) or req.get("PolicyUsageFilter") == "PermissionsBoundary"

    def pairs_after(after: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for id, policy in all_after(ctx, req.get("Scope", "All"), after):
            if policy["Path"].startswith(path) and (policy[count] or not only_used):
                yield id, {**policy, "Tags": None, "Description": None}

    return page(req, "Policies", pairs_after)


def all_after(ctx: Context, scope: str, after: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """AWS's policies first, then the account's, each by name."""
    if scope != "Local" and not after.startswith("local/"):
        builtin = {f"aws/{policy.name}": policy for policy in managed.every()}
        for id, found in sorted_after(builtin, after):
            yield id, shown_builtin(ctx, found)
    if scope != "AWS":
        start = after.removeprefix("local/") if after.startswith("local/") else ""
        for name, policy in rows_after(entities(ctx, "Policy"), start):
            yield f"local/{name}", shown(policy)


@ops
def delete_policy(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove a policy that nothing uses and that has only its default version.

    Errors: NoSuchEntity; DeleteConflict; AccessDenied - it is one of AWS's.
    """

    def decide() -> tuple[list[Change], None]:
        row = find(ctx, req["PolicyArn"])
        if row.value["AttachmentCount"] or row.value["PermissionsBoundaryUsageCount"]:
            raise InUse("Cannot delete a policy attached to entities.")
        if len(row.value["_versions"]) > 1:
            raise InUse("This policy has more than one version. Before you delete a policy, you must delete the policy's versions.")
        return [entities(ctx, "Policy").deletion(row.id, row.version)], None

    change(ctx, decide)


# -- versions -----------------------------------------------------------------------------------------------------------


@ops
def create_policy_version(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add a version; with SetAsDefault it takes effect at once.

    Errors: NoSuchEntity; MalformedPolicyDocument; LimitExceeded - there are five versions.
    """
    check(req["PolicyDocument"])
    version: dict[str, Any] = {"Document": req["PolicyDocument"], "CreateDate": now(ctx)}

    def decide() -> tuple[list[Change], str]:
        row = find(ctx, req["PolicyArn"])
        policy = row.value
        if len(policy["_versions"]) >= VERSIONS:
            raise LimitExceeded(
                f"A managed policy can have up to {VERSIONS} versions. Before you create a new version, you must delete an existing version."
            )
        number = policy["_newest"] + 1
        new = {**policy, "_versions": {**policy["_versions"], f"v{number}": version}, "_newest": number}
        if req.get("SetAsDefault"):
            new |= {"DefaultVersionId": f"v{number}", "UpdateDate": version["CreateDate"]}
        return [entities(ctx, "Policy").revision(row.id, new, row.version)], f"v{number}"

    version_id = change(ctx, decide)
    return {
        "PolicyVersion": {
            "VersionId": version_id,
            "IsDefaultVersion": bool(req.get("SetAsDefault")),
            "CreateDate": version["CreateDate"],
        }
    }


@ops
def get_policy_version(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """One version with its document.

    Errors: NoSuchEntity - no such policy, or it has no such version.
    Differs: of AWS's policies the newest version is there.
    """
    arn, version_id = req["PolicyArn"], req["VersionId"]
    for version in versions_of(ctx, arn):
        if version["VersionId"] == version_id:
            return {"PolicyVersion": version}
    raise NotFound(f"Policy {arn} version {version_id} does not exist or is not attachable.")


@ops
def list_policy_versions(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The versions of a policy, newest first, without their documents.

    Errors: NoSuchEntity.
    """
    found = {f"{index:02d}": {**version, "Document": None} for index, version in enumerate(versions_of(ctx, req["PolicyArn"]))}
    return page(req, "Versions", lambda after: sorted_after(found, after))


@ops
def set_default_policy_version(ctx: Context, req: Mapping[str, Any]) -> None:
    """Make a version the one that is in force.

    Errors: NoSuchEntity - no such policy, or it has no such version.
    """

    def decide() -> tuple[list[Change], None]:
        row, version_id = find(ctx, req["PolicyArn"]), req["VersionId"]
        if version_id not in row.value["_versions"]:
            raise missing_version(row, version_id)
        new = {**row.value, "DefaultVersionId": version_id, "UpdateDate": now(ctx)}
        return [entities(ctx, "Policy").revision(row.id, new, row.version)], None

    change(ctx, decide)


@ops
def delete_policy_version(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove a version that is not in force.

    Errors: NoSuchEntity; DeleteConflict - it is the default version.
    """

    def decide() -> tuple[list[Change], None]:
        row, version_id = find(ctx, req["PolicyArn"]), req["VersionId"]
        if version_id not in row.value["_versions"]:
            raise missing_version(row, version_id)
        if version_id == row.value["DefaultVersionId"]:
            raise InUse("Cannot delete the default version of a policy.")
        left = {key: version for key, version in row.value["_versions"].items() if key != version_id}
        return [entities(ctx, "Policy").revision(row.id, {**row.value, "_versions": left}, row.version)], None

    change(ctx, decide)


# -- tags ---------------------------------------------------------------------------------------------------------------


@ops
def tag_policy(ctx: Context, req: Mapping[str, Any]) -> None:
    """Add tags to a policy, or change their values."""
    row = find(ctx, req["PolicyArn"])
    entities(ctx, "Policy").update(row.id, lambda policy: {**policy, "Tags": tagged(policy["Tags"], req["Tags"], "Policy")})


@ops
def untag_policy(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove tags from a policy by key; keys it does not have are no error."""
    row = find(ctx, req["PolicyArn"])
    entities(ctx, "Policy").update(row.id, lambda policy: {**policy, "Tags": untagged(policy["Tags"], req["TagKeys"])})


@ops
def list_policy_tags(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """A policy's tags, by key; AWS's own have none."""
    tags = {} if managed.find(req["PolicyArn"]) else tags_by_key(find(ctx, req["PolicyArn"]).value)
    return page(req, "Tags", lambda after: sorted_after(tags, after))


# -- how ----------------------------------------------------------------------------------------------------------------


def find(ctx: Context, arn: str) -> Row:
    """A policy of this account, for a look or a change; AWS's own cannot be changed."""
    if managed.find(arn) is not None:
        raise Denied(f"User: {ctx.principal.arn} is not authorized to perform: iam:{ctx.operation} on resource: policy {arn}")
    row = usage.find_policy_row(ctx, arn)
    if row is None:
        raise NotFound(f"Policy {arn} was not found.")
    return row


def check(document: str) -> None:
    checked_document(document)
    if size_of(document) > CHARACTERS:
        raise LimitExceeded(f"Cannot exceed quota for PolicySize: {CHARACTERS}")


def missing_version(row: Row, version_id: str) -> NotFound:
    return NotFound(f"Policy {row.value['Arn']} version {version_id} does not exist or is not attachable.")


def shown(policy: Mapping[str, Any]) -> dict[str, Any]:
    return {**policy, "Tags": policy["Tags"] or None}


def shown_builtin(ctx: Context, policy: managed.ManagedPolicy) -> dict[str, Any]:
    return {
        "PolicyName": policy.name,
        "PolicyId": policy.id,
        "Arn": policy.arn,
        "Path": policy.path,
        "DefaultVersionId": policy.version,
        "AttachmentCount": usage.count(ctx, policy.arn, "policy"),
        "PermissionsBoundaryUsageCount": usage.count(ctx, policy.arn, "boundary"),
        "IsAttachable": True,
        "Description": policy.description,
        "CreateDate": policy.created,
        "UpdateDate": policy.updated,
    }


def versions_of(ctx: Context, arn: str) -> list[dict[str, Any]]:
    """Newest first, documents and all."""
    if (builtin := managed.find(arn)) is not None:
        only = {"VersionId": builtin.version, "IsDefaultVersion": True, "CreateDate": builtin.updated}
        return [{**only, "Document": encoded(builtin.document)}]
    policy = find(ctx, arn).value
    return [
        {
            "VersionId": version_id,
            "IsDefaultVersion": version_id == policy["DefaultVersionId"],
            "CreateDate": version["CreateDate"],
            "Document": encoded(version["Document"]),
        }
        for version_id, version in sorted(policy["_versions"].items(), key=lambda entry: -int(entry[0][1:]))
    ]
