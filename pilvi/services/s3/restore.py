"""Archived objects: they cannot be read until RestoreObject has brought a copy back, which takes as long as its tier says.

    row["restore"] = {"asked", "done", "until", "way"}      instants of the product's clock, in seconds

An object is readable from `done` until `until`; nothing has to happen at these instants, they are looked at when somebody asks. A
task (`schedule.py`) tells those who listen to the bucket. What is restored is the object's own bytes; no second copy is made.

Source: S3 API Reference, RestoreObject; S3 User Guide, "Understanding archive retrieval options": each option's longest time counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from math import ceil
from typing import Any

from pilvi.core.errors import ServiceError
from pilvi.core.service import Cloud, Context, Operations
from pilvi.services.s3.access import denial_or
from pilvi.services.s3.catalog import Bucket, find_bucket
from pilvi.services.s3.charges import retrieval
from pilvi.services.s3.classes import ARCHIVED, DAY_S, class_of
from pilvi.services.s3.errors import invalid_argument, malformed_xml
from pilvi.services.s3.facts import happened
from pilvi.services.s3.history import Plan, Value, carry_out_now, find_object, find_version, version_of
from pilvi.services.s3.rounds import own_context
from pilvi.storage.records import Delete, Put, Table, Update

ops = Operations()

MINUTE_S, HOUR_S = 60, 3600

DURATIONS_S: dict[str, dict[str, int]] = {
    "GLACIER": {"Expedited": 5 * MINUTE_S, "Standard": 5 * HOUR_S, "Bulk": 12 * HOUR_S},
    "DEEP_ARCHIVE": {"Standard": 12 * HOUR_S, "Bulk": 48 * HOUR_S},
    "ARCHIVE_ACCESS": {"Expedited": 5 * MINUTE_S, "Standard": 5 * HOUR_S, "Bulk": 12 * HOUR_S},
    "DEEP_ARCHIVE_ACCESS": {"Standard": 12 * HOUR_S, "Bulk": 48 * HOUR_S},
}
"""How long each way takes, by class or archive tier: AWS's longest (1-5 minutes, 3-5 and 5-12 hours; within 12 and 48 hours)."""

POSTED, COMPLETED, EXPIRED = "ObjectRestore:Post", "ObjectRestore:Completed", "ObjectRestore:Delete"


