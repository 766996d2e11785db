"""Which permission each operation needs: on which bus, rule, archive, replay, connection or destination, with a bus's policy.

Source: Service Authorization Reference, "Actions, resources, and condition keys for Amazon EventBridge".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pilvi.core.service import Access, Context
from pilvi.services.events.buses import PRINCIPAL, Place, catalog_of, place_in, place_of
from pilvi.services.events.rule import place_and_name

_ON_RULE: Final = {
    "PutRule": "Name",
    "DescribeRule": "Name",
    "EnableRule": "Name",
    "DisableRule": "Name",
    "DeleteRule": "Name",
    "PutTargets": "Rule",
    "RemoveTargets": "Rule",
    "ListTargetsByRule": "Rule",
}
_ON_BUS: Final = {"CreateEventBus": "Name", "DescribeEventBus": "Name", "UpdateEventBus": "Name", "DeleteEventBus": "Name"}
_ON_OTHERS: Final = {"ArchiveName": "archive", "ReplayName": "replay"}
_WITH_ID: Final = {"Connection": "connection", "ApiDestination": "api-destination"}


def needed(ctx: Context, operation: str, req: Mapping[str, Any]) -> Sequence[Access]:
    """The permissions of one call."""
    action = f"events:{operation}"
    if operation == "PutEvents":
        return [_put(ctx, entry) for entry in req["Entries"]]
    if "ResourceARN" in req:
        return (_on_tagged(ctx, action, req),)
    if operation in _ON_RULE:
        return _on_rule(ctx, operation, req)
    if operation in _ON_BUS:
        return _with_tags(_on_bus(ctx, action, place_of(ctx, req.get(_ON_BUS[operation])), req), req)
    if operation in ("PutPermission", "RemovePermission", "ListRules", "ListRuleNamesByTarget"):
        return (_on_bus(ctx, action, place_of(ctx, req.get("EventBusName")), {}),)
    for member, kind in _ON_OTHERS.items():
        if member in req:
            return (Access(action, ctx.arn(f"{kind}/{req[member]}", service="events")),)
    for noun, kind in _WITH_ID.items():
        if operation.endswith(noun) and "Name" in req:
            return (Access(action, ctx.arn(f"{kind}/{req['Name']}/*", service="events")),)
    return (Access(action),)


def _put(ctx: Context, entry: Mapping[str, Any]) -> Access:
    context = {
        "events:source": entry.get("Source") or "",
        "events:detail-type": entry.get("DetailType") or "",
        "events:eventBusInvocation": "false",
    }
    return _on_place(ctx, "events:PutEvents", place_of(ctx, entry.get("EventBusName")), context)


def _on_place(ctx: Context, action: str, place: Place, context: Mapping[str, Any]) -> Access:
    bus = catalog_of(ctx.cloud).bus(place)
    return Access(action, place.arn, bus.policy if bus is not None else None, place.account, context)


def _on_bus(ctx: Context, action: str, place: Place, req: Mapping[str, Any]) -> Access:
    bus = catalog_of(ctx.cloud).bus(place)
    tags = (bus.value.get("_tags") or {}) if bus is not None else {}
    return _on_place(ctx, action, place, _tag_context(tags, req))


def _on_rule(ctx: Context, operation: str, req: Mapping[str, Any]) -> Sequence[Access]:
    place = place_of(ctx, req.get("EventBusName"))
    name = req[_ON_RULE[operation]]
    access = _on_rule_of(ctx, f"events:{operation}", place, name, req)
    if operation == "PutTargets":
        context = dict(access.context) | {"events:TargetArn": [target["Arn"] for target in req["Targets"]]}
        access = Access(access.action, access.resource, access.resource_policy, access.resource_account, context)
        roles = dict.fromkeys(target["RoleArn"] for target in req["Targets"] if target.get("RoleArn"))
        return [access, *(_passing(role) for role in roles)]
    if operation == "PutRule" and req.get("RoleArn"):
        return [*_with_tags(access, req), _passing(req["RoleArn"])]
    return _with_tags(access, req)


def _on_rule_of(ctx: Context, action: str, place: Place, name: str, req: Mapping[str, Any]) -> Access:
    """Rules of another account's bus are that account's to let in."""
    catalog = catalog_of(ctx.cloud)
    bus = catalog.bus(place)
    rule = catalog.listening(place).rules.get(name) if bus is not None else None
    context = _tag_context(rule.value["_tags"] if rule is not None else {}, req)
    context["events:creatorAccount"] = rule.value.get("CreatedBy", place.account) if rule is not None else ctx.account
    policy = bus.policy if bus is not None and place.account != ctx.account else None
    return Access(action, place.rule_arn(name), policy, place.account, context)


def _on_tagged(ctx: Context, action: str, req: Mapping[str, Any]) -> Access:
    arn = req["ResourceARN"]
    if (found := place_and_name(arn)) is not None:
        return _on_rule_of(ctx, action, *found, req)
    place = place_in(arn)
    if place is not None and place.account == ctx.account:
        return _on_bus(ctx, action, place, req)
    return Access(action, arn, None, place.account if place is not None else "")


def _with_tags(access: Access, req: Mapping[str, Any]) -> Sequence[Access]:
    if not req.get("Tags"):
        return (access,)
    tagging = Access("events:TagResource", access.resource, access.resource_policy, access.resource_account, access.context)
    return (access, tagging)


def _passing(role: str) -> Access:
    return Access("iam:PassRole", role, context={"iam:PassedToService": PRINCIPAL})


def _tag_context(tags: Mapping[str, str], req: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {f"aws:ResourceTag/{name}": value for name, value in tags.items()}
    if given := req.get("Tags"):
        found |= {f"aws:RequestTag/{tag['Key']}": tag["Value"] for tag in given}
        found["aws:TagKeys"] = [tag["Key"] for tag in given]
    elif keys := req.get("TagKeys"):
        found["aws:TagKeys"] = list(keys)
    return found
