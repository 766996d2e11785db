"""What was used, by whom, and what AWS asks for it: usage lines, running meters, prices. Knows no service by name but through its data."""

from pilvi.metering.line import Line, Meter, keeping, lines_between, spread
from pilvi.metering.price import Price, price_of
from pilvi.metering.rating import Charge, charges_between, rated
from pilvi.metering.region import usage_type

__all__ = [
    "Charge",
    "Line",
    "Meter",
    "Price",
    "charges_between",
    "keeping",
    "lines_between",
    "price_of",
    "rated",
    "spread",
    "usage_type",
]
