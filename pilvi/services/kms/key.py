"""Keys: made, described, listed, switched off and on, and deleted after a waiting period on the product's clock."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pilvi.core.errors import Conflict, NotFound, ServiceError
from pilvi.core.service import Context, Operations
from pilvi.metering.running import ending, seeing, starting
from pilvi.services.kms import spec as kinds
from pilvi.services.kms.errors import invalid_state, no_key, unsupported, validation
from pilvi.services.kms.grants import check_tokens
from pilvi.services.kms.key_policy import default_policy, read_policy
from pilvi.services.kms.keys import (
    DISABLED,
    ENABLED,
    PENDING_DELETION,
    PENDING_IMPORT,
    PENDING_REPLICAS,
    Key,
    Row,
    arn_of,
    change,
    check_changeable,
    find,
    find_or_begin,
    load,
    look,
)
from pilvi.services.kms.listing import page
from pilvi.services.kms.material import new_material, new_version
from pilvi.services.kms.tag import tags_from
from pilvi.services.kms.usage import last_use, month_meter
from pilvi.storage.records import Expect, Update

if TYPE_CHECKING:
    from pilvi.storage.records import Change

ops = Operations()
loop_ops = Operations(on_loop=True)

DAYS_WAITING = (7, 30)


@ops
def create_key(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make a key of the caller's own.

    req: KeySpec (SYMMETRIC_DEFAULT), KeyUsage (must be said for all others), Policy (default: the account decides), Origin (AWS_KMS,
    EXTERNAL), MultiRegion, Description, Tags (at most 50), BypassPolicyLockoutSafetyCheck.
    Errors: ValidationException - spec and usage do not go together. MalformedPolicyDocumentException - no policy, or one that would
    lock the caller out. TagException. UnsupportedOperationException - a spec this Region does not have.
    Differs: custom key stores (CloudHSM, external) are refused.
    """
    spec, usage = _kind(req)
    origin = req.get("Origin") or "AWS_KMS"
    if origin not in ("AWS_KMS", "EXTERNAL") or req.get("CustomKeyStoreId") or req.get("XksKeyId"):
        raise ServiceError("NotImplemented", "Custom key stores (CloudHSM, external) are not built into this cloud.", 501)
    digits = ctx.ids.hex(32)
    key_id = f"mrk-{digits}" if req.get("MultiRegion") else ctx.ids.uuid()
    arn = arn_of(ctx.account, ctx.region, f"key/{key_id}")
    policy = default_policy(ctx.account, ctx.region)
    if req.get("Policy"):
        policy = read_policy(ctx, arn, req["Policy"], bypass=bool(req.get("BypassPolicyLockoutSafetyCheck")))
    tags = tags_from(req.get("Tags") or ())
    now = ctx.clock.now()
    row: Row = {
        "KeyId": key_id,
        "CreationDate": now,
        "Description": req.get("Description") or "",
        "KeyUsage": usage,
        "KeySpec": spec,
        "Origin": origin,
        "KeyManager": "CUSTOMER",
        "MultiRegion": bool(req.get("MultiRegion")),
        "_enabled": True,
        "_policy": policy,
        "_aliases": [],
        "_imported": {},
    }
    shared: Row = {"materials": [], "current": "", "primary": ctx.region, "replicas": [], "rotation": {}}
    if origin == "AWS_KMS":
        version = new_version(ctx.keyring, ctx.account, key_id, new_material(spec), now)
        shared |= {"materials": [version], "current": version["id"]}
    changes: list[Change] = [
        ctx.records("Key").insertion(key_id, row),
        ctx.records("Material", region="").insertion(key_id, shared),
        starting(month_meter(ctx.account, ctx.region, arn), "kms", now),
    ]
    if tags:
        changes.append(ctx.records("Tags").replacement(arn, {"Tags": tags}))
    ctx.write(*changes)
    return {"KeyMetadata": metadata(ctx, _loaded(ctx, key_id))}


