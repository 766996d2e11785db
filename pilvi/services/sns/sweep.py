"""What is over is removed: subscriptions nobody confirmed, deduplication ids, archives, old letters, what deleted topics left."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from pilvi.core.errors import PilviError
from pilvi.services.sns.confirmation import TOKEN_S
from pilvi.services.sns.duplicates import INTERVAL_S
from pilvi.services.sns.spool import KEPT_S
from pilvi.services.sns.topic import GONE
from pilvi.services.sns.topics import DATA, SERVICE, owned_table, topic_arn
from pilvi.storage.records import Delete, Row, Table

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

_PAGE: Final = 500


def run_sweep(cloud: Cloud) -> None:
    """Once an hour, in a thread."""
    now = cloud.clock.time_s()
    _forget_pending(cloud, now)
    _forget_gone(cloud)
    days = _archive_days(cloud)
    for table in cloud.store.tables(service=DATA):
        if table.noun.endswith("!"):
            _remove(cloud, table, lambda row: row.value["at"] <= now - INTERVAL_S)
        elif table.noun.endswith("~"):
            kept_s = days.get(table.noun[:-1], 0) * 86_400.0
            _remove_oldest(cloud, table, now - kept_s)
        elif table.noun == "Letter":
            _remove_oldest(cloud, table, now - KEPT_S)
        elif table.noun == "Token":
            _remove(cloud, table, lambda row: row.value["at"] <= now - TOKEN_S)


def _forget_pending(cloud: Cloud, now: float) -> None:
    """Subscriptions that were not confirmed in time. Source: SNS developer guide, "Confirm the subscription"."""
    for table in cloud.store.tables(service=SERVICE, noun="Subscription"):
        for row in _rows(cloud, table):
            value = row.value
            if not value["confirmed"] and value["asked"] <= now - TOKEN_S:
                name, _, uid = row.id.partition(":")
                arn = f"{topic_arn(table.account, table.region, name)}:{uid}"
                _write(cloud, Delete(table, row.id, row.version), Delete(owned_table(value["owner"], table.region), arn))


def _forget_gone(cloud: Cloud) -> None:
    for row in _rows(cloud, GONE):
        for mark in ("!", "~"):
            table = Table(row.value["account"], row.value["region"], DATA, row.id + mark)
            _remove(cloud, table, lambda _: True)
        _write(cloud, Delete(GONE, row.id))


def _archive_days(cloud: Cloud) -> dict[str, int]:
    """By the uid of topics that keep an archive."""
    found: dict[str, int] = {}
    for table in cloud.store.tables(service=SERVICE, noun="Topic"):
        for row in _rows(cloud, table):
            if policy := row.value["attributes"].get("ArchivePolicy"):
                found[row.value["uid"]] = int(json.loads(policy)["MessageRetentionPeriod"])
    return found


def _remove(cloud: Cloud, table: Table, is_over: Callable[[Row], bool]) -> None:
    after = ""
    while (rows := cloud.store.scan(table, after=after, limit=_PAGE)) and not cloud.schedules.is_closing:
        _write(cloud, *[Delete(table, row.id, row.version) for row in rows if is_over(row)])
        after = rows[-1].id


def _remove_oldest(cloud: Cloud, table: Table, before: float) -> None:
    """Of a table whose ids are in the order of time."""
    while rows := cloud.store.scan(table, limit=_PAGE):
        old = [row for row in rows if row.value["at"] <= before]
        _write(cloud, *[Delete(table, row.id) for row in old])
        if len(old) < len(rows) or cloud.schedules.is_closing:
            return


def _rows(cloud: Cloud, table: Table) -> list[Row]:
    found: list[Row] = []
    after = ""
    while rows := cloud.store.scan(table, after=after, limit=_PAGE):
        found += rows
        after = rows[-1].id
    return found


def _write(cloud: Cloud, *changes: Delete) -> None:
    """What somebody else has removed or renewed meanwhile stays until the next time."""
    if not changes:
        return
    with suppress(PilviError):
        cloud.store.write(*changes)
