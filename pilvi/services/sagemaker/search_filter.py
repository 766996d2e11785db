"""Whether a resource is meant by a search expression. Pure functions over what Describe gives.

Source: API reference, Filter, NestedFilters, SearchExpression.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pilvi.core.errors import Invalid

if TYPE_CHECKING:
    from pilvi.services.sagemaker.search_source import Source

_ORDERED: dict[str, Callable[[float, float], bool]] = {
    "GreaterThan": lambda value, limit: value > limit,
    "GreaterThanOrEqualTo": lambda value, limit: value >= limit,
    "LessThan": lambda value, limit: value < limit,
    "LessThanOrEqualTo": lambda value, limit: value <= limit,
}
_TEXTUAL = ("Contains", "In")
_PRESENCE = ("Exists", "NotExists")


def check_expression(expression: Mapping[str, Any], source: Source) -> None:
    """Invalid for what no resource could answer."""
    if not any(expression.get(part) for part in ("Filters", "NestedFilters", "SubExpressions")):
        raise Invalid("A SearchExpression must have at least one filter, nested filter or sub-expression.")
    for entry in expression.get("Filters") or ():
        source.check_property(entry["Name"])
        _check_filter(entry)
    for nested in expression.get("NestedFilters") or ():
        source.check_property(nested["NestedPropertyName"])
        for entry in nested["Filters"]:
            _check_filter(entry)
    for below in expression.get("SubExpressions") or ():
        check_expression(below, source)


def _check_filter(entry: Mapping[str, Any]) -> None:
    if _operator(entry) not in _PRESENCE and entry.get("Value") is None:
        raise Invalid(f"The filter on {entry['Name']} needs a Value.")


def is_meant(entity: Mapping[str, Any], expression: Mapping[str, Any]) -> bool:
    """Filters, nested filters and sub-expressions, all joined by And or all by Or."""
    answers = (
        *(is_passed(entity, entry) for entry in expression.get("Filters") or ()),
        *(_is_nested_passed(entity, nested) for nested in expression.get("NestedFilters") or ()),
        *(is_meant(entity, below) for below in expression.get("SubExpressions") or ()),
    )
    return any(answers) if expression.get("Operator") == "Or" else all(answers)


def is_passed(entity: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    """Whether one of the property's values is as the filter wants it; NotEquals and NotExists: whether none is."""
    name, operator = entry["Name"], _operator(entry)
    values = values_at(entity, name)
    if operator in _PRESENCE:
        return bool(values) is (operator == "Exists")
    wanted = entry["Value"]
    if operator == "NotEquals":
        return not any(_is_equal(name, value, wanted) for value in values)
    return any(_compared(name, operator, value, wanted) for value in values)


def values_at(entity: Any, path: str) -> list[Any]:
    """Every value at a property's path: one step into each list on the way. Metrics, hyperparameters and tags by their own names."""
    for prefix, member, key, value in (
        ("Metrics.", "FinalMetricDataList", "MetricName", "Value"),
        ("Tags.", "Tags", "Key", "Value"),
    ):
        if path.startswith(prefix) and isinstance(entity, Mapping):
            return [entry[value] for entry in entity.get(member) or () if entry[key] == path.removeprefix(prefix)]
    if isinstance(entity, (list, tuple)):
        return [value for entry in entity for value in values_at(entry, path)]
    if not path:
        return [] if entity is None else [entity]
    if not isinstance(entity, Mapping):
        return []
    if path in entity:
        return values_at(entity[path], "")
    head, _, rest = path.partition(".")
    return values_at(entity.get(head), rest) if rest else []


def number_of(value: Any) -> float | None:
    """A number, also one that stands as words; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


# -- private ---------------------------------------------------------------------------------------------------------------


def _operator(entry: Mapping[str, Any]) -> str:
    if (operator := entry.get("Operator")) is not None:
        return str(operator)
    return "Equals" if entry.get("Value") is not None else "Exists"


def _is_nested_passed(entity: Mapping[str, Any], nested: Mapping[str, Any]) -> bool:
    """Whether a single object of the list passes every filter. Names are paths from the resource on, or from the object."""
    path = nested["NestedPropertyName"]
    filters = [{**entry, "Name": entry["Name"].removeprefix(f"{path}.")} for entry in nested["Filters"]]
    return any(all(is_passed(found, entry) for entry in filters) for found in values_at(entity, path) if isinstance(found, Mapping))


def _compared(name: str, operator: str, value: Any, wanted: str) -> bool:
    if operator == "Equals":
        return _is_equal(name, value, wanted)
    if operator in _TEXTUAL:
        if not isinstance(value, str):
            raise Invalid(f"The operator {operator} is only supported for text properties, and {name} is none.")
        return wanted in value if operator == "Contains" else value in [word.strip() for word in wanted.split(",")]
    pair = _numbers(name, value, wanted)
    if pair is None:
        if isinstance(value, str) and not name.startswith(("HyperParameters.", "Tags.")):
            raise Invalid(f"The operator {operator} is not supported for text properties, and {name} is one.")
        return False
    return _ORDERED[operator](*pair)


def _is_equal(name: str, value: Any, wanted: str) -> bool:
    if isinstance(value, bool):
        return wanted.lower() == str(value).lower()
    if isinstance(value, str) and not name.startswith("HyperParameters."):
        return value == wanted
    if value == wanted:
        return True
    pair = _numbers(name, value, wanted)
    return pair is not None and pair[0] == pair[1]


def _numbers(name: str, value: Any, wanted: str) -> tuple[float, float] | None:
    """Both sides as numbers; times as seconds. None when they are words."""
    if isinstance(value, datetime):
        return value.timestamp(), _instant(name, wanted)
    limit, number = number_of(wanted), number_of(value)
    if isinstance(value, str) and not name.startswith(("HyperParameters.", "Tags.")):
        return None
    if number is not None and limit is None:
        if isinstance(value, str):
            return None
        raise Invalid(f"The value {wanted} of the filter on {name} is not a number.")
    if number is None or limit is None:
        return None
    if isinstance(value, str) and wanted.lstrip("+-").isdigit():
        # Source: Filter: with an integer to compare with, decimal hyperparameters are treated as integers.
        number = float(math.trunc(number))
    return number, limit


def _instant(name: str, text: str) -> float:
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as error:
        raise Invalid(f"The value {text} of the filter on {name} is not a time in the form YYYY-mm-ddTHH:MM:SS.") from error
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()
