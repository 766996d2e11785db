"""When a function takes new versions of its runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pilvi.core.errors import NotFound
from pilvi.core.service import Context, Operations
from pilvi.services.lambda_.names import FunctionRef, function_not_found, function_ref, invalid
from pilvi.services.lambda_.version import find_version

if TYPE_CHECKING:
    from types_boto3_lambda import type_defs as t

ops = Operations()

_MEMBER = "_runtime_management"


@ops
def put_runtime_management_config(ctx: Context, req: t.PutRuntimeManagementConfigRequestTypeDef) -> Mapping[str, Any]:
    """Auto (the default): the runtime follows its environment on this machine. FunctionUpdate: the same, as it changes with updates only.

    Errors: ResourceNotFoundException; InvalidParameterValueException - Manual: there is one version of each runtime here.
    Source: Lambda API reference, PutRuntimeManagementConfig.
    Differs: Manual is refused; there are no runtime version ARNs.
    """
    ref = function_ref(ctx, req)
    find_version(ctx, ref)
    how = req["UpdateRuntimeOn"]
    if how == "Manual":
        raise invalid("UpdateRuntimeOn: there is one version of each runtime in this cloud; Manual is not available.")
    if req.get("RuntimeVersionArn"):
        raise invalid("RuntimeVersionArn is only for UpdateRuntimeOn Manual.")
    key = ref.qualifier or "$LATEST"

    def change(record: dict[str, Any]) -> dict[str, Any]:
        return {**record, _MEMBER: {**record.get(_MEMBER, {}), key: how}}

    try:
        ctx.records("Function", account=ref.account).update(ref.name, change)
    except NotFound as error:
        raise function_not_found(ref) from error
    return {"UpdateRuntimeOn": how, "FunctionArn": _arn(ref)}


@ops
def get_runtime_management_config(ctx: Context, req: t.GetRuntimeManagementConfigRequestTypeDef) -> Mapping[str, Any]:
    """What is set. Errors: ResourceNotFoundException."""
    ref = function_ref(ctx, req)
    find_version(ctx, ref)
    record = ctx.records("Function", account=ref.account).get(ref.name)
    return {"UpdateRuntimeOn": record.get(_MEMBER, {}).get(ref.qualifier or "$LATEST", "Auto"), "FunctionArn": _arn(ref)}


def _arn(ref: FunctionRef) -> str:
    return f"{ref.arn}:{ref.qualifier or '$LATEST'}"
