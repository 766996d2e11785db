"""A replay at work: page by page, each page's deliveries and how far it has come in one transaction, so none is lost or sent twice.

Source: EventBridge User Guide, "Replaying archived events in Amazon EventBridge".
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from pilvi.core.errors import Conflict, PilviError
from pilvi.services.events.accept import Accepted, Coming, gather
from pilvi.services.events.archiving import table_of
from pilvi.services.events.buses import DATA, SERVICE, catalog_of, place_in
from pilvi.services.events.sealing import opened
from pilvi.storage.records import Row, Table, Update

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
    from pilvi.events import Fact

CONSUMER: Final = "events/replay"
PAGE: Final = 100


def lane_of(account: str, region: str, name: str) -> str:
    return f"{account}/{region}/{name}"


async def replay(cloud: Cloud, fact: Fact) -> None:
    """A consumer: go on with a replay until it ends."""
    table = Table(fact["account"], fact["region"], DATA, "Replay")
    while True:
        row = cloud.store.get(table, fact["name"])
        if row is None or row.value["State"] not in ("STARTING", "RUNNING", "CANCELLING"):
            return
        try:
            await _step(cloud, table, row)
        except Conflict:
            continue  # it was cancelled meanwhile


async def _step(cloud: Cloud, table: Table, row: Row) -> None:
    """One page, or the end."""
    if row.value["State"] == "CANCELLING":
        await _end(cloud, table, row, "CANCELLED")
        return
    bus = catalog_of(cloud).bus(place) if (place := place_in(row.value["Destination"]["Arn"])) is not None else None
    archive = cloud.store.get(Table(table.account, table.region, SERVICE, "Archive"), row.value["_archive_name"])
    if bus is None or archive is None or archive.value["_uid"] != row.value["_archive"]:
        await _end(cloud, table, row, "FAILED", "The archive or its event bus does not exist any more.")
        return
    page = _page(cloud, table, row.value)
    if not page:
        await _end(cloud, table, row, "COMPLETED")
        return
    accepted, chosen = Accepted(), Coming(rules=row.value["Destination"].get("FilterArns") or ())
    try:
        for kept in page:
            event = await opened(cloud, kept.value, bus.place) | {"replay-name": row.value["ReplayName"]}
            await gather(cloud, bus, event, accepted, chosen)
    except PilviError as error:
        await _end(cloud, table, row, "FAILED", error.message)
        return
    last = datetime.fromtimestamp(int(page[-1].id.partition("\0")[0]) / 1000, UTC)
    value = row.value | {"State": "RUNNING", "_after": page[-1].id, "EventLastReplayedTime": last}
    await cloud.store.commit([Update(table, row.id, value, row.version), *accepted.changes])
    accepted.wake(cloud)


def _page(cloud: Cloud, table: Table, value: dict[str, Any]) -> list[Row]:
    """The next events of the window. Its last instant belongs to it."""
    start = f"{_ms(value['EventStartTime']):016d}"
    end = f"{_ms(value['EventEndTime']) + 1:016d}"
    events = table_of(table.account, table.region, value["_archive"])
    return cloud.store.scan(events, after=value["_after"] or start, before=end, limit=PAGE)


async def _end(cloud: Cloud, table: Table, row: Row, state: str, reason: str = "") -> None:
    value = row.value | {"State": state, "ReplayEndTime": cloud.clock.now()} | ({"StateReason": reason[:512]} if reason else {})
    await cloud.store.commit([Update(table, row.id, value, row.version)])


def _ms(instant: datetime) -> int:
    return max(0, int(instant.timestamp() * 1000))
