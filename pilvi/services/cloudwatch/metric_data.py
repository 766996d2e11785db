"""Metric data read back: statistics by period, of one metric or of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pilvi.core.errors import Invalid, ServiceError
from pilvi.core.paging import decode_token, encode_token
from pilvi.core.service import Context, Operations
from pilvi.services.cloudwatch.series import read
from pilvi.services.cloudwatch.statistic import by_period, check_statistic, statistic

ops = Operations()

# Source: API reference, GetMetricStatistics and GetMetricData.
DATAPOINTS = 1440
DATA_POINTS = 100_800
QUERIES = 500
_FINE = (1, 5, 10, 20, 30)


@ops
def get_metric_statistics(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Statistics of a metric for each period that has data, in no particular order (here: of time).

    req: Namespace, MetricName, Dimensions (exactly those of the metric), StartTime, EndTime, Period (1, 5, 10, 20, 30 or a
        multiple of 60 seconds), Statistics or ExtendedStatistics (p0 to p100), Unit.
    Errors: InvalidParameterValue; InvalidParameterCombination - more than 1,440 data points, or the end before the start;
        MissingParameter - no statistics.
    Source: API reference, GetMetricStatistics.
    Differs: trimmed statistics (tm, wm, tc, ts, pr) are refused. Data does not roll up with age.
    """
    period = _checked_period(req["Period"], "Period")
    start, end = _span(req, period)
    names = [*(req.get("Statistics") or ()), *(req.get("ExtendedStatistics") or ())]
    if not names:
        raise ServiceError(
            "MissingParameter", "At least one of the parameters Statistics and ExtendedStatistics must be specified.", 400
        )
    for name in names:
        check_statistic(name)
    if (count := -(-(end - start) // period)) > DATAPOINTS:
        raise ServiceError(
            "InvalidParameterCombination",
            f"You have requested up to {count:,} datapoints, which exceeds the limit of {DATAPOINTS:,}. You may reduce the datapoints "
            "requested by increasing Period, or decreasing the time range.",
            400,
        )
    points = read(ctx, req["Namespace"], req["MetricName"], req.get("Dimensions") or [], start, end)
    found = []
    for (second, unit), some in sorted(by_period(points, period).items()):
        if req.get("Unit") not in (None, unit):
            continue
        values = {name: value for name in names if (value := statistic(name, some)) is not None}
        simple = {name: values[name] for name in req.get("Statistics") or () if name in values}
        extended = {name: values[name] for name in req.get("ExtendedStatistics") or () if name in values}
        entry = {"Timestamp": datetime.fromtimestamp(second, UTC), "Unit": unit, **simple}
        found.append(entry | ({"ExtendedStatistics": extended} if extended else {}))
    return {"Label": req["MetricName"], "Datapoints": found}


@ops
def get_metric_data(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Statistics of up to 500 metrics, each as times and values; newest first unless ScanBy says otherwise.

    req: MetricDataQueries with Id and MetricStat (Metric, Period, Stat, Unit), StartTime, EndTime, ScanBy, MaxDatapoints.
    Errors: ValidationError - an Id twice or badly formed, no MetricStat; InvalidParameterValue - a statistic, a period or a
        foreign token.
    Source: API reference, GetMetricData.
    Differs: metric math, search expressions and metrics of other accounts are refused. Labels are told as they stand: nothing is put
        in for ${...}.
    """
    queries = req["MetricDataQueries"]
    if not 0 < len(queries) <= QUERIES:
        raise ServiceError("ValidationError", f"The collection MetricDataQueries must have a size between 1 and {QUERIES}.", 400)
    _check_queries(queries, ctx.account)
    limit = req.get("MaxDatapoints") or DATA_POINTS
    skipped = _skipped(req.get("NextToken"))
    results, left, position = [], limit, 0
    for query in queries:
        if query.get("ReturnData") is False:
            continue
        series = _series(ctx, req, query)
        first = max(0, skipped - position)
        some = series[first : first + left]
        position += len(series)
        if first >= len(series) > 0 and skipped:
            continue
        left -= len(some)
        results.append(
            {
                "Id": query["Id"],
                "Label": query.get("Label") or query["MetricStat"]["Metric"]["MetricName"],
                "Timestamps": [datetime.fromtimestamp(second, UTC) for second, _ in some],
                "Values": [value for _, value in some],
                "StatusCode": "PartialData" if first + len(some) < len(series) else "Complete",
            }
        )
        if not left and position > skipped + limit:
            return {"MetricDataResults": results, "NextToken": encode_token(str(skipped + limit)), "Messages": []}
    return {"MetricDataResults": results, "Messages": []}


def _series(ctx: Context, req: Mapping[str, Any], query: Mapping[str, Any]) -> list[tuple[int, float]]:
    """(second, value) of each period that has data."""
    wanted = query["MetricStat"]
    metric = wanted["Metric"]
    period = _checked_period(wanted["Period"], "Period")
    start, end = _span(req, period)
    check_statistic(wanted["Stat"])
    points = read(ctx, metric.get("Namespace", ""), metric.get("MetricName", ""), metric.get("Dimensions") or [], start, end)
    found = [
        (second, value)
        for (second, unit), some in sorted(by_period(points, period).items())
        if wanted.get("Unit") in (None, unit) and (value := statistic(wanted["Stat"], some)) is not None
    ]
    return found if req.get("ScanBy") == "TimestampAscending" else found[::-1]


def _skipped(token: str | None) -> int:
    position = decode_token(token)
    if position and not position.isdigit():
        raise Invalid("The parameter NextToken is not valid.")
    return int(position or 0)


def _check_queries(queries: Sequence[Mapping[str, Any]], account: str) -> None:
    ids = [query["Id"] for query in queries]
    if len(set(ids)) < len(ids):
        raise ServiceError("ValidationError", "The values for parameter Id in MetricDataQueries are not unique.", 400)
    for query in queries:
        if not (query["Id"][:1].islower() and query["Id"].replace("_", "").isalnum()):
            raise ServiceError(
                "ValidationError",
                f'The value "{query["Id"]}" for parameter Id is not matching the expected pattern ^[a-z][a-zA-Z0-9_]*$.',
                400,
            )
        if query.get("AccountId") not in (None, account):
            raise ServiceError("ValidationError", "Metrics of other accounts are not built into this cloud yet.", 400)
        if query.get("Expression"):
            raise ServiceError("ValidationError", "Metric math and search expressions are not built into this cloud yet.", 400)
        if not query.get("MetricStat"):
            raise ServiceError("ValidationError", "Either MetricStat or Expression must be specified in a MetricDataQuery.", 400)


def _checked_period(period: int, name: str) -> int:
    if period not in _FINE and (period < 60 or period % 60):
        raise Invalid(f"The parameter {name} must be a multiple of 60, or one of {', '.join(map(str, _FINE))}.")
    return period


def _span(req: Mapping[str, Any], period: int) -> tuple[int, int]:
    """The asked-for time in seconds, its start moved back to where a period begins."""
    start, end = int(req["StartTime"].timestamp()), int(req["EndTime"].timestamp())
    if start >= end:
        raise ServiceError("InvalidParameterCombination", "The parameter StartTime must be less than the parameter EndTime.", 400)
    return start - start % period, end
