"""Usage plans: which stages a set of API keys may call, how fast and how often."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import Conflict, Invalid, NotFound, Unsupported
from pilvi.core.service import Context, Operations
from pilvi.services.apigateway import patch
from pilvi.services.apigateway.api_key import find_key, value_of
from pilvi.services.apigateway.rest_api import page_size, paged
from pilvi.services.apigateway.stage import find_stage
from pilvi.storage.records import Change

ops = Operations()


def rate(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise Invalid(f"Invalid number {value}") from None


RULES = {
    "/name": patch.setting(),
    "/description": patch.setting(),
    "/throttle/rateLimit": patch.optional(rate),
    "/throttle/burstLimit": patch.optional(patch.number),
    "/throttle": patch.Rule(("remove",), patch.text),
    "/quota/limit": patch.optional(patch.number),
    "/quota/offset": patch.optional(patch.number),
    "/quota/period": patch.optional(),
    "/quota": patch.Rule(("remove",), patch.text),
}


@ops
def create_usage_plan(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Create a plan.

    req: name, description, apiStages [{apiId, stage}], throttle {rateLimit, burstLimit}, quota {limit, offset, period}, tags.
    Errors: NotFoundException - no such API or stage. BadRequestException - a limit below zero, a quota without limit or period.
    Differs: throttling of single methods (apiStages[].throttle) answers NotImplemented.
    """
    plan: dict[str, Any] = {
        "id": ctx.ids.lower(6),
        "name": req["name"],
        "apiStages": [dict(each) for each in req.get("apiStages") or ()],
        "_since": ctx.clock.now().date().isoformat(),
    }
    plan |= {member: dict(req[member]) for member in ("throttle", "quota", "tags") if req.get(member)}
    if req.get("description"):
        plan["description"] = req["description"]
    check(ctx, plan)
    ctx.records("UsagePlan").insert(plan["id"], plan)
    return plan


