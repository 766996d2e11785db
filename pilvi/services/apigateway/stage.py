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
RULES = {"/deploymentId": patch.setting(), "/description": patch.optional(), "/variables/*": patch.entry()}
NOT_BUILT = ("canarySettings", "cacheCluster", "tracingEnabled", "accessLogSettings", "clientCertificateId", "*")


@ops
def create_stage(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Serve a deployment under a name.

    req: stageName (1-128 of [a-zA-Z0-9_-]), deploymentId, description, variables, tags.
    Errors: ConflictException - the stage is there. NotFoundException - no such API. BadRequestException - no such deployment, names.
    Differs: caches, canaries and tracing answer NotImplemented.
    """
    find_api(ctx, req)
    check_stage(req)
    if req.get("canarySettings"):
        raise Unsupported("apigateway CreateStage with canarySettings is not built.")
    row = find_deployment_row(ctx, req["restApiId"], req["deploymentId"])
    stage = new_stage(ctx, req, req["deploymentId"])
    try:
        ctx.write(row, ctx.records("Stage").insertion(stage_id(req["restApiId"], req["stageName"]), stage))
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

    req: patchOperations on /deploymentId, /description, /variables/NAME.
    Differs: method settings (logging, throttling, caching), canaries and access logs answer NotImplemented.
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
        stage = patch.patched(row.value, req.get("patchOperations"), RULES)
        check_stage(stage)
        stage["lastUpdatedDate"] = whole_second(ctx)
        kept = find_deployment_row(ctx, req["restApiId"], stage["deploymentId"])
        try:
            ctx.write(kept, ctx.records("Stage").revision(row.id, stage, row.version))
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
