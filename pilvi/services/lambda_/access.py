"""Which permissions a call needs. Source: Service Authorization Reference, "Actions, resources, and condition keys for AWS Lambda"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pilvi.core.service import Access, Context
from pilvi.services.lambda_.catalog import catalog_of
from pilvi.services.lambda_.event_source_mapping import find_mapping
from pilvi.services.lambda_.layer import layer_policy
from pilvi.services.lambda_.names import function_ref, layer_ref
from pilvi.services.lambda_.source_settings import mapping_arn

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
    if operation == "CreateEventSourceMapping":
        return (Access(action, context={"lambda:FunctionArn": function_ref(ctx, req).qualified_arn}),)
    if "UUID" in req:
        return (_on_mapping(ctx, action, req["UUID"]),)
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
    if (parts := str(req.get("Resource", "")).partition(":event-source-mapping:"))[1]:
        return (_on_mapping(ctx, action, parts[2]),)
    return (Access(action),)


def _on_mapping(ctx: Context, action: str, uuid: str) -> Access:
    found = find_mapping(ctx, uuid)
    context = {"lambda:FunctionArn": found["FunctionArn"]} if found else {}
    return Access(action, mapping_arn(ctx, uuid), context=context)


def _on_function(ctx: Context, action: str, req: Mapping[str, Any], member: str) -> Access:
    ref = function_ref(ctx, req, member)
    named = ref.qualified_arn
    if not ref.version_or_alias:
        ref = ref._replace(qualifier="")
    context = {"lambda:Principal": req["Principal"]} if "Principal" in req else {}
    resource = named if action == "lambda:InvokeFunction" else ref.qualified_arn  # `:$LATEST`, where the caller says so
    return Access(action, resource, catalog_of(ctx.cloud).policy(ref), ref.account, context)
