"""Reserved concurrency of functions, and the account's limits and use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pilvi.core.errors import NotFound
from pilvi.core.service import Context, Operations
from pilvi.services.lambda_.catalog import catalog_of
from pilvi.services.lambda_.engine import ACCOUNT_CONCURRENCY
from pilvi.services.lambda_.names import FunctionRef, function_not_found, function_ref, invalid
from pilvi.services.lambda_.package import UNZIPPED_BYTES, ZIP_BYTES
from pilvi.services.lambda_.provisioned import NOUN
from pilvi.services.lambda_.version import find_version

if TYPE_CHECKING:
    from types_boto3_lambda import type_defs as t

ops = Operations()

UNRESERVED_MINIMUM = 100
"""What must stay for functions that reserve nothing. Source: developer guide, "Configuring reserved concurrency"."""
CODE_BYTES = 80530636800
"""Source: Lambda quotas, "Storage for uploaded functions and layers": 75 GB."""


@ops
def put_function_concurrency(ctx: Context, req: t.PutFunctionConcurrencyRequestTypeDef) -> Mapping[str, Any]:
    """Set aside so many concurrent executions for a function, which are its limit too; 0 stops it.

    Errors: ResourceNotFoundException; InvalidParameterValueException - less than 100 would be left for all others.
    """
    ref, wanted = _function(ctx, req), req["ReservedConcurrentExecutions"]
    rows = ctx.records("Function", account=ref.account)
    others = sum(record["_reserved"] or 0 for record in rows.all() if record["FunctionName"] != ref.name)
    if ACCOUNT_CONCURRENCY - others - wanted < UNRESERVED_MINIMUM:
        raise invalid(
            "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum "
            f"value of [{UNRESERVED_MINIMUM}]."
        )
    provisioned = sum(record["Requested"] for record in ctx.records(NOUN, account=ref.account).all(prefix=f"{ref.name}/"))
    if 0 < wanted < provisioned:
        raise invalid(
            f"ReservedConcurrentExecutions [{wanted}] should not be lower than function's total provisioned concurrency [{provisioned}]."
        )
    _set(ctx, ref, wanted)
    return {"ReservedConcurrentExecutions": wanted}


@ops
def get_function_concurrency(ctx: Context, req: t.GetFunctionConcurrencyRequestTypeDef) -> Mapping[str, Any]:
    """What is reserved; nothing when nothing is."""
    return {"ReservedConcurrentExecutions": find_version(ctx, _function(ctx, req))["_reserved"]}


@ops
def delete_function_concurrency(ctx: Context, req: t.DeleteFunctionConcurrencyRequestTypeDef) -> None:
    """Let a function share the account's concurrency again."""
    _set(ctx, _function(ctx, req), None)


@ops
def get_account_settings(ctx: Context, req: t.GetAccountSettingsInputTypeDef) -> Mapping[str, Any]:  # type: ignore[name-defined]  # noqa: ARG001
    """Limits and use of this account in this Region. Source: Lambda quotas."""
    functions = ctx.records("Function").all()
    versions = ctx.records("Version").all()
    sizes = {record["_code"]: record["CodeSize"] for record in (*functions, *versions)}
    layers = sum(record["_size"] for record in ctx.records("LayerVersion").all())
    reserved = catalog_of(ctx.cloud).reserved_total(ctx.account, ctx.region)
    return {
        "AccountLimit": {
            "TotalCodeSize": CODE_BYTES,
            "CodeSizeUnzipped": UNZIPPED_BYTES,
            "CodeSizeZipped": ZIP_BYTES,
            "ConcurrentExecutions": ACCOUNT_CONCURRENCY,
            "UnreservedConcurrentExecutions": ACCOUNT_CONCURRENCY - reserved,
        },
        "AccountUsage": {"TotalCodeSize": sum(sizes.values()) + layers, "FunctionCount": len(functions)},
    }


def _function(ctx: Context, req: Mapping[str, Any]) -> FunctionRef:
    ref = function_ref(ctx, {"FunctionName": req["FunctionName"]})
    if ctx.records("Function", account=ref.account).find(ref.name) is None:
        raise function_not_found(ref)
    return ref._replace(qualifier="")


def _set(ctx: Context, ref: FunctionRef, reserved: int | None) -> None:
    try:
        ctx.records("Function", account=ref.account).update(ref.name, lambda record: {**record, "_reserved": reserved})
    except NotFound as error:
        raise function_not_found(ref) from error
