"""What CreateEndpointConfig refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import Invalid
from pilvi.services.sagemaker.job_check import NOT_BUILT
from pilvi.services.sagemaker.job_kind import duplicates

_NOT_BUILT = ("ManagedInstanceScaling", "InstancePools", "CapacityReservationConfig", "CoreDumpConfig")


def check_request(req: Mapping[str, Any]) -> None:
    variants, shadows = req["ProductionVariants"], req.get("ShadowProductionVariants") or ()
    for member in ("ExplainerConfig",):
        if req.get(member):
            raise Invalid(f"{member} {NOT_BUILT}")
    if twice := duplicates([variant["VariantName"] for variant in (*variants, *shadows)]):
        raise Invalid(f"Variant names must be unique within an endpoint configuration: {', '.join(twice)}.")
    for variant in (*variants, *shadows):
        _check_variant(variant)
    if shadows and (len(shadows) > 1 or len(variants) > 1):
        raise Invalid("A shadow variant can only be used with exactly one production variant and one shadow variant.")
    kinds = {bool(variant.get("ServerlessConfig")) for variant in variants}
    if len(kinds) > 1:
        raise Invalid("Serverless and instance-based variants cannot be in one endpoint configuration.")
    if True in kinds and (req.get("AsyncInferenceConfig") or req.get("DataCaptureConfig")):
        raise Invalid("Serverless variants support neither AsyncInferenceConfig nor DataCaptureConfig.")
    if req.get("AsyncInferenceConfig") and len(variants) > 1:
        raise Invalid("AsyncInferenceConfig is only supported with one production variant.")
    if not any(_weight(variant) > 0 for variant in variants):
        raise Invalid("The total of InitialVariantWeight must be greater than 0.")
    topics = ((req.get("AsyncInferenceConfig") or {}).get("OutputConfig") or {}).get("NotificationConfig") or {}
    if topics.get("IncludeInferenceResponseIn"):
        raise Invalid(f"IncludeInferenceResponseIn {NOT_BUILT}")
    _check_capture(req.get("DataCaptureConfig"))


def _check_variant(variant: Mapping[str, Any]) -> None:
    name = variant["VariantName"]
    if not variant.get("ModelName"):
        raise Invalid(f"Variant {name} without ModelName (inference components) {NOT_BUILT}")
    for member in _NOT_BUILT:
        if variant.get(member):
            raise Invalid(f"{member} of variant {name} {NOT_BUILT}")
    serverless = variant.get("ServerlessConfig")
    if serverless is not None:
        if variant.get("InstanceType") or variant.get("InitialInstanceCount"):
            raise Invalid(f"Variant {name}: ServerlessConfig cannot be given together with InstanceType or InitialInstanceCount.")
        if serverless["MemorySizeInMB"] % 1024:
            raise Invalid("MemorySizeInMB must be one of 1024, 2048, 3072, 4096, 5120, 6144.")
        if (serverless.get("ProvisionedConcurrency") or 0) > serverless["MaxConcurrency"]:
            raise Invalid("ProvisionedConcurrency must be less than or equal to MaxConcurrency.")
    elif not variant.get("InstanceType") or not variant.get("InitialInstanceCount"):
        raise Invalid(f"Variant {name}: InstanceType and InitialInstanceCount, or ServerlessConfig, must be given.")


def _check_capture(config: Mapping[str, Any] | None) -> None:
    if config is None:
        return
    if not config["DestinationS3Uri"].startswith("s3://"):
        raise Invalid(f"The S3 URI {config['DestinationS3Uri']} must be given as s3://bucket/key.")
    if not 0 <= config["InitialSamplingPercentage"] <= 100:
        raise Invalid("InitialSamplingPercentage must be between 0 and 100.")


def _weight(variant: Mapping[str, Any]) -> float:
    weight = variant.get("InitialVariantWeight")
    return 1.0 if weight is None else float(weight)
