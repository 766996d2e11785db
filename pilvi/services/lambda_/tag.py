"""Tags of functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pilvi.core.arn import Arn
from pilvi.core.errors import NotFound
from pilvi.core.service import Context, Operations
from pilvi.services.lambda_.names import FunctionRef, function_not_found, function_ref, invalid
from pilvi.services.lambda_.version import find_version

if TYPE_CHECKING:
    from types_boto3_lambda import type_defs as t

ops = Operations()

TAGS = 50
"""Source: developer guide, "Requirements for tags"."""


@ops
def tag_resource(ctx: Context, req: t.TagResourceRequestTypeDef) -> None:
    """Add tags to a function, or replace their values.

    Errors: ResourceNotFoundException; InvalidParameterValueException - over 50 tags, or an ARN that is no function's.
    """
    ref = _resource(ctx, req)

    def change(record: dict[str, Any]) -> None:
        record["_tags"] = {**record["_tags"], **req["Tags"]}
        if len(record["_tags"]) > TAGS:
            raise invalid(f"Number of tags exceeds resource tag limit. Limit: {TAGS}")

    _update(ctx, ref, change)


@ops
def untag_resource(ctx: Context, req: t.UntagResourceRequestTypeDef) -> None:
    """Take tags away; unknown keys are no error."""
    ref = _resource(ctx, req)

    def change(record: dict[str, Any]) -> None:
        record["_tags"] = {key: value for key, value in record["_tags"].items() if key not in req["TagKeys"]}

    _update(ctx, ref, change)


@ops
def list_tags(ctx: Context, req: t.ListTagsRequestTypeDef) -> Mapping[str, Any]:
    """The tags of a function."""
    return {"Tags": find_version(ctx, _resource(ctx, req))["_tags"]}


def _resource(ctx: Context, req: Mapping[str, Any]) -> FunctionRef:
    parsed = Arn.parse(req["Resource"])
    if parsed is None or not parsed.resource.startswith("function:"):
        raise invalid(f"Tagging is for functions here: {req['Resource']} is none.")
    ref = function_ref(ctx, req, "Resource")
    if ref.qualifier:
        raise invalid("Tags on function aliases and versions are not supported. Please specify a function ARN.")
    return ref


def _update(ctx: Context, ref: FunctionRef, change: Any) -> None:
    try:
        ctx.records("Function", account=ref.account).update(ref.name, change)
    except NotFound as error:
        raise function_not_found(ref) from error
