"""What there is to group and filter by: values of dimensions, tags and their values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pilvi.core.paging import encode_token
from pilvi.core.service import Context, Operations
from pilvi.metering import Charge, charges_between
from pilvi.metering.rating import units_of, usd_of
from pilvi.services.ce.dimension import check_dimension, value_of
from pilvi.services.ce.expression import wanted_by
from pilvi.services.ce.metric import COSTS, metric_of, position
from pilvi.services.ce.period import period_of

ops = Operations()

_PAGE = 1000


@ops
def get_dimension_values(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The values of a dimension that an account's charges of a time have.

    req: Dimension, TimePeriod, SearchString (a part of the value), Filter, SortBy (UnblendedCost, UsageQuantity, ...), MaxResults.
    Errors: ValidationException - a dimension or filter that is not built; InvalidNextTokenException.
    Source: API reference, GetDimensionValues.
    Differs: Context RESERVATIONS and SAVINGS_PLANS have no values: nobody has any.
    """
    dimension = req["Dimension"]
    check_dimension(dimension)
    charges = [] if req.get("Context") in ("RESERVATIONS", "SAVINGS_PLANS") else _charges(ctx, req)
    page, total, more = _page(req, ((value_of(charge, dimension), charge) for charge in charges))
    values = [{"Value": value, "Attributes": {}} for value in page]
    return {"DimensionValues": values, "ReturnSize": len(values), "TotalSize": total, "NextPageToken": more}


@ops
def get_tags(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The tag keys of an account's charges of a time, or the values of one key ('' for charges without it).

    req: TimePeriod, TagKey, SearchString (a part of the key or value), Filter, SortBy, MaxResults.
    Errors: ValidationException - a filter that is not built; InvalidNextTokenException.
    Source: API reference, GetTags.
    Differs: tags count without being activated.
    """
    charges, key = _charges(ctx, req), req.get("TagKey")
    if key:
        named = ((charge.line.tags.get(key, ""), charge) for charge in charges)
    else:
        named = ((name, charge) for charge in charges for name in charge.line.tags)
    page, total, more = _page(req, named)
    return {"Tags": page, "ReturnSize": len(page), "TotalSize": total, "NextPageToken": more}


def _charges(ctx: Context, req: Mapping[str, Any]) -> list[Charge]:
    wanted = wanted_by(req.get("Filter"))
    period = period_of(req["TimePeriod"], ctx.clock.now())
    return [charge for charge in charges_between(ctx.store, ctx.account, *period) if wanted(charge)]


def _page(req: Mapping[str, Any], named: Iterable[tuple[str, Charge]]) -> tuple[list[str], int, str | None]:
    """One page of names in order, how many there are in all, and the token of the next page."""
    part = (req.get("SearchString") or "").lower()
    found: dict[str, list[Charge]] = {}
    for name, charge in named:
        if part in name.lower():
            found.setdefault(name, []).append(charge)
    names = sorted(found)
    for entry in reversed(req.get("SortBy") or ()):
        amount = usd_of if metric_of(entry["Key"]) in COSTS else units_of
        by = {name: amount(charges) for name, charges in found.items()}
        names.sort(key=by.__getitem__, reverse=entry.get("SortOrder") == "DESCENDING")
    first = position(req.get("NextPageToken"), len(names))
    size = req.get("MaxResults") or _PAGE
    more = encode_token(str(first + size)) if len(names) > first + size else None
    return names[first : first + size], len(names), more