@loop_ops
async def describe_key(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Everything about a key but its material. An alias of AWS's own gets its key by this.

    Errors: NotFoundException. InvalidArnException.
    """
    check_tokens(ctx, req.get("GrantTokens"))
    return {"KeyMetadata": metadata(ctx, await find_or_begin(ctx, req["KeyId"]))}


@ops
def list_keys(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """All keys of the account in this Region, AWS's own among them.

    req: Limit (1-1000, default 100), Marker.
    Errors: InvalidMarkerException.
    """
    found, more = page(ctx.records("Key"), req, default=100)
    keys = [
        {"KeyId": row["KeyId"], "KeyArn": arn_of(ctx.account, ctx.region, f"key/{row['KeyId']}")}
        for row in found
        if look(ctx.cloud, ctx.account, ctx.region, row["KeyId"]) is not None
    ]
    return {"Keys": keys, **more}


@ops
def update_key_description(ctx: Context, req: Mapping[str, Any]) -> None:
    """Say anew what a key is for.

    Errors: NotFoundException. KMSInvalidStateException - it is pending deletion.
    """
    change(ctx, req["KeyId"], lambda row: row | {"Description": req["Description"]})


@ops
def enable_key(ctx: Context, req: Mapping[str, Any]) -> None:
    """Let a key be used again, from the next call on.

    Errors: NotFoundException. KMSInvalidStateException - it is pending deletion or import.
    """
    change(ctx, req["KeyId"], lambda row: row | {"_enabled": True}, not_while=(PENDING_IMPORT,))


@ops
def disable_key(ctx: Context, req: Mapping[str, Any]) -> None:
    """Let nobody use a key, from the next call on: what it sealed stays shut.

    Errors: NotFoundException. KMSInvalidStateException - it is pending deletion or import.
    """
    change(ctx, req["KeyId"], lambda row: row | {"_enabled": False}, not_while=(PENDING_IMPORT,))


@ops
def schedule_key_deletion(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Begin the waiting period after which a key, and all that it sealed, is lost for good.

    req: PendingWindowInDays (7-30, default 30).
    Errors: NotFoundException. KMSInvalidStateException - it has begun already. ValidationException.
    A multi-Region primary waits for its replicas first: its period begins when the last of them is gone.
    """
    days = req.get("PendingWindowInDays") or DAYS_WAITING[1]
    if not DAYS_WAITING[0] <= days <= DAYS_WAITING[1]:
        raise validation(f"PendingWindowInDays must be between {DAYS_WAITING[0]} and {DAYS_WAITING[1]} (inclusive).")
    date = ctx.clock.now() + timedelta(days=days)
    while True:
        key = find(ctx, req["KeyId"], aliases=False)
        row, shared = ctx.records("Key").row(key.id), ctx.records("Material", region="").row(key.id)
        if row is None or shared is None:
            raise no_key(key.arn)
        check_changeable(ctx, key, row.value)
        waits = shared.value["primary"] == key.region and bool(shared.value["replicas"])
        mark: Row = {"_waits_for_replicas": True} if waits else {"_deletes": date}
        value = row.value | {"_enabled": False, "_window": days} | mark
        same_regions = Expect(ctx.records("Material", region="").table, key.id, shared.version)
        with suppress(Conflict):  # decided anew: somebody has just replicated it
            ctx.write(Update(ctx.records("Key").table, key.id, value, row.version), same_regions)
            break
    _stop_counting(ctx, key)
    if waits:
        return {"KeyId": key.arn, "KeyState": PENDING_REPLICAS, "PendingWindowInDays": days}
    return {"KeyId": key.arn, "DeletionDate": date, "KeyState": PENDING_DELETION, "PendingWindowInDays": days}


@ops
def cancel_key_deletion(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Keep a key after all; it stays disabled until it is enabled.

    Errors: NotFoundException - too late. KMSInvalidStateException - it is not pending deletion.
    """
    key = find(ctx, req["KeyId"], aliases=False)

    def keep(row: Row) -> Row:
        if "_deletes" not in row and "_waits_for_replicas" not in row:
            raise invalid_state(key.arn, "not pending deletion")
        return {name: value for name, value in row.items() if name not in ("_deletes", "_waits_for_replicas", "_window")}

    change(ctx, req["KeyId"], keep, not_while=None)
    ctx.write(starting(month_meter(key.account, key.region, key.arn), "kms", ctx.clock.now()))
    return {"KeyId": key.arn}


@ops
def get_key_last_usage(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """When a key last encrypted, opened, signed or proved something.

    Errors: NotFoundException. InvalidArnException.
    Differs: there is no CloudTrailEventId.
    """
    key = find(ctx, req["KeyId"], aliases=False)
    born = key.row["CreationDate"]
    found: dict[str, Any] = {"KeyId": key.id, "TrackingStartDate": born, "KeyCreationDate": born}
    last = last_use(ctx, key.account, key.region, key.id)
    if last is not None:
        found["KeyLastUsage"] = {
            "Operation": last.operation,
            "Timestamp": datetime.fromtimestamp(last.time_s, UTC),
            "KmsRequestId": last.request_id,
        }
    return found


# -- for the other nouns --------------------------------------------------------------------------------------------------


def metadata(ctx: Context, key: Key) -> dict[str, Any]:
    """A key as AWS describes it."""
    row, state = key.row, key.state(ctx.clock.now())
    found: dict[str, Any] = {
        "AWSAccountId": key.account,
        "KeyId": key.id,
        "Arn": key.arn,
        "CreationDate": row["CreationDate"],
        "Enabled": state == ENABLED,
        "Description": row["Description"],
        "KeyUsage": key.usage,
        "KeyState": state,
        "Origin": row["Origin"],
        "KeyManager": row["KeyManager"],
        "KeySpec": key.spec,
        "MultiRegion": row["MultiRegion"],
        **kinds.algorithms(key.spec, key.usage),
    }
    if key.spec in kinds.OLDER_SPECS:
        found["CustomerMasterKeySpec"] = key.spec
    if state == PENDING_DELETION:
        found["DeletionDate"] = row["_deletes"]
    if state == PENDING_REPLICAS:
        found["PendingDeletionWindowInDays"] = row["_window"]
    current = key.shared["current"]
    if key.is_external and state in (ENABLED, DISABLED) and current:
        valid_to = row["_imported"].get(current)
        found["ExpirationModel"] = "KEY_MATERIAL_EXPIRES" if valid_to else "KEY_MATERIAL_DOES_NOT_EXPIRE"
        if valid_to:
            found["ValidTo"] = valid_to
    if key.spec == kinds.SYMMETRIC and current:
        found["CurrentKeyMaterialId"] = current
    if row["MultiRegion"]:
        found["MultiRegionConfiguration"] = _regions(key)
    return found


def _stop_counting(ctx: Context, key: Key) -> None:
    """Keys that wait for their deletion cost nothing."""
    seeing(ctx.store, key.account, key.arn, ctx.clock.now())
    with suppress(NotFound, Conflict):  # the look of the hour has just written the same
        if changes := ending(ctx.store, key.account, key.arn):
            ctx.write(*changes)


def _regions(key: Key) -> dict[str, Any]:
    def at(region: str) -> dict[str, str]:
        return {"Arn": arn_of(key.account, region, f"key/{key.id}"), "Region": region}

    primary = key.shared["primary"]
    return {
        "MultiRegionKeyType": "PRIMARY" if primary == key.region else "REPLICA",
        "PrimaryKey": at(primary),
        "ReplicaKeys": [at(region) for region in key.shared["replicas"]],
    }


def _loaded(ctx: Context, key_id: str) -> Key:
    key = load(ctx.cloud, ctx.account, ctx.region, key_id)
    assert key is not None
    return key


def _kind(req: Mapping[str, Any]) -> tuple[str, str]:
    older, newer = req.get("CustomerMasterKeySpec"), req.get("KeySpec")
    if older and newer:
        raise validation(
            "You cannot specify KeySpec and CustomerMasterKeySpec in the same request. CustomerMasterKeySpec is deprecated."
        )
    spec = newer or older or kinds.SYMMETRIC
    if spec not in kinds.USAGES:
        raise unsupported(f"KeySpec {spec} is not supported in this Region.")
    usage = req.get("KeyUsage") or ""
    if not usage and spec != kinds.SYMMETRIC:
        raise validation("You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.")
    usage = usage or kinds.ENCRYPT
    if usage not in kinds.USAGES[spec]:
        raise validation(f"KeyUsage {usage} is not compatible with KeySpec {spec}")
    return spec, usage
