"""Provisioned concurrency of versions and aliases: workers that are warm before they are needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from pilvi.core.errors import NotFound, ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.lambda_.catalog import catalog_of
from pilvi.services.lambda_.concurrency import UNRESERVED_MINIMUM
from pilvi.services.lambda_.engine import ACCOUNT_CONCURRENCY, engine_of
from pilvi.services.lambda_.names import LATEST, FunctionRef, function_ref, invalid
from pilvi.services.lambda_.pool import WORKERS
from pilvi.services.lambda_.provisioned import NOUN
from pilvi.services.lambda_.settings import iso
from pilvi.services.lambda_.version import find_version
from pilvi.storage.records import Rows, Table

if TYPE_CHECKING:
    from types_boto3_lambda import type_defs as t

ops = Operations(on_loop=True)

MOST: Final = WORKERS // 2
"""All configurations of one server together."""


@ops
async def put_provisioned_concurrency_config(
    ctx: Context, req: t.PutProvisionedConcurrencyConfigRequestTypeDef
) -> Mapping[str, Any]:
    """Keep so many workers of a version or alias warm.

    req: FunctionName, Qualifier (a version or an alias), ProvisionedConcurrentExecutions.
    Errors: ResourceNotFoundException; InvalidParameterValueException - $LATEST, more than the function reserves, than the account has
    left, or than this server starts.
    Source: Lambda API reference, PutProvisionedConcurrencyConfig.
    Differs: one server keeps 64 workers warm, all functions together.
    """
    ref, wanted = _qualified(ctx, req), req["ProvisionedConcurrentExecutions"]
    _check(ctx, ref, wanted)
    record = {"Requested": wanted, "Qualifier": ref.qualifier, "LastModified": iso(ctx.clock.now())}
    rows = _rows(ctx, ref)
    await ctx.store.commit([rows.replacement(_row_id(ref), record)])
    engine_of(ctx.cloud).provisioned.attend()
    return _shown(ctx, ref, record)


@ops
async def get_provisioned_concurrency_config(
    ctx: Context, req: t.GetProvisionedConcurrencyConfigRequestTypeDef
) -> Mapping[str, Any]:
    """How far it has come: IN_PROGRESS until every worker waits. Errors: ProvisionedConcurrencyConfigNotFoundException."""
    ref = _qualified(ctx, req)
    found = _rows(ctx, ref).find(_row_id(ref))
    if found is None:
        raise _missing()
    return _shown(ctx, ref, found)


@ops
async def list_provisioned_concurrency_configs(
    ctx: Context, req: t.ListProvisionedConcurrencyConfigsRequestTypeDef
) -> Mapping[str, Any]:
    """All of a function, 50 a page."""
    ref = function_ref(ctx, {"FunctionName": req["FunctionName"]})._replace(qualifier="")
    catalog_of(ctx.cloud).target(ref, ctx.ids)
    rows = _rows(ctx, ref)
    found: list[dict[str, Any]] = []
    page, marker = rows.page(req.get("Marker"), min(req.get("MaxItems") or 50, 50), prefix=f"{ref.name}/")
    for record in page:
        each = ref._replace(qualifier=record["Qualifier"])
        found.append({"FunctionArn": each.qualified_arn, **_shown(ctx, each, record)})
    return {"ProvisionedConcurrencyConfigs": found, "NextMarker": marker}


@ops
async def delete_provisioned_concurrency_config(ctx: Context, req: t.DeleteProvisionedConcurrencyConfigRequestTypeDef) -> None:
    """Workers go when they have been idle for a while. Nothing happens when there is none."""
    ref = _qualified(ctx, req)
    try:
        await ctx.store.commit([_rows(ctx, ref).deletion(_row_id(ref))])
    except NotFound:
        return


def _qualified(ctx: Context, req: Mapping[str, Any]) -> FunctionRef:
    ref = function_ref(ctx, req)
    if not ref.qualifier or ref.qualifier == LATEST:
        raise invalid("Provisioned Concurrency Configs cannot be applied to unpublished function versions.")
    find_version(ctx, ref)
    return ref


def _check(ctx: Context, ref: FunctionRef, wanted: int) -> None:
    target = catalog_of(ctx.cloud).target(ref, ctx.ids)
    if target.version == LATEST:
        raise invalid("Provisioned Concurrency Configs cannot be applied to unpublished function versions.")
    if target.reserved is not None and wanted > target.reserved:
        raise invalid(
            f"Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function: {ref.name}"
        )
    left = ACCOUNT_CONCURRENCY - catalog_of(ctx.cloud).reserved_total(ref.account, ref.region) - UNRESERVED_MINIMUM
    if target.reserved is None and wanted > left:
        raise invalid(f"Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [{left}].")
    others = sum(
        row.value["Requested"]
        for table in ctx.store.tables(service="lambda", noun=NOUN)
        for row in ctx.store.scan(table, limit=1000)
        if (table.account, table.region, row.id) != (ref.account, ref.region, _row_id(ref))
    )
    if others + wanted > MOST:
        raise invalid(
            f"ProvisionedConcurrentExecutions: this server keeps {MOST} workers warm in all, of which {others} are taken."
        )


def _rows(ctx: Context, ref: FunctionRef) -> Rows:
    return Rows(ctx.store, Table(ref.account, ref.region, "lambda", NOUN))


def _row_id(ref: FunctionRef) -> str:
    return f"{ref.name}/{ref.qualifier}"


def _shown(ctx: Context, ref: FunctionRef, record: Mapping[str, Any]) -> dict[str, Any]:
    wanted = record["Requested"]
    there = engine_of(ctx.cloud).provisioned.supply(ref, wanted)
    out: dict[str, Any] = {
        "RequestedProvisionedConcurrentExecutions": wanted,
        "AvailableProvisionedConcurrentExecutions": there.available,
        "AllocatedProvisionedConcurrentExecutions": there.available,
        "Status": "READY" if there.available >= wanted else "FAILED" if there.problem else "IN_PROGRESS",
        "LastModified": record["LastModified"],
    }
    return out | ({"StatusReason": there.problem} if there.problem and there.available < wanted else {})


def _missing() -> ServiceError:
    return ServiceError(
        "ProvisionedConcurrencyConfigNotFoundException",
        "No Provisioned Concurrency Config found for this function",
        404,
        Type="User",
    )
