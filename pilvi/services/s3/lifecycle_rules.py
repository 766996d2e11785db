"""What lifecycle rules say about an object at an instant: pure functions from rules and facts to what is to be done.

    rules_of(bucket.value["Lifecycle"]) -> rules --step_for_current, step_for_noncurrent--> None | EXPIRE | a storage class

A day count ends at the midnight (UTC) after the object's time plus so many days. Of what is due for one object, deleting comes
before moving, and of several classes the deepest is taken.

Source: S3 User Guide, "Managing the lifecycle of objects", "Lifecycle configuration elements", "Conflicting lifecycle policies".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from typing import Any
from urllib.parse import quote

from pilvi.services.s3.classes import DAY_S, DEPTH, SMALL_BYTES, WATERFALL, class_of

MEMBER = "Lifecycle"
"""Of the bucket's row: {Rules, TransitionDefaultMinimumObjectSize}."""

EXPIRE = "expire"
"""The step that deletes; every other one is the name of a class."""

VARIES, ALL_128K = "varies_by_storage_class", "all_storage_classes_128K"
"""TransitionDefaultMinimumObjectSize: which classes small objects are moved to by rules that say nothing of sizes."""


@dataclass(frozen=True, slots=True)
class Moment:
    """After so many days, or at an instant."""

    days: int | None
    at_s: float | None = None

    def due_s(self, since_s: float) -> float:
        """When it comes for something that began then."""
        if self.days is None:
            return self.at_s or 0.0
        return ceil((since_s + self.days * DAY_S) / DAY_S) * DAY_S


@dataclass(frozen=True, slots=True)
class Noncurrent:
    """After so many days of being noncurrent, once so many newer noncurrent versions are there."""

    days: int
    newer: int = 0


@dataclass(frozen=True, slots=True)
class Rule:
    """One enabled rule."""

    id: str
    prefix: str
    tags: tuple[tuple[str, str], ...]
    larger: int | None
    smaller: int | None
    moves: tuple[tuple[Moment, str], ...]
    expires: Moment | None
    clears_markers: bool
    """Expired delete markers go: those that hide nothing any more."""
    old_moves: tuple[tuple[Noncurrent, str], ...]
    old_expires: Noncurrent | None
    aborts_days: int | None
    minimum: str
    """TransitionDefaultMinimumObjectSize"""

    def means(self, key: str, value: Mapping[str, Any]) -> bool:
        if not key.startswith(self.prefix):
            return False
        if self.tags:
            tags = value.get("tags") or {}
            if any(tags.get(name) != text for name, text in self.tags):
                return False
        size = value.get("size", 0)
        return (self.larger is None or size > self.larger) and (self.smaller is None or size < self.smaller)

    def moves_so_small(self, size: int, name: str) -> bool:
        """Whether an object is large enough to be moved to a class."""
        if size >= SMALL_BYTES or self.larger is not None or self.smaller is not None:
            return True
        return self.minimum == VARIES and name in ("GLACIER", "DEEP_ARCHIVE")


def rules_of(configuration: Mapping[str, Any]) -> tuple[Rule, ...]:
    """The enabled rules of a bucket's `Lifecycle`."""
    minimum = configuration.get("TransitionDefaultMinimumObjectSize") or ALL_128K
    return tuple(rule_of(rule, minimum) for rule in configuration["Rules"] if rule["Status"] == "Enabled")


def rule_of(rule: Mapping[str, Any], minimum: str) -> Rule:
    chosen: Mapping[str, Any] = rule.get("Filter") or {}
    chosen = chosen.get("And") or chosen
    tags = [*(chosen.get("Tags") or ()), *([chosen["Tag"]] if "Tag" in chosen else ())]
    expiration = rule.get("Expiration") or {}
    old = rule.get("NoncurrentVersionExpiration")
    return Rule(
        id=rule["ID"],
        prefix=rule.get("Prefix") or chosen.get("Prefix") or "",
        tags=tuple((tag["Key"], tag["Value"]) for tag in tags),
        larger=chosen.get("ObjectSizeGreaterThan"),
        smaller=chosen.get("ObjectSizeLessThan"),
        moves=tuple((moment_of(move), move["StorageClass"]) for move in rule.get("Transitions") or ()),
        expires=moment_of(expiration) if "Days" in expiration or "Date" in expiration else None,
        clears_markers=bool(expiration.get("ExpiredObjectDeleteMarker")),
        old_moves=tuple((noncurrent_of(move), move["StorageClass"]) for move in rule.get("NoncurrentVersionTransitions") or ()),
        old_expires=noncurrent_of(old) if old is not None else None,
        aborts_days=(rule.get("AbortIncompleteMultipartUpload") or {}).get("DaysAfterInitiation"),
        minimum=minimum,
    )


