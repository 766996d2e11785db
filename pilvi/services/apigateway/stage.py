"""Stages: names under which a deployment is served, with variables of their own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import AlreadyExists, Conflict, Invalid, NotFound, Unsupported
from pilvi.core.service import Context, Operations
from pilvi.services.apigateway import patch
from pilvi.services.apigateway.rest_api import find_api, whole_second

ops = Operations()

NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
VARIABLE_NAME = re.compile(r"[a-zA-Z0-9_]+")
VARIABLE_VALUE = re.compile(r"[A-Za-z0-9\-._~:/?#&=,@*$+%!;()\[\]{} ]*")


def percent(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise Invalid(f"Invalid number {value}") from None


RULES = {
    "/deploymentId": patch.setting(),
    "/description": patch.optional(),
    "/variables/*": patch.entry(),
    "/canarySettings": patch.Rule(("remove",), patch.text),
    "/canarySettings/percentTraffic": patch.setting(percent),
    "/canarySettings/deploymentId": patch.setting(),
    "/canarySettings/useStageCache": patch.setting(patch.flag),
}
COPIES = {
    ("/canarySettings/deploymentId", "/deploymentId"): ("deploymentId", "deploymentId"),
    ("/canarySettings/stageVariableOverrides", "/variables"): ("stageVariableOverrides", "variables"),
}
"""How a canary is promoted: `copy` from its settings onto the stage's own. Source: Developer Guide, "Promote a canary release"."""
NOT_BUILT = ("cacheCluster", "tracingEnabled", "accessLogSettings", "clientCertificateId", "*")


