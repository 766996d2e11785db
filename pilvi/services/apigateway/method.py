"""Methods: a verb on a resource, open to everyone or guarded by a Lambda authorizer or an API key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import Conflict, Invalid, NotFound, Unsupported
from pilvi.core.service import Context, Operations
from pilvi.services.apigateway import patch
from pilvi.services.apigateway.model import check_models
from pilvi.services.apigateway.request_validator import check_named
from pilvi.services.apigateway.resource import find_resource
from pilvi.services.apigateway.rest_api import change_api, find_api

ops = Operations()

VERBS = ("GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "HEAD", "ANY")
AUTHORIZATION_TYPES = ("NONE", "AWS_IAM", "CUSTOM", "COGNITO_USER_POOLS")
RULES = {
    "/authorizationType": patch.setting(),
    "/authorizerId": patch.setting(),
    "/apiKeyRequired": patch.setting(patch.flag),
    "/operationName": patch.optional(),
    "/requestValidatorId": patch.optional(),
    "/requestParameters/*": patch.entry(patch.flag),
    "/requestModels/*": patch.entry(),
}


@ops
def put_method(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add a verb to a resource; `ANY` stands for those that are not added by name.

    req: authorizationType NONE or CUSTOM (with authorizerId), apiKeyRequired, operationName, requestParameters, requestModels, requestValidatorId.
    Errors: ConflictException - it is there. BadRequestException - an unknown verb, type or model. NotFoundException - no such resource.
    Differs: AWS_IAM and COGNITO_USER_POOLS are refused, since nothing would enforce them.
    """
    method = {
        "httpMethod": req["httpMethod"],
        "authorizationType": req["authorizationType"],
        "apiKeyRequired": bool(req.get("apiKeyRequired")),
    }
    method |= {
        key: req[key]
        for key in ("authorizerId", "operationName", "requestParameters", "requestModels", "requestValidatorId")
        if req.get(key)
    }
    if req["httpMethod"] not in VERBS:
        raise Invalid(f"Invalid HttpMethod specified. Valid options are {','.join(VERBS)}")

    def changed(api: dict[str, Any]) -> None:
        check_enforceable(api, method)
        methods = find_resource(api, req["resourceId"])["resourceMethods"]
        if req["httpMethod"] in methods:
            raise Conflict("Method already exists for this resource")
        methods[req["httpMethod"]] = method

    change_api(ctx, req, changed)
    return method


@ops
def get_method(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """A method with its responses and its integration. Errors: NotFoundException - no such API, resource or method."""
    return find_method(find_api(ctx, req), req)


@ops
def update_method(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Change settings of a method. req: patchOperations, for example replace /operationName, add /requestParameters/..."""
    answer: dict[str, Any] = {}

    def changed(api: dict[str, Any]) -> None:
        method = patch.patched(find_method(api, req), req.get("patchOperations"), RULES)
        check_enforceable(api, method)
        find_resource(api, req["resourceId"])["resourceMethods"][req["httpMethod"]] = method
        answer.clear()
        answer.update(method)

    change_api(ctx, req, changed)
    return answer


@ops
def delete_method(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove a method with its integration. Errors: NotFoundException - no such method."""

    def changed(api: dict[str, Any]) -> None:
        find_method(api, req)
        del find_resource(api, req["resourceId"])["resourceMethods"][req["httpMethod"]]

    change_api(ctx, req, changed)


# -- for the other nouns ------------------------------------------------------------------------------------------------


def find_method(api: Mapping[str, Any], req: Mapping[str, Any]) -> dict[str, Any]:
    method: dict[str, Any] | None = find_resource(api, req["resourceId"])["resourceMethods"].get(req["httpMethod"])
    if method is None:
        raise NotFound("Invalid Method identifier specified")
    return method


# -- details ------------------------------------------------------------------------------------------------------------


def check_enforceable(api: Mapping[str, Any], method: Mapping[str, Any]) -> None:
    """A method that asks for a check nobody makes would stand open: refuse it."""
    if method["authorizationType"] not in AUTHORIZATION_TYPES:
        raise Invalid(f"Invalid authorization type specified. Valid options are {','.join(AUTHORIZATION_TYPES)}")
    if method["authorizationType"] == "CUSTOM":
        if method.get("authorizerId") not in (api.get("_authorizers") or {}):
            raise Invalid(
                "Invalid authorizer ID specified. Setting the authorization type to CUSTOM or COGNITO_USER_POOLS requires a valid authorizer."
            )
    elif method["authorizationType"] != "NONE":
        raise Unsupported(f"apigateway methods with authorizationType {method['authorizationType']} are not built.")
    check_named(api, method)
    check_models(api, method.get("requestModels") or {})
