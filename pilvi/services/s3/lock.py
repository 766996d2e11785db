"""Object lock: the bucket's configuration, and the retention and legal hold of a version.

The lock itself is kept by `history.plan_delete_version`, through which every version goes: deletions by clients and by rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.s3.access import denial_or
from pilvi.services.s3.bucket import change_bucket
from pilvi.services.s3.catalog import Bucket, get_bucket
from pilvi.services.s3.errors import malformed_xml
from pilvi.services.s3.facts import happened
from pilvi.services.s3.history import Found, Plan, carry_out_now, find_object, seq_of
from pilvi.services.s3.lock_rules import (
    MODES,
    SETTING,
    check_change,
    checked_configuration,
    missing_configuration,
    past_date,
)
from pilvi.services.s3.object import may_bypass
from pilvi.storage.records import Update

ops = Operations()


@ops
def put_object_lock_configuration(ctx: Context, req: Mapping[str, Any]) -> None:
    """Give a versioned bucket object lock, or change how its new objects are locked. It cannot be taken away again.

    req: Bucket, ObjectLockConfiguration {ObjectLockEnabled (Enabled), Rule {DefaultRetention {Mode, Days or Years}}}.
    Errors: InvalidBucketState - versioning is not enabled; MalformedXML; InvalidRetentionPeriod.
    Source: S3 API Reference, PutObjectLockConfiguration.
    """
    configuration = checked_configuration(req.get("ObjectLockConfiguration") or {})
    change_bucket(ctx, get_bucket(ctx, req["Bucket"]).name, check_versioned, **{SETTING: configuration})


def check_versioned(row: Mapping[str, Any]) -> None:
    """Asked of the very row that is changed: a bucket that is suspended just now would lose what it locks."""
    if row.get("Versioning") != "Enabled":
        raise ServiceError(
            "InvalidBucketState", "Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration", 409
        )


@ops
def get_object_lock_configuration(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Whether the bucket has object lock, and how new objects are locked.

    Errors: ObjectLockConfigurationNotFoundError.
    Source: S3 API Reference, GetObjectLockConfiguration.
    """
    bucket = get_bucket(ctx, req["Bucket"])
    if SETTING not in bucket.value:
        raise ServiceError(
            "ObjectLockConfigurationNotFoundError",
            "Object Lock configuration does not exist for this bucket",
            404,
            BucketName=bucket.name,
        )
    return {SETTING: bucket.value[SETTING]}


@ops
def put_object_retention(ctx: Context, req: Mapping[str, Any]) -> None:
    """Lock a version until a date, prolong its lock, or shorten a governance lock as one who may.

    req: Bucket, Key, VersionId, Retention {Mode (GOVERNANCE, COMPLIANCE), RetainUntilDate}, BypassGovernanceRetention.
    Errors: InvalidRequest - the bucket has no object lock; InvalidArgument - a date that is past; MalformedXML; AccessDenied - the
    lock in force forbids it; NoSuchKey, NoSuchVersion, MethodNotAllowed.
    Source: S3 API Reference, PutObjectRetention.
    """
    wanted = wanted_lock(ctx, req.get("Retention") or {})

    def make(bucket: Bucket) -> Plan:
        found = find_lockable(ctx, bucket, req)
        check_change(found.value, wanted, ctx.clock.now(), may_bypass(ctx, bucket, req["Key"], req))
        value = {name: member for name, member in found.value.items() if name != "lock"}
        if wanted is not None:
            value["lock"] = wanted
        return changing(bucket, found, req["Key"], value, "ObjectRetention:Put")

    carry_out_now(ctx, req["Bucket"], make)


def wanted_lock(ctx: Context, retention: Mapping[str, Any]) -> dict[str, Any] | None:
    """What is asked for; None takes the lock away."""
    if not retention:
        return None
    if retention.get("Mode") not in MODES or "RetainUntilDate" not in retention:
        raise malformed_xml()
    until = retention["RetainUntilDate"]
    if until <= ctx.clock.now():
        raise past_date(until)
    return {"mode": retention["Mode"], "until": until}


@ops
def get_object_retention(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The lock of a version.

    Errors: InvalidRequest - the bucket has no object lock; NoSuchObjectLockConfiguration - the version has none; as put_object_retention.
    Source: S3 API Reference, GetObjectRetention.
    """
    found = find_lockable(ctx, get_bucket(ctx, req["Bucket"]), req)
    lock = found.value.get("lock")
    if lock is None:
        raise no_lock()
    return {"Retention": {"Mode": lock["mode"], "RetainUntilDate": lock["until"]}}


@ops
def put_object_legal_hold(ctx: Context, req: Mapping[str, Any]) -> None:
    """Put a legal hold on a version, or lift it.

    req: Bucket, Key, VersionId, LegalHold {Status (ON, OFF)}.
    Errors: InvalidRequest - the bucket has no object lock; MalformedXML; NoSuchKey, NoSuchVersion, MethodNotAllowed.
    Source: S3 API Reference, PutObjectLegalHold.
    """
    status = (req.get("LegalHold") or {}).get("Status")
    if status not in ("ON", "OFF"):
        raise malformed_xml()

    def make(bucket: Bucket) -> Plan:
        found = find_lockable(ctx, bucket, req)
        return changing(bucket, found, req["Key"], {**found.value, "hold": status == "ON"}, "ObjectLegalHold:Put")

    carry_out_now(ctx, req["Bucket"], make)


@ops
def get_object_legal_hold(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Whether a legal hold is on a version.

    Errors: NoSuchObjectLockConfiguration - there never was one; as put_object_legal_hold.
    Source: S3 API Reference, GetObjectLegalHold.
    """
    found = find_lockable(ctx, get_bucket(ctx, req["Bucket"]), req)
    if "hold" not in found.value:
        raise no_lock()
    return {"LegalHold": {"Status": "ON" if found.value["hold"] else "OFF"}}


def find_lockable(ctx: Context, bucket: Bucket, req: Mapping[str, Any]) -> Found:
    if SETTING not in bucket.value:
        raise missing_configuration()
    try:
        return find_object(ctx, bucket, req["Key"], req.get("VersionId"))
    except ServiceError as error:
        raise denial_or(ctx, bucket, error) from None


def changing(bucket: Bucket, found: Found, key: str, value: dict[str, Any], event: str) -> Plan:
    value = {**value, "seq": seq_of(value)}  # reads look for locks where a version has its place in a history
    plan = Plan([Update(found.table, found.row.id, value, found.row.version)])
    if bucket.listeners:
        happened(bucket, plan.facts, event, key, value)
    return plan


def no_lock() -> ServiceError:
    return ServiceError("NoSuchObjectLockConfiguration", "The specified object does not have a ObjectLock configuration", 404)
