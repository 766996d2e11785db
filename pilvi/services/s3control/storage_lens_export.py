"""Daily exports of Storage Lens: what lies in the account's buckets, by Region, bucket and storage class.

Source: S3 User Guide, "Viewing and analyzing S3 Storage Lens metrics by using data export files": schema, manifest, layout;
"Amazon S3 Storage Lens metrics glossary": the free metrics, of which those of storage and of what protects it are here.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from pilvi.core.errors import PilviError
from pilvi.core.principal import Principal
from pilvi.core.service import Cloud, Context
from pilvi.services.s3control.storage_lens import NOUN
from pilvi.storage.records import Row, Table

log = logging.getLogger("pilvi.s3control")

PRINCIPAL = "storage-lens.s3.amazonaws.com"
BUCKETS = Table("", "", "s3bucket", "Bucket")
PAGE = 1000
WEEK_S = 7 * 86_400
SCHEMA = (
    "version_number",
    "configuration_id",
    "report_date",
    "aws_account_number",
    "aws_region",
    "storage_class",
    "record_type",
    "record_value",
    "bucket_name",
    "metric_name",
    "metric_value",
)

Figures = Counter[tuple[str, str]]
"""(storage class, metric) -> value"""


def has_work(cloud: Cloud) -> bool:
    return bool(cloud.store.tables(service="s3control", noun=NOUN))


def run_exports(cloud: Cloud) -> None:
    for table in cloud.store.tables(service="s3control", noun=NOUN):
        for row in cloud.store.scan(table):
            configuration = row.value["configuration"]
            to = (configuration.get("DataExport") or {}).get("S3BucketDestination")
            if to is None or not configuration["IsEnabled"] or cloud.schedules.is_closing:
                continue
            ctx = context_for(cloud, table, configuration["StorageLensArn"])
            try:
                export(ctx, configuration, to)
            except PilviError as error:
                log.warning("the Storage Lens export %s cannot be delivered: %s", row.id, error)


def context_for(cloud: Cloud, table: Table, arn: str) -> Context:
    principal = Principal("service", table.account, "", PRINCIPAL, PRINCIPAL, source_arn=arn)
    return Context(cloud, principal=principal, account=table.account, region=table.region, service="s3control", source_ip=PRINCIPAL)


def export(ctx: Context, configuration: Mapping[str, Any], to: Mapping[str, Any]) -> None:
    day = f"{ctx.clock.now():%Y-%m-%d}"
    into = io.StringIO()
    lines = csv.writer(into, lineterminator="\n")
    lines.writerow(SCHEMA)
    lines.writerows(lines_of(ctx, configuration, day))
    if ctx.cloud.schedules.is_closing:
        return
    data = into.getvalue().encode()
    prefix = to.get("Prefix", "").rstrip("/")
    home = f"{prefix}/StorageLens/{ctx.account}/{configuration['Id']}/V_1".lstrip("/")
    key = f"{home}/reports/dt={day}/{ctx.ids.uuid()}.csv"
    put(ctx, to, key, data)
    manifest = {
        "sourceAccountId": ctx.account,
        "configId": configuration["Id"],
        "destinationBucket": to["Arn"],
        "reportVersion": "V_1",
        "reportDate": day,
        "reportFormat": "CSV",
        "reportSchema": ",".join(SCHEMA),
        "reportFiles": [{"key": key, "size": len(data), "md5Checksum": hashlib.md5(data).hexdigest()}],
    }
    put(ctx, to, f"{home}/manifests/dt={day}/manifest.json", json.dumps(manifest, indent=2).encode())


def put(ctx: Context, to: Mapping[str, Any], key: str, data: bytes) -> None:
    encryption = to.get("Encryption") or {}
    sealing: dict[str, Any] = {"ServerSideEncryption": "AES256"} if "SSES3" in encryption else {}
    if "SSEKMS" in encryption:
        sealing = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": encryption["SSEKMS"]["KeyId"]}
    ctx.call(
        "s3",
        "PutObject",
        Bucket=to["Arn"].partition(":::")[2],
        Key=key,
        Body=data,
        ACL="bucket-owner-full-control",
        ExpectedBucketOwner=to["AccountId"],
        **sealing,
    )


def lines_of(ctx: Context, configuration: Mapping[str, Any], day: str) -> Iterator[list[Any]]:
    """Lines for each bucket, then for the account."""
    total: Counter[tuple[str, str, str]] = Counter()
    count: Counter[str] = Counter()
    for name, region in buckets_of(ctx, configuration):
        count[region] += 1
        for (kind, metric), value in sorted(figures_of(ctx, name, region).items()):
            total[region, kind, metric] += value
            yield ["V_1", configuration["Id"], day, ctx.account, region, kind, "BUCKET", "", name, metric, value]
    for (region, kind, metric), value in sorted(total.items()):
        yield ["V_1", configuration["Id"], day, ctx.account, region, kind, "ACCOUNT", "", "", metric, value]
    for region, number in sorted(count.items()):
        yield ["V_1", configuration["Id"], day, ctx.account, region, "", "ACCOUNT", "", "", "TotalBuckets", number]


def buckets_of(ctx: Context, configuration: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and Regions of the buckets that the dashboard is about."""
    included, excluded = configuration.get("Include") or {}, configuration.get("Exclude") or {}
    own, after = Table(ctx.account, "", "s3bucket", "OwnBucket"), ""
    while rows := ctx.store.scan(own, after=after, limit=PAGE):
        after = rows[-1].id
        for row in rows:
            bucket = ctx.store.get(BUCKETS, row.id)
            if bucket is None:
                continue
            region, arn = bucket.value["Region"], f"arn:aws:s3:::{row.id}"
            is_in = region in (included.get("Regions") or [region]) and arn in (included.get("Buckets") or [arn])
            if is_in and region not in (excluded.get("Regions") or ()) and arn not in (excluded.get("Buckets") or ()):
                yield row.id, region