@ops
def restore_object(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Bring a readable copy of an archived object back for some days; of one in an archive tier, the object itself.

    req: Bucket, Key, VersionId, RestoreRequest {Days, GlacierJobParameters {Tier (Standard)}}. Asked again with a faster tier while it
    runs, it goes faster; asked again when it is done, the days count from now.
    Errors: InvalidObjectState - the class needs no restore; RestoreAlreadyInProgress; ObjectAlreadyInActiveTierError - the object is in
    no archive tier; InvalidArgument - the days, or a tier that the class has not; MalformedXML; NotImplemented - Type SELECT.
    Source: S3 API Reference, RestoreObject.
    """
    asked = req.get("RestoreRequest") or {}
    if "Type" in asked or "SelectParameters" in asked or "OutputLocation" in asked:
        raise ServiceError("NotImplemented", "Restore requests of type SELECT are not implemented.", 501)
    name, key, version_id = req["Bucket"], req["Key"], req.get("VersionId")
    way = (asked.get("GlacierJobParameters") or {}).get("Tier") or asked.get("Tier") or "Standard"
    plan = carry_out_now(ctx, name, lambda bucket: restoration(ctx, bucket, key, version_id, asked.get("Days"), way))
    return {"_status": plan.answer["status"]}


def restoration(ctx: Context, bucket: Bucket, key: str, version_id: str | None, days: int | None, way: str) -> Plan:
    try:
        found = find_object(ctx, bucket, key, version_id)
    except ServiceError as error:
        raise denial_or(ctx, bucket, error) from None
    value, now = found.value, int(ctx.clock.time_s())
    place = archive_of(value)
    is_tier = class_of(value) == "INTELLIGENT_TIERING"
    if place is None or (is_tier and is_restored(value, now)):
        raise not_archived(value)
    check_days(days, is_tier=is_tier)
    duration = DURATIONS_S[place].get(way)
    if duration is None:
        raise invalid_argument("Retrieval option is not supported by this storage class", "Tier", way)
    restore: Value | None = value.get("restore")
    plan = Plan(answer={"status": 202})
    if restore is not None and now < restore["done"]:
        if duration >= DURATIONS_S[place][restore["way"]]:
            raise ServiceError("RestoreAlreadyInProgress", "Object restore is already in progress", 409)
        restore = {**restore, "done": min(restore["done"], now + duration), "way": way}
    elif restore is not None and not is_tier and now < restore["until"]:
        plan.answer["status"] = 200
        restore = {**restore}
        now = restore["done"] = min(restore["done"], now)
    else:
        restore = {"asked": now, "done": now + duration, "way": way}
    if days is not None:
        begins = int(ctx.clock.time_s()) if plan.answer["status"] == 200 else restore["done"]
        restore["until"] = midnight_after(begins + days * DAY_S)
    plan.changes += (
        Update(found.table, found.row.id, {**value, "restore": restore}, found.row.version),
        Put(pending_table(bucket), pending_id(key, value), pending(restore)),
    )
    if plan.answer["status"] == 202:
        plan.changes += retrieval(ctx, bucket, value, way)
        if bucket.listeners:
            happened(bucket, plan.facts, POSTED, key, value)
    return plan


def check_days(days: int | None, *, is_tier: bool) -> None:
    """Objects in archive tiers come back for good; the others for some days."""
    if (days is None) is not is_tier:
        raise malformed_xml()
    if days is not None and days < 1:
        raise invalid_argument("restoration days should be at least 1", "Days", days)


# -- what a row says ------------------------------------------------------------------------------------------------------


def archive_of(value: Mapping[str, Any]) -> str | None:
    """The class or archive tier that keeps an object from being read, restored or not; None when it can be read at once."""
    name = class_of(value)
    if name in ARCHIVED:
        return name
    archive: str | None = (value.get("tier") or {}).get("archive")
    return archive


def check_readable(ctx: Context, value: Mapping[str, Any]) -> None:
    """Errors: InvalidObjectState - archived, and not restored now."""
    place = archive_of(value)
    if place is None or is_restored(value, ctx.clock.time_s()):
        return
    name = class_of(value)
    fields = {"StorageClass": name} if name == place else {"StorageClass": name, "AccessTier": place}
    raise ServiceError("InvalidObjectState", "The operation is not valid for the object's storage class", 403, **fields)


def is_restored(value: Mapping[str, Any], now_s: float) -> bool:
    restore = value.get("restore")
    return restore is not None and restore["done"] <= now_s and ("until" not in restore or now_s < restore["until"])


def not_archived(value: Mapping[str, Any]) -> ServiceError:
    name = class_of(value)
    if name == "INTELLIGENT_TIERING":
        return ServiceError("ObjectAlreadyInActiveTierError", "This object is already in an active tier", 403)
    return ServiceError(
        "InvalidObjectState", "Restore is not allowed for the object's current storage class", 403, StorageClass=name
    )


def restore_text(value: Mapping[str, Any], now_s: float) -> str | None:
    """`x-amz-restore`; None while nothing is restored."""
    restore = value.get("restore")
    if restore is None:
        return None
    if now_s < restore["done"]:
        return 'ongoing-request="true"'
    if "until" not in restore or now_s >= restore["until"]:
        return None
    return f'ongoing-request="false", expiry-date="{http_date(restore["until"])}"'


def restore_status(value: Mapping[str, Any], now_s: float) -> dict[str, Any] | None:
    """RestoreStatus of listings."""
    restore = value.get("restore")
    if restore is None:
        return None
    if now_s < restore["done"]:
        return {"IsRestoreInProgress": True}
    if "until" not in restore or now_s >= restore["until"]:
        return None
    return {"IsRestoreInProgress": False, "RestoreExpiryDate": datetime.fromtimestamp(restore["until"], UTC)}


def midnight_after(instant_s: float) -> int:
    """The next midnight in UTC, or this one. Source: S3 User Guide, "Lifecycle rules: based on an object's age"."""
    return ceil(instant_s / DAY_S) * DAY_S


def http_date(instant_s: int) -> str:
    return format_datetime(datetime.fromtimestamp(instant_s, UTC), usegmt=True)


# -- what happens at an instant -------------------------------------------------------------------------------------------


def pending_table(bucket: Bucket) -> Table:
    """Restores that somebody is to be told about, or that put an object back into a tier."""
    return Table(bucket.account, bucket.region, "s3", f"Restore:{bucket.name}")


def pending_id(key: str, value: Mapping[str, Any]) -> str:
    return f"{key}\0{version_of(dict(value))}"


def pending(restore: Mapping[str, Any]) -> Value:
    return {"done": restore["done"], "until": restore.get("until"), "told": False}


def has_work(cloud: Cloud) -> bool:
    return any(table.noun.startswith("Restore:") for table in cloud.store.tables(service="s3"))


def run_restores(cloud: Cloud) -> None:
    """Restores that are done, and restored copies whose days are over: told to listeners; objects of archive tiers come back."""
    for table in cloud.store.tables(service="s3"):
        if table.noun.startswith("Restore:"):
            settle_bucket(cloud, table)


def settle_bucket(cloud: Cloud, table: Table) -> None:
    name, after = table.noun.partition(":")[2], ""
    ctx = own_context(cloud, table.account, table.region, "RestoreObject")
    while rows := cloud.store.scan(table, after=after, limit=1000):
        now = cloud.clock.time_s()
        for row in rows:
            is_over = row.value["until"] is not None and row.value["until"] <= now
            if is_over or (row.value["done"] <= now and not row.value["told"]):
                key, _, version_id = row.id.partition("\0")
                settle(ctx, name, table, key, version_id, row.id)
        after = rows[-1].id
        if cloud.schedules.is_closing:
            return


def settle(ctx: Context, name: str, table: Table, key: str, version_id: str, row_id: str) -> None:
    """One restore: what is due of it, in one transaction with the news."""
    if find_bucket(ctx, name) is None:
        ctx.write(Delete(table, row_id))
        return

    def make(bucket: Bucket) -> Plan:
        row, now = ctx.store.get(table, row_id), ctx.clock.time_s()
        found = find_version(ctx, bucket, key, version_id)
        if row is None:
            return Plan()
        if found is None or "restore" not in found.value or found.value["restore"]["done"] != row.value["done"]:
            return Plan([Delete(table, row_id, row.version)])
        plan, value = Plan(), {**found.value}
        if row.value["done"] <= now and not row.value["told"] and bucket.listeners:
            happened(bucket, plan.facts, COMPLETED, key, found.value)
        is_tier = row.value["until"] is None
        if is_tier:
            value.pop("restore")
            value["tier"] = {**{k: v for k, v in value["tier"].items() if k != "archive"}, "used": row.value["done"]}
        elif row.value["until"] <= now:
            value.pop("restore")
            if bucket.listeners:
                happened(bucket, plan.facts, EXPIRED, key, found.value)
        if "restore" in value:
            plan.changes.append(Update(table, row_id, {**row.value, "told": True}, row.version))
        else:
            plan.changes += (Update(found.table, found.row.id, value, found.row.version), Delete(table, row_id, row.version))
        return plan

    carry_out_now(ctx, name, make)
