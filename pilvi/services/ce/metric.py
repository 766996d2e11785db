"""What Cost Explorer adds up, and where a page of an answer begins."""

from __future__ import annotations

from pilvi.core.errors import Invalid, ServiceError
from pilvi.core.paging import decode_token

COSTS = ("UnblendedCost", "BlendedCost", "AmortizedCost", "NetUnblendedCost", "NetAmortizedCost")
"""One and the same, where nobody has reservations, discounts or an organization."""
METRICS = (*COSTS, "UsageQuantity", "NormalizedUsageAmount")


def metric_of(name: str) -> str:
    """A metric by either of its spellings: UnblendedCost, UNBLENDED_COST."""
    for metric in METRICS:
        if name.replace("_", "").lower() == metric.lower():
            return metric
    raise Invalid(f"Invalid metrics: {name}. Valid metrics are {', '.join(METRICS)}.")


def position(token: str | None, count: int) -> int:
    """Where a page begins, of so many entries. InvalidNextTokenException for a token that was not made for them."""
    if not token:
        return 0
    try:
        found = int(decode_token(token))
    except (Invalid, ValueError):
        found = -1
    if not 0 < found < count:
        raise ServiceError("InvalidNextTokenException", "The pagination token is invalid.")
    return found
