"""Virtual MFA devices: a seed that an authenticator app and this server share, and whom it speaks for.

    (account)  MFADevice   id: serial number (an ARN)   value: SerialNumber, CreateDate, Tags, EnableDate, UserName,
                           _user (name in lower case, '' for the root user), _seed (sealed), _drift and _last (in steps of the code)

A user's row (the account's for the root user) names its devices in `_mfa`.

Source of every operation: IAM API reference; IAM User Guide, "AWS Multi-factor authentication in IAM".
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any

from pilvi.auth.totp import step_at, step_of_two
from pilvi.core.errors import AlreadyExists, InUse, LimitExceeded, NotFound, ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.iam.entity import arn_of, find, now, tagged, tags_by_key, untagged, user_meant
from pilvi.services.iam.listing import page, rows_after, sorted_after
from pilvi.services.iam.mfa_code import seed_context
from pilvi.services.iam.tables import change, entities, worldwide
from pilvi.storage.records import Change, Row, Rows

SEED_CHARACTERS = 64
DEVICES_PER_USER = 8
"""Source: IAM User Guide, "IAM and AWS STS quotas"."""

ops = Operations()


@ops
def create_virtual_mfa_device(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make a device that belongs to nobody yet. Its seed is answered this once.

    req: VirtualMFADeviceName, Path ('/'), Tags.
    Errors: EntityAlreadyExists.
    Differs: QRCodePNG is left out; authenticator apps take the seed as text.
    """
    serial = arn_of(ctx.account, "mfa", req.get("Path", "/"), req["VirtualMFADeviceName"])
    seed = ctx.ids.pick("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", SEED_CHARACTERS)
    device = {
        "SerialNumber": serial,
        "CreateDate": now(ctx),
        "Tags": tagged((), req.get("Tags", ()), "MFADevice"),
        "_seed": ctx.keyring.seal(base64.b32decode(seed), seed_context(serial)),
    }
    try:
        entities(ctx, "MFADevice").insert(serial, device)
    except AlreadyExists:
        raise AlreadyExists("MFADevice entity at the same path and name already exists.") from None
    answer = {"SerialNumber": serial, "Base32StringSeed": seed.encode()}
    return {"VirtualMFADevice": answer | ({"Tags": device["Tags"]} if device["Tags"] else {})}


@ops
def enable_mfa_device(ctx: Context, req: Mapping[str, Any]) -> None:
    """Give a device to a user, proved by two codes in a row. The root user names its account id, or `root`.

    req: UserName, SerialNumber, AuthenticationCode1, AuthenticationCode2.
    Errors: NoSuchEntity; EntityAlreadyExists - it is somebody's already; InvalidAuthenticationCode; LimitExceeded - 8 devices.
    """

    def decide() -> tuple[list[Change], None]:
        devices, device = find_device(ctx, req["SerialNumber"])
        rows, row, name = holder(ctx, req)
        if "EnableDate" in device.value:
            raise AlreadyExists("MFA device is already in use.")
        held = row.value.get("_mfa", [])
        if len(held) >= DEVICES_PER_USER:
            raise LimitExceeded(f"Cannot exceed quota for MFADevicesPerUser: {DEVICES_PER_USER}")
        value = {**device.value, **synchronized(ctx, req, device), "EnableDate": now(ctx), "_user": name.lower()}
        value["UserName"] = name or ctx.account
        return [
            devices.revision(device.id, value, device.version),
            rows.revision(row.id, {**row.value, "_mfa": [*held, device.id]}, row.version),
        ], None

    change(ctx, decide)


@ops
def resync_mfa_device(ctx: Context, req: Mapping[str, Any]) -> None:
    """Learn anew how far a device's clock is off, by two codes in a row.

    Errors: NoSuchEntity; InvalidAuthenticationCode.
    """

    def decide() -> tuple[list[Change], None]:
        devices, device = find_device(ctx, req["SerialNumber"])
        _, row, _ = holder(ctx, req)
        check_held(row, device.id)
        return [devices.revision(device.id, {**device.value, **synchronized(ctx, req, device)}, device.version)], None

    change(ctx, decide)


@ops
def deactivate_mfa_device(ctx: Context, req: Mapping[str, Any]) -> None:
    """Take a device from its user. Its seed is good for another one.

    Errors: NoSuchEntity - it is not that user's.
    """

    def decide() -> tuple[list[Change], None]:
        devices, device = find_device(ctx, req["SerialNumber"])
        rows, row, _ = holder(ctx, req)
        check_held(row, device.id)
        left = [serial for serial in row.value["_mfa"] if serial != device.id]
        bare = {name: member for name, member in device.value.items() if name not in OF_A_USER}
        return [
            devices.revision(device.id, bare, device.version),
            rows.revision(row.id, {**row.value, "_mfa": left}, row.version),
        ], None

    change(ctx, decide)


OF_A_USER = ("EnableDate", "UserName", "_user", "_drift", "_last")


@ops
def delete_virtual_mfa_device(ctx: Context, req: Mapping[str, Any]) -> None:
    """Forget a device that belongs to nobody.

    Errors: NoSuchEntity; DeleteConflict - it is still somebody's.
    """

    def decide() -> tuple[list[Change], None]:
        devices, device = find_device(ctx, req["SerialNumber"])
        if "EnableDate" in device.value:
            raise InUse("MFA VirtualDevice is in use. Must deactivate first.")
        return [devices.deletion(device.id, device.version)], None

    change(ctx, decide)


