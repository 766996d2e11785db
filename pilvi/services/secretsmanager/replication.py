"""Replicas: the same secret in other Regions, under the same name and suffix, following every change of the primary.

A change of the primary writes its replicas in the same transaction: their values sealed under a key of their own Region. A Region
whose key cannot be used is told of as Failed and stays as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.auth.region import known_region
from pilvi.core.errors import AlreadyExists, Conflict, ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.secretsmanager.errors import invalid_parameter, invalid_request
from pilvi.services.secretsmanager.secrets import (
    SUFFIX,
    Secret,
    change,
    find,
    is_gone,
    open_value,
    owner_of,
    sealed_value,
    table_of,
)
from pilvi.storage.records import Change, Insert, Update

ops = Operations()

_SHARED = (
    "Name",
    "Description",
    "Tags",
    "_policy",
    "RotationEnabled",
    "RotationRules",
    "RotationLambdaARN",
    "LastRotatedDate",
    "NextRotationDate",
)


@ops
def replicate_secret_to_regions(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Put replicas into other Regions.

    req: SecretId of the primary, AddReplicaRegions (Region, KmsKeyId there), ForceOverwriteReplicaSecret.
    Errors: ResourceNotFoundException. InvalidRequestException - it is a replica. InvalidParameterException - no such Region, or the
    primary's own. A name that is taken there, or a key that cannot be used, is a Failed status.
    """
    secret = primary(ctx, req["SecretId"])
    secret = add_regions(ctx, secret, req["AddReplicaRegions"], force=bool(req.get("ForceOverwriteReplicaSecret")))
    return {"ARN": secret["ARN"], "ReplicationStatus": status_of(secret)}


