"""Resources: the paths of an API, each under its parent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import Conflict, Invalid, LimitExceeded, NotFound
from pilvi.core.service import Context, Operations
from pilvi.services.apigateway import patch
from pilvi.services.apigateway.rest_api import change_api, find_api, paged

ops = Operations()

MOST_RESOURCES = 300
"""Source: API Gateway quotas, "Resources per API"."""
PATH_PART = re.compile(r"[a-zA-Z0-9._\-:]+|\{[a-zA-Z0-9._\-:]+\+?\}")
RULES = {"/pathPart": patch.setting(), "/parentId": patch.setting()}


@ops
def create_resource(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add a path part below a resource: a word, `{param}`, or `{proxy+}` for the whole rest.

    Errors: ConflictException - the parent has such a child. BadRequestException - characters, or a child below `{proxy+}`.
    NotFoundException - no such API or parent.
    """
    made: dict[str, Any] = {}

    def changed(api: dict[str, Any]) -> None:
        resources = api["_resources"]
        parent = find_resource(api, req["parentId"])
        if len(resources) >= MOST_RESOURCES:
            raise LimitExceeded("Maximum number of resources for this API has been reached.")
        check_part(resources, parent, req["pathPart"])
        id = ctx.ids.lower(6)
        made.clear()
        made.update(
            id=id, parentId=parent["id"], pathPart=req["pathPart"], path=joined(parent["path"], req["pathPart"]), resourceMethods={}
        )
        resources[id] = made

    change_api(ctx, req, changed)
    return shown(made)


@ops
def get_resources(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Every resource, in the order of ids. req: embed=["methods"] shows methods whole; limit (default 25, at most 500), position."""
    resources, position = paged(list(find_api(ctx, req)["_resources"].values()), lambda each: str(each["id"]), req)
    return {"items": [shown(each, req) for each in resources], "position": position}


@ops
def get_resource(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """One resource. Errors: NotFoundException - no such API or resource."""
    return shown(find_resource(find_api(ctx, req), req["resourceId"]), req)


@ops
def update_resource(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Rename a resource or move it below another parent, with everything below it.

    req: patchOperations replacing /pathPart or /parentId. Errors: as CreateResource; BadRequestException - the root, or below itself.
    """
    answer: dict[str, Any] = {}

    def changed(api: dict[str, Any]) -> None:
        resources = api["_resources"]
        resource = find_resource(api, req["resourceId"])
        if "parentId" not in resource:
            raise Invalid("Cannot update the root resource")
        moved = patch.patched(resource, req.get("patchOperations"), RULES)
        parent = find_resource(api, moved["parentId"])
        if parent["id"] in ids_below(resources, resource["id"]):
            raise Invalid("Cannot move a resource below itself")
        others = {id: each for id, each in resources.items() if id != resource["id"]}
        check_part(others, parent, moved["pathPart"])
        moved["path"] = joined(parent["path"], moved["pathPart"])
        resources[resource["id"]] = moved
        rename_below(resources, moved)
        answer.clear()
        answer.update(moved)

    change_api(ctx, req, changed)
    return shown(answer)


@ops
def delete_resource(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove a resource with everything below it. Errors: BadRequestException - the root. NotFoundException - no such resource."""

    def changed(api: dict[str, Any]) -> None:
        resources = api["_resources"]
        if "parentId" not in find_resource(api, req["resourceId"]):
            raise Invalid("Cannot delete the root resource")
        for id in ids_below(resources, req["resourceId"]):
            del resources[id]

    change_api(ctx, req, changed)


# -- for the other nouns ------------------------------------------------------------------------------------------------


def find_resource(api: Mapping[str, Any], id: str) -> dict[str, Any]:
    resource: dict[str, Any] | None = api["_resources"].get(id)
    if resource is None:
        raise NotFound("Invalid Resource identifier specified")
    return resource


# -- details ------------------------------------------------------------------------------------------------------------


def shown(resource: Mapping[str, Any], req: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Methods by name alone, whole when embedded, absent when there are none."""
    answer = dict(resource)
    methods = answer.pop("resourceMethods")
    if methods:
        whole = "methods" in ((req or {}).get("embed") or ())
        answer["resourceMethods"] = methods if whole else {name: {} for name in methods}
    return answer


def check_part(resources: Mapping[str, Any], parent: Mapping[str, Any], part: str) -> None:
    """Whether a parent may have this child."""
    if not PATH_PART.fullmatch(part):
        raise Invalid(
            "Resource's path part only allow a-zA-Z0-9._-: or a valid greedy path variable and curly braces at the beginning and the end."
        )
    if parent["path"].endswith("+}"):
        raise Invalid(f"Cannot create a child of a resource with a greedy path variable: {parent['pathPart']}")
    if part.startswith("{") and part.strip("{+}") in [
        each.strip("{+}") for each in parent["path"].split("/") if each.startswith("{")
    ]:
        raise Invalid(f"Resource path contains the variable {part} more than once")
    for sibling in resources.values():
        if sibling.get("parentId") != parent["id"]:
            continue
        if sibling["pathPart"] == part:
            raise Conflict(f"Another resource with the same parent already has this name: {part}")
        if is_variable(part) and is_variable(sibling["pathPart"]):
            raise Invalid(
                f"A sibling ({sibling['pathPart']}) of this resource already has a variable path part -- only one is allowed"
            )


def is_variable(part: str) -> bool:
    return part.startswith("{") and not part.endswith("+}")


def joined(path: str, part: str) -> str:
    return f"{path.rstrip('/')}/{part}"


def ids_below(resources: Mapping[str, Any], id: str) -> list[str]:
    """The resource itself and all of its descendants."""
    found = [id]
    for each in found:
        found += [child for child, resource in resources.items() if resource.get("parentId") == each]
    return found


def rename_below(resources: dict[str, Any], parent: Mapping[str, Any]) -> None:
    for resource in resources.values():
        if resource.get("parentId") == parent["id"]:
            resource["path"] = joined(parent["path"], resource["pathPart"])
            rename_below(resources, resource)
