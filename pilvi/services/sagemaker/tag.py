"""Tags of SageMaker resources, by ARN. Kept in one table for all nouns; a resource's type names its table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pilvi.core.arn import Arn
from pilvi.core.errors import AlreadyExists, Conflict, Invalid, ServiceError
from pilvi.core.paging import decode_token, encode_token
from pilvi.core.service import Context, Operations
from pilvi.storage.records import Change

ops = Operations()

MOST_TAGS = 50
_PAGE = 50


@ops
def add_tags(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add or replace tags; answers with all tags the resource has now.

    Errors: ValidationException - no such resource, a reserved key, or more than 50 tags.
    """
    check_tags(req["Tags"])
    return {"Tags": _changed(ctx, existing(ctx, req["ResourceArn"]), lambda tags: merged(tags, req["Tags"]))}


@ops
def list_tags(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The tags of a resource, in the order they were set.

    Errors: ValidationException - no such resource, or a foreign token.
    """
    tags = tags_of(ctx, existing(ctx, req["ResourceArn"]))
    start = _position(req.get("NextToken"))
    end = start + (req.get("MaxResults") or _PAGE)
    return {"Tags": tags[start:end], "NextToken": encode_token(str(end)) if end < len(tags) else None}


@ops
def delete_tags(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Remove tags; keys it does not have are passed over.

    Errors: ValidationException - no such resource.
    """
    arn = existing(ctx, req["ResourceArn"])
    _changed(ctx, arn, lambda tags: [tag for tag in tags if tag["Key"] not in req["TagKeys"]])
    return {}


def check_tags(tags: Sequence[Mapping[str, str]]) -> None:
    """Invalid for keys that AWS keeps for itself and for keys given twice."""
    keys = [tag["Key"] for tag in tags]
    if any(key.lower().startswith("aws:") for key in keys):
        raise Invalid("aws: prefixed tag key names are not allowed for external use.")
    if len(set(keys)) < len(keys):
        raise Invalid("Duplicate tag keys found. Please note that Tag keys are case insensitive.")


def merged(old: Sequence[Mapping[str, str]], new: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Old and new tags together, each key once."""
    found = {tag["Key"]: tag["Value"] for tag in (*old, *new)}
    if len(found) > MOST_TAGS:
        raise Invalid(f"The number of tags exceeds the limit of {MOST_TAGS}.")
    return [{"Key": key, "Value": value} for key, value in found.items()]


def tags_of(ctx: Context, arn: str) -> list[dict[str, str]]:
    return list((ctx.records("Tags").find(arn) or {"Tags": []})["Tags"])


def tagging(ctx: Context, arn: str, tags: Sequence[Mapping[str, str]] | None) -> tuple[Change, ...]:
    """The change that keeps a new resource's tags, for the transaction that makes it."""
    if not tags:
        return ()
    check_tags(tags)
    return (ctx.records("Tags").replacement(arn, {"Tags": merged((), tags)}),)


def untagging(ctx: Context, arn: str) -> tuple[Change, ...]:
    """The change that forgets the tags of a resource that goes."""
    return (ctx.records("Tags").deletion(arn),) if ctx.records("Tags").find(arn) is not None else ()


def existing(ctx: Context, text: str) -> str:
    """The ARN of a resource of this account and Region that is there."""
    arn = Arn.parse(text)
    kind, _, name = arn.resource.partition("/") if arn else ("", "", "")
    noun = "".join(part.capitalize() for part in kind.split("-"))
    if arn is None or arn.service != "sagemaker" or (arn.account, arn.region) != (ctx.account, ctx.region):
        raise ServiceError("ValidationException", f"Invalid resource ARN: {text}")
    if ctx.records(noun).find(name) is None:
        raise ServiceError("ValidationException", "Requested resource not found.")
    return text


def _changed(ctx: Context, arn: str, change: Callable[[list[dict[str, str]]], list[dict[str, str]]]) -> list[dict[str, str]]:
    """Read, change, write as one: who tags at the same moment loses nothing."""
    rows = ctx.records("Tags")
    while True:
        row = rows.row(arn)
        tags = change(list(row.value["Tags"]) if row is not None else [])
        try:
            ctx.write(rows.insertion(arn, {"Tags": tags}) if row is None else rows.revision(arn, {"Tags": tags}, row.version))
        except (AlreadyExists, Conflict):
            continue
        return tags


def _position(token: str | None) -> int:
    position = decode_token(token)
    if position and not position.isdigit():
        raise Invalid("The continuation token provided is not valid.")
    return int(position or 0)
