"""Bytes kept, by class, on the bill: once a day each bucket is walked, and what lies in it is charged since the last walk.

An object is counted from when it came into its class; one that came and went between two walks is not seen. A day that was not
looked at (the clock was moved over it) counts with what is there at its end.

Source: S3 User Guide, "Understanding your AWS billing and usage reports for Amazon S3": byte-hours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

from pilvi.core.service import Cloud, Context
from pilvi.metering import keeping
from pilvi.services.s3.catalog import SERVICE, Bucket
from pilvi.services.s3.charges import GIB, HOUR_S, MONTH_HOURS, line_of, storage_usage
from pilvi.services.s3.classes import BY_NAME, DAY_S, charged_bytes, class_of, since_of
from pilvi.services.s3.rounds import each_bucket
from pilvi.services.s3.tiers import tier_of
from pilvi.storage.records import Put, Row, Table

PAGE = 1000

TIERS = {
    "FREQUENT": "INT-FA",
    "INFREQUENT": "INT-IA",
    "ARCHIVE_INSTANT": "INT-AIA",
    "ARCHIVE_ACCESS": "INT-AA",
    "DEEP_ARCHIVE_ACCESS": "INT-DAA",
}
"""Tiers of Intelligent-Tiering, as usage types call them."""


def run_storage(cloud: Cloud) -> None:
    """The daily look at every bucket."""
    for ctx, bucket in each_bucket(cloud, "StandardStorage"):
        look(cloud, ctx, bucket)


def look(cloud: Cloud, ctx: Context, bucket: Bucket) -> None:
    """One bucket: its lines up to now, and from when the next ones count, in one transaction."""
    table, now = Table(bucket.account, bucket.region, SERVICE, "StorageLook"), cloud.clock.time_s()
    seen = ctx.store.get(table, bucket.name)
    began = bucket.value["CreationDate"].timestamp()
    since = max(began, seen.value["until_s"]) if seen is not None else began
    hours = byte_hours(cloud, ctx, bucket, since, now)
    lines = []
    for start, end in days_between(since, now):
        part = (end - start) / (now - since)
        at = datetime.fromtimestamp(start, UTC)
        for tier, count in hours.items():
            quantity = int(count * part)
            if quantity:
                operation = (
                    "IntelligentTieringStorage" if tier.startswith("INT") else "StandardStorage" if not tier else f"{tier}Storage"
                )
                id = f"s3/storage/{bucket.name}/{int(start)}"
                lines.append(line_of(bucket, id, storage_usage(tier), operation, at, quantity, "GB-Mo", GIB * MONTH_HOURS))
    ctx.write(*keeping(lines), Put(table, bucket.name, {"until_s": now}))


def days_between(since: float, until: float) -> Iterator[tuple[float, float]]:
    """A time, cut at midnights, so that each day is on its own month's bill."""
    while since < until:
        end = min((since // DAY_S + 1) * DAY_S, until)
        yield since, end
        since = end


def byte_hours(cloud: Cloud, ctx: Context, bucket: Bucket, since: float, now: float) -> Counter[str]:
    """By usage tier, over current and older versions and the parts of uploads in progress."""
    found: Counter[str] = Counter()
    for table in (bucket.tables.objects, bucket.tables.versions, bucket.tables.parts):
        after = ""
        while (rows := ctx.store.scan(table, after=after, limit=PAGE)) and not cloud.schedules.is_closing:
            after = rows[-1].id
            for row in rows:
                count(found, row, since, now)
    return found


def count(found: Counter[str], row: Row, since: float, now: float) -> None:
    value = row.value
    if "size" not in value:
        return
    name = class_of(value)
    hours = max(0.0, now - max(since, since_of(value))) / HOUR_S
    tier = TIERS[tier_of(value, now)] if name == "INTELLIGENT_TIERING" else BY_NAME[name].usage
    found[tier] += int(charged_bytes(name, value["size"]) * hours)
