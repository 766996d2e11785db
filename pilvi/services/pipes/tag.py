"""Tags of pipes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pilvi.core.arn import Arn
from pilvi.core.errors import Invalid, NotFound
from pilvi.core.service import Context, Operations

MOST: Final = 50

ops = Operations()


@ops
def tag_resource(ctx: Context, req: Mapping[str, Any]) -> None:
    """Add tags to a pipe. Errors: NotFoundException; ValidationException - more than 50, or a reserved key."""

    def change(pipe: dict[str, Any]) -> None:
        pipe["Tags"] = {**pipe["Tags"], **req["tags"]}
        check_tags(pipe["Tags"])

    ctx.records("Pipe").update(_name(ctx, req), change)


@ops
def untag_resource(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove tags of a pipe by their keys. Errors: NotFoundException."""

    def change(pipe: dict[str, Any]) -> None:
        pipe["Tags"] = {key: value for key, value in pipe["Tags"].items() if key not in req["tagKeys"]}

    ctx.records("Pipe").update(_name(ctx, req), change)


@ops
def list_tags_for_resource(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """A pipe's tags. Errors: NotFoundException."""
    return {"tags": ctx.records("Pipe").get(_name(ctx, req))["Tags"]}


def check_tags(tags: Mapping[str, str]) -> None:
    if len(tags) > MOST:
        raise Invalid(f"A pipe can have at most {MOST} tags.")
    if any(key.lower().startswith("aws:") for key in tags):
        raise Invalid("Tag keys must not start with aws:.")


def _name(ctx: Context, req: Mapping[str, Any]) -> str:
    """The pipe's name, where it is this account's and there."""
    arn = Arn.parse(req["resourceArn"])
    name = arn.resource.removeprefix("pipe/") if arn is not None else ""
    if arn is None or (arn.account, arn.region) != (ctx.account, ctx.region) or ctx.records("Pipe").find(name) is None:
        raise NotFound(f"Resource {req['resourceArn']} does not exist.")
    return name
