"""Aliases: names that point to a version, or split their calls between two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pilvi.core.errors import AlreadyExists, NotFound
from pilvi.core.paging import decode_token, encode_token
from pilvi.core.service import Context, Operations
from pilvi.services.lambda_.names import (
    LATEST,
    FunctionRef,
    conflict,
    function_not_found,
    function_ref,
    invalid,
    not_found,
    stale_revision,
    version_id,
)

if TYPE_CHECKING:
    from types_boto3_lambda import type_defs as t

ops = Operations()


@ops
def create_alias(ctx: Context, req: t.CreateAliasRequestTypeDef) -> Mapping[str, Any]:
    """Name a version. RoutingConfig sends a part (0.0-1.0) of the calls to a second one.

    Errors: ResourceNotFoundException - no such function or version; ResourceConflictException - "Alias already exists: ARN";
    InvalidParameterValueException - weights that make no sense.
    Source: Lambda API reference, CreateAlias; developer guide, "Implement canary deployments using weighted aliases".
    """
    ref = _named(ctx, req)
    _check_target(ctx, ref, req["FunctionVersion"])
    record: dict[str, Any] = {
        "AliasArn": f"{ref.arn}:{req['Name']}",
        "Name": req["Name"],
        "FunctionVersion": req["FunctionVersion"],
        "Description": req.get("Description", ""),
        "RevisionId": ctx.ids.uuid(),
    }
    _set_routing(ctx, ref, record, req.get("RoutingConfig"))
    try:
        ctx.records("Alias", account=ref.account).insert(f"{ref.name}/{req['Name']}", record)
    except AlreadyExists as error:
        raise conflict(f"Alias already exists: {record['AliasArn']}") from error
    return record


@ops
def get_alias(ctx: Context, req: t.GetAliasRequestTypeDef) -> Mapping[str, Any]:
    """One alias. Errors: ResourceNotFoundException - "Cannot find alias arn: ARN"."""
    ref = _named(ctx, req)
    found = ctx.records("Alias", account=ref.account).find(f"{ref.name}/{req['Name']}")
    if found is None:
        raise _alias_not_found(ref, req["Name"])
    return found


@ops
def list_aliases(ctx: Context, req: t.ListAliasesRequestTypeDef) -> Mapping[str, Any]:
    """Aliases of a function by name, or only those that point to FunctionVersion."""
    ref = _named(ctx, req)
    wanted, limit = req.get("FunctionVersion"), min(req.get("MaxItems") or 50, 50)
    after = decode_token(req.get("Marker"))
    found = [
        alias
        for alias in ctx.records("Alias", account=ref.account).all(prefix=f"{ref.name}/")
        if alias["Name"] > after and (wanted is None or _points_to(alias, wanted))
    ]
    out: dict[str, Any] = {"Aliases": found[:limit]}
    if len(found) > limit:
        out["NextMarker"] = encode_token(found[limit - 1]["Name"])
    return out


@ops
def update_alias(ctx: Context, req: t.UpdateAliasRequestTypeDef) -> Mapping[str, Any]:
    """Point an alias elsewhere, or change its weights (an empty map takes them away) or description.

    Errors: as CreateAlias; PreconditionFailedException - RevisionId is not the latest.
    """
    ref = _named(ctx, req)

    def change(record: dict[str, Any]) -> None:
        if req.get("RevisionId") not in (None, record["RevisionId"]):
            raise stale_revision()
        if version := req.get("FunctionVersion"):
            _check_target(ctx, ref, version)
            record["FunctionVersion"] = version
        if req.get("Description") is not None:
            record["Description"] = req["Description"]
        routing = req.get("RoutingConfig")
        _set_routing(ctx, ref, record, record.get("RoutingConfig") if routing is None else routing)
        record["RevisionId"] = ctx.ids.uuid()

    try:
        return ctx.records("Alias", account=ref.account).update(f"{ref.name}/{req['Name']}", change)
    except NotFound as error:
        raise _alias_not_found(ref, req["Name"]) from error


@ops
def delete_alias(ctx: Context, req: t.DeleteAliasRequestTypeDef) -> None:
    """Delete an alias with its permissions. Nothing happens when it is not there."""
    ref = _named(ctx, req)
    row_id = f"{ref.name}/{req['Name']}"
    changes = []
    for noun in ("Alias", "Policy", "EventInvokeConfig", "FunctionUrl", "ProvisionedConcurrency"):
        rows = ctx.records(noun, account=ref.account)
        if (found := rows.find(row_id)) is not None:
            changes.append(rows.deletion(row_id))
            if noun == "FunctionUrl":
                changes.append(ctx.records("FunctionUrlId", account="", region="").deletion(found["_url_id"]))
    if changes:
        ctx.write(*changes)


def _named(ctx: Context, req: Mapping[str, Any]) -> FunctionRef:
    ref = function_ref(ctx, req)
    if ctx.records("Function", account=ref.account).find(ref.name) is None:
        raise function_not_found(ref)
    return ref


def _alias_not_found(ref: FunctionRef, name: str) -> Exception:
    return not_found(f"Cannot find alias arn: {ref.arn}:{name}")


def _points_to(alias: Mapping[str, Any], version: str) -> bool:
    return version == alias["FunctionVersion"] or version in alias.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})


def _check_target(ctx: Context, ref: FunctionRef, version: str) -> None:
    if version != LATEST and ctx.records("Version", account=ref.account).find(version_id(ref.name, version)) is None:
        raise not_found(f"Function not found: {ref.arn}:{version}")


def _set_routing(ctx: Context, ref: FunctionRef, record: dict[str, Any], routing: Mapping[str, Any] | None) -> None:
    """Put checked weights into the record; none at all when there is nothing to split."""
    weights = dict((routing or {}).get("AdditionalVersionWeights") or {})
    record.pop("RoutingConfig", None)
    if not weights:
        return
    if len(weights) > 1:
        raise invalid("Number of items in AdditionalVersionWeights cannot be greater than 1")
    ((version, weight),) = weights.items()
    if record["FunctionVersion"] == LATEST or version == LATEST:
        raise invalid("$LATEST is not supported for an alias pointing to more than 1 version")
    if version == record["FunctionVersion"]:
        raise invalid(
            f"Invalid function version {version}. Function version {version} is already included in routing configuration."
        )
    if not 0.0 <= weight <= 1.0:
        raise invalid(f"Invalid weight {weight} for version {version}. Weights lie between 0.0 and 1.0.")
    _check_target(ctx, ref, version)
    record["RoutingConfig"] = {"AdditionalVersionWeights": weights}
