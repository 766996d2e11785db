"""States of alarms by the guide's own tables. X breaches, 0 does not, - is missing; oldest first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from pilvi.services.cloudwatch.alarm_state import Rule, Sample, judge, reason_data


@dataclass(frozen=True)
class Case:
    points: str
    needed: int
    missing: str
    ignore: str
    breaching: str
    not_breaching: str


# Source: CloudWatch User Guide, "Configuring how CloudWatch alarms treat missing data": three of three, and two of three.
TABLES = [
    Case("0-X-X", 3, "OK", "OK", "OK", "OK"),
    Case("----0", 3, "OK", "OK", "OK", "OK"),
    Case("-----", 3, "INSUFFICIENT_DATA", "", "ALARM", "OK"),
    Case("0XX-X", 3, "ALARM", "ALARM", "ALARM", "ALARM"),
    Case("--X--", 3, "ALARM", "", "ALARM", "OK"),
    Case("0-X-X", 2, "ALARM", "ALARM", "ALARM", "ALARM"),
    Case("00X0X", 2, "ALARM", "ALARM", "ALARM", "ALARM"),
    Case("0-X--", 2, "OK", "OK", "ALARM", "OK"),
    Case("----0", 2, "OK", "OK", "ALARM", "OK"),
    Case("---X-", 2, "ALARM", "", "ALARM", "OK"),
    Case("----X", 2, "", "", "ALARM", "OK"),
]


def slots_of(points: str) -> list[Sample | None]:
    return [
        None if point == "-" else Sample(600 - 60 * age, 5.0 if point == "X" else 0.0, 1.0)
        for age, point in enumerate(points[::-1])
    ]


def state_of(points: str, rule: Rule) -> str:
    verdict = judge(rule, slots_of(points))
    return "" if verdict is None else verdict.state


@pytest.mark.parametrize("case", TABLES, ids=lambda case: f"{case.points}, {case.needed} of 3")
def test_missing_data_is_treated_as_the_guide_says(case: Case) -> None:
    found = {
        missing: state_of(case.points, Rule("GreaterThanThreshold", 1.0, 3, case.needed, missing))
        for missing in ("missing", "ignore", "breaching", "notBreaching")
    }
    wanted = (case.missing, case.ignore, case.breaching, case.not_breaching)
    assert tuple(found.values()) == wanted


@pytest.mark.parametrize(
    ("comparison", "breaching"),
    [
        ("GreaterThanThreshold", [2]),
        ("GreaterThanOrEqualToThreshold", [1, 2]),
        ("LessThanThreshold", [0]),
        ("LessThanOrEqualToThreshold", [0, 1]),
    ],
)
def test_comparisons(comparison: str, breaching: list[int]) -> None:
    rule = Rule(comparison, 1.0, 1, 1, "missing")
    assert [value for value in range(3) if rule.breaches(Sample(0, value, 1.0))] == breaching


def test_reasons_are_told_in_aws_words() -> None:
    rule = Rule("GreaterThanThreshold", 1.0, 1, 1, "missing")
    verdict = judge(rule, slots_of("X"))
    assert verdict is not None
    assert verdict.reason == (
        "Threshold Crossed: 1 out of the last 1 datapoints [5.0 (01/01/70 00:10:00)] was greater than the threshold (1.0) "
        "(minimum 1 datapoint for OK -> ALARM transition)."
    )
    asked = datetime(1970, 1, 1, 0, 11, tzinfo=UTC)
    assert reason_data(rule, slots_of("X"), verdict, 60, "Sum", None, asked) == {
        "version": "1.0",
        "queryDate": "1970-01-01T00:11:00.000+0000",
        "startDate": "1970-01-01T00:10:00.000+0000",
        "statistic": "Sum",
        "period": 60,
        "recentDatapoints": [5.0],
        "threshold": 1.0,
        "evaluatedDatapoints": [{"timestamp": "1970-01-01T00:10:00.000+0000", "sampleCount": 1.0, "value": 5.0}],
    }
    nothing = judge(rule, slots_of("---"))
    assert nothing is not None
    assert nothing.reason == "Insufficient Data: 1 datapoint was unknown."
