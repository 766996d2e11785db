"""Archived events: written with the deliveries, counted as they are read, gone when their days are over.

    Table(account, Region, "eventbridgedata", "Archived:" + uid)   milliseconds NUL event id -> {event, key, size}

Source: EventBridge User Guide, "Archiving events in Amazon EventBridge".
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from pilvi.services.events.buses import DATA, SERVICE, Archive, Place
from pilvi.services.events.sealing import DataKey, sealed
from pilvi.storage.records import Delete, Put, Table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pilvi.core.service import Cloud
    from pilvi.storage.records import Change

DAY_MS: Final = 86_400_000
SETTLED_MS: Final = 10_000
"""Nothing new is older, but for events with a time of their own."""
PAGE: Final = 500
_MEMORY: Final = "events:archived"


class Counted(NamedTuple):
    to: str
    """The id up to which was counted."""
    many: int
    size_bytes: int


def table_of(account: str, region: str, uid: str) -> Table:
    return Table(account, region, DATA, f"Archived:{uid}")


def wants(archive: Archive, event: Mapping[str, Any]) -> bool:
    """Whether an archive keeps an event; what a replay brings is there already."""
    if "replay-name" in event:
        return False
    return archive.pattern is None or archive.pattern.matches(event)


def addition(cloud: Cloud, place: Place, archive: Archive, event: dict[str, Any], at_ms: int, key: DataKey | None) -> Change:
    at_ms = at_ms or int(datetime.fromisoformat(event["time"]).timestamp() * 1000)
    value = {**sealed(cloud, event, key), "size": len(msgspec.json.encode(event)), "came": int(cloud.clock.time_s() * 1000)}
    uid, id = archive.value["_uid"], f"{max(at_ms, 0):016d}\0{event['id']}"
    known: Counted | None = cloud.memory.get(_MEMORY, {}).get(uid)
    if known is not None and id <= known.to:
        forget_counts(cloud, uid)
    return Put(table_of(place.account, place.region, uid), id, value)


def counted(cloud: Cloud, account: str, region: str, uid: str) -> Counted:
    """How many events there are, and their size. What is older than a moment is counted once."""
    known: dict[str, Counted] = cloud.memory.setdefault(_MEMORY, {})
    table = table_of(account, region, uid)
    settled = f"{max(0, int(cloud.clock.time_s() * 1000) - SETTLED_MS):016d}"
    known[uid] = found = _counted_on(cloud, table, known.get(uid) or Counted("", 0, 0), settled)
    return _counted_on(cloud, table, found, "")


def _counted_on(cloud: Cloud, table: Table, found: Counted, before: str) -> Counted:
    while rows := cloud.store.scan(table, after=found.to, before=before, limit=PAGE):
        found = Counted(rows[-1].id, found.many + len(rows), found.size_bytes + sum(row.value["size"] for row in rows))
    return found


def forget_counts(cloud: Cloud, uid: str) -> None:
    cloud.memory.setdefault(_MEMORY, {}).pop(uid, None)


def run_retention(cloud: Cloud) -> None:
    """Delete events whose days are over, and what deleted archives left."""
    tables = cloud.store.tables(service=DATA)  # before the archives: a new one's must not be taken for what an old one left
    kept: set[str] = set()
    now = int(cloud.clock.time_s() * 1000)
    for table in cloud.store.tables(service=SERVICE, noun="Archive"):
        for row in cloud.store.scan(table):
            kept.add(row.value["_uid"])
            if days := row.value.get("RetentionDays"):
                _sweep(cloud, table_of(table.account, table.region, row.value["_uid"]), f"{max(0, now - days * DAY_MS):016d}")
    for table in tables:
        if table.noun.startswith("Archived:") and table.noun.removeprefix("Archived:") not in kept:
            _sweep(cloud, table, "")


def _sweep(cloud: Cloud, table: Table, before: str) -> None:
    while not cloud.schedules.is_closing and (rows := cloud.store.scan(table, before=before, limit=PAGE)):
        cloud.store.write(*(Delete(table, row.id) for row in rows))
        forget_counts(cloud, table.noun.removeprefix("Archived:"))
