"""Storage classes: their figures, which may follow which, and what an object in one of them is charged for. Pure data and functions.

Source: Amazon S3 User Guide, "Comparing the Amazon S3 storage classes", "Transitioning objects using Amazon S3 Lifecycle".
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

KIB = 1024
SMALL_BYTES = 128 * KIB
"""Infrequent-access classes charge at least so much for an object; Intelligent-Tiering watches none that is smaller."""

DAY_S = 86_400


class StorageClass(NamedTuple):
    """What AWS says of a class."""

    name: str
    title: str
    durability: str
    """Of an object in a year, as designed."""
    availability: str
    zones: int
    """At least so many Availability Zones hold the bytes; losing them loses the objects."""
    minimum_days: int
    """An object that goes earlier is charged for so many days."""
    minimum_bytes: int
    overhead_bytes: int
    """Charged with every object, for its name and index."""
    retrieval: str
    """Whether reading costs by the gibibyte."""
    first_byte: str
    usage: str
    """The middle of AWS's usage types: TimedStorage-SIA-ByteHrs."""


_NINES = "99.999999999%"

CLASSES = (
    StorageClass("STANDARD", "S3 Standard", _NINES, "99.99%", 3, 0, 0, 0, "none", "milliseconds", ""),
    StorageClass("INTELLIGENT_TIERING", "S3 Intelligent-Tiering", _NINES, "99.9%", 3, 0, 0, 0, "none", "milliseconds", "INT-FA"),
    StorageClass("STANDARD_IA", "S3 Standard-IA", _NINES, "99.9%", 3, 30, SMALL_BYTES, 0, "per GB", "milliseconds", "SIA"),
    StorageClass("ONEZONE_IA", "S3 One Zone-IA", _NINES, "99.5%", 1, 30, SMALL_BYTES, 0, "per GB", "milliseconds", "ZIA"),
    StorageClass(
        "GLACIER_IR", "S3 Glacier Instant Retrieval", _NINES, "99.9%", 3, 90, SMALL_BYTES, 0, "per GB", "milliseconds", "GIR"
    ),
    StorageClass(
        "GLACIER", "S3 Glacier Flexible Retrieval", _NINES, "99.99%", 3, 90, 0, 40 * KIB, "per GB", "minutes to hours", "Glacier"
    ),
    StorageClass("DEEP_ARCHIVE", "S3 Glacier Deep Archive", _NINES, "99.99%", 3, 180, 0, 40 * KIB, "per GB", "hours", "GDA"),
    StorageClass("EXPRESS_ONEZONE", "S3 Express One Zone", _NINES, "99.95%", 1, 0, 0, 0, "none", "single-digit milliseconds", "XZ"),
    StorageClass("REDUCED_REDUNDANCY", "Reduced Redundancy", "99.99%", "99.99%", 3, 0, 0, 0, "none", "milliseconds", "RRS"),
)
"""Source: as above; availability as designed, of an archived object once it is restored."""

BY_NAME = {found.name: found for found in CLASSES}

STORABLE = frozenset(BY_NAME) - {"EXPRESS_ONEZONE"}
"""Classes of general purpose buckets. EXPRESS_ONEZONE is the one of directory buckets."""

ARCHIVED = frozenset({"GLACIER", "DEEP_ARCHIVE"})
"""Classes whose objects cannot be read until they are restored."""

_BELOW_STANDARD = ("STANDARD_IA", "INTELLIGENT_TIERING", "ONEZONE_IA", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE")

WATERFALL: dict[str, tuple[str, ...]] = {
    "STANDARD": _BELOW_STANDARD,
    "REDUCED_REDUNDANCY": _BELOW_STANDARD,
    "STANDARD_IA": _BELOW_STANDARD[1:],
    "INTELLIGENT_TIERING": _BELOW_STANDARD[2:],
    "ONEZONE_IA": _BELOW_STANDARD[4:],
    "GLACIER_IR": _BELOW_STANDARD[4:],
    "GLACIER": _BELOW_STANDARD[5:],
    "DEEP_ARCHIVE": (),
    "EXPRESS_ONEZONE": (),
}
"""Which classes lifecycle rules may move an object to, from the class it is in."""

DEPTH = {name: depth for depth, name in enumerate(("STANDARD", "REDUCED_REDUNDANCY", *_BELOW_STANDARD))}
"""How far down the waterfall a class lies: of several that an object is due for, the deepest is taken."""


def class_of(value: Mapping[str, Any]) -> str:
    """The class of an object's row."""
    head = value.get("head")
    return "STANDARD" if head is None else str(head.get("StorageClass", "STANDARD"))


def since_of(value: Mapping[str, Any]) -> int:
    """When the object came into its class."""
    tier = value.get("tier")
    since: int = value["mtime"] if tier is None else tier.get("since", value["mtime"])
    return since


def charged_bytes(name: str, size: int) -> int:
    """How many bytes a class charges for an object of this size."""
    found = BY_NAME[name]
    return max(size, found.minimum_bytes) + found.overhead_bytes


def early_s(value: Mapping[str, Any], now_s: float) -> float:
    """For how many seconds more an object is charged that leaves its class now."""
    minimum = BY_NAME[class_of(value)].minimum_days
    return max(0.0, since_of(value) + minimum * DAY_S - now_s) if minimum else 0.0


def in_class(value: Mapping[str, Any], name: str, now_s: int) -> dict[str, Any]:
    """The same object in another class. When it was last modified stays as it is."""
    head = {key: member for key, member in (value.get("head") or {}).items() if key != "StorageClass"}
    if name != "STANDARD":
        head["StorageClass"] = name
    moved = {key: member for key, member in value.items() if key not in ("head", "restore", "tier")}
    if head:
        moved["head"] = head
    if name != "STANDARD":
        moved["tier"] = {"since": now_s}
    return moved


def event_data(kind: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """What the event record of a move or a restore says beyond the object. Source: S3 User Guide, "Event message structure"."""
    if kind == "LifecycleTransition":
        return {"lifecycleEventData": {"transitionEventData": {"destinationStorageClass": class_of(value)}}}
    if kind == "IntelligentTiering":
        return {"intelligentTieringEventData": {"destinationAccessTier": value["tier"]["archive"]}}
    if kind in ("ObjectRestore:Completed", "ObjectRestore:Delete"):
        data = {"lifecycleRestoreStorageClass": class_of(value)}
        if "until" in value["restore"]:
            until = datetime.fromtimestamp(value["restore"]["until"], UTC)
            data["lifecycleRestorationExpiryTime"] = f"{until:%Y-%m-%dT%H:%M:%S}.000Z"
        return {"glacierEventData": {"restoreEventData": data}}
    return {}
