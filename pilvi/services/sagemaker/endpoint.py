"""Endpoints: models that answer, on instances that are programs of this machine."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pilvi.core.errors import AlreadyExists, Conflict, Invalid
from pilvi.core.service import Context, Operations
from pilvi.events.told import wake
from pilvi.services.sagemaker.endpoint_check import check_deployment
from pilvi.services.sagemaker.job_check import NOT_BUILT
from pilvi.services.sagemaker.job_kind import Record, one_page
from pilvi.services.sagemaker.notebook_ticket import Place
from pilvi.services.sagemaker.serving_fleet import NOUN, STATUS, fleet_of, running_fleet, state_change
from pilvi.services.sagemaker.serving_plan import capture_summary, plan_for, summary_of
from pilvi.services.sagemaker.tag import tagging
from pilvi.serving import desk_of

ops = Operations()

_COMING = ("Creating", "Updating")
_SLEEPER = re.compile(r"AWS-SageMaker-Python-SDK[#/]2\.| m/(?:[A-Za-z0-9]+,)*B(?:,| |$)")
"""Clients that ask at once and then sleep: the SageMaker SDK 2, and botocore's waiters, which are its feature B."""
_HOLD_S = 20.0
_FRESH = timedelta(seconds=90)
_BUSY = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")


@ops
async def create_endpoint(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Bring up an endpoint. It is InService once every instance's container has answered /ping, and Failed, with why, when one does not.

    req: EndpointName (1-63), EndpointConfigName, DeploymentConfig (recorded for updates), Tags.
    Errors: ValidationException - the name is taken, there is no such configuration.
    Source: SageMaker API reference, CreateEndpoint; messages as users of AWS report them.
    Differs: instances are programs on this machine with as many cores and as much memory as their type and the machine have; they do
        not wait for a place as jobs do. After a restart of the server endpoints are SystemUpdating until they answer again.
    """
    place, arn = await asyncio.to_thread(_create, ctx, req)
    fleet_of(ctx.cloud).create(place)
    return {"EndpointArn": arn}


@ops
async def describe_endpoint(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Everything about one endpoint, with what runs now.

    Errors: ValidationException - there is none of this name.
    Differs: clients that ask and then sleep for half a minute (the SageMaker SDK 2, boto3's waiters) hear of an endpoint that has just
        begun to change up to twenty seconds later, as soon as that is done.
    """
    record = await asyncio.to_thread(find_endpoint, ctx, req["EndpointName"])
    fleet = running_fleet(ctx.cloud)
    is_fresh = record[STATUS] in _COMING and ctx.clock.now() - record["LastModifiedTime"] < _FRESH
    if fleet is not None and is_fresh and _SLEEPER.search(ctx.user_agent):
        await fleet.settled(_place(ctx, req["EndpointName"]), _HOLD_S)
        record = await asyncio.to_thread(find_endpoint, ctx, req["EndpointName"])
    live = fleet.live.get(_place(ctx, req["EndpointName"])) if fleet is not None else None
    counts = {}
    if live is not None and live.deployments:
        counts = {name: variant.current for name, variant in list(live.deployments[0].variants.items())}
    variants = [
        {**one, "CurrentInstanceCount": counts.get(one["VariantName"], one.get("CurrentInstanceCount", 0))}
        for one in record.get("ProductionVariants") or ()
    ]
    return {**_shown(ctx, record), "ProductionVariants": variants or None}


@ops
def list_endpoints(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Endpoints, a page at a time, filtered by name, status and times. Errors: ValidationException - a foreign token."""
    members = (f"{NOUN}Name", f"{NOUN}Arn", "CreationTime", "LastModifiedTime", STATUS)
    entries = [{name: shown[name] for name in members} for record in ctx.records(NOUN).all() if (shown := _shown(ctx, record))]
    page, more = one_page(entries, req, NOUN, by="CreationTime", order="Descending")
    return {"Endpoints": page, "NextToken": more}


@ops
async def update_endpoint(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Lead an endpoint to another configuration, without losing a request: the new instances come up beside the old ones.

    req: EndpointName, EndpointConfigName, RetainAllVariantProperties, ExcludeRetainedVariantProperties, DeploymentConfig (blue/green:
        all at once, canary, linear; rolling), RetainDeploymentConfig.
    Errors: ValidationException - there is no such endpoint or configuration, or the endpoint is being changed.
    Differs: when the new configuration does not come up, or an alarm goes off, the old one stays in service and FailureReason says why.
    """
    arn = await asyncio.to_thread(_update, ctx, req)
    fleet_of(ctx.cloud).update(_place(ctx, req["EndpointName"]))
    return {"EndpointArn": arn}


@ops
async def update_endpoint_weights_and_capacities(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Change the weights of variants, and how many instances they have.

    Errors: ValidationException - there is no such endpoint or variant, or the endpoint is being changed.
    Differs: DesiredInstanceCount 0 is refused where the endpoint is not asynchronous.
    """
    wanted = {
        one["VariantName"]: (one.get("DesiredWeight"), one.get("DesiredInstanceCount"))
        for one in req["DesiredWeightsAndCapacities"]
    }
    arn = await asyncio.to_thread(_rescale, ctx, req, wanted)
    fleet_of(ctx.cloud).rescale(_place(ctx, req["EndpointName"]), wanted)
    return {"EndpointArn": arn}


@ops
async def delete_endpoint(ctx: Context, req: Mapping[str, Any]) -> None:
    """End an endpoint. Requests that are with it are answered; its name is free when it is gone.

    Errors: ValidationException - there is none of this name, or it is being changed.
    """
    await asyncio.to_thread(_delete, ctx, req["EndpointName"])
    fleet_of(ctx.cloud).delete(_place(ctx, req["EndpointName"]))


def find_endpoint(ctx: Context, name: str) -> Record:
    found = ctx.records(NOUN).find(name.lower())
    if found is None:
        raise Invalid(f'Could not find endpoint "{_arn(ctx, name)}".')
    return found


def _shown(ctx: Context, record: Record) -> Record:
    """As it is: a server that has just started has not brought up again yet what was in service."""
    if record[STATUS] == "InService" and _place(ctx, record["EndpointName"]) not in desk_of(ctx.cloud).open:
        return {**record, STATUS: "SystemUpdating"}
    return record


# -- private --------------------------------------------------------------------------------------------------------------


def _create(ctx: Context, req: Mapping[str, Any]) -> tuple[Place, str]:
    name, arn, now = req["EndpointName"], _arn(ctx, req["EndpointName"]), ctx.clock.now()
    taken = Invalid(f'Cannot create already existing endpoint "{arn}".')
    endpoints = ctx.records(NOUN)
    if endpoints.find(name.lower()) is not None:
        raise taken
    check_deployment(req.get("DeploymentConfig"))
    plan = plan_for(ctx, req["EndpointConfigName"])
    record = {
        "EndpointName": name,
        "EndpointArn": arn,
        "EndpointConfigName": plan["config"],
        STATUS: "Creating",
        "CreationTime": now,
        "LastModifiedTime": now,
        "LastDeploymentConfig": req.get("DeploymentConfig"),
        "DataCaptureConfig": capture_summary(plan),
        "AsyncInferenceConfig": plan["async"],
        "ProductionVariants": [
            summary_of(
                one, now, current=0, weight=float(one["InitialVariantWeight"]), desired=int(one.get("InitialInstanceCount") or 0)
            )
            for one in plan["variants"]
        ],
        "_plan": plan,
    }
    try:
        news = state_change(ctx.cloud, _place(ctx, name), record)
        ctx.write(endpoints.insertion(name.lower(), record), *tagging(ctx, arn, req.get("Tags")), news)
    except AlreadyExists:
        raise taken from None
    wake(ctx, ctx.account, ctx.region)
    return _place(ctx, name), arn


def _update(ctx: Context, req: Mapping[str, Any]) -> str:
    record = find_endpoint(ctx, req["EndpointName"])
    deployment = req.get("DeploymentConfig")
    check_deployment(deployment)
    if deployment is None and req.get("RetainDeploymentConfig"):
        deployment = record.get("LastDeploymentConfig")
    plan = plan_for(ctx, req["EndpointConfigName"])
    excluded = {one["VariantPropertyType"] for one in req.get("ExcludeRetainedVariantProperties") or ()}
    if excluded and not req.get("RetainAllVariantProperties"):
        raise Invalid("ExcludeRetainedVariantProperties can only be given with RetainAllVariantProperties.")
    if req.get("RetainAllVariantProperties"):
        plan = _retaining(plan, record["_plan"], excluded)
    members = {"_next": plan, "_deployment": deployment, "PendingDeploymentSummary": {"EndpointConfigName": plan["config"]}}
    return _changed(ctx, req["EndpointName"], ("InService",), {STATUS: "Updating", **members})


def _retaining(plan: Record, current: Mapping[str, Any], excluded: set[str]) -> Record:
    """The new plan with the old one's instance counts, weights and data capture, but for what is excluded."""
    olds = {one["VariantName"]: one for one in current["variants"]}
    variants = []
    for variant in plan["variants"]:
        old, kept = olds.get(variant["VariantName"], {}), dict(variant)
        for kind, member in (("DesiredInstanceCount", "InitialInstanceCount"), ("DesiredWeight", "InitialVariantWeight")):
            if kind not in excluded and old.get(member) is not None:
                kept[member] = old[member]
        variants.append(kept)
    return {**plan, "variants": variants, "capture": plan["capture"] if "DataCaptureConfig" in excluded else current.get("capture")}


def _rescale(ctx: Context, req: Mapping[str, Any], wanted: Mapping[str, tuple[float | None, int | None]]) -> str:
    record = find_endpoint(ctx, req["EndpointName"])
    known = {one["VariantName"]: one for one in record["_plan"]["variants"]}
    for one in req["DesiredWeightsAndCapacities"]:
        name = one["VariantName"]
        if name not in known:
            raise Invalid(f'Could not find variant "{name}" of endpoint "{record["EndpointArn"]}".')
        if one.get("ServerlessUpdateConfig"):
            raise Invalid(f"ServerlessUpdateConfig {NOT_BUILT}")
        if one.get("DesiredInstanceCount") == 0 and not record["_plan"].get("async"):
            raise Invalid(f"DesiredInstanceCount 0 of variant {name} is only possible for asynchronous endpoints.")
        if known[name].get("ServerlessConfig") and one.get("DesiredInstanceCount") is not None:
            raise Invalid(f"DesiredInstanceCount cannot be given for the serverless variant {name}.")
    weights = [wanted.get(name, (None, None))[0] for name in known]
    if all(weight == 0 for weight in weights):
        raise Invalid("The total of the variants' weights must be greater than 0.")
    variants = [_desired(one, *wanted.get(one["VariantName"], (None, None))) for one in record.get("ProductionVariants") or ()]
    return _changed(ctx, req["EndpointName"], ("InService",), {STATUS: "Updating", "ProductionVariants": variants})


def _desired(summary: Mapping[str, Any], weight: float | None, count: int | None) -> Record:
    found = dict(summary)
    if weight is not None:
        found["DesiredWeight"] = weight
    if count is not None:
        found["DesiredInstanceCount"] = count
    return found


def _delete(ctx: Context, name: str) -> None:
    _changed(ctx, name, ("InService", "Failed", "OutOfService", "UpdateRollbackFailed"), {STATUS: "Deleting"})


def _changed(ctx: Context, name: str, allowed: tuple[str, ...], members: Mapping[str, Any]) -> str:
    """Change the record of an endpoint that is in one of these states; gives its ARN."""
    endpoints = ctx.records(NOUN)
    while True:
        find_endpoint(ctx, name)
        row = endpoints.row(name.lower())
        if row is None:
            continue
        if row.value[STATUS] not in allowed:
            if row.value[STATUS] in _BUSY:
                raise Invalid(f'Cannot update in-progress endpoint "{_arn(ctx, name)}".')
            raise Invalid(f'Cannot update endpoint "{_arn(ctx, name)}" in status {row.value[STATUS]}.')
        value = {**row.value, "LastModifiedTime": ctx.clock.now(), **members}
        try:
            ctx.write(endpoints.revision(name.lower(), value, row.version), state_change(ctx.cloud, _place(ctx, name), value))
        except Conflict:
            continue
        wake(ctx, ctx.account, ctx.region)
        return str(row.value["EndpointArn"])


def _arn(ctx: Context, name: str) -> str:
    return ctx.arn(f"endpoint/{name.lower()}")


def _place(ctx: Context, name: str) -> Place:
    return Place(ctx.account, ctx.region, name.lower())
