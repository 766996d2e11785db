"""Requests as figures in CloudWatch: counted by the minute for buckets with metrics configurations, published every minute.

    Sight --count--> {minute/filter/metric: {value: how often}} -- a row of "s3watch" --publish--> PutMetricData

Source: S3 User Guide, "Amazon S3 request metrics in CloudWatch", "Amazon S3 CloudWatch dimensions".
Differs: latencies are kept to three digits. A server killed between publishing and forgetting counts its last minute twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from pilvi.core.service import Cloud
from pilvi.services.s3.configurations import is_chosen
from pilvi.services.s3.rounds import own_context
from pilvi.storage.records import Delete, Row, Table

if TYPE_CHECKING:
    from pilvi.services.s3.witness import Sight

Figures = dict[str, dict[str, float]]
"""`minute/filter id/metric` -> value as text -> how often."""

MINUTE_S = 60
ROWS = 500
VALUES = 150
DATA = 1000

KINDS = {"GET": "GetRequests", "PUT": "PutRequests", "DELETE": "DeleteRequests", "HEAD": "HeadRequests", "POST": "PostRequests"}
LISTS = frozenset({"ListObjects", "ListObjectsV2", "ListObjectVersions", "ListMultipartUploads", "ListParts"})
UNITS = {"FirstByteLatency": "Milliseconds", "TotalRequestLatency": "Milliseconds"}
BYTES = ("BytesDownloaded", "BytesUploaded", "SelectBytesReturned")
FAILURE, FAULT = 400, 500


def count(figures: Figures, sight: Sight, configurations: Mapping[str, Any]) -> None:
    """Add a request to the figures of every filter that takes it."""
    minute = int(sight.at_s // MINUTE_S) * MINUTE_S
    told: list[tuple[str, float]] | None = None
    for id, configuration in configurations.items():
        if takes(configuration.get("Filter"), sight):
            told = told if told is not None else list(figures_of(sight))
            for name, value in told:
                values = figures.setdefault(f"{minute}/{id}/{name}", {})
                text = f"{value:.3g}" if name in UNITS else f"{value:.17g}"
                values[text] = values.get(text, 0) + 1


def takes(chosen: Mapping[str, Any] | None, sight: Sight) -> bool:
    """Requests about the bucket itself belong to filters that name nothing, or an access point only."""
    point = sight.bucket.point.arn if sight.bucket.point is not None else ""
    if not sight.key and chosen is not None and set(chosen) != {"AccessPointArn"}:
        return False
    return is_chosen(chosen, sight.key, tags_of(sight), point)


def tags_of(sight: Sight) -> Mapping[str, str]:
    """Tags of the object that was read, or those that a new one gets."""
    if sight.value is not None:
        tags: Mapping[str, str] = sight.value.get("tags") or {}
        return tags
    return dict(parse_qsl(sight.request.headers.get("x-amz-tagging", ""), keep_blank_values=True))


def figures_of(sight: Sight) -> Iterator[tuple[str, float]]:
    method, status = sight.request.method, sight.status
    yield "AllRequests", 1
    if sight.operation in LISTS:
        yield "ListRequests", 1
    elif sight.operation == "SelectObjectContent":
        yield "SelectRequests", 1
        yield "SelectBytesReturned", sight.sent
    elif sight.operation == "DeleteObjects":
        yield "DeleteRequests", 1
    elif (kind := KINDS.get(method)) is not None and (sight.key or method in ("POST", "HEAD")):
        yield kind, 1
    yield "4xxErrors", float(FAILURE <= status < FAULT)
    yield "5xxErrors", float(status >= FAULT)
    if sight.sent:
        yield "BytesDownloaded", sight.sent
    headers = sight.request.headers
    uploaded = headers.get("x-amz-decoded-content-length") or headers.get("content-length") or "0"
    if method in ("PUT", "POST") and uploaded.isdigit() and int(uploaded):
        yield "BytesUploaded", float(uploaded)
    yield "FirstByteLatency", sight.turn_s * 1000
    yield "TotalRequestLatency", sight.total_s * 1000


# -- publishing -----------------------------------------------------------------------------------------------------------


def has_work(cloud: Cloud) -> bool:
    from pilvi.services.s3.witness import MEMORY, settle

    if MEMORY in cloud.memory:
        settle(cloud)
    return any(True for _ in tables_of(cloud))


def tables_of(cloud: Cloud) -> Iterator[Table]:
    from pilvi.services.s3.witness import FIGURE, SERVICE

    return (table for table in cloud.store.tables(service=SERVICE) if table.noun.startswith(f"{FIGURE}:"))


def publish(cloud: Cloud) -> None:
    """What was counted becomes points of CloudWatch."""
    for table in tables_of(cloud):
        while (rows := cloud.store.scan(table, limit=ROWS)) and not cloud.schedules.is_closing:
            publish_rows(cloud, table, rows)


def publish_rows(cloud: Cloud, table: Table, rows: list[Row]) -> None:
    ctx = own_context(cloud, table.account, table.region, "RequestMetrics")
    data = iter(list(data_of(table.noun.partition(":")[2], joined(rows))))
    while some := list(islice(data, DATA)):
        ctx.call("cloudwatch", "PutMetricData", Namespace="AWS/S3", MetricData=some)
    cloud.store.write(*(Delete(table, row.id) for row in rows))


def joined(rows: list[Row]) -> Figures:
    found: Figures = {}
    for row in rows:
        for place, values in row.value.items():
            into = found.setdefault(place, {})
            for text, times in values.items():
                into[text] = into.get(text, 0) + times
    return found


def data_of(bucket: str, figures: Figures) -> Iterator[dict[str, Any]]:
    for place, values in figures.items():
        minute, _, rest = place.partition("/")
        id, _, name = rest.rpartition("/")
        pairs = iter(values.items())
        while some := list(islice(pairs, VALUES)):
            yield {
                "MetricName": name,
                "Dimensions": [{"Name": "BucketName", "Value": bucket}, {"Name": "FilterId", "Value": id}],
                "Timestamp": datetime.fromtimestamp(int(minute), UTC),
                "Values": [float(text) for text, _ in some],
                "Counts": [float(times) for _, times in some],
                "Unit": UNITS.get(name) or ("Bytes" if name in BYTES else "Count"),
            }
