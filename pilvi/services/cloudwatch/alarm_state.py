"""What state an alarm is in: pure. Source: CloudWatch User Guide, "Alarm evaluation" and "Configuring how alarms treat missing data".

The newest `EvaluationPeriods` data points that exist are looked at, in a range a little longer than that many periods. Where it holds
fewer, the rest is filled as TreatMissingData says; data that is only missing and breaching raises the alarm no sooner than the oldest of
it is DatapointsToAlarm periods old.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

OK: Final = "OK"
ALARM: Final = "ALARM"
INSUFFICIENT: Final = "INSUFFICIENT_DATA"

RANGE_MORE: Final = 2
"""Periods looked at beyond EvaluationPeriods. Source: the guide's examples, five for three; the real number "varies"."""

COMPARISONS: Final[Mapping[str, tuple[Callable[[float, float], bool], str]]] = {
    "GreaterThanThreshold": (operator.gt, "greater than"),
    "GreaterThanOrEqualToThreshold": (operator.ge, "greater than or equal to"),
    "LessThanThreshold": (operator.lt, "less than"),
    "LessThanOrEqualToThreshold": (operator.le, "less than or equal to"),
}
_FILLED: Final = {"breaching": "Breaching", "notBreaching": "NonBreaching"}


class Sample(NamedTuple):
    """One period of a metric."""

    start_s: int
    value: float
    many: float
    """Observations it was made of."""


class Rule(NamedTuple):
    """What an alarm compares, as far as its state depends on it."""

    comparison: str
    threshold: float
    periods: int
    """EvaluationPeriods"""
    needed: int
    """DatapointsToAlarm"""
    missing: str
    """TreatMissingData"""

    def breaches(self, sample: Sample) -> bool:
        return COMPARISONS[self.comparison][0](sample.value, self.threshold)


class Verdict(NamedTuple):
    state: str
    reason: str
    evaluated: Sequence[Sample]
    """Newest first."""


def judge(rule: Rule, slots: Sequence[Sample | None]) -> Verdict | None:
    """The state that periods (newest first, None where nothing was observed) call for; None: it stays what it is."""
    there = [slot for slot in slots if slot is not None][: rule.periods]
    lacking = rule.periods - len(there)
    breaching = [sample for sample in there if rule.breaches(sample)]
    if lacking and rule.missing in _FILLED:
        bad = len(breaching) + (lacking if rule.missing == "breaching" else 0)
        state = ALARM if bad >= rule.needed else OK
        return Verdict(state, _filled(rule, there, lacking, state), there)
    if not there:
        return None if rule.missing == "ignore" else Verdict(INSUFFICIENT, _unknown(rule.periods), there)
    if len(breaching) >= rule.needed:
        return Verdict(ALARM, crossed(rule, there, ALARM), there)
    if len(breaching) < len(there):
        return Verdict(OK, crossed(rule, there, OK), there)
    oldest = max(age for age, slot in enumerate(slots, 1) if slot is not None and slot in there)
    if rule.missing == "missing" and oldest >= rule.needed:
        return Verdict(ALARM, crossed(rule, there, ALARM), there)
    return None


# -- in words -------------------------------------------------------------------------------------------------------------


def crossed(rule: Rule, there: Sequence[Sample], state: str) -> str:
    """Threshold Crossed: 1 out of the last 1 datapoints [5.0 (22/11/26 09:50:00)] was greater than the threshold (1.0) (...)."""
    many = [sample for sample in there if rule.breaches(sample) == (state == ALARM)]
    told = ", ".join(f"{sample.value} ({datetime.fromtimestamp(sample.start_s, UTC):%d/%m/%y %H:%M:%S})" for sample in many)
    was = "was" if len(many) == 1 else "were"
    word = COMPARISONS[rule.comparison][1]
    wanted = rule.needed if state == ALARM else rule.periods - rule.needed + 1
    change = f"(minimum {wanted} datapoint{'s' if wanted > 1 else ''} for {'OK -> ALARM' if state == ALARM else 'ALARM -> OK'} transition)"
    no = "" if state == ALARM else "not "
    return (
        f"Threshold Crossed: {len(many)} out of the last {rule.periods} datapoints [{told}] {was} {no}{word} the threshold "
        f"({rule.threshold}) {change}."
    )


def _filled(rule: Rule, there: Sequence[Sample], lacking: int, state: str) -> str:
    was = "was" if lacking == 1 else "were"
    treated = f"{lacking} missing datapoint{'' if lacking == 1 else 's'} {was} treated as [{_FILLED[rule.missing]}]"
    if not there:
        return f"Threshold Crossed: no datapoints were received for {lacking} period{'' if lacking == 1 else 's'} and {treated}."
    return f"{crossed(rule, there, state).removesuffix('.')} and {treated}."


def _unknown(periods: int) -> str:
    return f"Insufficient Data: {periods} datapoint{' was' if periods == 1 else 's were'} unknown."


def reason_data(
    rule: Rule, slots: Sequence[Sample | None], verdict: Verdict, period_s: int, statistic: str, unit: str | None, asked: datetime
) -> dict[str, Any]:
    """What StateReasonData tells, as JSON."""
    there = [slot for slot in reversed(slots[: rule.periods]) if slot is not None]
    told: dict[str, Any] = {"version": "1.0", "queryDate": stamp(asked)}
    if there:
        told["startDate"] = stamp(datetime.fromtimestamp(there[0].start_s, UTC))
    if unit:
        told["unit"] = unit
    evaluated = [
        {"timestamp": stamp(datetime.fromtimestamp(sample.start_s, UTC)), "sampleCount": sample.many, "value": sample.value}
        for sample in verdict.evaluated
    ]
    return told | {
        "statistic": statistic,
        "period": period_s,
        "recentDatapoints": [sample.value for sample in there],
        "threshold": rule.threshold,
        "evaluatedDatapoints": evaluated,
    }


def stamp(at: datetime) -> str:
    """2026-11-22T09:50:00.123+0000"""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}+0000"
