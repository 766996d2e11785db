"""Tiers of Intelligent-Tiering objects: where one lies follows from when it was last read, but for the archive tiers.

    row["tier"] = {"since", "used", "archive"}     when it came into the class, when it was last read, and the archive tier it is in

The tiers that can be read at once follow from when an object was last read (30 days: infrequent, 90: archive instant). The two
archive tiers are asked for by a configuration (tiering.py) and entered once a day (lifecycle_run.py); who is in one is restored first.

Source: S3 User Guide, "How S3 Intelligent-Tiering works".
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pilvi.core.errors import Conflict, NotFound
from pilvi.core.service import Context
from pilvi.services.s3.catalog import Bucket
from pilvi.services.s3.classes import DAY_S, SMALL_BYTES, class_of
from pilvi.storage.records import Row, Table, Update

MEMBER = "IntelligentTiering"
"""Of the bucket's row: configurations by Id."""

INFREQUENT_DAYS, INSTANT_DAYS = 30, 90

TOUCH_S = DAY_S
"""A read is noted once a day: what lies between changes no tier."""


def used_of(value: Mapping[str, Any]) -> int:
    """When an object of the class was last read, or came into it."""
    tier = value.get("tier") or {}
    used: int = tier.get("used") or tier.get("since") or value["mtime"]
    return used


def tier_of(value: Mapping[str, Any], now_s: float) -> str:
    """FREQUENT, INFREQUENT, ARCHIVE_INSTANT, or the archive tier it was moved to."""
    archive: str | None = (value.get("tier") or {}).get("archive")
    if archive is not None:
        return archive
    days = (now_s - used_of(value)) / DAY_S
    if value["size"] < SMALL_BYTES or days < INFREQUENT_DAYS:
        return "FREQUENT"
    return "INFREQUENT" if days < INSTANT_DAYS else "ARCHIVE_INSTANT"


def archive_due(bucket: Bucket, key: str, value: Mapping[str, Any], now_s: float) -> str | None:
    """The archive tier that an object belongs into by now; None when it stays where it is."""
    held = bucket.value.get(MEMBER)
    if held is None or class_of(value) != "INTELLIGENT_TIERING" or value["size"] < SMALL_BYTES or "restore" in value:
        return None
    days, due = (now_s - used_of(value)) / DAY_S, ""
    for configuration in held.values():
        if configuration["Status"] != "Enabled" or not is_meant(configuration.get("Filter") or {}, key, value.get("tags") or {}):
            continue
        for tiering in configuration["Tierings"]:
            if days >= tiering["Days"]:
                due = max(due, tiering["AccessTier"])  # by name the deeper one is greater
    return due if due and due > ((value.get("tier") or {}).get("archive") or "") else None


def is_meant(chosen: Mapping[str, Any], key: str, tags: Mapping[str, str]) -> bool:
    chosen = chosen.get("And") or chosen
    wanted = [*(chosen.get("Tags") or ()), *([chosen["Tag"]] if "Tag" in chosen else ())]
    return key.startswith(chosen.get("Prefix") or "") and all(tags.get(tag["Key"]) == tag["Value"] for tag in wanted)


def note_use(ctx: Context, table: Table, row: Row) -> None:
    """An object of the class was read: it is in frequent use from now on. The reader does not wait for the note."""
    value, now = row.value, int(ctx.clock.time_s())
    if now - used_of(value) < TOUCH_S:
        return
    noted = ctx.store.submit([Update(table, row.id, {**value, "tier": {**(value.get("tier") or {}), "used": now}}, row.version)])
    noted.add_done_callback(forget_race)


def forget_race(noted: Any) -> None:
    """Somebody else has just written the row; whoever reads it next notes it."""
    with suppress(Conflict, NotFound):
        noted.result()
