"""Deployments: an API as it stood at one moment, frozen and sealed; changes to the API need another one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from pilvi.core.errors import Conflict, Invalid, NotFound
from pilvi.core.paging import decode_token, encode_token
from pilvi.core.service import Context, Operations
from pilvi.services.apigateway import patch
from pilvi.services.apigateway.model import models_of
from pilvi.services.apigateway.rest_api import find_api, page_size, whole_second
from pilvi.services.apigateway.stage import canary_of, check_stage, deployments_of, new_stage, stage_id, stages_of
from pilvi.storage.records import Change, DeleteBody, Expect, PutBody

ops = Operations()

FROZEN = ("id", "name", "policy", "binaryMediaTypes", "disableExecuteApiEndpoint", "_resources", "_authorizers", "_validators")
RULES = {"/description": patch.optional()}


@ops
def create_deployment(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Freeze the API, and point a stage at the result when one is named (made when it is not there).

    req: stageName, stageDescription, description, variables.
    Errors: BadRequestException - no methods, or one with nothing behind it. NotFoundException - no such API.
    With canarySettings {percentTraffic, stageVariableOverrides} the stage stays where it is and serves a share of its requests from here.
    Differs: caches and tracing answer NotImplemented.
    """
    if req.get("canarySettings") and not req.get("stageName"):
        raise Invalid("Canary settings require a stage name")
    if req.get("stageName"):
        check_stage(req)
    while True:
        row = ctx.records("RestApi").row(find_api(ctx, req)["id"])
        if row is None:
            continue
        check_complete(row.value)
        id = ctx.ids.lower(6)
        body = f"apigateway:{row.id}:{id}"
        deployment = {"id": id, "createdDate": whole_second(ctx), "_body": body, "_summary": summary_of(row.value)}
        if req.get("description"):
            deployment["description"] = req["description"]
        changes: list[Change] = [
            Expect(ctx.records("RestApi").table, row.id, row.version),
            ctx.records("Deployment").insertion(f"{row.id}/{id}", deployment),
            PutBody(body, frozen(ctx, row.value, body)),
        ]
        if req.get("stageName"):
            changes.append(stage_change(ctx, req, id))
        try:
            ctx.write(*changes)
        except Conflict:
            continue
        return deployment


@ops
def get_deployments(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Deployments of an API. req: limit (default 25, at most 500), position. Errors: NotFoundException - no such API."""
    api, limit = find_api(ctx, req)["id"], page_size(req)
    rows = ctx.records("Deployment").scan(prefix=f"{api}/", after=decode_token(req.get("position")), limit=limit + 1)
    position = encode_token(rows[limit - 1].id) if len(rows) > limit else None
    return {"items": [row.value for row in rows[:limit]], "position": position}


@ops
def get_deployment(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """One deployment. req: embed=["apisummary"] adds its methods by path. Errors: NotFoundException - no such deployment."""
    deployment = find_deployment(ctx, req)
    if "apisummary" in (req.get("embed") or ()):
        deployment["apiSummary"] = deployment["_summary"]
    return deployment


@ops
def update_deployment(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Change the description. req: patchOperations on /description."""
    find_deployment(ctx, req)
    return ctx.records("Deployment").update(
        deployment_id(req), lambda deployment: patch.patched(deployment, req.get("patchOperations"), RULES)
    )


@ops
def delete_deployment(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove a deployment. Errors: BadRequestException - a stage serves it. NotFoundException - no such deployment."""
    while True:
        find_deployment(ctx, req)
        row = ctx.records("Deployment").row(deployment_id(req))
        if row is None:
            continue
        if any(row.value["id"] in deployments_of(stage) for stage in stages_of(ctx, req["restApiId"])):
            raise Invalid("Active stages pointing to this deployment must be moved or deleted")
        try:
            ctx.write(ctx.records("Deployment").deletion(row.id, row.version), DeleteBody(row.value["_body"]))
        except (Conflict, NotFound):
            continue
        return


# -- for the site -------------------------------------------------------------------------------------------------------


def thawed(ctx: Context, deployment: Mapping[str, Any]) -> dict[str, Any]:
    """The API as it was frozen."""
    body = ctx.store.body(deployment["_body"]) or b""
    api: dict[str, Any] = msgspec.msgpack.decode(ctx.keyring.unseal(body, deployment["_body"].encode()))
    return api


# -- details ------------------------------------------------------------------------------------------------------------


def deployment_id(req: Mapping[str, Any]) -> str:
    return f"{req['restApiId']}/{req['deploymentId']}"


def find_deployment(ctx: Context, req: Mapping[str, Any]) -> dict[str, Any]:
    find_api(ctx, req)
    deployment = ctx.records("Deployment").find(deployment_id(req))
    if deployment is None:
        raise NotFound("Invalid Deployment identifier specified")
    return deployment


def check_complete(api: Mapping[str, Any]) -> None:
    methods = [method for resource in api["_resources"].values() for method in resource["resourceMethods"].values()]
    if not methods:
        raise Invalid("The REST API doesn't contain any methods")
    if any("methodIntegration" not in method for method in methods):
        raise Invalid("No integration defined for method")


def frozen(ctx: Context, api: Mapping[str, Any], body: str) -> bytes:
    """Sealed, because templates and URIs may carry what nobody else should read."""
    kept = {key: api[key] for key in FROZEN if key in api} | {"_models": models_of(api)}
    return ctx.keyring.seal(msgspec.msgpack.encode(kept), body.encode())


def summary_of(api: Mapping[str, Any]) -> dict[str, Any]:
    return {
        resource["path"]: {
            verb: {"authorizationType": method["authorizationType"], "apiKeyRequired": method["apiKeyRequired"]}
            for verb, method in resource["resourceMethods"].items()
        }
        for resource in api["_resources"].values()
        if resource["resourceMethods"]
    }


def stage_change(ctx: Context, req: Mapping[str, Any], deployment: str) -> Change:
    """The named stage, made or moved to the new deployment."""
    stages, id = ctx.records("Stage"), stage_id(req["restApiId"], req["stageName"])
    row = stages.row(id)
    if canary := req.get("canarySettings"):
        if row is None:
            raise Invalid("Cannot create a canary deployment on a stage that does not exist")
        return stages.revision(
            id, row.value | {"canarySettings": canary_of(canary, deployment), "lastUpdatedDate": whole_second(ctx)}, row.version
        )
    if row is None:
        return stages.insertion(id, new_stage(ctx, {**req, "description": req.get("stageDescription")}, deployment))
    moved = row.value | {"deploymentId": deployment, "lastUpdatedDate": whole_second(ctx)}
    if req.get("stageDescription"):
        moved["description"] = req["stageDescription"]
    if req.get("variables"):
        moved["variables"] = row.value.get("variables", {}) | req["variables"]
    return stages.revision(id, moved, row.version)
