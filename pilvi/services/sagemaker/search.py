"""Search: resources by any property, metric, hyperparameter or tag.

search_source.py    what there is of a resource type, as Describe gives it
search_filter.py    whether one of them is meant
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pilvi.core.errors import Invalid
from pilvi.core.paging import decode_token, encode_token
from pilvi.core.service import Context, Operations
from pilvi.services.sagemaker.job_kind import Record
from pilvi.services.sagemaker.search_filter import check_expression, is_meant, number_of, values_at
from pilvi.services.sagemaker.search_source import Source, source_of

ops = Operations()

_PAGE = 10
_SUGGESTED = 100


@ops
def search(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The resources of a type that an expression means, sorted by any property, a page at a time.

    req: Resource; SearchExpression of filters, nested filters and further expressions, joined by And or Or; SortBy
        (LastModifiedTime); SortOrder (Descending); VisibilityConditions on tags.
    Errors: ValidationException - a property that the resource does not have, an operator that does not fit it, a foreign token.
    Source: API reference, Search, Filter, NestedFilters, SearchExpression, VisibilityConditions.
    Differs: TrainingJob and HyperParameterTuningJob are searched; other resource types are refused. What is told is what is
        there now: AWS's index lags behind. Resources of other accounts are not found.
    """
    source = source_of(req["Resource"])
    if req.get("CrossAccountFilterOption") == "CrossAccount":
        raise Invalid("CrossAccountFilterOption CrossAccount is not supported by this server yet.")
    expression = req.get("SearchExpression")
    if expression is not None:
        check_expression(expression, source)
    by = req.get("SortBy") or "LastModifiedTime"
    source.check_property(by)
    conditions = req.get("VisibilityConditions") or ()
    found = [
        entity
        for entity in source.entities(ctx)
        if (expression is None or is_meant(entity, expression)) and _is_visible(entity, conditions)
    ]
    is_descending = (req.get("SortOrder") or "Descending") == "Descending"
    page, more = _one_page(found, source, by, is_descending=is_descending, req=req)
    return {
        "Results": [{source.member: entity} for entity in page],
        "TotalHits": {"Value": len(found), "Relation": "EqualTo"},
        "NextToken": more,
    }


@ops
def get_search_suggestions(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Names of properties that begin with a hint: the type's own, and the hyperparameters, metrics and tags that are in use.

    Errors: ValidationException - a resource type that is not searched.
    """
    source = source_of(req["Resource"])
    hint = ((req.get("SuggestionQuery") or {}).get("PropertyNameQuery") or {}).get("PropertyNameHint") or ""
    names = set(source.properties)
    for entity in source.entities(ctx):
        names |= {f"HyperParameters.{name}" for name in entity.get("HyperParameters") or ()}
        names |= {f"Metrics.{metric['MetricName']}" for metric in entity.get("FinalMetricDataList") or ()}
        names |= {f"Tags.{tag['Key']}" for tag in entity.get("Tags") or ()}
    found = sorted(name for name in names if name.lower().startswith(hint.lower()))
    return {"PropertyNameSuggestions": [{"PropertyName": name} for name in found[:_SUGGESTED]]}


# -- private ---------------------------------------------------------------------------------------------------------------


def _is_visible(entity: Record, conditions: Sequence[Mapping[str, str]]) -> bool:
    """Every condition's tag is missing, or has its value."""
    for condition in conditions:
        key = condition.get("Key") or ""
        if not key.startswith("Tags."):
            raise Invalid("The key of a visibility condition must be Tags.<key>.")
        values = values_at(entity, key)
        if values and condition.get("Value") not in values:
            return False
    return True


def _one_page(
    found: list[Record], source: Source, by: str, *, is_descending: bool, req: Mapping[str, Any]
) -> tuple[list[Record], str | None]:
    """Sorted with those that lack the property at the end; the token tells where the next page starts."""
    placed = [(_place(entity, by), str(entity[source.name]), entity) for entity in found]
    have = sorted((entry for entry in placed if entry[0] is not None), key=lambda entry: entry[:2], reverse=is_descending)
    entries = [*have, *sorted((entry for entry in placed if entry[0] is None), key=lambda entry: entry[1])]
    if token := req.get("NextToken"):
        after = _after(token)
        place = next((number for number, entry in enumerate(entries) if list(entry[:2]) == after), None)
        if place is None:
            place = _fallen_out(entries, after, is_descending=is_descending) - 1
        entries = entries[place + 1 :]
    size = req.get("MaxResults") or _PAGE
    more = encode_token(json.dumps(entries[size - 1][:2])) if len(entries) > size else None
    return [entity for _, _, entity in entries[:size]], more


def _after(token: str) -> list[Any]:
    try:
        after = json.loads(decode_token(token))
        place, name = after
    except (ValueError, TypeError) as error:
        raise Invalid("Invalid NextToken.") from error
    return [tuple(place) if isinstance(place, list) else place, name]


def _fallen_out(entries: list[Any], after: list[Any], *, is_descending: bool) -> int:
    """Where a resource would stand that is no longer among those found."""
    if after[0] is None:
        return sum(entry[0] is not None or entry[1] < after[1] for entry in entries)
    place = tuple(after)
    return sum(entry[0] is not None and (entry[:2] > place if is_descending else entry[:2] < place) for entry in entries)


def _place(entity: Record, by: str) -> tuple[int, Any] | None:
    """What to sort by: numbers and times before words."""
    values = values_at(entity, by)
    if not values:
        return None
    value = values[0]
    if isinstance(value, datetime):
        return 0, value.timestamp()
    number = number_of(value)
    return (1, str(value)) if number is None else (0, number)
