"""Tags of keys. They may decide who can use a key (aws:ResourceTag)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pilvi.core.service import Context, Operations
from pilvi.services.kms.errors import limit_exceeded, tag_error
from pilvi.services.kms.keys import Key, check_changeable, find
from pilvi.services.kms.listing import page_of

ops = Operations()

MOST = 50
Tags = list[dict[str, str]]


@ops
def tag_resource(ctx: Context, req: Mapping[str, Any]) -> None:
    """Add tags, or give those that are there other values.

    Errors: NotFoundException. TagException - a name twice, or one of AWS's. LimitExceededException - more than 50.
    KMSInvalidStateException.
    """
    key = _changeable(ctx, req["KeyId"])
    new = tags_from(req["Tags"])

    def added(tags: Tags) -> Tags:
        merged = {tag["Key"]: tag["Value"] for tag in [*tags, *new]}
        if len(merged) > MOST:
            raise limit_exceeded(f"The number of tags exceeds the limit of {MOST}.")
        return [{"Key": name, "Value": value} for name, value in merged.items()]

    _change(ctx, key, added)


@ops
def untag_resource(ctx: Context, req: Mapping[str, Any]) -> None:
    """Take tags away; names that are not there do not matter.

    Errors: NotFoundException. TagException. KMSInvalidStateException.
    """
    key = _changeable(ctx, req["KeyId"])
    _check_names(req["TagKeys"])
    _change(ctx, key, lambda tags: [tag for tag in tags if tag["Key"] not in req["TagKeys"]])


@ops
def list_resource_tags(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """A key's tags.

    req: Limit (1-50, default 50), Marker.
    Errors: NotFoundException. InvalidMarkerException.
    """
    key = find(ctx, req["KeyId"], aliases=False)
    tags, more = page_of(list(key.tags.items()), req, default=50)
    return {"Tags": [{"TagKey": name, "TagValue": value} for name, value in tags], **more}


# -- for the other nouns --------------------------------------------------------------------------------------------------


def tags_from(given: Sequence[Mapping[str, str]]) -> Tags:
    """Tags as they are kept. TagException for a name twice, a reserved one, or too many."""
    names = [tag["TagKey"] for tag in given]
    _check_names(names)
    if len(set(names)) < len(names):
        raise tag_error("Duplicate tag keys")
    if len(names) > MOST:
        raise limit_exceeded(f"The number of tags exceeds the limit of {MOST}.")
    return [{"Key": tag["TagKey"], "Value": tag.get("TagValue") or ""} for tag in given]


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if name.lower().startswith("aws:"):
            raise tag_error("aws: prefixed tag key names are not allowed for external use.")


def _changeable(ctx: Context, text: str) -> Key:
    key = find(ctx, text, aliases=False)
    check_changeable(ctx, key, key.row)
    return key


def _change(ctx: Context, key: Key, changed: Any) -> None:
    rows = ctx.records("Tags")
    row = rows.row(key.arn)
    if row is None:
        rows.insert(key.arn, {"Tags": changed([])})
    else:
        rows.update(key.arn, lambda value: {"Tags": changed(value["Tags"])})
