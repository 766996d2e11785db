"""Regions on a bill: what stands before their usage types, and how their prices compare to us-east-1's (regions.tsv)."""

from __future__ import annotations

import csv
import importlib.resources
from dataclasses import dataclass
from decimal import Decimal
from functools import cache

HOME = "us-east-1"
_BARE_AT_HOME = frozenset({"AmazonEC2", "AmazonS3"})
"""Products whose usage types have no prefix in us-east-1."""
FACTOR_SOURCE = (
    "us-east-1's price times the median ratio of EC2's on-demand prices (general, compute and memory types; apache-libcloud 3.9.1, "
    "data of 2025-03-02)"
)


@dataclass(frozen=True, slots=True)
class _Region:
    prefix: str
    factor: Decimal


@cache
def usage_type(product: str, region: str, usage: str) -> str:
    """As AWS's bill has it: USE1-Train:ml.m5.large. A Region whose prefix is not known has none."""
    if (region == HOME and product in _BARE_AT_HOME) or (found := _regions().get(region)) is None:
        return usage
    return f"{found.prefix}-{usage}"


def factor_of(region: str) -> Decimal | None:
    """How its prices compare to us-east-1's, roughly; None where that is not known."""
    found = _regions().get(region)
    return None if found is None else found.factor


@cache
def _regions() -> dict[str, _Region]:
    text = importlib.resources.files("pilvi.metering").joinpath("regions.tsv").read_text(encoding="utf-8")
    rows = csv.DictReader((line for line in text.splitlines() if not line.startswith("#")), delimiter="\t")
    return {row["region"]: _Region(row["prefix"], Decimal(row["factor"])) for row in rows}
