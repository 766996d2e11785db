"""Secrets: made, described, changed, listed, deleted with a window in which they can be restored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pilvi.core.errors import AlreadyExists, Conflict
from pilvi.core.service import Context, Operations
from pilvi.services.secretsmanager.errors import exists, invalid_parameter, invalid_request, not_built
from pilvi.services.secretsmanager.filtering import fits, paged
from pilvi.services.secretsmanager.replication import add_regions, follow, primary, region_of, status_of
from pilvi.services.secretsmanager.secrets import (
    Secret,
    change,
    find,
    is_gone,
    table_of,
)
from pilvi.services.secretsmanager.tag import merged
from pilvi.services.secretsmanager.value import is_same_value, put_version, value_from

ops = Operations()

_NAME = re.compile(r"[A-Za-z0-9/_+=.@!-]{1,512}")
WINDOW_DAYS = (7, 30)
_SHOWN = (
    "ARN",
    "Name",
    "Description",
    "KmsKeyId",
    "RotationEnabled",
    "RotationLambdaARN",
    "RotationRules",
    "LastRotatedDate",
    "LastChangedDate",
    "LastAccessedDate",
    "DeletedDate",
    "NextRotationDate",
    "CreatedDate",
    "PrimaryRegion",
)
_SORTS = {
    "name": "Name",
    "created-date": "CreatedDate",
    "last-accessed-date": "LastAccessedDate",
    "last-changed-date": "LastChangedDate",
}


@ops
def create_secret(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make a secret, with a first value where one is given.

    req: Name (1-512 of [A-Za-z0-9/_+=.@!-]), SecretString or SecretBinary (64 KiB), KmsKeyId (default alias/aws/secretsmanager),
    Description, Tags (50), AddReplicaRegions, ClientRequestToken (the version's id).
    Errors: ResourceExistsException - the name is taken. InvalidRequestException - it waits for its deletion, or two values.
    InvalidParameterException - a name or tags that cannot be. EncryptionFailure - the key cannot be used.
    """
    _no_types(req)
    name = req["Name"]
    if not _NAME.fullmatch(name):
        raise invalid_parameter(
            "Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@!"
        )
    value, now, rows = value_from(req), ctx.clock.now(), table_of(ctx)
    secret: Secret = {
        "Name": name,
        "ARN": ctx.arn(f"secret:{name}-{ctx.ids.pick(_LETTERS, 6)}", service="secretsmanager"),
        "Description": req.get("Description") or "",
        "Tags": merged([], req.get("Tags") or []),
        "CreatedDate": now,
        "LastChangedDate": now,
        "PrimaryRegion": ctx.region,
        "_versions": {},
        "_replicas": {},
    }
    if req.get("KmsKeyId"):
        secret["KmsKeyId"] = req["KmsKeyId"]
    version_id = req.get("ClientRequestToken") or ctx.ids.uuid()
    old = rows.row(name)
    if old is not None and not is_gone(ctx, old.value):
        return _made_before(ctx, old.value, req, version_id, value)
    if value is not None:
        secret = put_version(ctx, secret, version_id, value, ["AWSCURRENT"])
    try:
        ctx.write(rows.insertion(name, secret) if old is None else rows.revision(name, secret, old.version))
    except (AlreadyExists, Conflict):
        raise exists(name) from None
    found = {"ARN": secret["ARN"], "Name": name} | ({"VersionId": version_id} if value is not None else {})
    if req.get("AddReplicaRegions"):
        secret = add_regions(ctx, secret, req["AddReplicaRegions"], force=bool(req.get("ForceOverwriteReplicaSecret")))
        found["ReplicationStatus"] = status_of(secret)
    return found


