"""How asynchronous invocations of a function, a version or an alias are retried."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pilvi.core.errors import NotFound
from pilvi.core.service import Context, Operations
from pilvi.services.lambda_.destinations import checked
from pilvi.services.lambda_.names import LATEST, FunctionRef, function_ref, invalid, not_found
from pilvi.services.lambda_.version import find_version

if TYPE_CHECKING:
    from types_boto3_lambda import type_defs as t

ops = Operations()

_MEMBERS = ("MaximumRetryAttempts", "MaximumEventAgeInSeconds")


@ops
def put_function_event_invoke_config(ctx: Context, req: t.PutFunctionEventInvokeConfigRequestTypeDef) -> Mapping[str, Any]:
    """Set how often (0-2) and how long (60-21600 s) an event is tried again, and where results go; what is not given takes its default.

    req: DestinationConfig - OnSuccess and OnFailure: a standard queue or topic, a function, an event bus; OnFailure a bucket too.
    Errors: ResourceNotFoundException; InvalidParameterValueException - nothing is set, a destination of another kind or that is not there,
    or that the function's role may not send to.
    Source: Lambda API reference, PutFunctionEventInvokeConfig.
    Differs: whether a bus or a bucket lets the role in shows when something is sent.
    """
    ref = _existing(ctx, req)
    return _write(ctx, ref, req, {})


@ops
def update_function_event_invoke_config(ctx: Context, req: t.UpdateFunctionEventInvokeConfigRequestTypeDef) -> Mapping[str, Any]:
    """Change what is given; the rest stays."""
    ref = _existing(ctx, req)
    return _write(ctx, ref, req, _found(ctx, ref))


@ops
def get_function_event_invoke_config(ctx: Context, req: t.GetFunctionEventInvokeConfigRequestTypeDef) -> Mapping[str, Any]:
    """The settings of one qualifier. Errors: ResourceNotFoundException - it has none of its own."""
    return _found(ctx, _existing(ctx, req))


@ops
def list_function_event_invoke_configs(ctx: Context, req: t.ListFunctionEventInvokeConfigsRequestTypeDef) -> Mapping[str, Any]:
    """The settings of all qualifiers of a function."""
    ref = _existing(ctx, req)
    rows = ctx.records("EventInvokeConfig", account=ref.account)
    found, marker = rows.page(req.get("Marker"), min(req.get("MaxItems") or 50, 50), prefix=f"{ref.name}/")
    return {"FunctionEventInvokeConfigs": found, "NextMarker": marker}


@ops
def delete_function_event_invoke_config(ctx: Context, req: t.DeleteFunctionEventInvokeConfigRequestTypeDef) -> None:
    """Back to the defaults. Errors: ResourceNotFoundException - there was nothing."""
    ref = _existing(ctx, req)
    try:
        ctx.records("EventInvokeConfig", account=ref.account).delete(_row_id(ref))
    except NotFound as error:
        raise _missing(ref) from error


def _existing(ctx: Context, req: Mapping[str, Any]) -> FunctionRef:
    ref = function_ref(ctx, req)
    find_version(ctx, ref)
    return ref


def _write(ctx: Context, ref: FunctionRef, req: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    given: dict[str, Any] = {member: req[member] for member in _MEMBERS if req.get(member) is not None}
    if req.get("DestinationConfig") is not None:
        role = find_version(ctx, ref)["Role"]
        given["DestinationConfig"] = checked(ctx, ref, role, req["DestinationConfig"])
    if not given and not before:
        raise invalid("You must specify at least one of error handling or destination setting.")
    record = {
        "DestinationConfig": {"OnSuccess": {}, "OnFailure": {}},
        **before,
        **given,
        "FunctionArn": f"{ref.arn}:{ref.qualifier or LATEST}",
        "LastModified": ctx.clock.now(),
    }
    ctx.records("EventInvokeConfig", account=ref.account).put(_row_id(ref), record)
    return record


def _found(ctx: Context, ref: FunctionRef) -> dict[str, Any]:
    found = ctx.records("EventInvokeConfig", account=ref.account).find(_row_id(ref))
    if found is None:
        raise _missing(ref)
    return found


def _missing(ref: FunctionRef) -> Exception:
    return not_found(f"The function {ref.arn}:{ref.qualifier or LATEST} doesn't have an EventInvokeConfig")


def _row_id(ref: FunctionRef) -> str:
    return f"{ref.name}/{ref.qualifier or LATEST}"
