"""Rotation: new material for the same key, by the clock or on demand. What older material sealed still opens.

rotation of a Material row    {period: days, from: when enabled or last rotated by the clock}, empty when it is off
a version that rotation made  {..., date: when, type: AUTOMATIC or ON_DEMAND}
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from pilvi.core.errors import Conflict
from pilvi.core.service import Context, Operations
from pilvi.services.kms import spec as kinds
from pilvi.services.kms.errors import invalid_state, limit_exceeded, unsupported
from pilvi.services.kms.keys import Key, Row, check_changeable, check_state, find, is_present
from pilvi.services.kms.listing import page_of
from pilvi.services.kms.material import new_material, new_version
from pilvi.services.kms.notice import ROTATED, telling, wake_bus
from pilvi.storage.records import Table, Update

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

ops = Operations()

YEAR_DAYS: Final = 365
MOST_ON_DEMAND: Final = 25
"""Source: KMS Developer Guide, "Quotas", on-demand rotations of a key in its life."""


@ops
def enable_key_rotation(ctx: Context, req: Mapping[str, Any]) -> None:
    """Rotate a key by the clock, the first time one period from now.

    req: KeyId of a symmetric key with material made here, RotationPeriodInDays (90-2560, default 365).
    Errors: UnsupportedOperationException - another kind of key, or a replica. NotFoundException. DisabledException.
    KMSInvalidStateException.
    """
    key = _rotatable(ctx, req)
    period, now = req.get("RotationPeriodInDays"), ctx.clock.now()

    def enabled(shared: Row) -> Row:
        if shared["rotation"] and period in (None, shared["rotation"]["period"]):
            return shared
        return shared | {"rotation": {"period": period or YEAR_DAYS, "from": now}}

    ctx.records("Material", region="").update(key.id, enabled)


@ops
def disable_key_rotation(ctx: Context, req: Mapping[str, Any]) -> None:
    """Rotate a key by the clock no more.

    Errors: as EnableKeyRotation.
    """
    key = _rotatable(ctx, req)
    ctx.records("Material", region="").update(key.id, lambda shared: shared | {"rotation": {}})


@ops
def get_key_rotation_status(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Whether a key is rotated by the clock, and when it will be next.

    Errors: NotFoundException. UnsupportedOperationException - asymmetric and HMAC keys are never rotated. KMSInvalidStateException.
    """
    key = find(ctx, req["KeyId"], aliases=False)
    if key.spec != kinds.SYMMETRIC:
        raise unsupported(f"{key.arn} KeySpec is {key.spec} which is not valid for GetKeyRotationStatus.")
    rotation, state = key.shared["rotation"], key.state(ctx.clock.now())
    is_on = bool(rotation) and state not in ("PendingDeletion", "PendingReplicaDeletion")
    found: dict[str, Any] = {"KeyId": key.arn, "KeyRotationEnabled": is_on}
    if is_on:
        found |= {"RotationPeriodInDays": rotation["period"], "NextRotationDate": next_date(rotation)}
    return found