def figures_of(ctx: Context, name: str, region: str) -> Figures:
    found: Figures = Counter()
    now = ctx.clock.time_s()
    for noun in ("Object", "Version", "Marker"):
        for row in walk(ctx, Table(ctx.account, region, "s3", f"{noun}:{name}")):
            count_version(found, row.value, is_current=noun != "Version")
    begun = {}
    for row in walk(ctx, Table(ctx.account, region, "s3", f"Upload:{name}")):
        begun[row.id.rpartition("\0")[2]] = row.value["at"]
        found["STANDARD", "IncompleteMultipartUploadObjectCount"] += 1
    for row in walk(ctx, Table(ctx.account, region, "s3", f"Part:{name}")):
        size = row.value.get("size", 0)
        found["STANDARD", "IncompleteMultipartUploadStorageBytes"] += size
        found["STANDARD", "StorageBytes"] += size
        if begun.get(row.id.partition("/")[0], now) < now - WEEK_S:
            found["STANDARD", "IncompleteMPUStorageBytesOlderThan7Days"] += size
    return found


def walk(ctx: Context, table: Table) -> Iterator[Row]:
    after = ""
    while (rows := ctx.store.scan(table, after=after, limit=PAGE)) and not ctx.cloud.schedules.is_closing:
        after = rows[-1].id
        yield from rows


def count_version(found: Figures, value: Mapping[str, Any], *, is_current: bool) -> None:
    """One version or delete marker. Everything is encrypted here."""
    if "marker" in value:
        found["STANDARD", "DeleteMarkerObjectCount"] += 1
        found["STANDARD", "ObjectCount"] += 1
        return
    kind, size = (value.get("head") or {}).get("StorageClass") or "STANDARD", value["size"]
    which = "CurrentVersion" if is_current else "NonCurrentVersion"
    names = ["", which, "Encrypted"]
    if value.get("repl") == "REPLICA":
        names.append("Replicated")
    elif value.get("repl") is not None:
        names.append("ReplicatedSource")
    if "lock" in value or value.get("hold"):
        names.append("ObjectLockEnabled")
    if "enc" in value and (value.get("head") or {}).get("ServerSideEncryption", "").startswith("aws:kms"):
        names.append("SSEKMS")
    for name in names:
        found[kind, f"{name}StorageBytes"] += size
        found[kind, f"{name}ObjectCount"] += 1
