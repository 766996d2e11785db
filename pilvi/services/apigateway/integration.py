"""Integrations: what stands behind a method - a Lambda function (proxied whole or through templates) or a mock."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import Invalid, NotFound, Unsupported
from pilvi.core.service import Context, Operations
from pilvi.services.apigateway import patch
from pilvi.services.apigateway.method import VERBS, find_method
from pilvi.services.apigateway.rest_api import change_api, find_api

ops = Operations()

LAMBDA_URI = re.compile(
    r"arn:(?:aws[a-z-]*):apigateway:(?P<region>[a-z0-9-]+):lambda:path/[^/]+/functions/(?P<function>.+)/invocations"
)
SERVICE_URI = re.compile(r"arn:aws[a-z-]*:apigateway:[a-z0-9-]+:(?P<service>[a-z0-9.-]+):(?:path|action)/.*")
PASSTHROUGH = ("WHEN_NO_MATCH", "WHEN_NO_TEMPLATES", "NEVER")
LEAST_TIMEOUT_MS, MOST_TIMEOUT_MS = 50, 29_000
REQUEST_PARAMETER = re.compile(r"integration\.request\.(?:path|querystring|header)\.\S+")
RULES = {
    "/uri": patch.setting(),
    "/httpMethod": patch.setting(),
    "/credentials": patch.optional(),
    "/passthroughBehavior": patch.setting(),
    "/timeoutInMillis": patch.setting(patch.number),
    "/contentHandling": patch.optional(),
    "/cacheNamespace": patch.setting(),
    "/requestParameters/*": patch.entry(),
    "/requestTemplates/*": patch.entry(),
    "/cacheKeyParameters/*": patch.member(),
}


@ops
def put_integration(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Say what answers a method; an earlier integration and its responses are replaced.

    req: type AWS_PROXY, AWS or MOCK; uri `arn:aws:apigateway:REGION:lambda:path/2015-03-31/functions/FUNCTION_ARN/invocations`
    (with `${stageVariables.NAME}` where wanted); integrationHttpMethod (POST for Lambda); requestTemplates, requestParameters,
    passthroughBehavior, credentials (a role), timeoutInMillis (50-29,000).
    Errors: BadRequestException - an ARN or setting of another form. NotFoundException - no such method.
    Differs: HTTP and HTTP_PROXY, VPC links, other AWS services, streaming and content handling answer NotImplemented.
    """
    integration = {
        "type": req["type"],
        "passthroughBehavior": req.get("passthroughBehavior") or "WHEN_NO_MATCH",
        "timeoutInMillis": req.get("timeoutInMillis", MOST_TIMEOUT_MS),
        "cacheNamespace": req.get("cacheNamespace") or req["resourceId"],
        "cacheKeyParameters": list(req.get("cacheKeyParameters") or ()),
    }
    integration |= {key: req[key] for key in ("uri", "credentials", "requestParameters", "requestTemplates") if req.get(key)}
    if req.get("integrationHttpMethod"):
        integration["httpMethod"] = req["integrationHttpMethod"]
    check_built(req)
    check(integration)

    def changed(api: dict[str, Any]) -> None:
        find_method(api, req)["methodIntegration"] = integration

    change_api(ctx, req, changed)
    return integration


@ops
def get_integration(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The integration with its responses. Errors: NotFoundException - no such method, or nothing stands behind it."""
    return find_integration(find_api(ctx, req), req)


@ops
def update_integration(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Change settings. req: patchOperations, for example replace /uri, add /requestTemplates/application~1json."""
    answer: dict[str, Any] = {}

    def changed(api: dict[str, Any]) -> None:
        integration = patch.patched(find_integration(api, req), req.get("patchOperations"), RULES)
        check_built(integration)
        check(integration)
        find_method(api, req)["methodIntegration"] = integration
        answer.clear()
        answer.update(integration)

    change_api(ctx, req, changed)
    return answer


@ops
def delete_integration(ctx: Context, req: Mapping[str, Any]) -> None:
    """Leave a method without anything behind it. Errors: NotFoundException - nothing stands behind it."""

    def changed(api: dict[str, Any]) -> None:
        find_integration(api, req)
        del find_method(api, req)["methodIntegration"]

    change_api(ctx, req, changed)


# -- for the other nouns ------------------------------------------------------------------------------------------------


def find_integration(api: Mapping[str, Any], req: Mapping[str, Any]) -> dict[str, Any]:
    integration: dict[str, Any] | None = find_method(api, req).get("methodIntegration")
    if integration is None:
        raise NotFound("Invalid Integration identifier specified")
    return integration


# -- details ------------------------------------------------------------------------------------------------------------


def check_built(req: Mapping[str, Any]) -> None:
    """Refuse what would not be carried out."""
    if req["type"] in ("HTTP", "HTTP_PROXY"):
        raise Unsupported(f"apigateway integrations of type {req['type']} are not built.")
    if req.get("connectionType", "INTERNET") != "INTERNET":
        raise Unsupported("apigateway integrations through a VPC link are not built.")
    if req.get("responseTransferMode", "BUFFERED") != "BUFFERED":
        raise Unsupported("apigateway integrations with responseTransferMode STREAM are not built.")
    if req.get("contentHandling"):
        raise Unsupported("apigateway integrations with contentHandling are not built.")
    if (req.get("credentials") or "").endswith(":user/*"):
        raise Unsupported("apigateway integrations with the caller's own credentials are not built.")


def check(integration: Mapping[str, Any]) -> None:
    if integration["passthroughBehavior"] not in PASSTHROUGH:
        raise Invalid(f"Invalid passthrough behavior specified. Valid options are {', '.join(PASSTHROUGH)}")
    if not LEAST_TIMEOUT_MS <= integration["timeoutInMillis"] <= MOST_TIMEOUT_MS:
        raise Invalid(f"Timeout should be between {LEAST_TIMEOUT_MS} ms and {MOST_TIMEOUT_MS} ms")
    for name in integration.get("requestParameters") or {}:
        if not REQUEST_PARAMETER.fullmatch(name):
            raise Invalid(f"Invalid mapping expression specified: {name}")
    if integration["type"] != "MOCK":
        check_target(integration)


def check_target(integration: Mapping[str, Any]) -> None:
    """The verb and the ARN of what is called."""
    if not integration.get("httpMethod"):
        raise Invalid("Enumeration value for HttpMethod must be non-empty")
    if integration["httpMethod"] not in VERBS:
        raise Invalid(f"Invalid HttpMethod specified. Valid options are {','.join(VERBS)}")
    uri = integration.get("uri") or ""
    if not uri.startswith("arn:"):
        raise Invalid("Invalid ARN specified in the request")
    service = SERVICE_URI.fullmatch(uri)
    if service is None:
        raise Invalid("AWS ARN for integration must contain path or action")
    if LAMBDA_URI.fullmatch(uri):
        return
    if service["service"] == "lambda":
        raise Invalid("Invalid function ARN or invalid uri")
    if integration["type"] == "AWS_PROXY":
        raise Invalid("Integrations of type 'AWS_PROXY' currently only supports Lambda function and Firehose stream invocations.")
    raise Unsupported(f"apigateway integrations with the service {service['service']} are not built.")
