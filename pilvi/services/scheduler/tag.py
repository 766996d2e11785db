"""Tags of schedule groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pilvi.core.arn import Arn
from pilvi.core.errors import Invalid, LimitExceeded, NotFound
from pilvi.core.service import Context, Operations
from pilvi.services.scheduler.groups import DEFAULT, find_group

MOST: Final = 50

ops = Operations()


@ops
def tag_resource(ctx: Context, req: Mapping[str, Any]) -> None:
    """Add tags to a group. Errors: ResourceNotFoundException; ServiceQuotaExceededException - more than 50."""
    added = tags_from(req["Tags"])

    def change(group: dict[str, Any]) -> None:
        group["_tags"] = {**group["_tags"], **added}
        _check_many(group["_tags"])

    ctx.records("ScheduleGroup").update(_name(ctx, req), change)


@ops
def untag_resource(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove tags of a group by their keys. Errors: ResourceNotFoundException."""

    def change(group: dict[str, Any]) -> None:
        group["_tags"] = {key: value for key, value in group["_tags"].items() if key not in req["TagKeys"]}

    ctx.records("ScheduleGroup").update(_name(ctx, req), change)


@ops
def list_tags_for_resource(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """A group's tags. Errors: ResourceNotFoundException."""
    tags = ctx.records("ScheduleGroup").get(_name(ctx, req))["_tags"]
    return {"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}


def tags_from(tags: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Tags by key. ValidationException for a key that comes twice or is AWS's own."""
    found: dict[str, str] = {}
    for tag in tags:
        if tag["Key"].lower().startswith("aws:"):
            raise Invalid("User-defined tag keys can't start with a reserved prefix: aws:")
        if tag["Key"] in found:
            raise Invalid(f"Duplicate tag key: {tag['Key']}.")
        found[tag["Key"]] = tag["Value"]
    _check_many(found)
    return found


def _check_many(tags: Mapping[str, str]) -> None:
    if len(tags) > MOST:
        raise LimitExceeded(f"A resource can have at most {MOST} tags.")


def _name(ctx: Context, req: Mapping[str, Any]) -> str:
    """The group's name, where it is this account's and there."""
    arn = Arn.parse(req["ResourceArn"])
    if arn is None or (arn.account, arn.region) != (ctx.account, ctx.region):
        raise NotFound(f"Resource {req['ResourceArn']} does not exist.")
    name = arn.resource.removeprefix("schedule-group/")
    if name == DEFAULT:
        find_group(ctx, name)
    if ctx.records("ScheduleGroup").find(name) is None:
        raise NotFound(f"Schedule group {name} does not exist.")
    return name
