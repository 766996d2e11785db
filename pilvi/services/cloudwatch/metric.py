"""Metrics: data points put under a name and dimensions, and what metrics there are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pilvi.core.errors import Invalid, ServiceError
from pilvi.core.paging import decode_token, encode_token
from pilvi.core.service import Context, Operations
from pilvi.services.cloudwatch.series import METRIC, Dimensions, keep
from pilvi.services.cloudwatch.statistic import Point

ops = Operations()

# Source: API reference, PutMetricData and MetricDatum.
DATA = 1000
DIMENSIONS = 30
VALUES = 150
PAST_S, FUTURE_S = 14 * 86400, 2 * 3600
LARGEST = 2.0**360
PAGE = 500
_RECENT_S = 3 * 3600


@ops
def put_metric_data(ctx: Context, req: Mapping[str, Any]) -> None:
    """Keep data points; they can be read as soon as the answer is there.

    req: Namespace (not AWS/...), MetricData (up to 1,000) with one of Value, Values and Counts (up to 150), StatisticValues.
    Errors: InvalidParameterValue - a number or time out of range; InvalidParameterCombination; MissingParameter.
    Source: API reference, PutMetricData.
    Differs: EntityMetricData is refused. Points keep their second; AWS keeps minutes unless StorageResolution is 1.
    """
    namespace = req["Namespace"]
    if namespace.startswith("AWS/") and ctx.principal.kind != "service":
        raise Invalid("The value AWS/ for parameter Namespace is invalid.")
    if req.get("EntityMetricData"):
        raise Invalid("EntityMetricData is not built into this cloud yet.")
    data = req.get("MetricData") or []
    if not data:
        raise ServiceError("MissingParameter", "The parameter MetricData is required.", 400)
    if len(data) > DATA:
        raise Invalid(f"The collection MetricData must not have a size greater than {DATA}.")
    entries = []
    for number, datum in enumerate(data, 1):
        place = f"MetricData.member.{number}"
        dimensions = datum.get("Dimensions") or []
        _check_dimensions(dimensions, place)
        entries.append((datum["MetricName"], dimensions, _point(ctx, datum, place)))
    keep(ctx, namespace, entries)


@ops
def list_metrics(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Metrics that have data, 500 a page.

    req: Namespace, MetricName, Dimensions (a name, or a name and a value; all must be there), RecentlyActive PT3H.
    Errors: InvalidParameterValue - a foreign token.
    Differs: accounts are not linked: IncludeLinkedAccounts adds none, and another OwningAccount has no metrics.
    """
    if req.get("OwningAccount") not in (None, ctx.account):
        return {"Metrics": []}
    rows = ctx.records(METRIC)
    active_from = ctx.clock.time_s() - _RECENT_S if req.get("RecentlyActive") else 0
    found: list[Mapping[str, Any]] = []
    after = decode_token(req.get("NextToken"))
    while some := rows.scan(after=after):
        for row in some:
            after = row.id
            if row.value["last"] >= active_from and _is_wanted(row.value, req):
                found.append({key: row.value[key] for key in ("Namespace", "MetricName", "Dimensions")})
                if len(found) == PAGE:
                    return {"Metrics": found, "NextToken": encode_token(after)}
    return {"Metrics": found}


def _is_wanted(metric: Mapping[str, Any], req: Mapping[str, Any]) -> bool:
    if any(req.get(member) and metric[member] != req[member] for member in ("Namespace", "MetricName")):
        return False
    there = {dimension["Name"]: dimension["Value"] for dimension in metric["Dimensions"]}
    return all(
        dimension["Name"] in there and dimension.get("Value") in (None, there[dimension["Name"]])
        for dimension in req.get("Dimensions") or ()
    )


# -- a datum ------------------------------------------------------------------------------------------------------------


def _point(ctx: Context, datum: Mapping[str, Any], place: str) -> Point:
    second = _second(ctx, datum.get("Timestamp"), place)
    unit = datum.get("Unit") or "None"
    forms = [name for name in ("Value", "Values", "StatisticValues") if datum.get(name) is not None]
    if len(forms) != 1:
        if not forms:
            raise ServiceError("MissingParameter", f"The parameter {place}.Value is required.", 400)
        raise ServiceError(
            "InvalidParameterCombination", f"The parameters {place}.{forms[0]} and {place}.{forms[1]} are mutually exclusive.", 400
        )
    if forms == ["Value"]:
        return Point.of_values(second, unit, [(_number(datum["Value"], f"{place}.Value"), 1.0)])
    if forms == ["Values"]:
        return Point.of_values(second, unit, _counted(datum, place))
    summary = {name: _number(value, f"{place}.StatisticValues.{name}") for name, value in datum["StatisticValues"].items()}
    if summary["SampleCount"] <= 0 or summary["Minimum"] > summary["Maximum"]:
        raise Invalid(f"The parameter {place}.StatisticValues is no summary of values.")
    return Point(second, summary["SampleCount"], summary["Sum"], summary["Minimum"], summary["Maximum"], unit, None)


def _counted(datum: Mapping[str, Any], place: str) -> list[tuple[float, float]]:
    values = datum["Values"]
    counts = datum.get("Counts") or [1.0] * len(values)
    if not values or len(values) > VALUES:
        raise Invalid(f"The collection {place}.Values must have a size between 1 and {VALUES}.")
    if len(counts) != len(values):
        raise ServiceError(
            "InvalidParameterCombination",
            f"The parameters {place}.Values and {place}.Counts must have the same number of entries.",
            400,
        )
    numbers = [_number(value, f"{place}.Values") for value in values]
    return [(value, _number(count, f"{place}.Counts")) for value, count in zip(numbers, counts, strict=True)]


def _number(value: float, place: str) -> float:
    if math.isnan(value) or math.isinf(value) or abs(value) > LARGEST:
        raise Invalid(f"The value {value} for parameter {place} is invalid.")
    return float(value)


def _second(ctx: Context, stamp: datetime | None, place: str) -> int:
    now_s = ctx.clock.time_s()
    if stamp is None:
        return int(now_s)
    second = stamp.timestamp()
    if second < now_s - PAST_S and ctx.principal.kind != "service":  # a service tells late what happened before the clock was moved
        raise Invalid(f"The parameter {place}.Timestamp must specify a time no more than two weeks in the past.")
    if second > now_s + FUTURE_S:
        raise Invalid(f"The parameter {place}.Timestamp must specify a time no more than two hours in the future.")
    return int(second)


def _check_dimensions(dimensions: Dimensions, place: str) -> None:
    if len(dimensions) > DIMENSIONS:
        raise Invalid(f"The collection {place}.Dimensions must not have a size greater than {DIMENSIONS}.")
    names = [dimension["Name"] for dimension in dimensions]
    if len(set(names)) < len(names):
        raise Invalid(f"The collection {place}.Dimensions names a dimension twice.")
