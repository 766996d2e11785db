"""Models: JSON schemas of bodies. Every API is born with two, Empty and Error."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import Conflict, Invalid, NotFound
from pilvi.core.service import Context, Operations
from pilvi.services.apigateway import patch
from pilvi.services.apigateway.rest_api import change_api, find_api, paged
from pilvi.services.apigateway.schema import check_schema

ops = Operations()

NAME = re.compile(r"[a-zA-Z0-9]+")
REFERENCE = re.compile(r"https://apigateway\.amazonaws\.com/restapis/[a-z0-9]+/models/([a-zA-Z0-9]+)")
RULES = {"/description": patch.setting(), "/schema": patch.setting()}

# Source: GetModels of a new API, as AWS documents it under "Understand data models".
BUILT_IN = {
    "Empty": {
        "name": "Empty",
        "description": "This is a default empty schema model",
        "contentType": "application/json",
        "schema": '{\n  "$schema": "http://json-schema.org/draft-04/schema#",\n  "title" : "Empty Schema",\n  "type" : "object"\n}',
    },
    "Error": {
        "name": "Error",
        "description": "This is a default error schema model",
        "contentType": "application/json",
        "schema": '{\n  "$schema" : "http://json-schema.org/draft-04/schema#",\n  "title" : "Error Schema",\n  "type" : "object",\n'
        '  "properties" : {\n    "message" : { "type" : "string" }\n  }\n}',
    },
}


@ops
def create_model(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Name a schema. req: name (letters and digits), contentType, schema (JSON Schema draft 4), description.

    Errors: ConflictException - the name is taken. BadRequestException - no JSON, or a keyword that nobody would check.
    """
    if not NAME.fullmatch(req["name"]):
        raise Invalid("Model name must be alphanumeric")
    model = {"id": ctx.ids.lower(6), "name": req["name"], "contentType": req["contentType"], "schema": req.get("schema") or "{}"}
    if req.get("description"):
        model["description"] = req["description"]
    check_text(model["schema"])

    def changed(api: dict[str, Any]) -> None:
        if req["name"] in models_of(api):
            raise Conflict("Model name already exists for this REST API")
        api.setdefault("_models", {})[req["name"]] = model

    change_api(ctx, req, changed)
    return model


@ops
def get_models(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The models of an API. req: limit (default 25, at most 500), position."""
    models, position = paged(list(models_of(find_api(ctx, req)).values()), lambda each: str(each["name"]), req)
    return {"items": models, "position": position}


@ops
def get_model(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """One model. Errors: NotFoundException - no such API or model."""
    return find_model(find_api(ctx, req), req["modelName"])


@ops
def update_model(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Change schema or description; in effect with the next deployment. req: patchOperations."""
    answer: dict[str, Any] = {}

    def changed(api: dict[str, Any]) -> None:
        model = patch.patched(find_model(api, req["modelName"]), req.get("patchOperations"), RULES)
        check_text(model["schema"])
        api.setdefault("_models", {})[model["name"]] = model
        answer.clear()
        answer.update(model)

    change_api(ctx, req, changed)
    return answer


@ops
def delete_model(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove a model. Errors: ConflictException - a method uses it. NotFoundException - no such model."""

    def changed(api: dict[str, Any]) -> None:
        find_model(api, req["modelName"])
        for resource in api["_resources"].values():
            for method in resource["resourceMethods"].values():
                if req["modelName"] in (method.get("requestModels") or {}).values():
                    raise Conflict(f"Cannot delete model '{req['modelName']}', is referenced in method request")
        if req["modelName"] in BUILT_IN:
            raise Invalid(f"Cannot delete model '{req['modelName']}', every API has it")
        del api["_models"][req["modelName"]]

    change_api(ctx, req, changed)


# -- for the other nouns ------------------------------------------------------------------------------------------------


def models_of(api: Mapping[str, Any]) -> dict[str, Any]:
    """All models; the two of the beginning have ids that stay the same for an API."""
    born = {name: {"id": f"{api['rootResourceId'][:5]}{name[0].lower()}", **model} for name, model in BUILT_IN.items()}
    return born | (api.get("_models") or {})


def find_model(api: Mapping[str, Any], name: str) -> dict[str, Any]:
    model: dict[str, Any] | None = models_of(api).get(name)
    if model is None:
        raise NotFound(f"Invalid model name specified: {name}")
    return model


def check_models(api: Mapping[str, Any], models: Mapping[str, str]) -> None:
    for name in models.values():
        if name not in models_of(api):
            raise Invalid(f"Invalid model identifier specified: {name}")


def check_text(text: str) -> None:
    try:
        schema = json.loads(text)
    except ValueError:
        raise Invalid("Invalid model specified: the schema is no JSON") from None
    check_schema(schema)


def schema_at(models: Mapping[str, Any], reference: str) -> Any:
    """The schema of the model that a `$ref` from another model names."""
    found = REFERENCE.fullmatch(reference)
    model = models.get(found[1]) if found else None
    return json.loads(model["schema"]) if model else None
