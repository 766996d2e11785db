"""Regions and their availability zones: one table.

Source: EC2 User Guide, "Regions" and "Availability Zones". Which letter is which zone id differs from account to account on AWS;
here the letters follow the ids.
"""

from __future__ import annotations

from typing import NamedTuple


class Zone(NamedTuple):
    name: str
    """us-east-1a"""
    id: str
    """use1-az1"""


_THREE = "abc"
OPEN = {
    "ap-northeast-1": "acd",
    "ap-northeast-2": "abcd",
    "ap-northeast-3": _THREE,
    "ap-south-1": _THREE,
    "ap-southeast-1": _THREE,
    "ap-southeast-2": _THREE,
    "ca-central-1": "abd",
    "eu-central-1": _THREE,
    "eu-north-1": _THREE,
    "eu-west-1": _THREE,
    "eu-west-2": _THREE,
    "eu-west-3": _THREE,
    "sa-east-1": _THREE,
    "us-east-1": "abcdef",
    "us-east-2": _THREE,
    "us-west-1": "ab",
    "us-west-2": "abcd",
}
"""Enabled in every account, with the letters of their zones."""

BY_CHOICE = (
    "af-south-1", "ap-east-1", "ap-east-2", "ap-south-2", "ap-southeast-3", "ap-southeast-4", "ap-southeast-5", "ap-southeast-6",
    "ap-southeast-7", "ca-west-1", "eu-central-2", "eu-south-1", "eu-south-2", "il-central-1", "me-central-1", "me-south-1",
    "mx-central-1",
)  # fmt: skip
"""Enabled by those who want them; all have three zones."""


def zones_of(region: str) -> list[Zone]:
    """The zones of any Region, in the order of their letters."""
    short = _short(region)
    return [Zone(f"{region}{letter}", f"{short}-az{number}") for number, letter in enumerate(OPEN.get(region, _THREE), 1)]


def _short(region: str) -> str:
    """us-east-1 -> use1, ap-southeast-2 -> apse2, us-gov-west-1 -> usgw1."""
    area, *words, number = region.split("-")
    text = "".join(words)
    for word, letter in (
        ("central", "c"),
        ("gov", "g"),
        ("north", "n"),
        ("south", "s"),
        ("east", "e"),
        ("west", "w"),
        ("iso", "i"),
    ):
        text = text.replace(word, letter)
    return f"{area}{text}{number}"
