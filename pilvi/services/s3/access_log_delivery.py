"""Lines of access logs become objects of their target buckets, every few minutes of the product's clock.

S3 puts them as logging.s3.amazonaws.com, on behalf of the bucket that is logged: the target's policy or list must let it. What cannot
be delivered waits, and is tried again for some days. A server killed between putting and forgetting delivers a batch twice.

Source: S3 User Guide, "Logging requests with server access logging": key formats, best-effort delivery.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from pilvi.core.errors import PilviError
from pilvi.core.principal import Principal
from pilvi.core.service import Cloud, Context
from pilvi.services.s3.acl import LOG_SERVICE
from pilvi.services.s3.witness import LINE, MEMORY, SERVICE, settle
from pilvi.storage.records import Delete, Row, Table

log = logging.getLogger("pilvi.s3")

PERIOD_S = 300.0
ROWS = 2000
KEEP_S = 3 * 86_400.0
"""How long lines wait for a target that does not take them."""


def has_work(cloud: Cloud) -> bool:
    if MEMORY in cloud.memory:
        settle(cloud)
    return any(True for _ in tables_of(cloud))


def tables_of(cloud: Cloud) -> Iterator[Table]:
    return (table for table in cloud.store.tables(service=SERVICE) if table.noun.startswith(f"{LINE}:"))


def deliver(cloud: Cloud) -> None:
    for table in tables_of(cloud):
        after = ""
        while (rows := cloud.store.scan(table, after=after, limit=ROWS)) and not cloud.schedules.is_closing:
            after = rows[-1].id
            deliver_rows(cloud, table, rows)


def deliver_rows(cloud: Cloud, table: Table, rows: list[Row]) -> None:
    """One object for each target, and for each day where keys tell when things happened."""
    name = table.noun.partition(":")[2]
    parcels: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        to = row.value["to"]
        day = f"{at_of(row):%Y-%m-%d}" if date_source(to) == "EventTime" else ""
        parcels.setdefault((to["TargetBucket"], to.get("TargetPrefix", ""), day), []).append(row)
    ctx = context_for(cloud, table, name)
    for some in parcels.values():
        to = some[0].value["to"]
        body = "".join(f"{line}\n" for row in some for line in row.value["lines"]).encode()
        try:
            ctx.call(
                "s3",
                "PutObject",
                Bucket=to["TargetBucket"],
                Key=key_for(ctx, table, name, to, at_of(some[0])),
                Body=body,
                ContentType="text/plain",
            )
        except PilviError as error:
            log.warning("access logs of %s cannot be delivered to %s: %s", name, to["TargetBucket"], error)
            some = list(too_old(some, cloud.clock.time_s()))
        if some:
            cloud.store.write(*(Delete(table, row.id) for row in some))


def too_old(rows: Iterable[Row], now_s: float) -> Iterator[Row]:
    return (row for row in rows if at_of(row).timestamp() < now_s - KEEP_S)


def at_of(row: Row) -> datetime:
    return datetime.fromtimestamp(int(row.id[:18]) / 1_000_000, UTC)


def date_source(to: Mapping[str, Any]) -> str:
    """EventTime, DeliveryTime, or '' for simple prefixes."""
    partitioned = (to.get("TargetObjectKeyFormat") or {}).get("PartitionedPrefix") or {}
    return str(partitioned.get("PartitionDateSource", ""))


def key_for(ctx: Context, table: Table, name: str, to: Mapping[str, Any], happened: datetime) -> str:
    """`[prefix]YYYY-mm-DD-HH-MM-SS-ID`, or `[prefix]account/region/bucket/YYYY/mm/DD/` before it."""
    prefix, source, now = to.get("TargetPrefix", ""), date_source(to), ctx.clock.now()
    unique = ctx.ids.hex(16).upper()
    if not source:
        return f"{prefix}{now:%Y-%m-%d-%H-%M-%S}-{unique}"
    folder = f"{prefix}{table.account}/{table.region}/{name}/"
    if source == "EventTime":
        return f"{folder}{happened:%Y/%m/%d/%Y-%m-%d}-00-00-00-{unique}"
    return f"{folder}{now:%Y/%m/%d/%Y-%m-%d-%H-%M-%S}-{unique}"


def context_for(cloud: Cloud, table: Table, name: str) -> Context:
    """S3's log delivery, on behalf of the bucket."""
    principal = Principal("service", table.account, "", LOG_SERVICE, LOG_SERVICE, source_arn=f"arn:aws:s3:::{name}")
    return Context(cloud, principal=principal, account=table.account, region=table.region, service="s3", operation="LogDelivery")
