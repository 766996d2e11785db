"""Tags of functions and event source mappings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pilvi.core.arn import Arn
from pilvi.core.errors import NotFound
from pilvi.core.service import Context, Operations
from pilvi.services.lambda_.mappings import NOUN
from pilvi.services.lambda_.names import function_not_found, function_ref, invalid, not_found
from pilvi.storage.records import Rows

if TYPE_CHECKING:
    from types_boto3_lambda import type_defs as t

ops = Operations()

TAGS = 50
"""Source: developer guide, "Requirements for tags"."""


class Tagged(NamedTuple):
    """What carries tags: a row, and what is said when it is not there."""

    rows: Rows
    id: str
    missing: Callable[[], Exception]


@ops
def tag_resource(ctx: Context, req: t.TagResourceRequestTypeDef) -> None:
    """Add tags to a function or an event source mapping, or replace their values.

    Errors: ResourceNotFoundException; InvalidParameterValueException - over 50 tags, or an ARN that is neither's.
    """

    def change(record: dict[str, Any]) -> None:
        record["_tags"] = {**record["_tags"], **req["Tags"]}
        if len(record["_tags"]) > TAGS:
            raise invalid(f"Number of tags exceeds resource tag limit. Limit: {TAGS}")

    _update(_resource(ctx, req), change)


@ops
def untag_resource(ctx: Context, req: t.UntagResourceRequestTypeDef) -> None:
    """Take tags away; unknown keys are no error."""

    def change(record: dict[str, Any]) -> None:
        record["_tags"] = {key: value for key, value in record["_tags"].items() if key not in req["TagKeys"]}

    _update(_resource(ctx, req), change)


@ops
def list_tags(ctx: Context, req: t.ListTagsRequestTypeDef) -> Mapping[str, Any]:
    """The tags of a function or an event source mapping."""
    found = _resource(ctx, req)
    record = found.rows.find(found.id)
    if record is None:
        raise found.missing()
    return {"Tags": record["_tags"]}


def _resource(ctx: Context, req: Mapping[str, Any]) -> Tagged:
    parsed = Arn.parse(req["Resource"])
    kind, _, name = (parsed.resource if parsed is not None else "").partition(":")
    if kind == "event-source-mapping":
        return Tagged(ctx.records(NOUN), name, lambda: not_found("The resource you requested does not exist."))
    if kind != "function":
        raise invalid(f"Tagging is for functions and event source mappings here: {req['Resource']} is neither.")
    ref = function_ref(ctx, req, "Resource")
    if ref.qualifier:
        raise invalid("Tags on function aliases and versions are not supported. Please specify a function ARN.")
    return Tagged(ctx.records("Function", account=ref.account), ref.name, lambda: function_not_found(ref))


def _update(found: Tagged, change: Any) -> None:
    try:
        found.rows.update(found.id, change)
    except NotFound as error:
        raise found.missing() from error