@ops
def remove_regions_from_replication(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Delete replicas.

    Errors: ResourceNotFoundException. InvalidRequestException - it is a replica. InvalidParameterException - none is there.
    """
    secret = primary(ctx, req["SecretId"])
    regions = req["RemoveReplicaRegions"]
    if missing := [region for region in regions if region not in secret["_replicas"]]:
        raise invalid_parameter(f"The secret has no replica in {', '.join(missing)}.")

    def without(value: Secret) -> Secret:
        return value | {"_replicas": {region: entry for region, entry in value["_replicas"].items() if region not in regions}}

    def deletions(_value: Secret) -> list[Change]:
        found: list[Change] = []
        for region in regions:
            rows = table_of(ctx, owner_of(ctx, secret["ARN"]), region)
            row = rows.row(secret["Name"])
            if row is not None and is_replica_of(row.value, secret):
                found.append(rows.deletion(row.id, row.version))
        return found

    secret = change(ctx, secret, without, deletions)
    return {"ARN": secret["ARN"], "ReplicationStatus": status_of(secret)}


@ops
def stop_replication_to_replica(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make a replica (in this Region) a secret of its own.

    Errors: ResourceNotFoundException. InvalidRequestException - it is none.
    """
    replica = find(ctx, req["SecretId"])
    if replica["PrimaryRegion"] == ctx.region:
        raise invalid_request("Secret is not a replica.")
    rows = table_of(ctx, owner_of(ctx, replica["ARN"]), replica["PrimaryRegion"])

    def primarys(_value: Secret) -> list[Change]:
        row = rows.row(replica["Name"])
        if row is None:
            return []
        left = {region: entry for region, entry in row.value["_replicas"].items() if region != ctx.region}
        return [Update(rows.table, row.id, row.value | {"_replicas": left}, row.version)]

    change(ctx, replica, lambda value: value | {"PrimaryRegion": ctx.region, "_replicas": {}}, primarys)
    return {"ARN": replica["ARN"]}


# -- for the other nouns --------------------------------------------------------------------------------------------------


def primary(ctx: Context, secret_id: str) -> Secret:
    """A secret that may be changed here: replicas follow their primary."""
    secret = find(ctx, secret_id)
    if secret["PrimaryRegion"] != region_of(secret):
        raise invalid_request("Operation not permitted on a replica secret. Call must be made in primary secret's region.")
    return secret


def region_of(secret: Mapping[str, Any]) -> str:
    return str(secret["ARN"].split(":")[3])


def add_regions(ctx: Context, secret: Secret, entries: list[dict[str, Any]], *, force: bool) -> Secret:
    """The secret with further replicas."""
    for entry in entries:
        region = entry["Region"]
        if not known_region(region):
            raise invalid_parameter(f"Invalid replica region {region}.")
        if region == region_of(secret):
            raise invalid_parameter("Invalid replica region: it is the region of the primary secret.")
    new = {
        entry["Region"]: {"Region": entry["Region"], "KmsKeyId": entry.get("KmsKeyId") or "", "force": force} for entry in entries
    }
    return follow(ctx, secret, lambda value: value | {"_replicas": new | value["_replicas"]})


def follow(ctx: Context, secret: Secret, changed: Any, opened: Mapping[str, str | bytes] | None = None) -> Secret:
    """Change a primary, and its replicas with it. opened: values of versions that are known anyway, by id."""
    values: dict[str, str | bytes] = dict(opened or {})
    while True:
        rows = table_of(ctx, secret["ARN"].split(":")[4])
        row = rows.row(secret["Name"])
        if row is None or row.value["ARN"] != secret["ARN"]:
            return find(ctx, secret["ARN"])
        value = changed(row.value)
        replicas: dict[str, Any] = {}
        changes: list[Change] = []
        for region, entry in value["_replicas"].items():
            replicas[region], written = _replica(ctx, value, region, entry, values)
            changes += written
        value = value | {"_replicas": replicas}
        try:
            ctx.write(Update(rows.table, row.id, value, row.version), *changes)
        except (Conflict, AlreadyExists):
            continue
        return dict(value)


def status_of(secret: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{name: value for name, value in entry.items() if name != "force" and value} for entry in secret["_replicas"].values()]


def is_replica_of(there: Mapping[str, Any], secret: Mapping[str, Any]) -> bool:
    return bool(there["ARN"][-SUFFIX:] == secret["ARN"][-SUFFIX:] and there["PrimaryRegion"] == region_of(secret))


def _replica(
    ctx: Context, secret: Secret, region: str, entry: Mapping[str, Any], values: dict[str, str | bytes]
) -> tuple[dict[str, Any], list[Change]]:
    """One replica brought up to its primary: its status, and what is to be written."""
    account = secret["ARN"].split(":")[4]
    there = ctx.at(account, region)
    rows = table_of(there)
    row = rows.row(secret["Name"])
    status = {name: value for name, value in entry.items() if name not in ("Status", "StatusMessage")}
    old: Mapping[str, Any] = {}
    if row is not None and is_replica_of(row.value, secret):
        old = row.value
    elif row is not None and not is_gone(there, row.value) and not entry.get("force"):
        return status | {"Status": "Failed", "StatusMessage": f"Replication failed: Secret name conflict in {region}."}, []
    replica = {name: secret[name] for name in _SHARED if name in secret} | {
        "ARN": secret["ARN"].replace(f":{region_of(secret)}:", f":{region}:", 1),
        "CreatedDate": old.get("CreatedDate") or ctx.clock.now(),
        "LastChangedDate": secret["LastChangedDate"],
        "PrimaryRegion": region_of(secret),
        "_replicas": {},
    }
    if entry.get("KmsKeyId"):
        replica["KmsKeyId"] = entry["KmsKeyId"]
    try:
        replica["_versions"] = _versions(ctx, there, secret, replica, old.get("_versions") or {}, values)
    except ServiceError as error:
        return status | {"Status": "Failed", "StatusMessage": f"Replication failed: {error.message}"}, []
    written: Change = Insert(rows.table, secret["Name"], replica)
    if row is not None:
        written = Update(rows.table, row.id, replica, row.version)
    return status | {"Status": "InSync"}, [written]


def _versions(
    ctx: Context, there: Context, secret: Secret, replica: Secret, old: Mapping[str, Any], values: dict[str, str | bytes]
) -> dict[str, Any]:
    """The primary's labelled versions under the replica's key; what it has already stays as it is."""
    found: dict[str, Any] = {}
    for id, version in secret["_versions"].items():
        mine = old.get(id)
        if "sealed" not in version:
            found[id] = {"stages": version["stages"], "created": version["created"]}
        elif mine is not None and "sealed" in mine:
            found[id] = mine | {"stages": version["stages"]}
        elif version["stages"]:
            if id not in values:
                values[id] = open_value(ctx, secret, id)
            found[id] = {"stages": version["stages"], "created": version["created"]} | sealed_value(there, replica, id, values[id])
    return found
