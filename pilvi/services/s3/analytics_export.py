"""Storage class analysis, day by day: what lay in a bucket by class and age, and what was read of it, in one file that grows.

    accesses that witness.py has counted + a walk over the objects --> the day's lines, kept --> PREFIX/BUCKET/ID.csv

Source: S3 User Guide, "Amazon S3 analytics - Storage Class Analysis": columns of the exported file, age groups.
Differs: S3 does not publish how it arrives at its recommendation. Here the recommended age is the youngest group, from 30 days on,
from which on less is read in the observed time than is stored, once 30 days were observed. A day over which the clock was moved is
told with what lay there at its end.
"""

from __future__ import annotations

import csv
import io
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from pilvi.core.errors import PilviError
from pilvi.core.service import Cloud, Context
from pilvi.services.s3.analysis import AGES, age_group
from pilvi.services.s3.analytics import MEMBER
from pilvi.services.s3.catalog import Bucket
from pilvi.services.s3.classes import DAY_S, class_of
from pilvi.services.s3.configurations import is_chosen
from pilvi.services.s3.inventory_run import listed_buckets, reports_of, walk
from pilvi.services.s3.witness import ACCESS, MEMORY, settle, table_of
from pilvi.storage.records import Change, Delete, Put, Table

log = logging.getLogger("pilvi.s3")

COLUMNS = (
    "Date",
    "ConfigId",
    "Filter",
    "StorageClass",
    "ObjectAge",
    "ObjectCount",
    "DataUploaded_MB",
    "Storage_MB",
    "DataRetrieved_MB",
    "GetRequestCount",
    "CumulativeAccessRatio",
    "ObjectAgeForSIATransition",
    "RecommendedObjectAgeForSIATransition",
)
CLASSES = ("STANDARD", "STANDARD_IA")
ALL = "ALL"
OBSERVED_DAYS = 30
"""Before so many days nothing is recommended, and nothing younger is."""
KEPT_DAYS = 400
MB = 1 << 20
LIMIT = 1000

Kept = dict[tuple[str, str], list[int]]
"""(class, age) -> objects, bytes, bytes uploaded on the day."""


def has_work(cloud: Cloud) -> bool:
    return any(True for _ in listed_buckets(cloud, MEMBER))


def run_analytics(cloud: Cloud) -> None:
    if MEMORY in cloud.memory:
        settle(cloud)
    for ctx, bucket in listed_buckets(cloud, MEMBER):
        if cloud.schedules.is_closing:
            return
        analyse(ctx, bucket)


def history_of(bucket: Bucket) -> Table:
    return reports_of(bucket, "Analytics")