@ops
def describe_secret(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Everything about a secret but its value.

    Errors: ResourceNotFoundException.
    """
    secret = find(ctx, req["SecretId"], even_deleted=True)
    stages = {id: version["stages"] for id, version in secret["_versions"].items() if version["stages"]}
    found = shown(secret) | {"VersionIdsToStages": stages or None, "Tags": secret["Tags"]}
    if secret["_replicas"]:
        found["ReplicationStatus"] = status_of(secret)
    if not secret["_replicas"] and secret["PrimaryRegion"] == region_of(secret):
        del found["PrimaryRegion"]
    return found


@ops
def update_secret(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Change description or key, or give a new value, which becomes AWSCURRENT.

    req: SecretId, Description, KmsKeyId, SecretString or SecretBinary, ClientRequestToken.
    Errors: ResourceNotFoundException. InvalidRequestException - it waits for its deletion, two values, or a replica.
    ResourceExistsException - the token is another version's. EncryptionFailure.
    """
    _no_types(req)
    secret, value = primary(ctx, req["SecretId"]), value_from(req)
    version_id = req.get("ClientRequestToken") or ctx.ids.uuid()
    now = ctx.clock.now()

    def changed(there: Secret) -> Secret:
        there = there | {name: req[name] for name in ("Description", "KmsKeyId") if req.get(name) is not None}
        there["LastChangedDate"] = now
        return there if value is None else put_version(ctx, there, version_id, value, ["AWSCURRENT"])

    secret = follow(ctx, secret, changed, {version_id: value} if value is not None else None)
    return {"ARN": secret["ARN"], "Name": secret["Name"]} | ({"VersionId": version_id} if value is not None else {})


@ops
def list_secrets(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The secrets of the account in this Region.

    req: Filters (name, description, tag-key, tag-value, primary-region, owning-service, all; prefixes, '!' for not), SortBy
    (created-date), SortOrder (asc), IncludePlannedDeletion, MaxResults (1-100), NextToken.
    Errors: InvalidNextTokenException. InvalidParameterException.
    """
    found = [
        secret
        for secret in table_of(ctx).all()
        if not is_gone(ctx, secret)
        and (req.get("IncludePlannedDeletion") or "DeletedDate" not in secret)
        and fits(secret, req.get("Filters") or ())
    ]
    member = _SORTS[req.get("SortBy") or "created-date"]
    found.sort(key=lambda secret: str(secret.get(member) or ""), reverse=req.get("SortOrder") == "desc")
    items, more = paged(found, req, default=100)
    return {
        "SecretList": [
            shown(secret)
            | {
                "Tags": secret["Tags"],
                "SecretVersionsToStages": {id: entry["stages"] for id, entry in secret["_versions"].items() if entry["stages"]},
            }
            for secret in items
        ],
        **more,
    }


@ops
def delete_secret(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Mark a secret for deletion, or delete it at once.

    req: SecretId, RecoveryWindowInDays (7-30, default 30), or ForceDeleteWithoutRecovery.
    Errors: ResourceNotFoundException. InvalidParameterException - both, or a window that cannot be. InvalidRequestException - it has
    replicas, or is one.
    """
    days, is_forced = req.get("RecoveryWindowInDays"), bool(req.get("ForceDeleteWithoutRecovery"))
    if is_forced and days is not None:
        raise invalid_parameter("You can't use ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays.")
    if days is not None and not WINDOW_DAYS[0] <= days <= WINDOW_DAYS[1]:
        raise invalid_parameter("The RecoveryWindowInDays value must be between 7 and 30 days (inclusive).")
    secret = find(ctx, req["SecretId"], even_deleted=is_forced)
    if secret["PrimaryRegion"] != region_of(secret):
        raise invalid_request("Operation not permitted on a replica secret. Call must be made in primary secret's region.")
    if secret["_replicas"]:
        raise invalid_request(
            f"You can't delete secret {secret['Name']} that still has replica regions {sorted(secret['_replicas'])}"
        )
    now = ctx.clock.now()
    date = now if is_forced else now + timedelta(days=days or WINDOW_DAYS[1])
    if is_forced:
        table_of(ctx, secret["ARN"].split(":")[4]).delete(secret["Name"])
    else:
        change(ctx, secret, lambda there: there | {"DeletedDate": date})
    return {"ARN": secret["ARN"], "Name": secret["Name"], "DeletionDate": date}


@ops
def restore_secret(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Keep a secret after all.

    Errors: ResourceNotFoundException - too late.
    """
    secret = find(ctx, req["SecretId"], even_deleted=True)
    change(ctx, secret, lambda there: {name: value for name, value in there.items() if name != "DeletedDate"})
    return {"ARN": secret["ARN"], "Name": secret["Name"]}


# -- helpers ------------------------------------------------------------------------------------------------------------------

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def shown(secret: Mapping[str, Any]) -> dict[str, Any]:
    return {name: secret[name] for name in _SHOWN if secret.get(name) not in (None, "")}


def _made_before(ctx: Context, there: Secret, req: Mapping[str, Any], version_id: str, value: Any) -> Mapping[str, Any]:
    """The same request again is no error; another one is."""
    if "DeletedDate" in there:
        raise invalid_request("You can't create this secret because a secret with this name is already scheduled for deletion.")
    if req.get("ClientRequestToken") and value is not None and is_same_value(ctx, there, version_id, value):
        return {"ARN": there["ARN"], "Name": there["Name"], "VersionId": version_id}
    raise exists(there["Name"])


def _no_types(req: Mapping[str, Any]) -> None:
    if req.get("Type"):
        raise not_built("A secret that a partner manages (Type)")