@ops
def get_usage_plans(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Plans, or those that hold a key. req: keyId, limit (default 25, at most 500), position."""
    plans = ctx.records("UsagePlan").all()
    if key := req.get("keyId"):
        plans = [plan for plan in plans if ctx.records("UsagePlanKey").find(f"{plan['id']}/{key}")]
    items, position = paged(plans, lambda plan: str(plan["id"]), req)
    return {"items": items, "position": position}


@ops
def get_usage_plan(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """One plan. Errors: NotFoundException - no such plan."""
    return find_plan(ctx, req)


@ops
def update_usage_plan(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Change limits, or add and remove stages; requests see it at once.

    req: patchOperations on /name, /description, /throttle/rateLimit, /quota/limit ...; add or remove /apiStages by the value API:STAGE.
    """

    def changed(plan: dict[str, Any]) -> dict[str, Any]:
        operations = [each for each in req.get("patchOperations") or () if not restaged(plan, each)]
        plan = patch.patched(plan, operations, RULES)
        for member in ("throttle", "quota"):
            if not plan.get(member):
                plan.pop(member, None)
        check(ctx, plan)
        return plan

    find_plan(ctx, req)
    return ctx.records("UsagePlan").update(req["usagePlanId"], changed)


@ops
def delete_usage_plan(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove a plan; its keys stay. Errors: BadRequestException - it still has stages. NotFoundException - no such plan."""
    plan = find_plan(ctx, req)
    if plan["apiStages"]:
        raise Invalid("Cannot delete Usage Plan because it is associated with API stages")
    held = ctx.records("UsagePlanKey")
    keys: list[Change] = [held.deletion(row.id) for row in held.scan(prefix=f"{plan['id']}/", limit=100_000)]
    ctx.write(ctx.records("UsagePlan").deletion(plan["id"]), *keys)


@ops
def create_usage_plan_key(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Put a key into a plan. req: keyId, keyType API_KEY.

    Errors: ConflictException - it is in it, or in another plan for one of its stages. NotFoundException - no such plan or key.
    """
    if req["keyType"] != "API_KEY":
        raise Invalid("Invalid Key type specified. Valid options are API_KEY")
    plan, key = find_plan(ctx, req), find_key(ctx, req["keyId"])
    held = ctx.records("UsagePlanKey")
    if held.find(f"{plan['id']}/{key['id']}"):
        raise Conflict("Usage plan key already exists")
    for other in ctx.records("UsagePlan").all():
        if held.find(f"{other['id']}/{key['id']}") and stages_of(other) & stages_of(plan):
            raise Conflict(f"API Key {key['id']} is already in Usage Plan {other['id']}, which has a stage in common with this one")
    made = {"id": key["id"], "type": "API_KEY", "name": key["name"]}
    held.insert(f"{plan['id']}/{key['id']}", made)
    return {**made, "value": value_of(ctx, key)}


@ops
def get_usage_plan_keys(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The keys of a plan. req: nameQuery, limit (default 25, at most 500), position."""
    plan, limit = find_plan(ctx, req)["id"], page_size(req)
    keys = [key for key in ctx.records("UsagePlanKey").all(prefix=f"{plan}/") if key["name"].startswith(req.get("nameQuery") or "")]
    items, position = paged(keys, lambda key: str(key["id"]), {**req, "limit": limit})
    return {"items": [{**key, "value": value_of(ctx, find_key(ctx, key["id"]))} for key in items], "position": position}


@ops
def get_usage_plan_key(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """One key of a plan. Errors: NotFoundException - no such plan, or the key is not in it."""
    return {**find_plan_key(ctx, req), "value": value_of(ctx, find_key(ctx, req["keyId"]))}


@ops
def delete_usage_plan_key(ctx: Context, req: Mapping[str, Any]) -> None:
    """Take a key out of a plan. Errors: NotFoundException - the key is not in it."""
    find_plan_key(ctx, req)
    ctx.records("UsagePlanKey").delete(f"{req['usagePlanId']}/{req['keyId']}")


# -- for the other nouns ------------------------------------------------------------------------------------------------


def find_plan(ctx: Context, req: Mapping[str, Any]) -> dict[str, Any]:
    plan = ctx.records("UsagePlan").find(req["usagePlanId"])
    if plan is None:
        raise NotFound("Invalid Usage Plan ID specified")
    return plan


def find_plan_key(ctx: Context, req: Mapping[str, Any]) -> dict[str, Any]:
    find_plan(ctx, req)
    key = ctx.records("UsagePlanKey").find(f"{req['usagePlanId']}/{req['keyId']}")
    if key is None:
        raise NotFound("Invalid API Key identifier specified")
    return key


def stages_of(plan: Mapping[str, Any]) -> set[tuple[str, str]]:
    return {(each["apiId"], each["stage"]) for each in plan["apiStages"]}


# -- details ------------------------------------------------------------------------------------------------------------


def restaged(plan: dict[str, Any], operation: Mapping[str, Any]) -> bool:
    """`add` or `remove` of /apiStages by the value API:STAGE."""
    if operation.get("path") != "/apiStages" or operation.get("op") not in ("add", "remove"):
        return False
    api, _, stage = (operation.get("value") or "").partition(":")
    if not api or not stage:
        raise Invalid("Invalid API Stage specified: the value must be <apiId>:<stage>")
    plan["apiStages"] = [each for each in plan["apiStages"] if (each["apiId"], each["stage"]) != (api, stage)]
    if operation["op"] == "add":
        plan["apiStages"].append({"apiId": api, "stage": stage})
    return True


def check(ctx: Context, plan: Mapping[str, Any]) -> None:
    for each in plan["apiStages"]:
        if each.get("throttle"):
            raise Unsupported("apigateway usage plans with throttling of single methods are not built.")
        find_stage(ctx, {"restApiId": each.get("apiId") or "", "stageName": each.get("stage") or ""})
    quota, throttle = plan.get("quota"), plan.get("throttle")
    if quota is not None:
        if quota.get("limit", -1) < 0 or quota.get("period") not in ("DAY", "WEEK", "MONTH"):
            raise Invalid("Usage Plan quota must have a limit of at least 0 and a period of DAY, WEEK or MONTH")
        if quota.get("offset", 0) < 0:
            raise Invalid("Usage Plan quota offset must not be negative")
    if throttle is not None and (throttle.get("rateLimit", 0) < 0 or throttle.get("burstLimit", 0) < 0):
        raise Invalid("Usage Plan throttle limits must not be negative")
