"""Storage class analysis: what is read of what age, counted by the day for buckets with analytics configurations.

    Sight --count--> {day/configuration/class/age: [requests, bytes]} -- rows of "s3watch" --analytics_export.py--> a file a day

Source: S3 User Guide, "Amazon S3 analytics - Storage Class Analysis": age groups by days since an object was created.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pilvi.services.s3.classes import DAY_S, class_of
from pilvi.services.s3.configurations import is_chosen

if TYPE_CHECKING:
    from pilvi.services.s3.witness import Sight

Accesses = dict[str, list[int]]

AGES = (
    "000-014",
    "015-029",
    "030-044",
    "045-059",
    "060-074",
    "075-089",
    "090-119",
    "120-149",
    "150-179",
    "180-364",
    "365-729",
    "730+",
)
_STARTS = tuple(int(age[:3]) for age in AGES)
READS = ("GetObject", "SelectObjectContent", "website")


def age_group(days: int) -> str:
    """The group that an age in days falls into."""
    found = AGES[0]
    for start, age in zip(_STARTS, AGES, strict=True):
        if days >= start:
            found = age
    return found


def count(accesses: Accesses, sight: Sight, configurations: Mapping[str, Any]) -> None:
    """Add a successful read to every configuration whose filter takes its object; add a new object's bytes as uploaded."""
    value = sight.value
    if sight.status >= 300:
        return
    if value is None or sight.operation not in READS or "mtime" not in value:
        return
    age = age_group(max(0, int((sight.at_s - value["mtime"]) // DAY_S)))
    day = int(sight.at_s // DAY_S)
    for id, configuration in configurations.items():
        if is_chosen(configuration.get("Filter"), sight.key, value.get("tags") or {}, ""):
            entry = accesses.setdefault(f"{day}/{id}/{class_of(value)}/{age}", [0, 0])
            entry[0] += 1
            entry[1] += sight.sent
