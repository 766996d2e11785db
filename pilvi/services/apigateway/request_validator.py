"""Request validators: what a method wants to be checked before anything behind it runs - its parameters, its body, both."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import Conflict, Invalid, NotFound
from pilvi.core.service import Context, Operations
from pilvi.services.apigateway import patch
from pilvi.services.apigateway.call import Call, Failure
from pilvi.services.apigateway.mapping import request_value
from pilvi.services.apigateway.model import schema_at
from pilvi.services.apigateway.rest_api import change_api, find_api, paged
from pilvi.services.apigateway.schema import fits

ops = Operations()

RULES = {
    "/name": patch.setting(),
    "/validateRequestBody": patch.setting(patch.flag),
    "/validateRequestParameters": patch.setting(patch.flag),
}


@ops
def create_request_validator(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Name a set of checks. req: name, validateRequestBody, validateRequestParameters. Errors: NotFoundException - no such API."""
    validator = {
        "id": ctx.ids.lower(6),
        "name": req.get("name") or "",
        "validateRequestBody": bool(req.get("validateRequestBody")),
        "validateRequestParameters": bool(req.get("validateRequestParameters")),
    }

    def changed(api: dict[str, Any]) -> None:
        api.setdefault("_validators", {})[validator["id"]] = validator

    change_api(ctx, req, changed)
    return validator


@ops
def get_request_validators(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The validators of an API. req: limit (default 25, at most 500), position."""
    validators = list((find_api(ctx, req).get("_validators") or {}).values())
    items, position = paged(validators, lambda each: str(each["id"]), req)
    return {"items": items, "position": position}


@ops
def get_request_validator(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """One validator. Errors: NotFoundException - no such API or validator."""
    return find_validator(find_api(ctx, req), req)


@ops
def update_request_validator(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Change what is checked; in effect with the next deployment. req: patchOperations."""
    answer: dict[str, Any] = {}

    def changed(api: dict[str, Any]) -> None:
        validator = patch.patched(find_validator(api, req), req.get("patchOperations"), RULES)
        api["_validators"][validator["id"]] = validator
        answer.clear()
        answer.update(validator)

    change_api(ctx, req, changed)
    return answer


@ops
def delete_request_validator(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove a validator. Errors: ConflictException - a method names it. NotFoundException - no such validator."""

    def changed(api: dict[str, Any]) -> None:
        find_validator(api, req)
        for resource in api["_resources"].values():
            for verb, method in resource["resourceMethods"].items():
                if method.get("requestValidatorId") == req["requestValidatorId"]:
                    raise Conflict(
                        f"Cannot delete request validator '{req['requestValidatorId']}', is referenced in method: {verb}"
                    )
        del api["_validators"][req["requestValidatorId"]]

    change_api(ctx, req, changed)


# -- for the other nouns ------------------------------------------------------------------------------------------------


def find_validator(api: Mapping[str, Any], req: Mapping[str, Any]) -> dict[str, Any]:
    validator: dict[str, Any] | None = (api.get("_validators") or {}).get(req["requestValidatorId"])
    if validator is None:
        raise NotFound("Invalid Request Validator identifier specified")
    return validator


def check_request(call: Call, validator: Mapping[str, Any], models: Mapping[str, Any]) -> None:
    """Failure (400) for a request that is not as its method says."""
    if validator["validateRequestParameters"]:
        check_parameters(call)
    if validator["validateRequestBody"]:
        check_body(call, models)


def check_parameters(call: Call) -> None:
    wanted = [name for name, is_required in (call.method.get("requestParameters") or {}).items() if is_required]
    missing = [name.split(".", 3)[3] for name in wanted if not request_value(call, name)]
    if missing:
        raise refused(f"Missing required request parameters: [{', '.join(missing)}]")


def check_body(call: Call, models: Mapping[str, Any]) -> None:
    """By the model of the content type; a type without a model is not checked, as on AWS."""
    chosen = {kind.lower(): name for kind, name in (call.method.get("requestModels") or {}).items()}
    name = chosen.get(call.content_type)
    if name is None:
        return
    schema = json.loads(models[name]["schema"])
    try:
        body = json.loads(call.body)
    except ValueError:
        raise refused("Invalid request body") from None
    if not fits(schema, body, schema, lambda reference: schema_at(models, reference)):
        raise refused("Invalid request body")


def refused(message: str) -> Failure:
    return Failure(400, "BadRequestException", json.dumps({"message": message}))


def check_named(api: Mapping[str, Any], method: Mapping[str, Any]) -> None:
    """A method may name only a validator that is there."""
    if (id := method.get("requestValidatorId")) and id not in (api.get("_validators") or {}):
        raise Invalid("Invalid Request Validator identifier specified")
