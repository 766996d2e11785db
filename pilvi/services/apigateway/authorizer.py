"""Lambda authorizers: functions that look at a token, or at a whole request, and answer with a policy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import Conflict, Invalid, NotFound, Unsupported
from pilvi.core.service import Context, Operations
from pilvi.services.apigateway import patch
from pilvi.services.apigateway.integration import LAMBDA_URI
from pilvi.services.apigateway.rest_api import change_api, find_api, paged
from pilvi.services.apigateway.selection import compile_selection

ops = Operations()

DEFAULT_TTL_S, MOST_TTL_S = 300, 3600
SOURCE = re.compile(r"(?:method\.request\.(?:header|querystring)\.[^\s,]+|(?:context|stageVariables)\.[^\s,]+)")
RULES = {
    "/name": patch.setting(),
    "/authorizerUri": patch.setting(),
    "/authorizerCredentials": patch.optional(),
    "/identitySource": patch.setting(),
    "/identityValidationExpression": patch.optional(),
    "/authorizerResultTtlInSeconds": patch.setting(patch.number),
}


@ops
def create_authorizer(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Name a function that methods of type CUSTOM ask.

    req: name, type TOKEN or REQUEST, authorizerUri (as of a Lambda integration), identitySource (`method.request.header.NAME`; for
    REQUEST several, parted by commas), identityValidationExpression (TOKEN), authorizerResultTtlInSeconds (0-3,600, default 300).
    Errors: BadRequestException - a setting of another form. NotFoundException - no such API.
    Differs: COGNITO_USER_POOLS answers NotImplemented.
    """
    if req["type"] == "COGNITO_USER_POOLS":
        raise Unsupported("apigateway authorizers of type COGNITO_USER_POOLS are not built.")
    authorizer = {
        "id": ctx.ids.lower(6),
        "name": req["name"],
        "type": req["type"],
        "authType": req.get("authType") or "custom",
        "authorizerResultTtlInSeconds": req.get("authorizerResultTtlInSeconds", DEFAULT_TTL_S),
    }
    members = ("authorizerUri", "authorizerCredentials", "identitySource", "identityValidationExpression")
    authorizer |= {member: req[member] for member in members if req.get(member)}
    check(authorizer)

    def changed(api: dict[str, Any]) -> None:
        authorizers = api.setdefault("_authorizers", {})
        if any(each["name"] == req["name"] for each in authorizers.values()):
            raise Conflict("Authorizer name must be unique within an API")
        authorizers[authorizer["id"]] = authorizer

    change_api(ctx, req, changed)
    return authorizer


@ops
def get_authorizers(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The authorizers of an API. req: limit (default 25, at most 500), position."""
    authorizers = list((find_api(ctx, req).get("_authorizers") or {}).values())
    items, position = paged(authorizers, lambda each: str(each["id"]), req)
    return {"items": items, "position": position}


@ops
def get_authorizer(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """One authorizer. Errors: NotFoundException - no such API or authorizer."""
    return find_authorizer(find_api(ctx, req), req)


@ops
def update_authorizer(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Change settings; in effect with the next deployment. req: patchOperations, for example replace /authorizerUri."""
    answer: dict[str, Any] = {}

    def changed(api: dict[str, Any]) -> None:
        authorizer = patch.patched(find_authorizer(api, req), req.get("patchOperations"), RULES)
        check(authorizer)
        api["_authorizers"][authorizer["id"]] = authorizer
        answer.clear()
        answer.update(authorizer)

    change_api(ctx, req, changed)
    return answer


@ops
def delete_authorizer(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove an authorizer. Errors: ConflictException - a method asks it. NotFoundException - no such authorizer."""

    def changed(api: dict[str, Any]) -> None:
        find_authorizer(api, req)
        for resource in api["_resources"].values():
            for verb, method in resource["resourceMethods"].items():
                if method.get("authorizerId") == req["authorizerId"]:
                    raise Conflict(f"Cannot delete authorizer '{req['authorizerId']}', is referenced in method: {verb}")
        del api["_authorizers"][req["authorizerId"]]

    change_api(ctx, req, changed)


def find_authorizer(api: Mapping[str, Any], req: Mapping[str, Any]) -> dict[str, Any]:
    authorizer: dict[str, Any] | None = (api.get("_authorizers") or {}).get(req["authorizerId"])
    if authorizer is None:
        raise NotFound("Invalid Authorizer identifier specified")
    return authorizer


def check(authorizer: Mapping[str, Any]) -> None:
    if not LAMBDA_URI.fullmatch(authorizer.get("authorizerUri") or ""):
        raise Invalid("Invalid Authorizer URI specified")
    if not 0 <= authorizer["authorizerResultTtlInSeconds"] <= MOST_TTL_S:
        raise Invalid(f"Authorizer result TTL must be between 0 and {MOST_TTL_S} seconds")
    sources = sources_of(authorizer)
    if not all(SOURCE.fullmatch(source) for source in sources):
        raise Invalid("Invalid identity source specified")
    is_token = authorizer["type"] == "TOKEN"
    if is_token and (len(sources) != 1 or not sources[0].startswith("method.request.header.")):
        raise Invalid("Invalid identity source specified: a TOKEN authorizer needs one method.request.header")
    if not is_token and not sources and authorizer["authorizerResultTtlInSeconds"]:
        raise Invalid("Identity source is required when caching is enabled")
    compile_selection(authorizer.get("identityValidationExpression") or "")


def sources_of(authorizer: Mapping[str, Any]) -> list[str]:
    return [part.strip() for part in (authorizer.get("identitySource") or "").split(",") if part.strip()]