def analyse(ctx: Context, bucket: Bucket) -> None:
    """The days that are over become lines; then every file is written anew."""
    today = int(ctx.clock.time_s() // DAY_S)
    accesses, changes = accesses_before(ctx, bucket, today)
    history = history_of(bucket)
    for id, configuration in bucket.value[MEMBER].items():
        kept = look(ctx, bucket, configuration, today - 1)
        days = {today - 1, *(day for day, owner in accesses if owner == id)}
        for day in sorted(days):
            reads = accesses.get((day, id), {})
            entries = [
                [name, age, *kept.get((name, age), [0, 0, 0]), *reads.get((name, age), [0, 0])]
                for name in CLASSES
                for age in AGES
                if (name, age) in kept or (name, age) in reads
            ]
            changes.append(Put(history, f"{id}/{day:08d}", {"entries": entries}))
    if ctx.cloud.schedules.is_closing:
        return
    ctx.write(*changes)
    for configuration in bucket.value[MEMBER].values():
        export = configuration["StorageClassAnalysis"].get("DataExport")
        if export is not None:
            try:
                write_file(ctx, bucket, configuration, export["Destination"]["S3BucketDestination"])
            except PilviError as error:
                log.warning("the analysis %s of %s cannot be delivered: %s", configuration["Id"], bucket.name, error)


def accesses_before(
    ctx: Context, bucket: Bucket, today: int
) -> tuple[dict[tuple[int, str], dict[tuple[str, str], list[int]]], list[Change]]:
    """What was read on days that are over, by (day, configuration) and (class, age); and the changes that forget the counts.

    A row that today shares with yesterday stays, without yesterday's counts.
    """
    found: dict[tuple[int, str], dict[tuple[str, str], list[int]]] = defaultdict(dict)
    changes: list[Change] = []
    table, after = table_of(ACCESS, bucket), ""
    while rows := ctx.store.scan(table, after=after, limit=LIMIT):
        after = rows[-1].id
        for row in rows:
            later = {}
            for place, (count, size) in row.value.items():
                day, id, name, age = split(place)
                if int(day) >= today:
                    later[place] = [count, size]
                    continue
                entry = found[int(day), id].setdefault((name, age), [0, 0])
                entry[0] += size
                entry[1] += count
            changes.append(Put(table, row.id, later) if later else Delete(table, row.id))
    return found, changes


def split(place: str) -> list[str]:
    """Day, configuration (whose Id may hold slashes), class and age."""
    day, _, rest = place.partition("/")
    id, name, age = rest.rsplit("/", 2)
    return [day, id, name, age]


def look(ctx: Context, bucket: Bucket, configuration: Mapping[str, Any], day: int) -> Kept:
    """What lies in the bucket, as far as the filter takes it."""
    found: Kept = {}
    now, chosen = ctx.clock.time_s(), configuration.get("Filter")
    both = (chosen or {}).get("And") or chosen or {}
    for key, value in walk(ctx, bucket.tables.objects, both.get("Prefix", "")):
        name = class_of(value)
        if name in CLASSES and is_chosen(chosen, key, value.get("tags") or {}, ""):
            entry = found.setdefault((name, age_group(int((now - value["mtime"]) // DAY_S))), [0, 0, 0])
            entry[0] += 1
            entry[1] += value["size"]
            entry[2] += value["size"] if int(value["mtime"] // DAY_S) == day else 0
    return found


# -- the file -------------------------------------------------------------------------------------------------------------


def write_file(ctx: Context, bucket: Bucket, configuration: Mapping[str, Any], to: Mapping[str, Any]) -> None:
    into = io.StringIO()
    lines = csv.writer(into, lineterminator="\n")
    lines.writerow(COLUMNS)
    lines.writerows(lines_of(ctx, bucket, configuration))
    prefix = to.get("Prefix", "").rstrip("/")
    owner = {"ExpectedBucketOwner": to["BucketAccountId"]} if "BucketAccountId" in to else {}
    ctx.call(
        "s3",
        "PutObject",
        Bucket=to["Bucket"].partition(":::")[2],
        Key=f"{prefix}/{bucket.name}/{configuration['Id']}.csv".lstrip("/"),
        Body=into.getvalue().encode(),
        ContentType="text/csv",
        ACL="bucket-owner-full-control",
        **owner,
    )


def lines_of(ctx: Context, bucket: Bucket, configuration: Mapping[str, Any]) -> Iterator[list[Any]]:
    """A line for each day, class and age, and one for all ages together."""
    id, told = configuration["Id"], filter_text(configuration.get("Filter"))
    rows = ctx.store.scan(history_of(bucket), prefix=f"{id}/", limit=KEPT_DAYS, reverse=True)
    retrieved: dict[tuple[str, str], int] = defaultdict(int)
    for number, row in enumerate(reversed(rows), 1):
        day = datetime.fromtimestamp(int(row.id.rpartition("/")[2]) * DAY_S, UTC)
        entries = row.value["entries"]
        for name in CLASSES:
            some = [entry[1:] for entry in entries if entry[0] == name]
            for age, _, _, _, read, _ in some:
                retrieved[name, age] += read
            if not some:
                continue
            total = [sum(entry[place] for entry in some) for place in range(1, 6)]
            read_so_far = {age: retrieved[name, age] for age in AGES}
            age = recommended(some, read_so_far) if number >= OBSERVED_DAYS and name == "STANDARD" else ""
            for line in (*some, [ALL, *total]):
                reads = sum(read_so_far.values()) if line[0] == ALL else read_so_far[line[0]]
                ratio = f"{reads / line[2]:.6f}" if line[2] else ""
                sizes = [f"{line[place] / MB:.6f}" for place in (3, 2, 4)]
                ages = [age, age] if line[0] == ALL else ["", ""]
                yield [f"{day:%Y-%m-%d}", id, told, name, line[0], line[1], *sizes, line[5], ratio, *ages]


def recommended(entries: Iterable[list[Any]], retrieved: Mapping[str, int]) -> str:
    """The age from which on objects could be in STANDARD_IA; '' for none."""
    stored = {entry[0]: entry[2] for entry in entries}
    found = ""
    for age in reversed(AGES):
        if int(age[:3]) < OBSERVED_DAYS or retrieved[age] > stored.get(age, 0):
            break
        found = str(int(age[:3]))
    return found


def filter_text(chosen: Mapping[str, Any] | None) -> str:
    if not chosen:
        return ""
    both = chosen.get("And") or chosen
    tags = both.get("Tags") or ([both["Tag"]] if "Tag" in both else [])
    parts = [f"prefix={both['Prefix']}"] if "Prefix" in both else []
    return ";".join([*parts, *(f"tag:{tag['Key']}={tag['Value']}" for tag in tags)])