@ops
def list_mfa_devices(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The devices of a user, or of the caller.

    Errors: NoSuchEntity.
    """
    _, row, name = holder(ctx, req)
    devices = entities(ctx, "MFADevice")
    held = {
        serial: {"UserName": name or ctx.account, "SerialNumber": serial, "EnableDate": found["EnableDate"]}
        for serial in row.value.get("_mfa", [])
        if (found := devices.find(serial)) is not None
    }
    return page(req, "MFADevices", lambda after: sorted_after(held, after))


@ops
def get_mfa_device(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """One device: whose it is and since when.

    Errors: NoSuchEntity.
    """
    _, device = find_device(ctx, req["SerialNumber"])
    if "UserName" in req and device.value.get("_user") != req["UserName"].lower():
        raise missing(device.id)
    found = {name: device.value[name] for name in ("UserName", "SerialNumber", "EnableDate") if name in device.value}
    return found | {"Certifications": {}}


@ops
def list_virtual_mfa_devices(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """All devices of the account, or those that are somebody's, or nobody's.

    req: AssignmentStatus (Assigned, Unassigned, Any), Marker, MaxItems.
    """
    wanted = req.get("AssignmentStatus", "Any")
    return page(req, "VirtualMFADevices", lambda after: listed(ctx, after, wanted))


def listed(ctx: Context, after: str, wanted: str) -> Iterable[tuple[str, dict[str, Any]]]:
    for serial, device in rows_after(entities(ctx, "MFADevice"), after):
        is_assigned = "EnableDate" in device
        if wanted != "Any" and (wanted == "Assigned") != is_assigned:
            continue
        found: dict[str, Any] = {"SerialNumber": serial}
        if is_assigned:
            found |= {"EnableDate": device["EnableDate"], "User": whose(ctx, device)}
        yield serial, found


def whose(ctx: Context, device: Mapping[str, Any]) -> dict[str, Any]:
    """The user as lists show it; of the root user there is only the account."""
    if device["_user"]:
        user = entities(ctx, "User").find(device["_user"]) or {}
        return {name: user[name] for name in ("Path", "UserName", "UserId", "Arn", "CreateDate") if name in user}
    account = worldwide(ctx, "Account").get(ctx.account)
    return {"UserId": ctx.account, "Arn": f"arn:aws:iam::{ctx.account}:root", "CreateDate": account["CreateDate"]}


@ops
def tag_mfa_device(ctx: Context, req: Mapping[str, Any]) -> None:
    """Add tags to a device, or change their values."""
    devices, device = find_device(ctx, req["SerialNumber"])
    devices.update(device.id, lambda value: {**value, "Tags": tagged(value["Tags"], req["Tags"], "MFADevice")})


@ops
def untag_mfa_device(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove tags from a device by key; keys it does not have are no error."""
    devices, device = find_device(ctx, req["SerialNumber"])
    devices.update(device.id, lambda value: {**value, "Tags": untagged(value["Tags"], req["TagKeys"])})


@ops
def list_mfa_device_tags(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """A device's tags, by key."""
    _, device = find_device(ctx, req["SerialNumber"])
    return page(req, "Tags", lambda after: sorted_after(tags_by_key(device.value), after))


# -- whose --------------------------------------------------------------------------------------------------------------


def find_device(ctx: Context, serial: str) -> tuple[Rows, Row]:
    devices = entities(ctx, "MFADevice")
    row = devices.row(serial)
    if row is None:
        raise missing(serial)
    return devices, row


def missing(serial: str) -> NotFound:
    return NotFound(f"VirtualMFADevice with serial number {serial} does not exist.")


def holder(ctx: Context, req: Mapping[str, Any]) -> tuple[Rows, Row, str]:
    """The row that names the devices, its table, and the user's name ('' for the root user)."""
    is_root = ctx.principal.kind == "root" and req.get("UserName", "root") in ("root", ctx.account)
    if is_root and entities(ctx, "User").find(req.get("UserName", "")) is None:
        accounts = worldwide(ctx, "Account")
        row = accounts.row(ctx.account)
        if row is None:
            raise NotFound(f"The user with name {ctx.account} cannot be found.")
        return accounts, row, ""
    row = find(ctx, "User", user_meant(ctx, req))
    return entities(ctx, "User"), row, row.value["UserName"]


def check_held(row: Row, serial: str) -> None:
    if serial not in row.value.get("_mfa", []):
        raise NotFound("MFA Device invalid for user.")


def synchronized(ctx: Context, req: Mapping[str, Any], device: Row) -> dict[str, Any]:
    """How far the device's clock is off, by two codes in a row; they count as used."""
    seed = ctx.keyring.unseal(device.value["_seed"], seed_context(device.id))
    present = step_at(ctx.clock.real_s())
    step = step_of_two(seed, req["AuthenticationCode1"], req["AuthenticationCode2"], present)
    if step is None:
        raise ServiceError("InvalidAuthenticationCode", "Authentication code for device is not valid.", 403)
    return {"_drift": step - present, "_last": step}
