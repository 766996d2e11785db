"""The account's public registry: the alias in its repositories' addresses, what its page says, and the token to push with."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from pilvi.core.arn import Arn, partition_of
from pilvi.core.errors import AlreadyExists
from pilvi.core.service import Context, Operations
from pilvi.images.password import USER, issue

ops = Operations()


@ops
def get_authorization_token(ctx: Context, _req: Mapping[str, Any]) -> Mapping[str, Any]:
    """A user name and password for `docker login public.ecr.aws`, as base 64, good for twelve hours."""
    password, until = issue(ctx)
    token = base64.b64encode(f"{USER}:{password}".encode()).decode()
    return {"authorizationData": {"authorizationToken": token, "expiresAt": until}}


@ops
def describe_registries(ctx: Context, _req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The account's registry with its alias; none before the first repository."""
    mine = ctx.records("Registry", region="").find("registry")
    if mine is None:
        return {"registries": []}
    alias = {"name": mine["alias"], "status": "ACTIVE", "primaryRegistryAlias": True, "defaultRegistryAlias": True}
    registry = {
        "registryId": ctx.account,
        "registryArn": str(Arn(partition_of(ctx.region), "ecr-public", "", ctx.account, f"registry/{ctx.account}")),
        "registryUri": f"public.ecr.aws/{mine['alias']}",
        "verified": False,
        "aliases": [alias],
    }
    return {"registries": [registry]}


@ops
def put_registry_catalog_data(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The name that the registry's page shows."""
    alias_of(ctx)
    data = {"displayName": req.get("displayName") or ""}
    ctx.records("Registry", region="").update("registry", lambda record: record | {"catalog": data})
    return {"registryCatalogData": data}


@ops
def get_registry_catalog_data(ctx: Context, _req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The name that the registry's page shows."""
    mine = ctx.records("Registry", region="").find("registry") or {}
    return {"registryCatalogData": mine.get("catalog") or {"displayName": ""}}


def alias_of(ctx: Context) -> str:
    """The account's alias, given when it is first needed: a letter, and seven letters or digits."""
    mine = ctx.records("Registry", region="")
    if (found := mine.find("registry")) is not None:
        return str(found["alias"])
    alias = ctx.ids.pick("abcdefghijklmnop", 1) + ctx.ids.lower(7)
    everybody = ctx.records("Alias", account="", region="")
    try:
        ctx.write(everybody.insertion(alias, {"account": ctx.account}), mine.insertion("registry", {"alias": alias}))
    except AlreadyExists:
        return alias_of(ctx)
    return alias