@ops
def create_stage(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Serve a deployment under a name.

    req: stageName (1-128 of [a-zA-Z0-9_-]), deploymentId, description, variables, canarySettings, tags.
    Errors: ConflictException - the stage is there. NotFoundException - no such API. BadRequestException - no such deployment, names.
    Differs: caches and tracing answer NotImplemented.
    """
    find_api(ctx, req)
    check_stage(req)
    row = find_deployment_row(ctx, req["restApiId"], req["deploymentId"])
    stage = new_stage(ctx, req, req["deploymentId"])
    guards = [row]
    if req.get("canarySettings"):
        stage["canarySettings"] = canary_of(req["canarySettings"], req["canarySettings"].get("deploymentId") or req["deploymentId"])
        if stage["canarySettings"]["deploymentId"] != req["deploymentId"]:
            guards.append(find_deployment_row(ctx, req["restApiId"], stage["canarySettings"]["deploymentId"]))
    try:
        ctx.write(*guards, ctx.records("Stage").insertion(stage_id(req["restApiId"], req["stageName"]), stage))
    except AlreadyExists:
        raise Conflict("Stage already exists") from None
    return stage


@ops
def get_stages(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The stages of an API, or those that serve one deployment. Errors: NotFoundException - no such API."""
    find_api(ctx, req)
    wanted = req.get("deploymentId")
    return {"item": [stage for stage in stages_of(ctx, req["restApiId"]) if wanted in (None, stage["deploymentId"])]}


@ops
def get_stage(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """One stage. Errors: NotFoundException - no such API or stage."""
    return find_stage(ctx, req)


@ops
def update_stage(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Move a stage to another deployment, or change its description or variables; requests see it at once.

    req: patchOperations on /deploymentId, /description, /variables/NAME, /canarySettings/percentTraffic, /canarySettings/deploymentId;
    remove /canarySettings; copy from /canarySettings/deploymentId to /deploymentId to promote a canary.
    Differs: method settings (logging, throttling, caching) and access logs answer NotImplemented.
    """
    for operation in req.get("patchOperations") or ():
        path = operation.get("path", "")
        if path.lstrip("/").startswith(NOT_BUILT) or path.count("/") > 2:
            raise Unsupported(f"apigateway UpdateStage of {path} is not built.")
    find_stage(ctx, req)
    while True:
        row = ctx.records("Stage").row(stage_id(req["restApiId"], req["stageName"]))
        if row is None:
            raise NotFound("Invalid stage identifier specified")
        stage = row.value
        for operation in req.get("patchOperations") or ():
            stage = copied(stage, operation) if operation.get("op") == "copy" else patch.patched(stage, [operation], RULES)
        check_stage(stage)
        stage["lastUpdatedDate"] = whole_second(ctx)
        served = {stage["deploymentId"]}
        if "canarySettings" in stage:
            stage["canarySettings"] = canary_of(stage["canarySettings"], stage["canarySettings"].get("deploymentId") or "")
            served.add(stage["canarySettings"]["deploymentId"])
        kept = [find_deployment_row(ctx, req["restApiId"], deployment) for deployment in served]
        try:
            ctx.write(*kept, ctx.records("Stage").revision(row.id, stage, row.version))
        except Conflict:
            continue
        return stage


@ops
def delete_stage(ctx: Context, req: Mapping[str, Any]) -> None:
    """Serve a deployment no longer. Errors: NotFoundException - no such API or stage."""
    find_stage(ctx, req)
    try:
        ctx.records("Stage").delete(stage_id(req["restApiId"], req["stageName"]))
    except NotFound:
        raise NotFound("Invalid stage identifier specified") from None


# -- for the other nouns ------------------------------------------------------------------------------------------------


def stage_id(api: str, name: str) -> str:
    return f"{api}/{name}"


def stages_of(ctx: Context, api: str) -> list[dict[str, Any]]:
    return ctx.records("Stage").all(prefix=f"{api}/")


def find_stage(ctx: Context, req: Mapping[str, Any]) -> dict[str, Any]:
    find_api(ctx, req)
    stage = ctx.records("Stage").find(stage_id(req["restApiId"], req["stageName"]))
    if stage is None:
        raise NotFound("Invalid stage identifier specified")
    return stage


def new_stage(ctx: Context, req: Mapping[str, Any], deployment: str) -> dict[str, Any]:
    now = whole_second(ctx)
    stage = {
        "deploymentId": deployment,
        "stageName": req["stageName"],
        "cacheClusterEnabled": False,
        "cacheClusterStatus": "NOT_AVAILABLE",
        "methodSettings": {},
        "tracingEnabled": False,
        "createdDate": now,
        "lastUpdatedDate": now,
    }
    return stage | {key: req[key] for key in ("description", "variables", "tags") if req.get(key)}


def canary_of(settings: Mapping[str, Any], deployment: str) -> dict[str, Any]:
    """A share of a stage's requests for another deployment, with variables of its own."""
    share = settings.get("percentTraffic", 0.0)
    if not 0 <= share <= 100:
        raise Invalid("Percent of traffic to canary must be between 0.0 and 100.0")
    canary = {"deploymentId": deployment, "percentTraffic": share, "useStageCache": bool(settings.get("useStageCache"))}
    if settings.get("stageVariableOverrides"):
        canary["stageVariableOverrides"] = dict(settings["stageVariableOverrides"])
    return canary


def deployments_of(stage: Mapping[str, Any]) -> set[str]:
    """The deployments a stage serves: its own, and its canary's."""
    return {stage["deploymentId"], (stage.get("canarySettings") or {}).get("deploymentId", stage["deploymentId"])}


def check_stage(req: Mapping[str, Any]) -> None:
    """Names, variables, and nothing that would be ignored."""
    if not NAME.fullmatch(req["stageName"]):
        raise Invalid("Stage name only allows a-zA-Z0-9_")
    for name, value in (req.get("variables") or {}).items():
        if not VARIABLE_NAME.fullmatch(name):
            raise Invalid(f"Invalid stage variable name: {name}. Please use alphanumeric characters and underscores only")
        if not VARIABLE_VALUE.fullmatch(value):
            raise Invalid(
                f"Invalid stage variable value: {value}. Please use values with alphanumeric characters and the symbols "
                "' ', -', '.', '_', ':', '/', '?', '&', '=', and ','."
            )
    if req.get("cacheClusterEnabled"):
        raise Unsupported("apigateway stages with cacheClusterEnabled are not built.")
    if req.get("tracingEnabled"):
        raise Unsupported("apigateway stages with tracingEnabled are not built.")


# -- details ------------------------------------------------------------------------------------------------------------


def find_deployment_row(ctx: Context, api: str, deployment: str) -> Any:
    """A guard for a transaction: the deployment is there, and whoever is deleting it must look at its stages again."""
    table = ctx.records("Deployment")
    row = table.row(f"{api}/{deployment}")
    if row is None:
        raise Invalid("Deployment id does not exist")
    return table.revision(row.id, row.value, row.version)


def copied(stage: Mapping[str, Any], operation: Mapping[str, Any]) -> dict[str, Any]:
    """One step of a promotion."""
    found = COPIES.get((operation.get("from") or "", operation.get("path") or ""))
    canary = stage.get("canarySettings") or {}
    if found is None:
        raise Invalid(f"Invalid patch path  '{operation.get('path')}' specified for op 'copy'.")
    source, target = found
    if target == "variables":
        return {**stage, "variables": {**(stage.get("variables") or {}), **canary.get(source, {})}}
    if source not in canary:
        raise Invalid("The stage has no canary")
    return {**stage, target: canary[source]}
