"""Tags of rules and buses.

Source: EventBridge API reference, TagResource, UntagResource, ListTagsForResource.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pilvi.core.service import Context, Operations
from pilvi.services.events.bus import changed
from pilvi.services.events.buses import find_bus, place_in
from pilvi.services.events.errors import bad_parameter, no_rule
from pilvi.services.events.rule import change_rule, find_rule, place_and_name
from pilvi.services.events.tags import checked_tags, listed

ops = Operations()

Change = Callable[[dict[str, str]], dict[str, str]]


@ops
def tag_resource(ctx: Context, req: Mapping[str, Any]) -> None:
    """Add tags, or give those that are there other values.

    Errors: ResourceNotFoundException. ValidationException - a name twice, or one of AWS's. LimitExceededException - more than 50.
    """
    change_tags(ctx, req["ResourceARN"], lambda tags: checked_tags(tags, req["Tags"]))


@ops
def untag_resource(ctx: Context, req: Mapping[str, Any]) -> None:
    """Take tags away.

    Errors: ResourceNotFoundException.
    """
    change_tags(ctx, req["ResourceARN"], lambda tags: {name: one for name, one in tags.items() if name not in req["TagKeys"]})


@ops
def list_tags_for_resource(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The tags of a rule or a bus.

    Errors: ResourceNotFoundException.
    """
    return {"Tags": listed(tags_of(ctx, req["ResourceARN"]))}


def tags_of(ctx: Context, arn: str) -> dict[str, str]:
    if (rule := place_and_name(arn)) is not None:
        return dict(find_rule(ctx, *rule)["_tags"])
    if place_in(arn) is None:
        raise bad_parameter("ResourceARN", "Provided Arn is not in correct format.")
    return dict(find_bus(ctx, arn).value.get("_tags") or {})


def change_tags(ctx: Context, arn: str, change: Change) -> None:
    if (found := place_and_name(arn)) is not None:
        place, name = found

        def changed_rule(rule: dict[str, Any] | None) -> dict[str, Any]:
            if rule is None:
                raise no_rule(name, place.name)
            return rule | {"_tags": change(rule["_tags"])}

        change_rule(ctx, place, name, changed_rule)
        return
    if place_in(arn) is None:
        raise bad_parameter("ResourceARN", "Provided Arn is not in correct format.")
    bus = find_bus(ctx, arn)
    changed(ctx, bus.place, lambda value: value | {"_tags": change(value.get("_tags") or {})})
