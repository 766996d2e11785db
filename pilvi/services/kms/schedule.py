"""What KMS does by the clock: keys whose waiting period is over go, material expires, keys rotate, their months are counted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from pilvi.core.errors import Conflict, NotFound
from pilvi.core.principal import Principal
from pilvi.core.service import Context
from pilvi.metering.running import ending, seeing
from pilvi.schedules import Periodic
from pilvi.services.kms import usage
from pilvi.services.kms.imported import erase
from pilvi.services.kms.keys import SERVICE, Key, Row, load
from pilvi.services.kms.notice import DELETED, EXPIRED, telling, wake_bus
from pilvi.services.kms.rotation import rotate_due
from pilvi.storage.records import Delete, Rows, Table, Update
from pilvi.storage.records import Row as StoredRow

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
    from pilvi.storage.records import Change

HOUR_S = 3600.0
FLUSH_S = 300.0


def look_after_keys(cloud: Cloud) -> None:
    """Everything that fell due for any key."""
    now = cloud.clock.now()
    for table, key_id in _all_keys(cloud):
        key = load(cloud, table.account, table.region, key_id)
        if key is None:
            continue
        if not key.state(now):
            remove(cloud, key)
            continue
        if key.is_external:
            _expire(cloud, key)
        if key.shared["primary"] == key.region:
            rotate_due(cloud, key, now)
            if key.row.get("_waits_for_replicas") and not key.shared["replicas"]:
                _begin_waiting(cloud, key)
        if not key.is_managed and "_deletes" not in key.row:
            seeing(cloud.store, key.account, key.arn, now)


def remove(cloud: Cloud, key: Key) -> None:
    """A key is no more: its rows, aliases, grants and tags here, and with its last Region its material."""
    here = Table(key.account, key.region, SERVICE, "Key")
    while True:
        row, shared = cloud.store.get(here, key.id), cloud.store.get(here._replace(region="", noun="Material"), key.id)
        if row is None or shared is None or "_deletes" not in row.value:
            return
        if shared.value["primary"] == key.region and shared.value["replicas"]:
            _wait_again(cloud, here, row)
            return
        grants = cloud.rows(key.account, key.region, SERVICE, "Grant").scan(prefix=f"{key.id}/", limit=100_000)
        changes: list[Change] = [Delete(here, key.id, row.version)]
        changes += [Delete(here._replace(noun="Grant"), grant.id, grant.version) for grant in grants]
        for name in row.value["_aliases"]:
            alias = cloud.store.get(here._replace(noun="Alias"), name)
            changes += [Delete(here._replace(noun="Alias"), name, alias.version)] if alias is not None else []
        tags = cloud.store.get(here._replace(noun="Tags"), key.arn)
        changes += [Delete(here._replace(noun="Tags"), key.arn, tags.version)] if tags is not None else []
        changes += ending(cloud.store, key.account, key.arn)
        materials = here._replace(region="", noun="Material")
        others = [region for region in shared.value["replicas"] if region != key.region]
        if shared.value["primary"] == key.region:
            changes.append(Delete(materials, key.id, shared.version))
        else:
            changes.append(Update(materials, key.id, shared.value | {"replicas": others}, shared.version))
            changes += _primary_waits(cloud, key, shared.value, others, row.value)
        try:
            cloud.store.write(*changes, telling(cloud, key, DELETED))
        except (Conflict, NotFound):
            continue
        wake_bus(cloud, key)
        return


def _wait_again(cloud: Cloud, table: Table, row: StoredRow) -> None:
    """A key that became a primary with replicas while it waited: they go first."""
    value = {name: member for name, member in row.value.items() if name != "_deletes"}
    with suppress(Conflict):
        cloud.store.write(Update(table, row.id, value | {"_waits_for_replicas": True}, row.version))


def _primary_waits(cloud: Cloud, key: Key, shared: Row, others: list[str], gone: Row) -> list[Change]:
    """The waiting period of a primary begins when its last replica went."""
    table = Table(key.account, shared["primary"], SERVICE, "Key")
    primary = cloud.store.get(table, key.id)
    if others or primary is None or not primary.value.get("_waits_for_replicas"):
        return []
    value = {name: member for name, member in primary.value.items() if name != "_waits_for_replicas"}
    date = gone["_deletes"] + timedelta(days=primary.value["_window"])
    return [Update(table, key.id, value | {"_deletes": date}, primary.version)]


def _begin_waiting(cloud: Cloud, key: Key) -> None:
    """A primary whose last replica became something else meanwhile."""
    table = Table(key.account, key.region, SERVICE, "Key")
    row = cloud.store.get(table, key.id)
    if row is None or not row.value.get("_waits_for_replicas"):
        return
    value = {name: member for name, member in row.value.items() if name != "_waits_for_replicas"}
    date = cloud.clock.now() + timedelta(days=row.value["_window"])
    try:
        cloud.store.write(Update(table, key.id, value | {"_deletes": date}, row.version))
    except Conflict:
        return


def _expire(cloud: Cloud, key: Key) -> None:
    now = cloud.clock.now()
    expired = [id for id, until in key.row["_imported"].items() if until is not None and until <= now]
    if expired:
        nobody = Principal("service", key.account, "", "kms.amazonaws.com", "kms.amazonaws.com")
        erase(
            Context(cloud, principal=nobody, account=key.account, region=key.region, service=SERVICE),
            key,
            expired,
            telling(cloud, key, EXPIRED),
        )
        wake_bus(cloud, key)


def _all_keys(cloud: Cloud) -> Iterator[tuple[Table, str]]:
    for table in cloud.store.tables(service=SERVICE, noun="Key"):
        after = ""
        while rows := Rows(cloud.store, table).scan(after=after):
            for row in rows:
                yield table, row.id
            after = rows[-1].id


TASKS = (
    Periodic("keys", HOUR_S, look_after_keys),
    Periodic("usage", FLUSH_S, usage.write_down),
)
