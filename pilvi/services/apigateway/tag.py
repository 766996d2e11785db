"""Tags of REST APIs and stages, by ARN: `arn:aws:apigateway:REGION::/restapis/ID` with or without `/stages/NAME`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from pilvi.core.errors import Invalid, NotFound
from pilvi.core.service import Context, Operations
from pilvi.services.apigateway.rest_api import find_api
from pilvi.services.apigateway.stage import find_stage, stage_id

ops = Operations()

TARGET = re.compile(r"arn:aws[a-z-]*:apigateway:(?P<region>[a-z0-9-]+)::/restapis/(?P<api>[a-z0-9]+)(?:/stages/(?P<stage>[^/]+))?")
MOST_TAGS = 50


@ops
def tag_resource(ctx: Context, req: Mapping[str, Any]) -> None:
    """Add or replace tags. Errors: NotFoundException - no such API or stage. BadRequestException - more than 50 of them."""

    def added(tags: dict[str, str]) -> dict[str, str]:
        together: dict[str, str] = tags | req["tags"]
        if len(together) > MOST_TAGS:
            raise Invalid("Too many tags: a resource can have no more than 50 tags")
        return together

    change_tags(ctx, req, added)


@ops
def untag_resource(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove tags; keys that are not there are passed over."""
    change_tags(ctx, req, lambda tags: {key: value for key, value in tags.items() if key not in req["tagKeys"]})


@ops
def get_tags(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The tags of an API or a stage."""
    noun, id = target_of(ctx, req)
    return {"tags": ctx.records(noun).get(id).get("tags") or {}}


def change_tags(ctx: Context, req: Mapping[str, Any], change: Callable[[dict[str, str]], dict[str, str]]) -> None:
    noun, id = target_of(ctx, req)
    ctx.records(noun).update(id, lambda value: value | {"tags": change(value.get("tags") or {})})


def target_of(ctx: Context, req: Mapping[str, Any]) -> tuple[str, str]:
    """The table and id an ARN names."""
    found = TARGET.fullmatch(unquote(req["resourceArn"]))
    if found is None:
        raise Invalid("Invalid resource ARN specified")
    if found["region"] != ctx.region:
        raise NotFound("Invalid resource ARN specified: another Region")
    if found["stage"] is None:
        return "RestApi", find_api(ctx, {"restApiId": found["api"]})["id"]
    stage = find_stage(ctx, {"restApiId": found["api"], "stageName": found["stage"]})
    return "Stage", stage_id(found["api"], stage["stageName"])
