"""Tags of repositories, by ARN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pilvi.core.arn import Arn
from pilvi.core.errors import NotFound, ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.ecr.errors import no_repository

ops = Operations()

MOST_TAGS = 50


@ops
def tag_resource(ctx: Context, req: Mapping[str, Any]) -> None:
    """Add or replace tags of the repository with this ARN.

    Errors: RepositoryNotFoundException; InvalidTagParameterException - a reserved key; TooManyTagsException - more than 50.
    """
    added = tags_from(req["tags"])
    _change(ctx, req["resourceArn"], lambda tags: _checked({**tags, **added}))


@ops
def untag_resource(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove tags; names it does not have are passed over."""
    gone = set(req["tagKeys"])
    _change(ctx, req["resourceArn"], lambda tags: {key: value for key, value in tags.items() if key not in gone})


@ops
def list_tags_for_resource(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The tags of the repository with this ARN."""
    name = name_in_arn(ctx, req["resourceArn"])
    record = ctx.records("Repository").find(name)
    if record is None:
        raise no_repository(ctx, name)
    return {"tags": [{"Key": key, "Value": value} for key, value in record["_tags"].items()]}


def tags_from(tags: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """A request's tags as a mapping."""
    return _checked({tag["Key"]: tag.get("Value") or "" for tag in tags})


def name_in_arn(ctx: Context, arn: str) -> str:
    found = Arn.parse(arn)
    if found is None or found.service != "ecr" or not found.resource.startswith("repository/"):
        raise ServiceError(
            "InvalidParameterException", f"Invalid parameter at 'resourceArn' failed to satisfy constraint: 'Invalid ARN' {arn}"
        )
    name = found.resource.removeprefix("repository/")
    if (found.account, found.region) != (ctx.account, ctx.region):
        raise no_repository(ctx, name)
    return name


def _checked(tags: dict[str, str]) -> dict[str, str]:
    if any(key.lower().startswith("aws:") for key in tags):
        raise ServiceError("InvalidTagParameterException", "aws: prefixed tag key names are not allowed for external use.")
    if len(tags) > MOST_TAGS:
        raise ServiceError("TooManyTagsException", "Too many tags for a resource: at most 50.")
    return tags


def _change(ctx: Context, arn: str, changed: Any) -> None:
    name = name_in_arn(ctx, arn)
    try:
        ctx.records("Repository").update(name, lambda record: {**record, "_tags": changed(record["_tags"])})
    except NotFound:
        raise no_repository(ctx, name) from None
