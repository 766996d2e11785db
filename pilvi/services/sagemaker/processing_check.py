"""What CreateProcessingJob refuses before anything runs, in AWS's words where AWS refuses it too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pilvi.core.errors import Invalid
from pilvi.core.service import Context
from pilvi.services.sagemaker.image import check_image, runtime_for
from pilvi.services.sagemaker.job_check import NOT_BUILT, as_role, check_passed, is_below, is_system, plain
from pilvi.services.sagemaker.job_kind import duplicates
from pilvi.services.sagemaker.processing_spec import command_for, instances_of
from pilvi.services.sagemaker.volume_key import check_volume_key

_INPUTS = "/opt/ml/processing/"
_OURS = ("/opt/ml/config", "/opt/ml/output")
"""What the server itself writes there must not be mixed with data."""


def check_request(ctx: Context, req: Mapping[str, Any]) -> None:
    """The request by itself. Raises Invalid, which is a ValidationException."""
    check_passed(ctx, req["RoleArn"])
    _check_app(ctx, req["AppSpecification"])
    _check_cluster(req["ProcessingResources"]["ClusterConfig"])
    if (req.get("NetworkConfig") or {}).get("EnableNetworkIsolation") and instances_of(req) > 1:
        # Each host would be alone.
        raise Invalid(f"Network isolation of several instances {NOT_BUILT}")
    inputs = req.get("ProcessingInputs") or ()
    config = req.get("ProcessingOutputConfig") or {}
    outputs = config.get("Outputs") or ()
    if twice := duplicates([source["InputName"] for source in inputs]):
        raise Invalid(f"Processing input names must be unique: {', '.join(twice)}.")
    if twice := duplicates([target["OutputName"] for target in outputs]):
        raise Invalid(f"Processing output names must be unique: {', '.join(twice)}.")
    places = [path for source in inputs if (path := _input_path(source))]
    places += [path for target in outputs if (path := _output_path(target))]
    _check_apart(places)


def check_surroundings(ctx: Context, req: Mapping[str, Any], arn: str) -> None:
    """What the request needs to be there: a role that lets SageMaker in, and an image that it may read."""
    own = as_role(ctx, req["RoleArn"], arn)
    check_image(own, runtime_for(req["AppSpecification"]["ImageUri"], account=ctx.account))
    check_volume_key(ctx, own, req["ProcessingResources"]["ClusterConfig"].get("VolumeKmsKeyId"))


def _check_app(ctx: Context, app: Mapping[str, Any]) -> None:
    runtime = runtime_for(app["ImageUri"], account=ctx.account)
    if not runtime.image and not command_for(app, runtime):
        raise Invalid(f"The image {app['ImageUri']} has no program of its own for processing: please give a ContainerEntrypoint.")


def _check_cluster(cluster: Mapping[str, Any]) -> None:
    preferences = cluster.get("InstancePreferences")
    if preferences and cluster.get("InstanceType"):
        raise Invalid("InstanceType and InstancePreferences are mutually exclusive in ClusterConfig.")
    for member in ("SelectedInstanceType", "SelectedInstanceCount"):
        if cluster.get(member) is not None:
            raise Invalid(f"{member} is read-only and is not accepted in CreateProcessingJob requests.")
    for member in () if preferences else ("InstanceType", "InstanceCount"):
        if cluster.get(member) is None:
            place = f"processingResources.clusterConfig.{member[0].lower()}{member[1:]}"
            raise Invalid(
                f"1 validation error detected: Value null at '{place}' failed to satisfy constraint: Member must not be null"
            )


def _input_path(source: Mapping[str, Any]) -> str | None:
    """Where an input goes; None when the program takes care of it itself."""
    name, s3, data_set = source["InputName"], source.get("S3Input"), source.get("DatasetDefinition")
    if data_set is not None:
        kind = "Athena" if data_set.get("AthenaDatasetDefinition") else "Redshift"
        raise Invalid(f"A data set from {kind} as processing input {name} {NOT_BUILT} Please give the data as S3Input.")
    if s3 is None:
        raise Invalid(f"Either S3Input or DatasetDefinition must be given for processing input {name}.")
    _check_uri(s3["S3Uri"])
    if source.get("AppManaged"):
        return None
    path = s3.get("LocalPath")
    if not path:
        raise Invalid(f"LocalPath is a required parameter of processing input {name} when AppManaged is False.")
    # Source: SageMaker API reference, ProcessingS3Input.
    if not plain(path).startswith(_INPUTS):
        raise Invalid(f"LocalPath {path} of processing input {name} must begin with {_INPUTS}")
    return plain(path)


def _output_path(target: Mapping[str, Any]) -> str | None:
    """Where an output stands; None when the program takes care of it itself."""
    name, s3 = target["OutputName"], target.get("S3Output")
    if target.get("FeatureStoreOutput") is not None:
        raise Invalid(f"A feature group as processing output {name} {NOT_BUILT} Please give an S3Output.")
    if s3 is None:
        raise Invalid(f"Either S3Output or FeatureStoreOutput must be given for processing output {name}.")
    _check_uri(s3["S3Uri"])
    if target.get("AppManaged"):
        return None
    path = s3.get("LocalPath")
    if not path:
        raise Invalid(f"LocalPath is a required parameter of processing output {name} when AppManaged is False.")
    if not path.startswith("/") or plain(path) in ("/", "/tmp", "/opt") or is_system(path):
        raise Invalid(f"LocalPath {path} of processing output {name} must be the absolute path of a folder of the job's own.")
    return plain(path)


def _check_uri(uri: str) -> None:
    if not uri.startswith("s3://") or not uri.removeprefix("s3://").strip("/"):
        raise Invalid(f"The S3 URI {uri} must be given as s3://bucket/key.")


def _check_apart(places: Sequence[str]) -> None:
    """No two the same, none where the server writes. One may lie inside another: /opt/ml/processing/input and .../input/code."""
    for place in places:
        if place == "/opt/ml" or is_below(place, _OURS):
            raise Invalid(f"LocalPath {place} is kept for the processing job's own configuration and messages.")
    if twice := duplicates(places):
        raise Invalid(f"Local paths of processing inputs and outputs must be unique: {', '.join(twice)}.")
