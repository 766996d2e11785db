"""Prices, dated and with their sources (prices.tsv): AWS's list where it is known, an estimate that says so, or none at all."""

from __future__ import annotations

import csv
import importlib.resources
import re
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from functools import cache

from pilvi.metering.region import FACTOR_SOURCE, HOME, factor_of

_INSTANCE = re.compile(r"(?:Train|Processing|Host|Tsform|Notebk|Studio:JupyterLab|Studio:CodeEditor)[:-](?P<type>ml\..+)")
"""Uses of an instance that AWS prices alike."""


@dataclass(frozen=True, slots=True)
class Price:
    usd: Decimal
    """For one unit."""
    unit: str
    since: date
    """The first day it holds here."""
    as_of: str
    """When the source said so."""
    source: str
    is_estimated: bool = False


@cache
def price_of(product: str, usage: str, region: str, day: date) -> Price | None:
    """What a unit of a usage (without its Region's prefix) costs in a Region on a day; None where that is not known."""
    found = _at_home(product, usage, day)
    if found is None or region == HOME:
        return found
    factor = factor_of(region)
    if factor is None:
        return None
    return replace(found, usd=found.usd * factor, is_estimated=True, source=f"{FACTOR_SOURCE}; {found.source}")


def _at_home(product: str, usage: str, day: date) -> Price | None:
    keys = [usage]
    if match := _INSTANCE.fullmatch(usage):
        keys.append(match["type"])
    for key in keys:
        held = [price for price in _prices().get((product, key), ()) if price.since <= day]
        if held:
            return max(held, key=lambda price: price.since)
    return None


@cache
def _prices() -> dict[tuple[str, str], list[Price]]:
    text = importlib.resources.files("pilvi.metering").joinpath("prices.tsv").read_text(encoding="utf-8")
    sources: dict[str, str] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("#source "):
            key, _, words = line.removeprefix("#source ").partition(" ")
            sources[key] = words
        elif not line.startswith("#"):
            lines.append(line)
    found: dict[tuple[str, str], list[Price]] = {}
    for row in csv.DictReader(lines, delimiter="\t"):
        price = Price(
            Decimal(row["usd"]),
            row["unit"],
            date.fromisoformat(row["since"]),
            row["as_of"],
            sources[row["source"]],
            row["kind"] == "estimated",
        )
        found.setdefault((row["product"], row["usage"]), []).append(price)
    return found
