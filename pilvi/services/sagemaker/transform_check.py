"""What CreateTransformJob refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import Invalid
from pilvi.core.service import Context
from pilvi.services.sagemaker.job_check import NOT_BUILT, as_role
from pilvi.services.sagemaker.model import containers_of
from pilvi.services.sagemaker.serving_image import serving_for
from pilvi.services.sagemaker.volume_key import check_volume_key

_MOST_PAYLOAD_MB = 100


def check_request(ctx: Context, req: Mapping[str, Any], model: Mapping[str, Any]) -> None:
    """The request by itself, and with its model. Source: SageMaker API reference, CreateTransformJob, DataProcessing."""
    for member in ("DataCaptureConfig", "ExperimentConfig"):
        if member == "DataCaptureConfig" and req.get(member):
            raise Invalid(f"{member} of a transform job {NOT_BUILT}")
    source, output = req["TransformInput"], req["TransformOutput"]
    s3 = source["DataSource"]["S3DataSource"]
    if s3["S3DataType"] not in ("S3Prefix", "ManifestFile"):
        raise Invalid(f"S3DataType {s3['S3DataType']} of a transform job {NOT_BUILT}")
    for uri in (s3["S3Uri"], output["S3OutputPath"]):
        if not uri.startswith("s3://"):
            raise Invalid(f"The S3 URI {uri} must be given as s3://bucket/key.")
    payload, concurrent = req.get("MaxPayloadInMB"), req.get("MaxConcurrentTransforms") or 0
    if (payload or 0) > _MOST_PAYLOAD_MB or (payload or 0) * max(1, concurrent) > _MOST_PAYLOAD_MB:
        raise Invalid(f"The product of MaxPayloadInMB and MaxConcurrentTransforms must not be larger than {_MOST_PAYLOAD_MB} MB.")
    split = source.get("SplitType") or "None"
    if req.get("BatchStrategy") == "MultiRecord" and split == "None":
        raise Invalid("BatchStrategy MultiRecord requires a SplitType other than None.")
    if payload == 0 and req.get("BatchStrategy") == "MultiRecord":
        raise Invalid("MaxPayloadInMB 0 cannot be used with BatchStrategy MultiRecord.")
    _check_processing(req.get("DataProcessing") or {}, source, output, split)
    if req["TransformResources"].get("InstanceCount", 1) > 1 and model.get("EnableNetworkIsolation"):
        raise Invalid(f"Network isolation of a transform job on more than one instance {NOT_BUILT}")
    containers = containers_of(model)
    if (model.get("InferenceExecutionConfig") or {}).get("Mode") == "Direct" or any(
        one.get("Mode") == "MultiModel" for one in containers
    ):
        raise Invalid("Batch transform supports neither multi-model nor directly invoked containers.")
    for container in containers:
        if serving_for(container["Image"], container.get("Environment") or {}, account=ctx.account).image:
            raise Invalid(f"Batch transform with an image of your own {NOT_BUILT}")


def check_surroundings(ctx: Context, req: Mapping[str, Any], model: Mapping[str, Any], arn: str) -> None:
    own = as_role(ctx, model["ExecutionRoleArn"], arn)
    check_volume_key(ctx, own, req["TransformResources"].get("VolumeKmsKeyId"))


def _check_processing(processing: Mapping[str, Any], source: Mapping[str, Any], output: Mapping[str, Any], split: str) -> None:
    is_joined = processing.get("JoinSource") == "Input"
    if not is_joined and not processing.get("InputFilter") and not processing.get("OutputFilter"):
        return
    kind = (source.get("ContentType") or "").partition(";")[0].strip().lower()
    if kind not in ("text/csv", "application/json", "application/jsonlines"):
        raise Invalid("DataProcessing requires the ContentType text/csv, application/json or application/jsonlines.")
    if is_joined and kind == "text/csv" and (output.get("Accept") or "text/csv").partition(";")[0].strip().lower() != "text/csv":
        raise Invalid("To join predictions with CSV input, Accept must be text/csv, as ContentType is.")
    if is_joined and split != (output.get("AssembleWith") or "None"):
        raise Invalid("To join predictions with the input, SplitType and AssembleWith must be the same.")
    if kind == "text/csv" and split != "Line":
        raise Invalid("DataProcessing of CSV requires the SplitType Line.")
    for member in ("InputFilter", "OutputFilter"):
        if not (processing.get(member) or "$").startswith("$"):
            raise Invalid(f"{member} must be a JSONPath that begins with $.")
