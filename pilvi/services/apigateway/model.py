"""Models: the two that every API is born with, Empty and Error. Own models come with request validation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import Invalid, NotFound
from pilvi.core.service import Context, Operations
from pilvi.services.apigateway.rest_api import find_api, paged

ops = Operations()

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
def get_models(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The models of an API."""
    api = find_api(ctx, req)
    models, position = paged([shown(api, name) for name in BUILT_IN], lambda each: str(each["name"]), req)
    return {"items": models, "position": position}


@ops
def get_model(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """One model. Errors: NotFoundException - no such API or model."""
    api = find_api(ctx, req)
    if req["modelName"] not in BUILT_IN:
        raise NotFound(f"Invalid model identifier specified: {req['modelName']}")
    return shown(api, req["modelName"])


def shown(api: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Ids are six characters that stay the same for an API."""
    return {"id": f"{api['rootResourceId'][:5]}{name[0].lower()}", **BUILT_IN[name]}


def check_models(models: Mapping[str, str]) -> None:
    for name in models.values():
        if name not in BUILT_IN:
            raise Invalid(f"Invalid model identifier specified: {name}")
