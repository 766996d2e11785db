"""Test invocations: a method as it is drawn now, run for real without a deployment, with a log of what happened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.service import Context, Operations
from pilvi.services.apigateway.call import Call
from pilvi.services.apigateway.execution import run
from pilvi.services.apigateway.integration import find_integration
from pilvi.services.apigateway.method import find_method
from pilvi.services.apigateway.model import models_of
from pilvi.services.apigateway.resource import find_resource
from pilvi.services.apigateway.rest_api import find_api
from pilvi.services.apigateway.routing import Router

ops = Operations()

STAGE = "test-invoke-stage"


@ops
async def test_invoke_method(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Run a method and tell status, headers, body, latency in milliseconds and the execution log.

    req: pathWithQueryString, body, headers, multiValueHeaders, stageVariables.
    Errors: NotFoundException - no such method, or nothing stands behind it.
    """
    api = find_api(ctx, req)
    resource, method = find_resource(api, req["resourceId"]), find_method(api, req)
    find_integration(api, req)
    path, _, query = (req.get("pathWithQueryString") or resource["path"]).partition("?")
    route = Router({resource["id"]: resource}).find(req["httpMethod"], path or "/")
    began = ctx.clock.real_s()
    lines: list[str] = []
    call = Call(
        api_id=api["id"],
        account=ctx.account,
        region=ctx.region,
        stage=STAGE,
        variables=req.get("stageVariables") or {},
        deployment_id="",
        verb=req["httpMethod"] if req["httpMethod"] != "ANY" else "GET",
        path=path or "/",
        query=query,
        headers=headers_of(req),
        body=(req.get("body") or "").encode(),
        source_ip="test-invoke-source-ip",
        request_id=ctx.request_id,
        extended_id=ctx.ids.lower(15) + "=",
        trace_id="",
        at=ctx.clock.now(),
        binary_types=tuple(api.get("binaryMediaTypes") or ()),
        resource=resource,
        method=method,
        parameters=route.parameters if route else {},
        api={"_validators": api.get("_validators") or {}, "_models": models_of(api)},
        log=lines,
    )
    answer = await run(ctx, call)
    stamp = ctx.clock.now().strftime("%a %b %d %H:%M:%S UTC %Y")
    multiple: dict[str, list[str]] = {}
    for name, value in answer.headers:
        multiple.setdefault(name, []).append(value)
    return {
        "status": answer.status,
        "body": answer.body.decode("utf-8", "replace"),
        "headers": {name: values[-1] for name, values in multiple.items()},
        "multiValueHeaders": multiple,
        "log": "".join([f"Execution log for request {ctx.request_id}\n", *[f"{stamp} : {line}\n" for line in lines]]),
        "latency": int((ctx.clock.real_s() - began) * 1000),
    }


def headers_of(req: Mapping[str, Any]) -> dict[str, list[str]]:
    headers = {name: [value] for name, value in (req.get("headers") or {}).items()}
    return headers | {name: list(values) for name, values in (req.get("multiValueHeaders") or {}).items()}
