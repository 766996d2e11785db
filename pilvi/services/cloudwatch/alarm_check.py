"""What alarms may be told: settings checked, and brought into the form in which they are kept."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pilvi.core.arn import Arn
from pilvi.core.errors import ServiceError
from pilvi.services.cloudwatch.alarm_state import COMPARISONS, Rule
from pilvi.services.cloudwatch.statistic import check_statistic

SETTINGS: Final = (
    "AlarmDescription",
    "MetricName",
    "Namespace",
    "Statistic",
    "ExtendedStatistic",
    "Dimensions",
    "Period",
    "Unit",
    "EvaluationPeriods",
    "DatapointsToAlarm",
    "Threshold",
    "ComparisonOperator",
    "TreatMissingData",
    "EvaluateLowSampleCountPercentile",
    "Metrics",
)
ACTIONS: Final = ("OKActions", "AlarmActions", "InsufficientDataActions")
ABSENT: Final = (
    "ThresholdMetricId",
    "EvaluationWindow",
    "WarmUpConfiguration",
    "EvaluationCriteria",
    "EvaluationInterval",
    "ActionConfiguration",
)
MISSING: Final = ("missing", "ignore", "breaching", "notBreaching")
DAY_S: Final = 86_400
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def invalid(message: str) -> ServiceError:
    return ServiceError("ValidationError", message, 400)


def check_name(name: str) -> None:
    """UTF-8 without ASCII control characters. Source: PutMetricAlarm, AlarmName."""
    if _CONTROL.search(name):
        raise invalid("The alarm name must not contain ASCII control characters.")


def checked(req: Mapping[str, Any], account: str) -> dict[str, Any]:
    """The settings of a metric alarm as they are kept. Errors: ValidationError, InvalidParameterCombination, MissingParameter."""
    check_name(req["AlarmName"])
    for member in ABSENT:
        if req.get(member) is not None:
            raise invalid(f"{member} is not built into this cloud yet.")
    found = {name: req[name] for name in SETTINGS if req.get(name) is not None}
    watched = _one_metric(found, account)
    if req["ComparisonOperator"] not in COMPARISONS:
        raise invalid(f"Anomaly detection ({req['ComparisonOperator']}) is not built into this cloud yet.")
    if req.get("Threshold") is None:
        raise ServiceError("MissingParameter", "The parameter Threshold is required.", 400)
    _check_periods(req["EvaluationPeriods"], req.get("DatapointsToAlarm"), watched["Period"])
    if req.get("TreatMissingData") not in (None, *MISSING):
        raise invalid(f"Option {req['TreatMissingData']} for TreatMissingData is not one of: {', '.join(MISSING)}.")
    if req.get("EvaluateLowSampleCountPercentile") not in (None, "evaluate", "ignore"):
        raise invalid("EvaluateLowSampleCountPercentile must be evaluate or ignore.")
    return found | checked_actions(req)


def checked_actions(req: Mapping[str, Any]) -> dict[str, Any]:
    """ActionsEnabled and the three lists of ARNs. Errors: ValidationError."""
    found: dict[str, Any] = {"ActionsEnabled": True if req.get("ActionsEnabled") is None else req["ActionsEnabled"]}
    for member in ACTIONS:
        arns = list(req.get(member) or ())
        for arn in arns:
            _check_action(arn)
        if len(set(arns)) < len(arns):
            raise invalid(f"{member} must not contain duplicate ARNs.")
        found[member] = arns
    return found


def _check_action(arn: str) -> None:
    parsed = Arn.parse(arn)
    if parsed is None or not parsed.resource:
        raise invalid(f"Invalid arn syntax: {arn}")
    if parsed.service not in ("sns", "lambda"):
        raise invalid(f"Actions of the service {parsed.service} are not built into this cloud yet: {arn}")


def _one_metric(found: Mapping[str, Any], account: str) -> Mapping[str, Any]:
    """What is watched, as a MetricStat with its Period."""
    named = [name for name in ("MetricName", "Namespace", "Statistic", "ExtendedStatistic", "Period", "Unit") if name in found]
    if queries := found.get("Metrics"):
        if named or found.get("Dimensions"):
            raise ServiceError(
                "InvalidParameterCombination", "Metrics list is mutually exclusive with the single metric's parameters.", 400
            )
        return watched_of(found, _only(queries, account))
    for name in ("MetricName", "Namespace", "Period"):
        if name not in found:
            raise ServiceError("MissingParameter", f"The parameter {name} is required.", 400)
    if ("Statistic" in found) == ("ExtendedStatistic" in found):
        raise ServiceError("InvalidParameterCombination", "Exactly one of Statistic and ExtendedStatistic must be specified.", 400)
    return watched_of(found)


def _only(queries: Sequence[Mapping[str, Any]], account: str) -> Mapping[str, Any]:
    told = [query for query in queries if query.get("ReturnData") is not False]
    if any(query.get("Expression") for query in queries):
        raise invalid("Metric math is not built into this cloud yet: Metrics must hold one metric.")
    if len(queries) != 1 or len(told) != 1 or not queries[0].get("MetricStat"):
        raise invalid("Exactly one element of the metrics list should return data.")
    if queries[0].get("AccountId") not in (None, account):
        raise invalid("Metrics of other accounts are not built into this cloud yet.")
    return queries[0]


def watched_of(settings: Mapping[str, Any], query: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    """Namespace, MetricName, Dimensions, Period, Stat and Unit of the one metric that an alarm watches."""
    query = query or next(iter(settings.get("Metrics") or ()), None)
    if query is not None:
        given = query["MetricStat"]
        found = {**given["Metric"], "Period": given["Period"], "Stat": given["Stat"], "Unit": given.get("Unit")}
    else:
        found = {name: settings.get(name) for name in ("Namespace", "MetricName", "Dimensions", "Period", "Unit")}
        found["Stat"] = settings.get("Statistic") or settings.get("ExtendedStatistic")
    check_statistic(found["Stat"])
    return found


def _check_periods(count: int, needed: int | None, period_s: int) -> None:
    if period_s not in (10, 20, 30) and (period_s < 60 or period_s % 60):
        raise invalid("Period must be 10, 20, 30, or a multiple of 60.")
    if needed is not None and needed > count:
        raise invalid("DatapointsToAlarm must be less than or equal to EvaluationPeriods.")
    days = 7 if period_s >= 3600 else 1
    if count * period_s > days * DAY_S:
        span = "a day" if days == 1 else "seven days"
        raise invalid(f"Metrics cannot be checked across more than {span} (EvaluationPeriods * Period must be <= {days * DAY_S}).")


def rule_of(settings: Mapping[str, Any]) -> Rule:
    count = settings["EvaluationPeriods"]
    return Rule(
        settings["ComparisonOperator"],
        float(settings["Threshold"]),
        count,
        settings.get("DatapointsToAlarm") or count,
        settings.get("TreatMissingData") or "missing",
    )
