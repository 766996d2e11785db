"""REST APIs: the whole of an API's drawing is one document; a table of addresses tells whose an API id is."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from pilvi.core.errors import AlreadyExists, Invalid, NotFound, Unsupported
from pilvi.core.paging import decode_token, encode_token
from pilvi.core.service import Context, Operations
from pilvi.services.apigateway import patch
from pilvi.storage.records import Change, DeleteBody

ops = Operations()
T = TypeVar("T")


def header_only(value: str) -> str:
    if value != "HEADER":
        raise Unsupported("apigateway UpdateRestApi of apiKeySource to AUTHORIZER is not built.")
    return value


PAGE_LIMIT = 25
MOST_IN_PAGE = 500
RULES = {
    "/name": patch.setting(),
    "/description": patch.optional(),
    "/version": patch.optional(),
    "/policy": patch.optional(),
    "/apiKeySource": patch.setting(header_only),
    "/disableExecuteApiEndpoint": patch.setting(patch.flag),
    "/binaryMediaTypes/*": patch.member(),
    "/endpointConfiguration/types/EDGE": patch.setting(),
    "/endpointConfiguration/types/REGIONAL": patch.setting(),
}


@ops
def create_rest_api(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Create an API with nothing but its root resource `/`, or with the resources of another one.

    req: name, description, version, cloneFrom, binaryMediaTypes, endpointConfiguration, policy, tags, disableExecuteApiEndpoint.
    Errors: BadRequestException - an empty name, a policy that is no JSON.
    Differs: EDGE and REGIONAL answer from the same place; PRIVATE and minimumCompressionSize answer NotImplemented.
    """
    check_buildable(req)
    if not req["name"].strip():
        raise Invalid("The REST API name must not be empty.")
    drawing = copied(ctx, req["cloneFrom"]) if req.get("cloneFrom") else {"_resources": root_only(ctx)}
    while True:
        id = ctx.ids.lower(10)
        api = {
            "id": id,
            "name": req["name"],
            "createdDate": whole_second(ctx),
            "apiKeySource": req.get("apiKeySource") or "HEADER",
            "endpointConfiguration": {"ipAddressType": "ipv4", "types": ["EDGE"]} | (req.get("endpointConfiguration") or {}),
            "disableExecuteApiEndpoint": bool(req.get("disableExecuteApiEndpoint")),
            "rootResourceId": next(each["id"] for each in drawing["_resources"].values() if each["path"] == "/"),
            "apiStatus": "AVAILABLE",
            **drawing,
        }
        api |= {key: req[key] for key in ("description", "version", "binaryMediaTypes", "tags") if req.get(key)}
        if req.get("policy"):
            api["policy"] = checked_policy(ctx, id, req["policy"])
        address = {"account": ctx.account, "region": ctx.region}
        try:
            ctx.write(addresses(ctx).insertion(id, address), ctx.records("RestApi").insertion(id, api))
        except AlreadyExists:
            continue
        return shown(api)