@ops
def rotate_key_on_demand(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Rotate a key now; the dates of its rotation by the clock stay as they are.

    A key with imported material takes into use the new material that was imported for it.
    Errors: UnsupportedOperationException - not symmetric, or a replica. LimitExceededException - 25 in a key's life.
    DisabledException. KMSInvalidStateException - not enabled, or no new material has been imported. NotFoundException.
    """
    key = find(ctx, req["KeyId"], aliases=False)
    _check_kind(key, "RotateKeyOnDemand", external=True)
    check_state(ctx, key)
    now = ctx.clock.now()

    def rotated(shared: Row) -> Row:
        if sum(version.get("type") == "ON_DEMAND" for version in shared["materials"]) >= MOST_ON_DEMAND:
            raise limit_exceeded(f"The number of on-demand rotations of {key.arn} exceeds the limit of {MOST_ON_DEMAND}.")
        if key.is_external:
            return _with_imported(ctx, key, shared, now)
        version = new_version(ctx.keyring, key.account, key.id, new_material(key.spec), now)
        return with_version(shared, version, now, "ON_DEMAND")

    ctx.records("Material", region="").update(key.id, rotated)
    return {"KeyId": key.arn}


@ops
def list_key_rotations(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """When a key was rotated, newest last, and which material each rotation brought.

    req: KeyId of a symmetric key, IncludeKeyMaterial (ROTATIONS_ONLY, or ALL_KEY_MATERIAL: the first and the pending ones too),
    Limit (1-1000, default 100), Marker.
    Errors: NotFoundException. UnsupportedOperationException. InvalidMarkerException.
    """
    key = find(ctx, req["KeyId"], aliases=False)
    if key.spec != kinds.SYMMETRIC:
        raise unsupported(f"{key.arn} KeySpec is {key.spec} which is not valid for ListKeyRotations.")
    takes_all = req.get("IncludeKeyMaterial") == "ALL_KEY_MATERIAL"
    wanted = [version for version in key.shared["materials"] if takes_all or version.get("date")]
    items, more = page_of([_shown(ctx, key, version) for version in wanted], req, default=100)
    return {"Rotations": items, **more}


# -- for the other nouns --------------------------------------------------------------------------------------------------


def next_date(rotation: Mapping[str, Any]) -> datetime:
    found: datetime = rotation["from"] + timedelta(days=rotation["period"])
    return found


def with_version(shared: Row, version: Row, date: datetime, kind: str) -> Row:
    """The same key with another version in use."""
    older = [known for known in shared["materials"] if known["id"] != version["id"]]
    used = {name: value for name, value in version.items() if name != "state"} | {"date": date, "type": kind}
    return shared | {"materials": [*older, used], "current": version["id"]}


def rotate_due(cloud: Cloud, key: Key, now: datetime) -> None:
    """Every rotation of a key that fell due. One that was disabled meanwhile is rotated once, when it is enabled again."""
    rotation = key.shared["rotation"]
    if not rotation or next_date(rotation) > now:
        return
    table = Table(key.account, "", "kms", "Material")
    row = cloud.store.get(table, key.id)
    if row is None:
        return
    shared, is_enabled = row.value, key.state(now) == "Enabled"
    if not is_enabled and next_date(shared["rotation"]) + timedelta(days=shared["rotation"]["period"]) > now:
        return
    while shared["rotation"] and next_date(shared["rotation"]) <= now:
        date = next_date(shared["rotation"])
        if is_enabled:
            version = new_version(cloud.keyring, key.account, key.id, new_material(key.spec), now)
            shared = with_version(shared, version, date, "AUTOMATIC")
        elif date + timedelta(days=shared["rotation"]["period"]) > now:
            break
        shared = shared | {"rotation": shared["rotation"] | {"from": date}}
    noticed = [telling(cloud, key, ROTATED)] if shared.get("current") != row.value.get("current") else []
    try:
        cloud.store.write(Update(table, key.id, shared, row.version), *noticed)
    except Conflict:
        return  # somebody has changed it just now; the next look rotates it
    wake_bus(cloud, key)


def _rotatable(ctx: Context, req: Mapping[str, Any]) -> Key:
    key = find(ctx, req["KeyId"], aliases=False)
    _check_kind(key, "key rotation", external=False)
    check_changeable(ctx, key, key.row)
    check_state(ctx, key)
    return key


def _check_kind(key: Key, operation: str, *, external: bool) -> None:
    if key.spec != kinds.SYMMETRIC:
        raise unsupported(f"{key.arn} KeySpec is {key.spec} which is not valid for {operation}.")
    if key.is_external and not external:
        raise unsupported(f"{key.arn} origin is EXTERNAL which is not valid for this operation.")
    if key.shared["primary"] != key.region:
        raise unsupported(f"{key.arn} is a multi-Region replica key, which is not valid for {operation}.")


def _with_imported(ctx: Context, key: Key, shared: Row, now: datetime) -> Row:
    pending = next((version for version in shared["materials"] if version.get("state") == "PENDING"), None)
    rows = [ctx.records("Key", region=region).find(key.id) for region in (shared["primary"], *shared["replicas"])]
    if pending is None or not all(row is not None and is_present(row, pending["id"], now) for row in rows):
        raise invalid_state(key.arn, "pending import of new key material")
    return with_version(shared, pending, now, "ON_DEMAND")


def _shown(ctx: Context, key: Key, version: Row) -> dict[str, Any]:
    found: dict[str, Any] = {
        "KeyId": key.arn,
        "KeyMaterialId": version["id"],
        "KeyMaterialState": _state_of(ctx, key, version),
    }
    if version.get("date"):
        found |= {"RotationDate": version["date"], "RotationType": version["type"]}
    if key.is_external:
        is_there = is_present(key.row, version["id"], ctx.clock.now())
        found["ImportState"] = "IMPORTED" if is_there else "PENDING_IMPORT"
        if version.get("description"):
            found["KeyMaterialDescription"] = version["description"]
        if is_there:
            valid_to = key.row["_imported"][version["id"]]
            found["ExpirationModel"] = "KEY_MATERIAL_EXPIRES" if valid_to else "KEY_MATERIAL_DOES_NOT_EXPIRE"
            if valid_to:
                found["ValidTo"] = valid_to
    return found


def _state_of(ctx: Context, key: Key, version: Row) -> str:
    if version["id"] == key.shared["current"]:
        return "CURRENT"
    if version.get("state") != "PENDING":
        return "NON_CURRENT"
    rows = [ctx.records("Key", region=region).find(key.id) for region in (key.shared["primary"], *key.shared["replicas"])]
    is_everywhere = all(row is not None and is_present(row, version["id"], ctx.clock.now()) for row in rows)
    return "PENDING_ROTATION" if is_everywhere else "PENDING_MULTI_REGION_IMPORT_AND_ROTATION"
