"""Costs and usage over time, whole or in groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pilvi.core.errors import Invalid
from pilvi.core.paging import encode_token
from pilvi.core.service import Context, Operations
from pilvi.metering import Charge, charges_between
from pilvi.metering.rating import decimal_of, units_of, usd_of
from pilvi.services.ce.dimension import check_dimension, value_of
from pilvi.services.ce.expression import wanted_by
from pilvi.services.ce.metric import metric_of, position
from pilvi.services.ce.period import cut, is_estimated, period_of, told

ops = Operations()

_MOST_GROUPS = 2
PAGE = 5000
"""Groups, or times without groups, in one answer."""

Keys = tuple[str, ...]


@ops
def get_cost_and_usage(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """What an account used and what it costs, by hour, day or month, in all or in groups.

    req: TimePeriod (the end is exclusive), Granularity (HOURLY, DAILY, MONTHLY), Metrics, GroupBy (at most two: DIMENSION or TAG), Filter.
    Errors: ValidationException - times, metrics, groups or a filter that make no sense; DataUnavailableException - the time lies ahead;
        InvalidNextTokenException.
    Source: API reference, GetCostAndUsage; messages as users of AWS report them.
    Differs: what has ended is there at once (on AWS within a day); what runs is there up to a minute ago, training and processing jobs from
        their end on. All costs are the unblended one. NormalizedUsageAmount is 0: nothing here has a normalization factor. Tags count
        without being activated. Cost categories and product attributes are refused. On the bill are training and processing jobs,
        notebook instances and JupyterLab apps; volumes, warm pools, requests and stored bytes are not metered yet, nor is the
        free tier taken off. Spot training has the usage type of training, with PURCHASE_TYPE Spot Instances.
    """
    granularity = req["Granularity"]
    period = period_of(req["TimePeriod"], ctx.clock.now(), granularity)
    metrics = [metric_of(name) for name in req["Metrics"]]
    if not metrics:
        raise Invalid("At least one metric is required.")
    groups, wanted = req.get("GroupBy") or [], wanted_by(req.get("Filter"))
    key_of = _keys_for(groups)
    periods = cut(period, granularity)
    sums: list[dict[Keys, list[Charge]]] = [{} for _ in periods]
    number = 0
    for charge in sorted(charges_between(ctx.store, ctx.account, *period), key=lambda charge: charge.line.start):
        while charge.line.start >= periods[number][1]:
            number += 1
        if wanted(charge):
            sums[number].setdefault(key_of(charge), []).append(charge)
    entries = [(number, keys) for number, found in enumerate(sums) for keys in _keys_told(found, is_grouped=bool(groups))]
    first = position(req.get("NextPageToken"), len(entries))
    results: list[dict[str, Any]] = []
    last = -1
    for number, keys in entries[first : first + PAGE]:
        if number != last:
            last = number
            part = periods[number]
            shown = {
                "TimePeriod": told(part, granularity),
                "Total": {},
                "Groups": [],
                "Estimated": is_estimated(part, ctx.clock.now()),
            }
            results.append(shown)
        amounts = _amounts(metrics, sums[number].get(keys, ()) if keys is not None else ())
        if groups and keys is not None:
            results[-1]["Groups"].append({"Keys": list(keys), "Metrics": amounts})
        else:
            results[-1]["Total"] = amounts
    more = encode_token(str(first + PAGE)) if len(entries) > first + PAGE else None
    return {
        "ResultsByTime": results,
        "GroupDefinitions": groups or None,
        "DimensionValueAttributes": [],
        "NextPageToken": more,
    }


def _keys_told(found: Mapping[Keys, Any], *, is_grouped: bool) -> Sequence[Keys | None]:
    """What is told of a time; one without any groups is told, too."""
    if not is_grouped:
        return [()]
    return sorted(found) or [None]


def _keys_for(groups: Sequence[Mapping[str, str]]) -> Callable[[Charge], Keys]:
    """How charges are told apart."""
    if len(groups) > _MOST_GROUPS:
        raise Invalid(f"Number of GroupBy groups exceeds the maximum of {_MOST_GROUPS}.")
    parts = [_key_for(group) for group in groups]
    return lambda charge: tuple(part(charge) for part in parts)


def _key_for(group: Mapping[str, str]) -> Callable[[Charge], str]:
    kind, key = group.get("Type"), group.get("Key") or ""
    if not key:
        raise Invalid("A GroupBy needs a Key.")
    if kind == "DIMENSION":
        check_dimension(key)
        return lambda charge: value_of(charge, key)
    if kind == "TAG":
        return lambda charge: f"{key}${charge.line.tags.get(key, '')}"
    raise Invalid(f"GroupBy of type {kind} is not supported by this server yet.")


def _amounts(metrics: Iterable[str], charges: Sequence[Charge]) -> dict[str, dict[str, str]]:
    usd = decimal_of(usd_of(charges))
    units = {charge.line.meter.unit for charge in charges}
    found = {
        "UsageQuantity": (decimal_of(units_of(charges)), units.pop() if len(units) == 1 else "N/A"),
        "NormalizedUsageAmount": ("0", "N/A"),
    }
    return {name: dict(zip(("Amount", "Unit"), found.get(name, (usd, "USD")), strict=True)) for name in metrics}
