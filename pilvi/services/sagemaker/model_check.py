"""What CreateModel refuses, in AWS's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import Invalid, PilviError
from pilvi.core.service import Context
from pilvi.jobs import image
from pilvi.jobs.transfer import split_uri
from pilvi.services.sagemaker.job_check import NOT_BUILT, as_role, check_passed
from pilvi.services.sagemaker.job_kind import duplicates
from pilvi.services.sagemaker.serving_image import serving_for

MOST_CONTAINERS = 15


def check_request(ctx: Context, req: Mapping[str, Any]) -> None:
    """What can be told from the request alone."""
    primary, several = req.get("PrimaryContainer"), req.get("Containers")
    if bool(primary) == bool(several):
        raise Invalid("You must provide either PrimaryContainer or Containers in the request, and not both.")
    if not req.get("ExecutionRoleArn"):
        raise Invalid(
            "1 validation error detected: Value null at 'executionRoleArn' failed to satisfy constraint: Member must not be null"
        )
    check_passed(ctx, req["ExecutionRoleArn"])
    containers = [primary] if primary else list(several or ())
    for container in containers:
        _check_container(ctx, container)
    names = [container["ContainerHostname"] for container in containers if container.get("ContainerHostname")]
    if twice := duplicates(names):
        raise Invalid(f"Container host names must be unique within a model: {', '.join(twice)}.")
    mode = (req.get("InferenceExecutionConfig") or {}).get("Mode")
    if mode is not None and primary:
        raise Invalid("InferenceExecutionConfig can only be specified with Containers.")
    if mode == "Direct" and len(names) < len(containers):
        raise Invalid("ContainerHostname must be given for every container of a model whose InferenceExecutionConfig is Direct.")
    if len(containers) > 1 and mode != "Direct" and any(container.get("Mode") == "MultiModel" for container in containers):
        raise Invalid(f"A multi-model container in an inference pipeline {NOT_BUILT}")


def _check_container(ctx: Context, container: Mapping[str, Any]) -> None:
    for member in ("ModelPackageName", "AdditionalModelDataSources", "InferenceSpecificationName", "ContainerMetricsConfig"):
        if container.get(member):
            raise Invalid(f"{member} of a container {NOT_BUILT}")
    if (container.get("ImageConfig") or {}).get("RepositoryAccessMode") == "Vpc":
        raise Invalid(f"ImageConfig with a registry in a VPC {NOT_BUILT}")
    if not container.get("Image"):
        raise Invalid("You must provide an Image or a ModelPackageName for each container.")
    serving_for(container["Image"], container.get("Environment") or {}, account=ctx.account)
    source = (container.get("ModelDataSource") or {}).get("S3DataSource")
    if source is not None:
        for member in ("ModelAccessConfig", "HubAccessConfig", "ManifestS3Uri"):
            if source.get(member):
                raise Invalid(f"{member} of a model's data {NOT_BUILT}")
        if container.get("ModelDataUrl") and container["ModelDataUrl"] != source["S3Uri"]:
            raise Invalid("ModelDataUrl and ModelDataSource must name the same model data.")
    for uri in filter(None, (container.get("ModelDataUrl"), (source or {}).get("S3Uri"))):
        if not uri.startswith("s3://"):
            raise Invalid(f"The S3 URI {uri} must be given as s3://bucket/key.")
    if container.get("Mode") == "MultiModel" and not (container.get("ModelDataUrl") or source):
        raise Invalid("A multi-model container needs ModelDataUrl: the prefix below which its models are.")


def check_surroundings(ctx: Context, req: Mapping[str, Any], arn: str) -> None:
    """Whether the role can be taken, and reads what the model needs."""
    role = req["ExecutionRoleArn"]
    as_it = as_role(ctx, role, arn)
    for container in [req["PrimaryContainer"]] if req.get("PrimaryContainer") else req["Containers"]:
        serving = serving_for(container["Image"], container.get("Environment") or {}, account=ctx.account)
        if serving.image:
            try:
                image.check(as_it, serving.image)
            except PilviError as error:
                raise Invalid(f"Requested image {serving.image} not found, or the role {role} may not pull it: {error}") from error
        if uri := data_uri(container):
            _check_data(as_it, container, uri, role)


def data_uri(container: Mapping[str, Any]) -> str:
    """Where a container's model is, '' for none."""
    source = (container.get("ModelDataSource") or {}).get("S3DataSource") or {}
    return str(source.get("S3Uri") or container.get("ModelDataUrl") or "")


def is_single_object(container: Mapping[str, Any]) -> bool:
    source = (container.get("ModelDataSource") or {}).get("S3DataSource") or {}
    return container.get("Mode") != "MultiModel" and source.get("S3DataType", "S3Object") == "S3Object"


def _check_data(ctx: Context, container: Mapping[str, Any], uri: str, role: str) -> None:
    bucket, key = split_uri(uri)
    try:
        if is_single_object(container):
            ctx.call("s3", "HeadObject", Bucket=bucket, Key=key)
        elif not ctx.call("s3", "ListObjectsV2", Bucket=bucket, Prefix=key, MaxKeys=1).get("Contents") and not _is_multi(container):
            raise Invalid(f"Could not find model data at {uri}.")
    except Invalid:
        raise
    except PilviError as error:
        if getattr(error, "code", "") in ("404", "NoSuchKey", "NoSuchBucket", "NotFound"):
            raise Invalid(f"Could not find model data at {uri}.") from error
        raise Invalid(
            f'Could not access model data at {uri}. Please ensure that the role "{role}" exists and that its trust relationship policy '
            'allows the action "sts:AssumeRole" for the service principal "sagemaker.amazonaws.com". Also ensure that the role has '
            f'"s3:GetObject" permissions and that the object is located in {ctx.region}.'
        ) from error


def _is_multi(container: Mapping[str, Any]) -> bool:
    return container.get("Mode") == "MultiModel"
