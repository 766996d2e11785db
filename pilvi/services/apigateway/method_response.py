"""Method responses: the statuses a method may answer, and the headers that may be set on them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import Conflict, Invalid, NotFound
from pilvi.core.service import Context, Operations
from pilvi.services.apigateway import patch
from pilvi.services.apigateway.method import find_method
from pilvi.services.apigateway.model import check_models
from pilvi.services.apigateway.rest_api import change_api, find_api

ops = Operations()

HEADER = re.compile(r"method\.response\.header\.[a-zA-Z0-9!#$%&'*+\-.^_`|~]+")
RULES = {"/responseParameters/*": patch.entry(patch.flag), "/responseModels/*": patch.entry()}


@ops
def put_method_response(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Declare a status. req: responseParameters {"method.response.header.NAME": required?}, responseModels.

    Errors: ConflictException - it is declared. BadRequestException - a parameter of another form. NotFoundException - no such method.
    """
    response = {"statusCode": req["statusCode"]}
    response |= {key: req[key] for key in ("responseParameters", "responseModels") if req.get(key)}

    def changed(api: dict[str, Any]) -> None:
        check(api, response)
        responses = find_method(api, req).setdefault("methodResponses", {})
        if req["statusCode"] in responses:
            raise Conflict("Response already exists for this resource")
        responses[req["statusCode"]] = response

    change_api(ctx, req, changed)
    return response


@ops
def get_method_response(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """One declared status. Errors: NotFoundException - no such method or status."""
    return find_response(find_api(ctx, req), req)


@ops
def update_method_response(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add or remove headers and models of a declared status. req: patchOperations."""
    answer: dict[str, Any] = {}

    def changed(api: dict[str, Any]) -> None:
        response = patch.patched(find_response(api, req), req.get("patchOperations"), RULES)
        check(api, response)
        find_method(api, req)["methodResponses"][req["statusCode"]] = response
        answer.clear()
        answer.update(response)

    change_api(ctx, req, changed)
    return answer


@ops
def delete_method_response(ctx: Context, req: Mapping[str, Any]) -> None:
    """Take a declared status back. Errors: NotFoundException - no such method or status."""

    def changed(api: dict[str, Any]) -> None:
        find_response(api, req)
        del find_method(api, req)["methodResponses"][req["statusCode"]]

    change_api(ctx, req, changed)


# -- for the other nouns ------------------------------------------------------------------------------------------------


def find_response(api: Mapping[str, Any], req: Mapping[str, Any]) -> dict[str, Any]:
    response: dict[str, Any] | None = (find_method(api, req).get("methodResponses") or {}).get(req["statusCode"])
    if response is None:
        raise NotFound("Invalid Response status code specified")
    return response


def check(api: Mapping[str, Any], response: Mapping[str, Any]) -> None:
    for name in response.get("responseParameters") or {}:
        if not HEADER.fullmatch(name):
            raise Invalid(f"Invalid mapping expression specified: {name}")
    check_models(api, response.get("responseModels") or {})
