"""From usage to money: each line by the price of its day. Exact: sums are fractions, and are rounded once, when they are shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal, localcontext
from fractions import Fraction

from pilvi.metering.line import Line, lines_between
from pilvi.metering.price import Price, price_of
from pilvi.metering.region import usage_type
from pilvi.metering.running import lines_so_far
from pilvi.storage.records import Records

_DIGITS = Decimal("1e-10")
"""As many decimals as Cost Explorer shows."""
_CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Charge:
    line: Line
    price: Price | None
    """None: not known, and nothing is asked."""

    @property
    def usage_type(self) -> str:
        meter = self.line.meter
        return usage_type(meter.product, meter.region, meter.usage)


def rated(line: Line) -> Charge:
    """A line with its price."""
    meter = line.meter
    price = price_of(meter.product, meter.usage, meter.region, line.start.date())
    return Charge(line, price)


def charges_between(store: Records, account: str, start: datetime, end: datetime) -> Iterator[Charge]:
    """Everything an account used in a time, by hour, with its price: what is final, and what runs up to the last look at it."""
    # What runs is read first: what ends meanwhile is found twice then, not missed.
    open_lines = [line for line in lines_so_far(store, account) if start <= line.start < end]
    ended: set[str] = set()
    for line in lines_between(store, account, start, end):
        ended.add(line.meter.id)
        yield rated(line)
    for line in open_lines:
        if line.meter.id not in ended:
            yield rated(line)


def usd_of(charges: Iterable[Charge]) -> Fraction:
    """What they cost together."""
    counts: Counter[tuple[Decimal, int]] = Counter()
    for charge in charges:
        if charge.price is not None:
            counts[charge.price.usd, charge.line.meter.per_unit] += charge.line.quantity
    return sum((Fraction(usd) * count / parts for (usd, parts), count in counts.items()), Fraction(0))


def units_of(charges: Iterable[Charge]) -> Fraction:
    """How many units they are together: hours."""
    counts: Counter[int] = Counter()
    for charge in charges:
        counts[charge.line.meter.per_unit] += charge.line.quantity
    return sum((Fraction(count, parts) for parts, count in counts.items()), Fraction(0))


def decimal_of(value: Fraction) -> str:
    """With up to ten decimals, none of them superfluous."""
    text = f"{_rounded(value, _DIGITS):f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"


def cents_of(value: Fraction) -> str:
    """Dollars and cents."""
    return f"{_rounded(value, _CENT):f}"


def _rounded(value: Fraction, step: Decimal) -> Decimal:
    with localcontext() as context:
        context.prec = 60
        return (Decimal(value.numerator) / Decimal(value.denominator)).quantize(step, ROUND_HALF_UP)