def moment_of(action: Mapping[str, Any]) -> Moment:
    date: datetime | None = action.get("Date")
    return Moment(action.get("Days", 0)) if date is None else Moment(None, date.timestamp())


def noncurrent_of(action: Mapping[str, Any]) -> Noncurrent:
    return Noncurrent(action.get("NoncurrentDays") or 0, action.get("NewerNoncurrentVersions") or 0)


# -- what is due ----------------------------------------------------------------------------------------------------------


def step_for_current(rules: Sequence[Rule], key: str, value: Mapping[str, Any], now_s: float) -> str | None:
    """What is due for what is current, a delete marker excepted."""
    chosen: list[tuple[Rule, str]] = []
    for rule in rules:
        if not (rule.moves or rule.expires) or not rule.means(key, value):
            continue
        if rule.expires is not None and rule.expires.due_s(value["mtime"]) <= now_s:
            return EXPIRE
        chosen += [(rule, name) for moment, name in rule.moves if moment.due_s(value["mtime"]) <= now_s]
    return deepest(chosen, value)


def step_for_noncurrent(
    rules: Sequence[Rule], key: str, value: Mapping[str, Any], since_s: float, newer: int, now_s: float
) -> str | None:
    """What is due for an older version. since_s: when it became one; newer: how many noncurrent versions are newer."""
    chosen: list[tuple[Rule, str]] = []
    for rule in rules:
        if not (rule.old_moves or rule.old_expires) or not rule.means(key, value):
            continue
        if rule.old_expires is not None and is_due(rule.old_expires, since_s, newer, now_s):
            return EXPIRE
        chosen += [(rule, name) for when, name in rule.old_moves if is_due(when, since_s, newer, now_s)]
    return deepest(chosen, value) if "marker" not in value else None


def is_due(when: Noncurrent, since_s: float, newer: int, now_s: float) -> bool:
    return newer >= when.newer and Moment(when.days).due_s(since_s) <= now_s


def deepest(chosen: Iterable[tuple[Rule, str]], value: Mapping[str, Any]) -> str | None:
    open_ = WATERFALL[class_of(value)]
    names = [name for rule, name in chosen if name in open_ and rule.moves_so_small(value["size"], name)]
    return max(names, key=DEPTH.__getitem__) if names else None


def clears_marker(rules: Sequence[Rule], key: str, value: Mapping[str, Any], now_s: float) -> bool:
    """Whether a delete marker that hides nothing goes: asked for, or old enough for a rule that expires by days."""
    for rule in rules:
        if not key.startswith(rule.prefix) or rule.tags or rule.larger is not None or rule.smaller is not None:
            continue
        if rule.clears_markers or (rule.expires is not None and rule.expires.due_s(value["mtime"]) <= now_s):
            return True
    return False


def aborts(rules: Sequence[Rule], key: str, began_s: float, now_s: float) -> bool:
    """Whether an upload in progress has been so for too long."""
    return any(
        rule.aborts_days is not None and key.startswith(rule.prefix) and Moment(rule.aborts_days).due_s(began_s) <= now_s
        for rule in rules
    )


def expiration_of(rules: Sequence[Rule], key: str, value: Mapping[str, Any]) -> tuple[float, str] | None:
    """(when, rule) of the earliest expiration that a current object has before it."""
    found = [(rule.expires.due_s(value["mtime"]), rule.id) for rule in rules if rule.expires is not None and rule.means(key, value)]
    return min(found) if found else None


def rule_text(date: str, id: str) -> str:
    """`x-amz-expiration`, and its sibling of uploads."""
    return f'expiry-date="{date}", rule-id="{quote(id, safe="")}"'
