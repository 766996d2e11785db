"""How much lies in each bucket, as CloudWatch tells it once a day: BucketSizeBytes by kind of storage, and NumberOfObjects.

Source: S3 User Guide, "Amazon S3 daily storage metrics for buckets in CloudWatch": current and older versions, delete markers, parts.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

from pilvi.core.service import Cloud, Context
from pilvi.services.s3.catalog import Bucket
from pilvi.services.s3.classes import DAY_S, class_of
from pilvi.services.s3.rounds import each_bucket
from pilvi.services.s3.tiers import tier_of

PAGE = 1000

KINDS = {
    "STANDARD": "StandardStorage",
    "REDUCED_REDUNDANCY": "ReducedRedundancyStorage",
    "STANDARD_IA": "StandardIAStorage",
    "ONEZONE_IA": "OneZoneIAStorage",
    "GLACIER_IR": "GlacierInstantRetrievalStorage",
    "GLACIER": "GlacierStorage",
    "DEEP_ARCHIVE": "DeepArchiveStorage",
    "EXPRESS_ONEZONE": "ExpressOneZoneStorage",
}
TIERS = {
    "FREQUENT": "IntelligentTieringFAStorage",
    "INFREQUENT": "IntelligentTieringIAStorage",
    "ARCHIVE_INSTANT": "IntelligentTieringAIAStorage",
    "ARCHIVE_ACCESS": "IntelligentTieringAAStorage",
    "DEEP_ARCHIVE_ACCESS": "IntelligentTieringDAAStorage",
}


def run_storage_metrics(cloud: Cloud) -> None:
    """The daily look at every bucket."""
    for ctx, bucket in each_bucket(cloud, "StorageMetrics"):
        if not bucket.zone:
            publish(cloud, ctx, bucket)


def publish(cloud: Cloud, ctx: Context, bucket: Bucket) -> None:
    sizes, number = look(cloud, ctx, bucket)
    midnight = datetime.fromtimestamp(cloud.clock.time_s() // DAY_S * DAY_S, UTC)
    data: list[dict[str, Any]] = [
        datum(bucket, "BucketSizeBytes", kind, size, "Bytes", midnight) for kind, size in sorted(sizes.items())
    ]
    data.append(datum(bucket, "NumberOfObjects", "AllStorageTypes", number, "Count", midnight))
    ctx.call("cloudwatch", "PutMetricData", Namespace="AWS/S3", MetricData=data)


def datum(bucket: Bucket, name: str, kind: str, value: int, unit: str, at: datetime) -> dict[str, Any]:
    dimensions = [{"Name": "BucketName", "Value": bucket.name}, {"Name": "StorageType", "Value": kind}]
    return {"MetricName": name, "Dimensions": dimensions, "Timestamp": at, "Value": float(value), "Unit": unit}


def look(cloud: Cloud, ctx: Context, bucket: Bucket) -> tuple[Counter[str], int]:
    """Bytes by kind of storage, and the number of objects."""
    sizes: Counter[str] = Counter()
    number, now = 0, cloud.clock.time_s()
    tables = bucket.tables
    for table in (tables.objects, tables.versions, tables.markers, tables.parts):
        after = ""
        while (rows := ctx.store.scan(table, after=after, limit=PAGE)) and not cloud.schedules.is_closing:
            after = rows[-1].id
            for row in rows:
                value = row.value
                number += 1
                if "size" in value:
                    name = class_of(value)
                    kind = TIERS[tier_of(value, now)] if name == "INTELLIGENT_TIERING" else KINDS[name]
                    sizes[kind] += value["size"]
    return sizes, number
