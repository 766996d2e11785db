"""Which permissions a call needs. Source: Service Authorization Reference, "Actions, resources, and condition keys for AWS Lambda"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pilvi.core.service import Access, Context
from pilvi.services.lambda_.catalog import catalog_of
from pilvi.services.lambda_.layer import layer_policy
from pilvi.services.lambda_.names import function_ref, layer_ref

_ACTIONS = {
    "Invoke": "InvokeFunction",
    "InvokeWithResponseStream": "InvokeFunction",
    "GetLayerVersionByArn": "GetLayerVersion",
}
_EVERYTHING = {"ListFunctions", "ListLayers", "ListLayerVersions", "GetAccountSettings", "ListEventSourceMappings"}


def access(ctx: Context, operation: str, req: Mapping[str, Any]) -> Sequence[Access]:
    """One permission, on the function, the version or alias, the layer, or everything."""
    action = f"lambda:{_ACTIONS.get(operation, operation)}"
    if operation in _EVERYTHING:
        return (Access(action),)
    if operation == "PublishLayerVersion":
        ref = layer_ref(ctx, req["LayerName"])
        return (Access(action, ref.arn, resource_account=ref.account),)
    if operation == "GetLayerVersionByArn" or "LayerName" in req:
        layer = layer_ref(ctx, req.get("Arn") or req["LayerName"], req.get("VersionNumber", 0))
        return (Access(action, layer.version_arn, layer_policy(ctx, layer), layer.account),)
    if "FunctionName" in req:
        return (_on_function(ctx, action, req, "FunctionName"),)
    if str(req.get("Resource", "")).partition(":function:")[1]:
        return (_on_function(ctx, action, req, "Resource"),)
    return (Access(action),)


def _on_function(ctx: Context, action: str, req: Mapping[str, Any], member: str) -> Access:
    ref = function_ref(ctx, req, member)
    named = ref.qualified_arn
    if not ref.version_or_alias:
        ref = ref._replace(qualifier="")
    context = {"lambda:Principal": req["Principal"]} if "Principal" in req else {}
    resource = named if action == "lambda:InvokeFunction" else ref.qualified_arn  # `:$LATEST`, where the caller says so
    return Access(action, resource, catalog_of(ctx.cloud).policy(ref), ref.account, context)
