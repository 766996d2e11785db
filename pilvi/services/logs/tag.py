"""Tags of log groups: by ARN, and by name as older clients ask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.arn import Arn
from pilvi.core.errors import Invalid, NotFound, ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.logs.log_group import change, find_group

ops = Operations()

MOST_TAGS = 50


@ops
def tag_resource(ctx: Context, req: Mapping[str, Any]) -> None:
    """Add or replace tags of the group with this ARN.

    Errors: ResourceNotFoundException - no such group. TooManyTagsException - it would have more than 50.
    """
    add_tags(ctx, group_name_in_arn(ctx, req["resourceArn"]), req["tags"])


@ops
def untag_resource(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove tags; names it does not have are passed over."""
    remove_tags(ctx, group_name_in_arn(ctx, req["resourceArn"]), req["tagKeys"])


@ops
def list_tags_for_resource(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The tags of the group with this ARN."""
    return {"tags": find_group(ctx, {"logGroupName": group_name_in_arn(ctx, req["resourceArn"])})["_tags"]}


@ops
def tag_log_group(ctx: Context, req: Mapping[str, Any]) -> None:
    """Add or replace tags of the group with this name."""
    add_tags(ctx, req["logGroupName"], req["tags"])


@ops
def untag_log_group(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove tags of the group with this name."""
    remove_tags(ctx, req["logGroupName"], req["tags"])


@ops
def list_tags_log_group(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The tags of the group with this name."""
    return {"tags": find_group(ctx, {"logGroupName": req["logGroupName"]})["_tags"]}


def add_tags(ctx: Context, name: str, tags: Mapping[str, str]) -> None:
    if any(key.lower().startswith("aws:") for key in tags):
        raise Invalid("Tag keys starting with 'aws:' are reserved.")

    def added(group: dict[str, Any]) -> dict[str, Any]:
        together = group["_tags"] | tags
        if len(together) > MOST_TAGS:
            raise ServiceError("TooManyTagsException", "A resource can have no more than 50 tags.")
        return group | {"_tags": together}

    change(ctx, name, added)


def remove_tags(ctx: Context, name: str, keys: list[str]) -> None:
    change(ctx, name, lambda group: group | {"_tags": {key: value for key, value in group["_tags"].items() if key not in keys}})


def group_name_in_arn(ctx: Context, resource_arn: str) -> str:
    """The group's name; the ARN comes without ':*' in the tagging operations."""
    arn = Arn.parse(resource_arn)
    if arn is None or arn.service != "logs" or not arn.resource.startswith("log-group:"):
        raise Invalid(f"Invalid resource ARN: {resource_arn}")
    if (arn.account, arn.region) != (ctx.account, ctx.region):
        raise NotFound("The specified resource does not exist.")
    return arn.resource.removeprefix("log-group:").removesuffix(":*")
