"""Figures of replication, every minute, for rules that ask for them: what waits, what failed, how late it is.

Source: S3 User Guide, "Using S3 Replication metrics"; namespace AWS/S3, dimensions SourceBucket, DestinationBucket, RuleId.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pilvi.core.service import Cloud, Context
from pilvi.services.s3.catalog import Bucket
from pilvi.services.s3.facts import REPLICATION
from pilvi.services.s3.history import Value, find_version
from pilvi.services.s3.replication_rules import has_metrics, rules_for
from pilvi.services.s3.rounds import each_bucket

MEMORY = "s3:replication"
LOOKED_AT = 10_000
"""Of the versions of a bucket that wait, so many are counted."""

Place = tuple[str, str, str]
"""Source bucket, destination bucket, rule id."""


def keep_outcome(ctx: Context, source: Bucket, rule: Mapping[str, Any], value: Value, succeeded: bool) -> None:
    """One version reached one destination, or did not."""
    if not has_metrics(rule):
        return
    outcomes: dict[Place, list[float]] = ctx.cloud.memory.setdefault(MEMORY, {})
    outcome = outcomes.setdefault(place_of(source.name, rule), [0.0, 0.0])
    if succeeded:
        outcome[1] = max(outcome[1], ctx.clock.time_s() - value["mtime"])
    else:
        outcome[0] += 1


def place_of(source: str, rule: Mapping[str, Any]) -> Place:
    return source, rule["Destination"]["Bucket"].rpartition(":::")[2], rule["ID"]


def publish(cloud: Cloud) -> None:
    """What every bucket with such rules has to tell."""
    outcomes: dict[Place, list[float]] = cloud.memory.pop(MEMORY, {})
    for ctx, bucket in measured_buckets(cloud):
        data = [
            datum
            for rule in bucket.value["Replication"]["Rules"]
            if has_metrics(rule)
            for datum in figures(ctx, bucket, rule, outcomes)
        ]
        for start in range(0, len(data), 1000):
            ctx.call("cloudwatch", "PutMetricData", Namespace="AWS/S3", MetricData=data[start : start + 1000])


def has_work(cloud: Cloud) -> bool:
    """Whether any bucket has rules with metrics."""
    return next(measured_buckets(cloud), None) is not None


def measured_buckets(cloud: Cloud) -> Iterator[tuple[Context, Bucket]]:
    return each_bucket(
        cloud, "Replication", lambda value: any(map(has_metrics, (value.get("Replication") or {}).get("Rules") or ()))
    )


def figures(ctx: Context, bucket: Bucket, rule: Mapping[str, Any], outcomes: Mapping[Place, list[float]]) -> list[dict[str, Any]]:
    place = place_of(bucket.name, rule)
    failed, late_s = outcomes.get(place, (0.0, 0.0))
    count, size, oldest_s = waiting(ctx, bucket, rule)
    dimensions = [
        {"Name": name, "Value": value} for name, value in zip(("SourceBucket", "DestinationBucket", "RuleId"), place, strict=True)
    ]
    told = (
        ("OperationsPendingReplication", count, "Count"),
        ("BytesPendingReplication", size, "Bytes"),
        ("ReplicationLatency", max(late_s, oldest_s), "Seconds"),
        ("OperationsFailedReplication", failed, "Count"),
    )
    return [{"MetricName": name, "Dimensions": dimensions, "Value": float(value), "Unit": unit} for name, value, unit in told]


def waiting(ctx: Context, bucket: Bucket, rule: Mapping[str, Any]) -> tuple[int, int, float]:
    """Versions, bytes, and how long the oldest has waited."""
    count, size, oldest_s = 0, 0, 0.0
    now = ctx.clock.time_s()
    for entry in ctx.cloud.events.waiting(REPLICATION, bucket.name, LOOKED_AT):
        found = find_version(ctx, bucket, entry.fact["key"], entry.fact["versionId"])
        if found is not None and rule in rules_for(bucket.value["Replication"], entry.fact["key"], found.value):
            count += 1
            size += found.value.get("size", 0)
            oldest_s = max(oldest_s, now - entry.at)
    return count, size, oldest_s
