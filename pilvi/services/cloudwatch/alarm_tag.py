"""Tags of alarms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pilvi.core.arn import Arn
from pilvi.core.errors import ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.cloudwatch.alarms import change_alarm, find_alarm

ops = Operations()

MOST = 50


@ops
def tag_resource(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add or replace tags. Errors: ResourceNotFoundException; InvalidParameterValue - over 50, or reserved keys."""
    added = checked_tags(req["Tags"])

    def change(alarm: dict[str, Any]) -> Sequence[Any]:
        alarm["_tags"] = {**alarm["_tags"], **added}
        check_number(alarm["_tags"])
        return ()

    change_alarm(ctx, _name(ctx, req["ResourceARN"]), change)
    return {}


@ops
def untag_resource(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Remove tags; those that are not there are passed over. Errors: ResourceNotFoundException."""

    def change(alarm: dict[str, Any]) -> Sequence[Any]:
        alarm["_tags"] = {key: value for key, value in alarm["_tags"].items() if key not in req["TagKeys"]}
        return ()

    change_alarm(ctx, _name(ctx, req["ResourceARN"]), change)
    return {}


@ops
def list_tags_for_resource(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """All tags of an alarm. Errors: ResourceNotFoundException."""
    row = find_alarm(ctx, _name(ctx, req["ResourceARN"]))
    assert row is not None
    return {"Tags": [{"Key": key, "Value": value} for key, value in row.value["_tags"].items()]}


def checked_tags(tags: Sequence[Mapping[str, str]]) -> dict[str, str]:
    found = {tag["Key"]: tag["Value"] for tag in tags}
    if len(found) < len(tags):
        raise ServiceError("InvalidParameterValue", "Duplicate tag keys found.", 400)
    if any(key.lower().startswith("aws:") for key in found):
        raise ServiceError("InvalidParameterValue", "Tag keys beginning with aws: are reserved.", 400)
    check_number(found)
    return found


def check_number(tags: Mapping[str, str]) -> None:
    if len(tags) > MOST:
        raise ServiceError("InvalidParameterValue", f"The number of tags exceeds the limit of {MOST}.", 400)


def _name(ctx: Context, arn: str) -> str:
    """The alarm that an ARN of this account and Region names."""
    parsed = Arn.parse(arn)
    name = parsed.resource.removeprefix("alarm:") if parsed is not None else ""
    here = parsed is not None and (parsed.service, parsed.account, parsed.region) == ("cloudwatch", ctx.account, ctx.region)
    if not here or find_alarm(ctx, name) is None:
        raise ServiceError("ResourceNotFoundException", f"Unknown resource: {arn}", 404)
    return name
