"""Filters: Cost Explorer's expressions over dimensions and tags, as a test on charges.

    {"And": [{"Dimensions": {"Key": "REGION", "Values": ["us-east-1"]}}, {"Not": {"Tags": {"Key": "project", "Values": ["ml"]}}}]}

Source: API reference, Expression: one root, the operators And, Or and Not, and MatchOptions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pilvi.core.errors import Invalid
from pilvi.metering import Charge
from pilvi.services.ce.dimension import check_dimension, value_of

Test = Callable[[Charge], bool]

_ROOTS = ("Or", "And", "Not", "Dimensions", "Tags", "CostCategories", "ProductAttributes")
_OPTIONS = ("EQUALS", "ABSENT", "CASE_SENSITIVE")
"""Source: API reference, DimensionValues and TagValues; the other options are for cost categories and anomalies."""


def wanted_by(expression: Mapping[str, Any] | None) -> Test:
    """The test that an expression stands for. Invalid for what is none, or is not built."""
    if not expression:
        return lambda _: True
    roots = [name for name in _ROOTS if expression.get(name) is not None]
    if len(roots) != 1:
        trouble = "has multiple roots" if roots else "has no root"
        raise Invalid(f"Expression {trouble}. Only one root operator is allowed for each expression: {', '.join(_ROOTS[:6])}")
    root, operand = roots[0], expression[roots[0]]
    if root in ("And", "Or"):
        tests = [wanted_by(part) for part in operand]
        if not tests:
            raise Invalid(f"Expression {root} needs at least one operand.")
        together = all if root == "And" else any
        return lambda charge: together(test(charge) for test in tests)
    if root == "Not":
        inner = wanted_by(operand)
        return lambda charge: not inner(charge)
    if root == "Dimensions":
        return _dimensions(operand)
    if root == "Tags":
        return _tags(operand)
    raise Invalid(f"{root} are not supported by this server yet.")


def _dimensions(operand: Mapping[str, Any]) -> Test:
    key, values = operand.get("Key") or "", _values(operand)
    check_dimension(key)
    if "ABSENT" in _options(operand):
        raise Invalid("The match option ABSENT is not valid for dimensions.")
    if not values:
        raise Invalid(f"The filter on dimension {key} has no values.")
    return lambda charge: value_of(charge, key) in values


def _tags(operand: Mapping[str, Any]) -> Test:
    key, values, options = operand.get("Key") or "", _values(operand), _options(operand)
    if not key:
        raise Invalid("The filter on tags has no key.")
    if "ABSENT" in options:
        return lambda charge: key not in charge.line.tags
    # An empty value stands for charges without the tag, too.
    return lambda charge: charge.line.tags.get(key, "") in values if values else key in charge.line.tags


def _values(operand: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(operand.get("Values") or ())


def _options(operand: Mapping[str, Any]) -> list[str]:
    options = list(operand.get("MatchOptions") or ())
    if others := [option for option in options if option not in _OPTIONS]:
        raise Invalid(f"The match option {others[0]} is not supported: use {', '.join(_OPTIONS)}.")
    return options
