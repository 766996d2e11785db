"""What classes cost beyond requests, as usage lines: bytes kept, bytes read back, leaving a class too early, lifecycle moves.

    each write that makes a use final --> its line in the same transaction        (restores, early ends, lifecycle moves)
    reads of classes that charge for it --> one line an hour for each bucket, grown with every read
    once a day --> bytes kept by class (storage_lines.py)

Source: S3 User Guide, "Understanding your AWS billing and usage reports for Amazon S3".
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pilvi.core.service import Context
from pilvi.metering import Line, Meter, keeping
from pilvi.services.s3.catalog import Bucket
from pilvi.services.s3.classes import ARCHIVED, charged_bytes, class_of, early_s
from pilvi.storage.records import Change

PRODUCT = "AmazonS3"
GIB = 1 << 30
MONTH_HOURS = 730
"""A GB-month is a gibibyte kept for so many hours: an average month's."""
HOUR_S = 3600

READS = {"STANDARD_IA": "Retrieval-SIA", "ONEZONE_IA": "Retrieval-ZIA", "GLACIER_IR": "Retrieval-GIR"}
"""Classes that charge for every byte read."""

EARLY = {
    "STANDARD_IA": "EarlyDelete-SIA",
    "ONEZONE_IA": "EarlyDelete-ZIA",
    "GLACIER_IR": "EarlyDelete-GIR",
    "GLACIER": "EarlyDelete-ByteHrs",
    "DEEP_ARCHIVE": "EarlyDelete-GDA",
}

MOVES = {"GLACIER": "Requests-Tier3", "DEEP_ARCHIVE": "Requests-GDA-Tier3", "GLACIER_IR": "Requests-GIR-Tier4"}
"""Lifecycle moves, by the class moved to; into all others: Requests-Tier4."""


def storage_usage(tier: str) -> str:
    """TimedStorage-SIA-ByteHrs. tier: as in classes.py, or one of Intelligent-Tiering's (INT-IA)."""
    return (
        "TimedStorage-GlacierByteHrs" if tier == "Glacier" else f"TimedStorage-{tier}-ByteHrs" if tier else "TimedStorage-ByteHrs"
    )


def line_of(bucket: Bucket, id: str, usage: str, operation: str, at: datetime, quantity: int, unit: str, per_unit: int) -> Line:
    meter = Meter(
        id=id,
        account=bucket.account,
        region=bucket.region,
        product=PRODUCT,
        usage=usage,
        operation=operation,
        resource=bucket.arn,
        unit=unit,
        per_unit=per_unit,
    )
    return Line(meter, at, at, quantity, dict(bucket.value.get("Tags") or {}))


def retrieval(ctx: Context, bucket: Bucket, value: Mapping[str, Any], way: str) -> tuple[Change, ...]:
    """A restore that was asked for: its request, and the bytes it brings back.

    Free are bulk restores of GLACIER, and all but expedited ones of archive tiers.
    """
    name = class_of(value)
    if way != "Expedited" and (name not in ARCHIVED or (name, way) == ("GLACIER", "Bulk")):
        return ()
    prefix = "GDA-" if name == "DEEP_ARCHIVE" else ""
    now, id = ctx.clock.now(), f"s3/restore/{ctx.ids.hex(16)}"
    lines = [
        line_of(bucket, id, f"{prefix}{way}-Retrieval-Bytes", "RestoreObject", now, value["size"], "GB", GIB),
        line_of(bucket, id, f"{prefix}Requests-{way}-Retrieval", "RestoreObject", now, 1, "Requests", 1),
    ]
    return keeping(line for line in lines if line.quantity)


def early_end(ctx: Context, bucket: Bucket, value: Mapping[str, Any]) -> tuple[Change, ...]:
    """An object goes, or moves on, before its class's minimum is over: the rest is charged at once."""
    left_s = early_s(value, ctx.clock.time_s())
    if not left_s:
        return ()
    name = class_of(value)
    quantity = int(charged_bytes(name, value["size"]) * left_s / HOUR_S)
    id = f"s3/early/{ctx.ids.hex(16)}"
    return keeping(
        [line_of(bucket, id, EARLY[name], "DeleteObject", ctx.clock.now(), quantity, "GB-Mo", GIB * MONTH_HOURS)]
        if quantity
        else ()
    )


def moves(ctx: Context, bucket: Bucket, counts: Mapping[str, int]) -> tuple[Change, ...]:
    """What lifecycle rules have moved in one transaction, by class moved to."""
    usages: dict[str, int] = {}
    for name, count in counts.items():
        usage = MOVES.get(name, "Requests-Tier4")
        usages[usage] = usages.get(usage, 0) + count
    id, now = f"s3/lifecycle/{ctx.ids.hex(16)}", ctx.clock.now()
    return keeping(line_of(bucket, id, usage, "S3-Transition", now, count, "Requests", 1) for usage, count in usages.items())


def note_read(ctx: Context, bucket: Bucket, value: Mapping[str, Any], size: int) -> None:
    """Bytes of a class that charges for reading were asked for. The reader does not wait for the line to be written."""
    usage = READS.get(class_of(value))
    if usage is None or size <= 0:
        return
    now = ctx.clock.now()
    hour = now.replace(minute=0, second=0, microsecond=0)
    memory = ctx.cloud.memory
    running: dict[tuple[str, str], tuple[datetime, int]] | None = memory.get("s3:reads")
    if running is None:
        # Lines of an earlier process of this hour stay as they are: this one's have ids of their own.
        running = memory["s3:reads"] = {}
        memory["s3:reads:process"] = ctx.ids.hex(8)
    began, total = running.get((bucket.name, usage), (hour, 0))
    total = total + size if began == hour else size
    running[bucket.name, usage] = (hour, total)
    id = f"s3/read/{bucket.name}/{memory['s3:reads:process']}"
    ctx.store.submit(keeping([line_of(bucket, id, usage, "GetObject", hour, total, "GB", GIB)]))
