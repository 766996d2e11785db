"""Ranges, their scales and their strings, without a server."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilvi.core.errors import Invalid
from pilvi.services.sagemaker.tuning_choice import drawn
from pilvi.services.sagemaker.tuning_range import Range, combination, combinations, range_around, ranges_of

places = st.floats(0, 1, allow_nan=False)


def one(kind: str, low: str, high: str, scale: str = "Auto") -> Range:
    (found,) = ranges_of({f"{kind}ParameterRanges": [{"Name": "x", "MinValue": low, "MaxValue": high, "ScalingType": scale}]})
    return found


@given(st.floats(1e-8, 1e8), st.floats(1e-8, 1e8), st.sampled_from(["Auto", "Linear", "Logarithmic"]), places)
def test_continuous_values_lie_inside_and_lead_back(a: float, b: float, scale: str, place: float) -> None:
    low, high = sorted((a, b))
    found = one("Continuous", repr(low), repr(high), scale)
    value = found.value(place)
    assert low <= float(value) <= high
    again = found.position(value)
    assert again is not None
    assert math.isclose(float(found.value(again)), float(value), rel_tol=1e-6, abs_tol=1e-12)


@given(st.floats(0, 0.999), st.floats(0, 0.999), places)
def test_reverse_logarithmic_values_lie_inside(a: float, b: float, place: float) -> None:
    low, high = sorted((a, b))
    assert low <= float(one("Continuous", repr(low), repr(high), "ReverseLogarithmic").value(place)) <= high


@given(st.integers(-1000, 1000), st.integers(0, 1000), places)
def test_integers_are_whole_and_inside(low: int, span: int, place: float) -> None:
    found = one("Integer", str(low), str(low + span), "Linear")
    value = found.value(place)
    assert value == str(int(value))
    assert low <= int(value) <= low + span
    assert found.value(found.position(value) or 0.0) == value


def test_scales_spread_as_they_say() -> None:
    values = [float(one("Continuous", "0.0001", "1", "Logarithmic").value(place / 4)) for place in range(5)]
    assert values == pytest.approx([0.0001, 0.001, 0.01, 0.1, 1])
    assert float(one("Continuous", "0", "0.9999", "ReverseLogarithmic").value(0.5)) == pytest.approx(0.99)
    assert float(one("Continuous", "0", "10", "Linear").value(0.5)) == 5.0
    assert [one("Integer", "1", "3", "Linear").value(place) for place in (0.0, 0.32, 0.34, 0.65, 0.67, 1.0)] == list("112233")


def test_log_draws_spread_by_decades() -> None:
    entry = one("Continuous", "0.00001", "1", "Logarithmic")
    decades = [math.floor(math.log10(float(drawn([entry], 7, number)["x"]))) for number in range(1, 501)]
    assert all(70 <= decades.count(decade) <= 130 for decade in range(-5, 0))


def test_auto_takes_the_scale_that_fits() -> None:
    assert one("Continuous", "0.001", "1").scale == "Logarithmic"
    assert one("Continuous", "0.5", "0.999").scale == "ReverseLogarithmic"
    assert one("Integer", "1", "10").scale == "Linear"
    assert one("Integer", "0", "1000").scale == "Linear"


def test_ranges_around_a_hint() -> None:
    assert range_around("lr", "0.01") == Range("lr", "Continuous", 0.001, 0.1, "Logarithmic")
    assert range_around("depth", "8") == Range("depth", "Integer", 2, 32, "Logarithmic")
    assert range_around("kind", "adam") == Range("kind", "Categorical", values=("adam",))
    assert range_around("drop", "0.0") == Range("drop", "Continuous", 0.0, 1.0)
    assert range_around("share", "0.5").high == 1.0
    assert range_around("below", "-2").low == -20
    with pytest.raises(Invalid):
        range_around("x", "nan")


@pytest.mark.parametrize(
    ("kind", "entry", "words"),
    [
        ("Continuous", {"MinValue": "1", "MaxValue": "0"}, "less than or equal"),
        ("Continuous", {"MinValue": "a", "MaxValue": "1"}, "is not a number"),
        ("Continuous", {"MinValue": "0", "MaxValue": "inf"}, "is not a number"),
        ("Integer", {"MinValue": "0.5", "MaxValue": "1"}, "is not an integer"),
        ("Integer", {"MinValue": "0", "MaxValue": "1", "ScalingType": "Logarithmic"}, "greater than 0"),
        ("Integer", {"MinValue": "0", "MaxValue": "1", "ScalingType": "ReverseLogarithmic"}, "continuous ranges only"),
        ("Continuous", {"MinValue": "0", "MaxValue": "1", "ScalingType": "ReverseLogarithmic"}, "within 0"),
        ("Categorical", {"Values": ["a", "a"]}, "unique"),
    ],
)
def test_ranges_that_make_no_sense(kind: str, entry: dict[str, Any], words: str) -> None:
    with pytest.raises(Invalid, match=words):
        ranges_of({f"{kind}ParameterRanges": [{"Name": "x", **entry}]})


def test_every_combination_comes_once() -> None:
    ranges = [Range("a", "Categorical", values=("1", "2", "3")), Range("b", "Categorical", values=("x", "y", "z", "w"))]
    found = [tuple(combination(ranges, number).values()) for number in range(combinations(ranges))]
    assert len(found) == len(set(found)) == 12
    assert found[:2] == [("1", "x"), ("1", "y")]


def test_values_outside_have_no_position() -> None:
    assert one("Continuous", "0", "1").position("2") is None
    assert one("Continuous", "0", "1").position("word") is None
    assert Range("a", "Categorical", values=("1", "2")).position("3") is None
    assert Range("a", "Categorical", values=("1", "2")).position("2") == 0.75
    assert one("Integer", "3", "3").position("3") == 0.5
