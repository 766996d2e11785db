"""What an endpoint runs, resolved: the configuration with its models in it, so that it can be started again whatever is deleted meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.service import Context
from pilvi.services.sagemaker.endpoint_config import find_config
from pilvi.services.sagemaker.job_kind import Record
from pilvi.services.sagemaker.model import containers_of, find_model

ASYNC_S = 3600
"""Source: developer guide, "Asynchronous inference": processing times up to one hour."""
_MODEL = (
    "ModelName", "ModelArn", "ExecutionRoleArn", "PrimaryContainer", "Containers", "EnableNetworkIsolation", "InferenceExecutionConfig",
)  # fmt: skip


def plan_for(ctx: Context, config_name: str) -> Record:
    """Invalid, in AWS's words, when there is no such configuration or one of its models is gone."""
    config = find_config(ctx, config_name)
    longest = {"_timeout_s": ASYNC_S} if config.get("AsyncInferenceConfig") else {}
    return {
        "config": config["EndpointConfigName"],
        "variants": [{**_resolved(ctx, variant), **longest} for variant in config["ProductionVariants"]],
        "shadows": [_resolved(ctx, variant) for variant in config.get("ShadowProductionVariants") or ()],
        "capture": config.get("DataCaptureConfig"),
        "async": config.get("AsyncInferenceConfig"),
    }


def _resolved(ctx: Context, variant: Mapping[str, Any]) -> Record:
    model = find_model(ctx, variant["ModelName"])
    return {**variant, "_model": {name: model[name] for name in _MODEL if name in model}}


def images_of(variant: Mapping[str, Any], resolved_at: Any) -> list[Record]:
    return [
        {"SpecifiedImage": one["Image"], "ResolvedImage": one["Image"], "ResolutionTime": resolved_at}
        for one in containers_of(variant["_model"])
    ]


def summary_of(variant: Mapping[str, Any], resolved_at: Any, *, current: int, weight: float, desired: int) -> Record:
    """A variant as DescribeEndpoint tells it."""
    found: Record = {
        "VariantName": variant["VariantName"],
        "DeployedImages": images_of(variant, resolved_at),
        "CurrentWeight": weight,
        "DesiredWeight": weight,
    }
    if (serverless := variant.get("ServerlessConfig")) is not None:
        found |= {"CurrentServerlessConfig": serverless, "DesiredServerlessConfig": serverless, "CurrentInstanceCount": 0}
    else:
        found |= {"CurrentInstanceCount": current, "DesiredInstanceCount": desired}
    return found


def capture_summary(plan: Mapping[str, Any]) -> Record | None:
    if (config := plan.get("capture")) is None:
        return None
    is_on = config.get("EnableCapture", True) is not False
    return {
        "EnableCapture": is_on,
        "CaptureStatus": "Started" if is_on else "Stopped",
        "CurrentSamplingPercentage": config["InitialSamplingPercentage"],
        "DestinationS3Uri": config["DestinationS3Uri"],
        "KmsKeyId": config.get("KmsKeyId") or "",
    }
