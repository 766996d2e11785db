"""Multi-Region keys: one id and one material in several Regions, each with a policy, aliases, grants, tags and state of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pilvi.auth.region import known_region
from pilvi.core.arn import partition_of
from pilvi.core.errors import AlreadyExists, Conflict, ServiceError
from pilvi.core.service import Context, Operations
from pilvi.metering.running import starting
from pilvi.services.kms.errors import no_key, unsupported, validation
from pilvi.services.kms.key import metadata
from pilvi.services.kms.key_policy import default_policy, read_policy
from pilvi.services.kms.keys import Key, Row, arn_of, check_state, find, load, look
from pilvi.services.kms.tag import tags_from
from pilvi.services.kms.usage import month_meter
from pilvi.storage.records import Expect

if TYPE_CHECKING:
    from pilvi.storage.records import Change

ops = Operations()


@ops
def replicate_key(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Put a replica of a multi-Region primary into another Region.

    req: KeyId of the primary (in this Region), ReplicaRegion, Policy (default: the account decides), Description, Tags.
    Errors: UnsupportedOperationException - no primary of a multi-Region key. AlreadyExistsException - it is there already.
    ValidationException - no such Region. DisabledException. KMSInvalidStateException. MalformedPolicyDocumentException.
    Differs: the replica works at once. One of imported material waits for the same material to be imported there, as on AWS.
    """
    region = req["ReplicaRegion"]
    key = _primary(ctx, req["KeyId"])
    if not known_region(region) or partition_of(region) != partition_of(ctx.region):
        raise validation(f"ReplicaRegion {region} is not a valid Region.")
    arn = arn_of(ctx.account, region, f"key/{key.id}")
    policy = default_policy(ctx.account, region)
    if req.get("Policy"):
        policy = read_policy(ctx, arn, req["Policy"], bypass=bool(req.get("BypassPolicyLockoutSafetyCheck")))
    tags, now = tags_from(req.get("Tags") or ()), ctx.clock.now()
    row = {
        **{name: key.row[name] for name in ("KeyId", "KeyUsage", "KeySpec", "Origin", "KeyManager", "MultiRegion")},
        "CreationDate": now,
        "Description": req.get("Description") or "",
        "_enabled": True,
        "_policy": policy,
        "_aliases": [],
        "_imported": {},
    }
    while True:
        key = _primary(ctx, req["KeyId"])
        shared, here = ctx.records("Material", region="").row(key.id), ctx.records("Key").row(key.id)
        if shared is None or here is None or shared.value["primary"] != key.region:
            continue
        value = shared.value | {"replicas": [*shared.value["replicas"], region]}
        changes: list[Change] = [
            ctx.records("Key", region=region).insertion(key.id, row),
            ctx.records("Material", region="").revision(key.id, value, shared.version),
            Expect(ctx.records("Key").table, key.id, here.version),
            starting(month_meter(ctx.account, region, arn), "kms", now),
        ]
        if tags:
            changes.append(ctx.records("Tags", region=region).replacement(arn, {"Tags": tags}))
        try:
            ctx.write(*changes)
        except AlreadyExists:
            raise ServiceError("AlreadyExistsException", f"Key {arn} already exists") from None
        except Conflict:
            continue
        break
    replica = load(ctx.cloud, ctx.account, region, key.id)
    assert replica is not None
    there = ctx.at(ctx.account, region)
    shown = [{"TagKey": tag["Key"], "TagValue": tag["Value"]} for tag in tags]
    return {"ReplicaKeyMetadata": metadata(there, replica), "ReplicaPolicy": policy, "ReplicaTags": shown}


@ops
def update_primary_region(ctx: Context, req: Mapping[str, Any]) -> None:
    """Make a replica the primary, and the primary (in this Region) a replica.

    Errors: UnsupportedOperationException - no multi-Region primary. NotFoundException - no replica there. DisabledException.
    KMSInvalidStateException.
    """
    region = req["PrimaryRegion"]
    key = _primary(ctx, req["KeyId"])
    if region == key.region:
        return
    replica = look(ctx.cloud, key.account, region, key.id)
    if replica is None:
        raise no_key(arn_of(key.account, region, f"key/{key.id}"))
    check_state(ctx, replica)

    def moved(shared: Row) -> Row:
        if shared["primary"] != key.region or region not in shared["replicas"]:
            raise no_key(replica.arn)
        others = [other for other in shared["replicas"] if other != region]
        return shared | {"primary": region, "replicas": [*others, key.region]}

    ctx.records("Material", region="").update(key.id, moved)


def _primary(ctx: Context, text: str) -> Key:
    key = find(ctx, text, aliases=False)
    if not key.row["MultiRegion"] or key.shared["primary"] != key.region:
        raise unsupported(f"{key.arn} is not a multi-region primary key.")
    check_state(ctx, key)
    return key
