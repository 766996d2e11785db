"""Inventories are made: once a day every bucket's configurations are looked at, and those that are due become files and a manifest.

    rows of the bucket, a page at a time --inventory_format.py--> files --PutObject as s3.amazonaws.com--> the destination
      -> manifest.json -> manifest.checksum -> hive/.../symlink.txt

A list that the destination does not let in is lost, and the log says so. One that a killed server was making is made again.

Source: S3 User Guide, "Locating your inventory list": the layout at the destination; weekly lists come on Sundays.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from pilvi.core.errors import PilviError
from pilvi.core.service import Cloud, Context
from pilvi.services.s3.catalog import Bucket
from pilvi.services.s3.classes import DAY_S
from pilvi.services.s3.inventory import MEMBER
from pilvi.services.s3.inventory_format import SUFFIX, Teller, columns_of, file_schema, files_of
from pilvi.services.s3.rounds import SERVICE, each_bucket
from pilvi.storage.records import Put, Table

log = logging.getLogger("pilvi.s3")

PAGE = 1000
WEEK_S = 7 * DAY_S
SUNDAY_S = 3 * DAY_S
"""From the beginning of 1970, a Thursday, to its first Sunday."""


def has_work(cloud: Cloud) -> bool:
    return any(True for _ in listed_buckets(cloud, MEMBER))


def listed_buckets(cloud: Cloud, member: str) -> Iterator[tuple[Context, Bucket]]:
    """Buckets that have such configurations, and S3 itself on their behalf."""
    for ctx, bucket in each_bucket(cloud, "Report", lambda value: member in value):
        yield ctx.as_service(SERVICE, source_arn=bucket.arn), bucket


def reports_of(bucket: Bucket, noun: str) -> Table:
    """What is remembered of a bucket's reports; a later bucket of the same name begins anew."""
    return Table(bucket.account, bucket.region, "s3report", f"{noun}:{bucket.name}:{int(bucket.value['CreationDate'].timestamp())}")


def run_inventories(cloud: Cloud) -> None:
    for ctx, bucket in listed_buckets(cloud, MEMBER):
        for id, configuration in bucket.value[MEMBER].items():
            if cloud.schedules.is_closing:
                return
            table = reports_of(bucket, "Inventory")
            made = cloud.store.get(table, id)
            if configuration["IsEnabled"] and is_due(configuration, made.value["at"] if made is not None else 0.0, cloud):
                began = cloud.clock.time_s()
                try:
                    make(ctx, bucket, configuration)
                except PilviError as error:
                    log.warning("the inventory %s of %s cannot be delivered: %s", id, bucket.name, error)
                if not cloud.schedules.is_closing:
                    cloud.store.write(Put(table, id, {"at": began}))


def is_due(configuration: Mapping[str, Any], made_s: float, cloud: Cloud) -> bool:
    """Daily ones with every midnight, weekly ones with every Sunday; the first with the next run."""
    now = cloud.clock.time_s()
    if configuration["Schedule"]["Frequency"] == "Daily":
        return int(now // DAY_S) > int(made_s // DAY_S)
    return not made_s or (now - SUNDAY_S) // WEEK_S > (made_s - SUNDAY_S) // WEEK_S


def make(ctx: Context, bucket: Bucket, configuration: Mapping[str, Any]) -> None:
    to = configuration["Destination"]["S3BucketDestination"]
    form, columns, now = to["Format"], columns_of(configuration), ctx.clock.now()
    prefix = to.get("Prefix", "").rstrip("/")
    home = f"{prefix}/{bucket.name}/{configuration['Id']}".lstrip("/")
    files = []
    for data in files_of(form, columns, rows_of(ctx, bucket, configuration, columns)):
        key = f"{home}/data/{ctx.ids.uuid()}.{SUFFIX[form]}"
        put(ctx, to, key, data)
        files.append({"key": key, "size": len(data), "MD5checksum": hashlib.md5(data).hexdigest()})
    if ctx.cloud.schedules.is_closing:
        return
    midnight = datetime.fromtimestamp(now.timestamp() // DAY_S * DAY_S, UTC)
    manifest = {
        "sourceBucket": bucket.name,
        "destinationBucket": to["Bucket"],
        "version": "2016-11-30",
        "creationTimestamp": str(int(midnight.timestamp() * 1000)),
        "fileFormat": form,
        "fileSchema": file_schema(form, columns),
        "files": files,
    }
    text = json.dumps(manifest, indent=2).encode()
    folder = f"{home}/{midnight:%Y-%m-%dT%H-%MZ}"
    put(ctx, to, f"{folder}/manifest.json", text)
    put(ctx, to, f"{folder}/manifest.checksum", hashlib.md5(text).hexdigest().encode())
    links = "\n".join(f"s3://{to['Bucket'].partition(':::')[2]}/{file['key']}" for file in files)
    put(ctx, to, f"{home}/hive/dt={midnight:%Y-%m-%d-%H-%M}/symlink.txt", links.encode())


def put(ctx: Context, to: Mapping[str, Any], key: str, data: bytes) -> None:
    encryption = to.get("Encryption") or {}
    sealing: dict[str, Any] = {"ServerSideEncryption": "AES256"} if "SSES3" in encryption else {}
    if "SSEKMS" in encryption:
        sealing = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": encryption["SSEKMS"]["KeyId"]}
    owner = {"ExpectedBucketOwner": to["AccountId"]} if "AccountId" in to else {}
    control = {"ACL": "bucket-owner-full-control"}
    ctx.call("s3", "PutObject", Bucket=to["Bucket"].partition(":::")[2], Key=key, Body=data, **control, **sealing, **owner)


def rows_of(ctx: Context, bucket: Bucket, configuration: Mapping[str, Any], columns: list[str]) -> Iterator[list[Any]]:
    """What the configuration asks for of every current object, or of every version and delete marker."""
    teller, tables = Teller(ctx, bucket, columns), bucket.tables
    prefix = (configuration.get("Filter") or {}).get("Prefix", "")
    current = (tables.objects, tables.markers) if configuration["IncludedObjectVersions"] == "All" else (tables.objects,)
    for table in current:
        for key, value in walk(ctx, table, prefix):
            yield teller.row(key, value, True)
    if len(current) > 1:
        for place, value in walk(ctx, tables.versions, prefix):
            yield teller.row(place.partition("\0")[0], value, False)


def walk(ctx: Context, table: Table, prefix: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    after = ""
    while (rows := ctx.store.scan(table, prefix=prefix, after=after, limit=PAGE)) and not ctx.cloud.schedules.is_closing:
        after = rows[-1].id
        for row in rows:
            yield row.id, row.value
