"""API keys: what callers send as `x-api-key` for methods that ask for one. Values are kept sealed and found by their hash."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import AlreadyExists, Conflict, Invalid, NotFound, Unsupported
from pilvi.core.service import Context, Operations
from pilvi.services.apigateway import patch
from pilvi.services.apigateway.rest_api import paged, whole_second

ops = Operations()

LEAST_VALUE, MOST_VALUE = 20, 128
RULES = {
    "/name": patch.setting(),
    "/description": patch.setting(),
    "/enabled": patch.setting(patch.flag),
    "/customerId": patch.setting(),
}


@ops
def create_api_key(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Create a key; it answers with its value, which later reads show only when asked.

    req: name, description, enabled (default false, as on AWS), value (20-128 characters; made when absent), customerId, tags.
    Errors: ConflictException - the value is taken. BadRequestException - a value too short or too long.
    Differs: stageKeys, the way before usage plans, answers NotImplemented.
    """
    if req.get("stageKeys"):
        raise Unsupported("apigateway CreateApiKey with stageKeys is not built; use a usage plan.")
    value = req.get("value") or ctx.ids.pick("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", 40)
    if not LEAST_VALUE <= len(value) <= MOST_VALUE:
        raise Invalid(f"API Key value should be between {LEAST_VALUE} and {MOST_VALUE} characters")
    id, now = ctx.ids.lower(10), whole_second(ctx)
    key: dict[str, Any] = {
        "id": id,
        "name": req.get("name") or "",
        "enabled": bool(req.get("enabled")),
        "createdDate": now,
        "lastUpdatedDate": now,
        "stageKeys": [],
        "_value": ctx.keyring.seal(value.encode(), id.encode()),
        "_hash": hash_of(value),
    }
    key |= {member: req[member] for member in ("description", "customerId", "tags") if req.get(member)}
    try:
        ctx.write(
            ctx.records("ApiKeyValue").insertion(hash_of(value), {"id": id, "enabled": key["enabled"]}),
            ctx.records("ApiKey").insertion(id, key),
        )
    except AlreadyExists:
        raise Conflict("API Key already exists") from None
    return {**key, "value": value}


@ops
def get_api_keys(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Keys whose name begins with nameQuery. req: nameQuery, customerId, includeValues, limit (default 25), position."""
    wanted, customer = req.get("nameQuery") or "", req.get("customerId")
    chosen = [
        key for key in ctx.records("ApiKey").all() if key["name"].startswith(wanted) and customer in (None, key.get("customerId"))
    ]
    keys, position = paged(chosen, lambda key: str(key["id"]), req)
    return {"items": [shown(ctx, key, bool(req.get("includeValues"))) for key in keys], "position": position}


@ops
def get_api_key(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """One key. req: includeValue. Errors: NotFoundException - no such key."""
    return shown(ctx, find_key(ctx, req["apiKey"]), bool(req.get("includeValue")))


@ops
def update_api_key(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Rename, describe, enable or disable a key; requests see it at once. req: patchOperations."""
    while True:
        find_key(ctx, req["apiKey"])
        row = ctx.records("ApiKey").row(req["apiKey"])
        if row is None:
            continue
        key = patch.patched(row.value, req.get("patchOperations"), RULES) | {"lastUpdatedDate": whole_second(ctx)}
        try:
            ctx.write(
                ctx.records("ApiKey").revision(row.id, key, row.version),
                ctx.records("ApiKeyValue").replacement(key["_hash"], {"id": row.id, "enabled": key["enabled"]}),
            )
        except Conflict:
            continue
        return shown(ctx, key, False)


@ops
def delete_api_key(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove a key, from its usage plans as well. Errors: NotFoundException - no such key."""
    key = find_key(ctx, req["apiKey"])
    plans = ctx.records("UsagePlanKey")
    held = [plans.deletion(row.id) for row in plans.scan(limit=100_000) if row.value["id"] == key["id"]]
    ctx.write(ctx.records("ApiKey").deletion(key["id"]), ctx.records("ApiKeyValue").deletion(key["_hash"]), *held)


# -- for the other nouns ------------------------------------------------------------------------------------------------


def hash_of(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()


def find_key(ctx: Context, id: str) -> dict[str, Any]:
    key = ctx.records("ApiKey").find(id)
    if key is None:
        raise NotFound("Invalid API Key identifier specified")
    return key


def value_of(ctx: Context, key: Mapping[str, Any]) -> str:
    return ctx.keyring.unseal(key["_value"], key["id"].encode()).decode()


def shown(ctx: Context, key: Mapping[str, Any], with_value: bool) -> dict[str, Any]:
    return {**key, "value": value_of(ctx, key)} if with_value else dict(key)
