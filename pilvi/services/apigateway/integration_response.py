"""Integration responses: which declared status an answer from behind becomes, with which headers and which body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import Invalid, Unsupported
from pilvi.core.errors import NotFound as Missing
from pilvi.core.service import Context, Operations
from pilvi.services.apigateway import patch
from pilvi.services.apigateway.integration import find_integration
from pilvi.services.apigateway.method_response import find_response
from pilvi.services.apigateway.rest_api import change_api, find_api
from pilvi.services.apigateway.selection import compile_selection

ops = Operations()

RULES = {
    "/selectionPattern": patch.optional(),
    "/responseParameters/*": patch.entry(),
    "/responseTemplates/*": patch.entry(),
}


@ops
def put_integration_response(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Map answers to a declared status.

    req: selectionPattern (a regular expression over the whole error message of a function, or a mock's status; none or empty is
    the default), responseParameters {"method.response.header.NAME": "'text'" or "integration.response.header.X" ...},
    responseTemplates {content type: template}.
    Errors: NotFoundException - no integration, or the status is not declared. BadRequestException - a header that is not declared.
    """
    if req.get("contentHandling"):
        raise Unsupported("apigateway integration responses with contentHandling are not built.")
    response = {"statusCode": req["statusCode"]}
    response |= {key: req[key] for key in ("responseParameters", "responseTemplates") if req.get(key)}
    if req.get("selectionPattern") is not None:
        response["selectionPattern"] = req["selectionPattern"]

    def changed(api: dict[str, Any]) -> None:
        integration = find_integration(api, req)
        check(api, req, response)
        integration.setdefault("integrationResponses", {})[req["statusCode"]] = response

    change_api(ctx, req, changed)
    return response


@ops
def get_integration_response(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """One mapping. Errors: NotFoundException - no such integration or status."""
    return find_mapping(find_api(ctx, req), req)


@ops
def update_integration_response(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Change a mapping. req: patchOperations on /selectionPattern, /responseParameters/NAME, /responseTemplates/TYPE."""
    answer: dict[str, Any] = {}

    def changed(api: dict[str, Any]) -> None:
        response = patch.patched(find_mapping(api, req), req.get("patchOperations"), RULES)
        check(api, req, response)
        find_integration(api, req)["integrationResponses"][req["statusCode"]] = response
        answer.clear()
        answer.update(response)

    change_api(ctx, req, changed)
    return answer


@ops
def delete_integration_response(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove a mapping. Errors: NotFoundException - no such integration or status."""

    def changed(api: dict[str, Any]) -> None:
        find_mapping(api, req)
        del find_integration(api, req)["integrationResponses"][req["statusCode"]]

    change_api(ctx, req, changed)


# -- details ------------------------------------------------------------------------------------------------------------


def find_mapping(api: Mapping[str, Any], req: Mapping[str, Any]) -> dict[str, Any]:
    response: dict[str, Any] | None = (find_integration(api, req).get("integrationResponses") or {}).get(req["statusCode"])
    if response is None:
        raise Missing("Invalid Response status code specified")
    return response


def check(api: Mapping[str, Any], req: Mapping[str, Any], response: Mapping[str, Any]) -> None:
    """The status and every header must be declared by the method; the pattern must compile."""
    declared = find_response(api, req).get("responseParameters") or {}
    for name in response.get("responseParameters") or {}:
        if name not in declared:
            raise Invalid(
                "Invalid mapping expression specified: Validation Result: warnings : [], errors : "
                f"[Invalid mapping expression parameter specified: {name}]"
            )
    compile_selection(response.get("selectionPattern") or "")
