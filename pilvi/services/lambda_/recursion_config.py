"""Whether a function may be run again and again by what it does itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pilvi.core.errors import NotFound
from pilvi.core.service import Context, Operations
from pilvi.services.lambda_.names import FunctionRef, function_not_found, function_ref

if TYPE_CHECKING:
    from types_boto3_lambda import type_defs as t

ops = Operations()


@ops
def put_function_recursion_config(ctx: Context, req: t.PutFunctionRecursionConfigRequestTypeDef) -> Mapping[str, Any]:
    """Terminate (the default): a chain of events that has run the function 16 times does not run it again. Allow: it does.

    Errors: ResourceNotFoundException.
    Source: Lambda API reference, PutFunctionRecursionConfig; developer guide, "Use Lambda recursive loop detection to prevent infinite loops".
    """
    ref, wanted = _function(ctx, req), req["RecursiveLoop"]
    try:
        ctx.records("Function", account=ref.account).update(ref.name, lambda record: {**record, "_recursion": wanted})
    except NotFound as error:
        raise function_not_found(ref) from error
    return {"RecursiveLoop": wanted}


@ops
def get_function_recursion_config(ctx: Context, req: t.GetFunctionRecursionConfigRequestTypeDef) -> Mapping[str, Any]:
    """What is set. Errors: ResourceNotFoundException."""
    ref = _function(ctx, req)
    found = ctx.records("Function", account=ref.account).find(ref.name)
    if found is None:
        raise function_not_found(ref)
    return {"RecursiveLoop": found.get("_recursion", "Terminate")}


def _function(ctx: Context, req: Mapping[str, Any]) -> FunctionRef:
    return function_ref(ctx, {"FunctionName": req["FunctionName"]})._replace(qualifier="")