@ops
def get_rest_apis(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """APIs of this account and Region. req: limit (default 25, at most 500), position."""
    apis, position = ctx.records("RestApi").page(req.get("position"), page_size(req))
    return {"items": [shown(api) for api in apis], "position": position}


@ops
def get_rest_api(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """One API. Errors: NotFoundException - no such API."""
    return shown(find_api(ctx, req))


@ops
def update_rest_api(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Change settings. What decides how requests are answered takes effect with the next deployment.

    req: patchOperations on /name, /description, /version, /policy, /apiKeySource, /disableExecuteApiEndpoint,
    /binaryMediaTypes/{type~1subtype}, /endpointConfiguration/types/{EDGE or REGIONAL}.
    """

    def changed(api: dict[str, Any]) -> dict[str, Any]:
        operations = [operation for operation in req.get("patchOperations") or () if not retyped(api, operation)]
        api = patch.patched(api, operations, RULES)
        if api.get("policy"):
            api["policy"] = checked_policy(ctx, api["id"], api["policy"])
        else:
            api.pop("policy", None)
        return api

    return shown(change_api(ctx, req, changed))


@ops
def delete_rest_api(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove an API with its deployments and stages in one step; its URL is gone with it.

    Errors: NotFoundException - no such API.
    """
    id = find_api(ctx, req)["id"]
    changes: list[Change] = [ctx.records("RestApi").deletion(id), addresses(ctx).deletion(id)]
    for noun in ("Deployment", "Stage"):
        table = ctx.records(noun)
        for row in table.scan(prefix=f"{id}/", limit=100_000):
            changes.append(table.deletion(row.id))
            if noun == "Deployment":
                changes.append(DeleteBody(row.value["_body"]))
    ctx.write(*changes)


# -- for the other nouns ------------------------------------------------------------------------------------------------


def addresses(ctx: Context) -> Any:
    """API id -> {account, region}, for the site, which knows only the id."""
    return ctx.records("RestApiAddress", account="", region="", service="apigateway")


def find_api(ctx: Context, req: Mapping[str, Any]) -> dict[str, Any]:
    api = ctx.records("RestApi").find(req["restApiId"])
    if api is None:
        raise no_such_api(ctx, req)
    return api


def change_api(ctx: Context, req: Mapping[str, Any], change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> dict[str, Any]:
    """Read, change, write the document."""
    try:
        return ctx.records("RestApi").update(req["restApiId"], change)
    except NotFound as missing:
        if missing.message.startswith("RestApi "):
            raise no_such_api(ctx, req) from None
        raise


def no_such_api(ctx: Context, req: Mapping[str, Any]) -> NotFound:
    return NotFound(f"Invalid API identifier specified {ctx.account}:{req['restApiId']}")


def whole_second(ctx: Context) -> datetime:
    """The present time as API Gateway keeps it."""
    return ctx.clock.now().replace(microsecond=0)


def page_size(req: Mapping[str, Any]) -> int:
    limit = req.get("limit") or PAGE_LIMIT
    if not 1 <= limit <= MOST_IN_PAGE:
        raise Invalid(f"limit must be between 1 and {MOST_IN_PAGE}")
    return int(limit)


def paged(items: list[T], key: Callable[[T], str], req: Mapping[str, Any]) -> tuple[list[T], str | None]:
    """One page of what is in memory already, and the position of the next."""
    position, limit = decode_token(req.get("position")), page_size(req)
    left = sorted((item for item in items if key(item) > position), key=key)
    return left[:limit], encode_token(key(left[limit - 1])) if len(left) > limit else None


def shown(api: Mapping[str, Any]) -> dict[str, Any]:
    """As AWS shows it: the policy is escaped once more, as a string within a string."""
    if "policy" not in api:
        return dict(api)
    return {**api, "policy": json.dumps(api["policy"])[1:-1]}


# -- details ------------------------------------------------------------------------------------------------------------


def check_buildable(req: Mapping[str, Any]) -> None:
    if req.get("apiKeySource", "HEADER") != "HEADER":
        raise Unsupported("apigateway CreateRestApi with apiKeySource AUTHORIZER is not built.")
    if "PRIVATE" in ((req.get("endpointConfiguration") or {}).get("types") or ()):
        raise Unsupported("apigateway CreateRestApi with endpoint type PRIVATE is not built.")
    if req.get("minimumCompressionSize") is not None:
        raise Unsupported("apigateway CreateRestApi with minimumCompressionSize is not built.")


def root_only(ctx: Context) -> dict[str, Any]:
    id = ctx.ids.lower(10)
    return {id: {"id": id, "path": "/", "resourceMethods": {}}}


def copied(ctx: Context, id: str) -> dict[str, Any]:
    """The drawing of another API."""
    source = ctx.records("RestApi").find(id)
    if source is None:
        raise no_such_api(ctx, {"restApiId": id})
    return {key: source[key] for key in ("_resources", "_authorizers", "_models", "_validators") if key in source}


def retyped(api: dict[str, Any], operation: Mapping[str, Any]) -> bool:
    """`replace /endpointConfiguration/types/EDGE` by the value REGIONAL, the one path of three parts."""
    path, value = operation.get("path", ""), operation.get("value")
    if operation.get("op") != "replace" or not path.startswith("/endpointConfiguration/types/"):
        return False
    if value == "PRIVATE":
        raise Unsupported("apigateway UpdateRestApi with endpoint type PRIVATE is not built.")
    if value not in ("EDGE", "REGIONAL") or path.rsplit("/", 1)[1] not in api["endpointConfiguration"]["types"]:
        raise Invalid(f"Invalid endpoint configuration value {value}")
    api["endpointConfiguration"] = api["endpointConfiguration"] | {"types": [value]}
    return True


def checked_policy(ctx: Context, id: str, policy: str) -> str:
    """The policy with the short resource form `execute-api:/stage/verb/path` written out, as AWS keeps it."""
    try:
        document = json.loads(policy)
    except ValueError:
        raise Invalid("Invalid policy document. Please check the policy syntax and ensure that Principals are valid.") from None
    statements = document.get("Statement") if isinstance(document, dict) else None
    if not isinstance(statements, list | dict):
        raise Invalid("Invalid policy document. Please check the policy syntax and ensure that Principals are valid.")
    for statement in [statements] if isinstance(statements, dict) else statements:
        for member in ("Resource", "NotResource"):
            if member in statement:
                statement[member] = written_out(ctx, id, statement[member])
    return json.dumps(document, separators=(",", ":"))


def written_out(ctx: Context, id: str, resource: Any) -> Any:
    if isinstance(resource, list):
        return [written_out(ctx, id, each) for each in resource]
    if isinstance(resource, str) and resource.startswith("execute-api:/"):
        return ctx.arn(f"{id}{resource.removeprefix('execute-api:')}", service="execute-api")
    return resource
