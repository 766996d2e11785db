"""What reads and writes say and check because of an object's class, its restore, and the rules it is under."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pilvi.core.service import Context
from pilvi.services.s3.catalog import Bucket
from pilvi.services.s3.charges import note_read
from pilvi.services.s3.classes import ARCHIVED, class_of
from pilvi.services.s3.history import Found, Value
from pilvi.services.s3.lifecycle_rules import MEMBER as LIFECYCLE
from pilvi.services.s3.lifecycle_rules import Rule, expiration_of, rule_text, rules_of
from pilvi.services.s3.restore import check_readable, http_date, is_restored, restore_text
from pilvi.services.s3.tiers import note_use

__all__ = ["LIFECYCLE", "announced", "check_readable", "describe_class", "note_class_read"]


def announced(ctx: Context, bucket: Bucket, key: str, value: Value, answer: dict[str, Any]) -> dict[str, Any]:
    """The answer with `x-amz-expiration`, where a rule will delete the object."""
    found = expiration_of(known_rules(ctx, bucket), key, value)
    if found is not None:
        answer["Expiration"] = rule_text(http_date(int(found[0])), found[1])
    return answer


def known_rules(ctx: Context, bucket: Bucket) -> Sequence[Rule]:
    """The bucket's rules, read once while they stay the same."""
    memory = ctx.cloud.memory
    configuration = bucket.value[LIFECYCLE]
    kept: dict[str, tuple[Any, Sequence[Rule]]] | None = memory.get("s3:rules")
    if kept is None:
        kept = memory.setdefault("s3:rules", {})
    held = kept.get(bucket.name)
    if held is None or (held[0] is not configuration and held[0] != configuration):
        # Not the row's version: that of a bucket that was deleted and made again may be the same.
        held = kept[bucket.name] = (configuration, rules_of(configuration))
    return held[1]


def describe_class(ctx: Context, value: Value, answer: dict[str, Any]) -> None:
    """`x-amz-restore` and `x-amz-archive-status` of an object that is not in STANDARD."""
    now = ctx.clock.time_s()
    if "restore" in value and (text := restore_text(value, now)) is not None:
        answer["Restore"] = text
    archive = (value.get("tier") or {}).get("archive")
    if archive is not None and not is_restored(value, now):
        answer["ArchiveStatus"] = archive


def note_class_read(ctx: Context, bucket: Bucket, found: Found, size: int) -> None:
    """Bytes were read: some classes charge for it, one takes it as use. A restored copy is read as STANDARD."""
    name = class_of(found.value)
    if name == "INTELLIGENT_TIERING":
        note_use(ctx, found.table, found.row)
    elif name not in ARCHIVED:
        note_read(ctx, bucket, found.value, size)
