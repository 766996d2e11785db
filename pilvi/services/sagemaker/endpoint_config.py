"""Endpoint configurations: which models an endpoint runs, on how many instances of which type, with how much of the traffic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import AlreadyExists, Invalid
from pilvi.core.service import Context, Operations
from pilvi.services.sagemaker.endpoint_config_check import check_request
from pilvi.services.sagemaker.job_kind import Record
from pilvi.services.sagemaker.model import find_model, listed
from pilvi.services.sagemaker.tag import tagging, untagging

ops = Operations()

NOUN = "EndpointConfig"


@ops
def create_endpoint_config(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make an endpoint configuration.

    req: EndpointConfigName (1-63), ProductionVariants (1-10: VariantName, ModelName, InitialInstanceCount and InstanceType, or
        ServerlessConfig; InitialVariantWeight), DataCaptureConfig, AsyncInferenceConfig, ShadowProductionVariants, Tags.
    Errors: ValidationException - the name is taken, there is no such model, or something is asked for that is not built.
    Source: SageMaker API reference, CreateEndpointConfig, ProductionVariant.
    Differs: KmsKeyId, VolumeSizeInGB, AcceleratorType and VpcConfig are recorded and do nothing. Inference components (variants
        without a model), explainers, instance pools and managed instance scaling are refused.
    """
    name, arn = req["EndpointConfigName"], ctx.arn(f"endpoint-config/{req['EndpointConfigName'].lower()}")
    configs = ctx.records(NOUN)
    if configs.find(name.lower()) is not None:
        raise _taken(arn)
    check_request(req)
    for variant in (*req["ProductionVariants"], *(req.get("ShadowProductionVariants") or ())):
        find_model(ctx, variant["ModelName"])
    record = {**recorded(req), "EndpointConfigArn": arn, "CreationTime": ctx.clock.now()}
    try:
        ctx.write(configs.insertion(name.lower(), record), *tagging(ctx, arn, req.get("Tags")))
    except AlreadyExists:
        raise _taken(arn) from None
    return {"EndpointConfigArn": arn}


@ops
def describe_endpoint_config(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Everything about one configuration. Errors: ValidationException - there is none of this name."""
    return find_config(ctx, req["EndpointConfigName"])


@ops
def list_endpoint_configs(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Configurations, a page at a time, filtered by name and time. Errors: ValidationException - a foreign token."""
    page, more = listed(ctx, NOUN, req)
    return {"EndpointConfigs": page, "NextToken": more}


@ops
def delete_endpoint_config(ctx: Context, req: Mapping[str, Any]) -> None:
    """Forget a configuration. Endpoints that run it go on. Errors: ValidationException - there is none of this name."""
    record = find_config(ctx, req["EndpointConfigName"])
    ctx.write(ctx.records(NOUN).deletion(record["EndpointConfigName"].lower()), *untagging(ctx, record["EndpointConfigArn"]))


def find_config(ctx: Context, name: str) -> Record:
    found = ctx.records(NOUN).find(name.lower())
    if found is None:
        raise Invalid(f'Could not find endpoint configuration "{ctx.arn(f"endpoint-config/{name.lower()}")}".')
    return found


def recorded(req: Mapping[str, Any]) -> Record:
    """The request as Describe gives it back, with what AWS fills in."""
    record: Record = {name: value for name, value in req.items() if name != "Tags"}
    record["EnableNetworkIsolation"] = bool(req.get("EnableNetworkIsolation"))
    for member in ("ProductionVariants", "ShadowProductionVariants"):
        if req.get(member):
            record[member] = [{"InitialVariantWeight": 1.0, **variant} for variant in req[member]]
    return record


def _taken(arn: str) -> Invalid:
    return Invalid(f'Cannot create already existing endpoint configuration "{arn}".')
