"""What CreateTrainingJob refuses before anything runs, in AWS's words where AWS refuses it too."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import Invalid, PilviError
from pilvi.core.service import Context
from pilvi.services.sagemaker.image import check_image, runtime_for
from pilvi.services.sagemaker.job_check import NOT_BUILT, as_role, check_passed, is_system, plain
from pilvi.services.sagemaker.job_kind import duplicates
from pilvi.services.sagemaker.training_hosts import groups_of, hosts_of
from pilvi.services.sagemaker.training_spec import input_mode
from pilvi.services.sagemaker.volume_key import check_volume_key

_TAKEN = ("/", "/opt", "/opt/ml", "/tmp", "/var", "/home", "/root")
"""Folders that a job has anyway."""


def check_request(ctx: Context, req: Mapping[str, Any]) -> None:
    """The request by itself. Raises Invalid, which is a ValidationException."""
    check_passed(ctx, req["RoleArn"])
    _check_algorithm(ctx, req)
    _check_resources(req)
    _check_stopping(req)
    _check_output(req["OutputDataConfig"])
    _check_channels(req)
    _check_not_built(req)


def check_surroundings(ctx: Context, req: Mapping[str, Any], arn: str) -> None:
    """What the request needs to be there: a role that lets SageMaker in, and objects that the role can list."""
    role = req["RoleArn"]
    own = as_role(ctx, role, arn)
    check_image(own, runtime_for(req["AlgorithmSpecification"]["TrainingImage"], account=ctx.account))
    check_volume_key(ctx, own, req["ResourceConfig"].get("VolumeKmsKeyId"))
    for channel in req.get("InputDataConfig") or ():
        source = channel["DataSource"]["S3DataSource"]
        if source["S3DataType"] == "S3Prefix":
            _check_objects(own, source["S3Uri"], role)


def _check_objects(ctx: Context, uri: str, role: str) -> None:
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    try:
        has_objects = bool(ctx.call("s3", "ListObjectsV2", Bucket=bucket, Prefix=prefix, MaxKeys=1).get("Contents"))
    except PilviError:
        has_objects = False
    if not has_objects:
        raise Invalid(
            f'No S3 objects found under S3 URL "{uri}" given in input data source. Please ensure that the bucket exists in the selected '
            f'region ({ctx.region}), that objects exist under that S3 prefix, and that the role "{role}" has "s3:ListBucket" '
            f'permissions on bucket "{bucket}".'
        )


def _check_algorithm(ctx: Context, req: Mapping[str, Any]) -> None:
    algorithm = req["AlgorithmSpecification"]
    if not algorithm.get("TrainingImage"):
        raise Invalid("You must provide either a TrainingImage or an AlgorithmName in AlgorithmSpecification.")
    runtime_for(algorithm["TrainingImage"], req.get("HyperParameters"), account=ctx.account)
    definitions = algorithm.get("MetricDefinitions") or ()
    if twice := duplicates([definition["Name"] for definition in definitions]):
        raise Invalid(f"Metric names must be unique: {', '.join(twice)}.")
    for definition in definitions:
        try:
            re.compile(definition["Regex"])
        except re.error as error:
            raise Invalid(f"Invalid regular expression for metric {definition['Name']}: {error}.") from error


def _check_resources(req: Mapping[str, Any]) -> None:
    resources = req.get("ResourceConfig")
    if resources is None:
        raise Invalid(_null("resourceConfig"))
    for member in ("TrainingPlanArn", "InstancePlacementConfig", "InstancePreferences"):
        if resources.get(member):
            raise Invalid(f"{member} in ResourceConfig {NOT_BUILT}")
    for member in ("SelectedInstanceType", "SelectedInstanceCount"):
        if resources.get(member) is not None:
            raise Invalid(f"{member} is read-only and is not accepted in CreateTrainingJob requests.")
    if resources.get("InstanceGroups"):
        _check_groups(resources)
    else:
        for member in ("InstanceType", "InstanceCount"):
            if resources.get(member) is None:
                raise Invalid(_null(f"resourceConfig.{member[0].lower()}{member[1:]}"))
        _check_at_least_one(resources["InstanceCount"], "resourceConfig.instanceCount")
    if resources.get("VolumeSizeInGB") is None:
        raise Invalid(_null("resourceConfig.volumeSizeInGB"))
    _check_at_least_one(resources["VolumeSizeInGB"], "resourceConfig.volumeSizeInGB")
    if req.get("EnableNetworkIsolation") and len(hosts_of(req)) > 1:
        raise Invalid(f"Network isolation of a training job on more than one instance {NOT_BUILT}")
    if resources.get("KeepAlivePeriodInSeconds") and (req.get("EnableManagedSpotTraining") or resources.get("InstanceGroups")):
        raise Invalid("KeepAlivePeriodInSeconds is not supported with managed spot training or heterogeneous clusters.")


def _check_groups(resources: Mapping[str, Any]) -> None:
    if resources.get("InstanceType") or resources.get("InstanceCount"):
        raise Invalid("InstanceType and InstanceCount cannot be specified when InstanceGroups is specified in ResourceConfig.")
    if twice := duplicates([group["InstanceGroupName"] for group in resources["InstanceGroups"]]):
        raise Invalid(f"Instance group names must be unique: {', '.join(twice)}.")
    for number, group in enumerate(resources["InstanceGroups"], 1):
        _check_at_least_one(group["InstanceCount"], f"resourceConfig.instanceGroups.{number}.member.instanceCount")


def _check_at_least_one(value: int, place: str) -> None:
    if value < 1:
        raise Invalid(
            f"1 validation error detected: Value '{value}' at '{place}' failed "
            "to satisfy constraint: Member must have value greater than or equal to 1"
        )


def _check_stopping(req: Mapping[str, Any]) -> None:
    condition = req.get("StoppingCondition")
    if condition is None:
        raise Invalid(_null("stoppingCondition"))
    longest, waiting = condition.get("MaxRuntimeInSeconds", 86400), condition.get("MaxWaitTimeInSeconds")
    if longest > 28 * 86400:
        raise Invalid(f"MaxRuntimeInSeconds {longest} is longer than the 28 days a training job may run.")
    if req.get("EnableManagedSpotTraining"):
        if waiting is None or waiting < longest:
            raise Invalid("Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to MaxRuntimeInSeconds")
    elif waiting is not None:
        raise Invalid("MaxWaitTimeInSeconds above 0 is not supported when EnableManagedSpotTraining is false.")


def _check_output(output: Mapping[str, Any]) -> None:
    if not output["S3OutputPath"].startswith("s3://"):
        raise Invalid(f"The S3 URI {output['S3OutputPath']} must be given as s3://bucket/key.")


def _check_channels(req: Mapping[str, Any]) -> None:
    channels = req.get("InputDataConfig") or ()
    if twice := duplicates([channel["ChannelName"] for channel in channels]):
        raise Invalid(f"Channel names must be unique: {', '.join(twice)}.")
    groups = {group.name for group in groups_of(req)}
    for channel in channels:
        name, source = channel["ChannelName"], channel["DataSource"].get("S3DataSource")
        if source is None:
            raise Invalid(f"A data source other than S3 of channel {name} {NOT_BUILT}")
        if not source["S3Uri"].startswith("s3://"):
            raise Invalid(f"The S3 URI {source['S3Uri']} must be given as s3://bucket/key.")
        if unknown := sorted(set(source.get("InstanceGroupNames") or ()) - groups):
            raise Invalid(f"Channel {name} names instance groups that ResourceConfig does not have: {', '.join(unknown)}.")
        for member in ("ModelAccessConfig", "HubAccessConfig"):
            if source.get(member):
                raise Invalid(f"{member} of channel {name} {NOT_BUILT}")
        _check_mode(name, channel, source, input_mode(req, channel))


def _check_mode(name: str, channel: Mapping[str, Any], source: Mapping[str, Any], mode: str) -> None:
    """What goes with an input mode. Source: SageMaker API reference, Channel and S3DataSource."""
    is_augmented = source["S3DataType"] == "AugmentedManifestFile"
    if source["S3DataType"] not in ("S3Prefix", "ManifestFile", "AugmentedManifestFile"):
        raise Invalid(f"S3DataType {source['S3DataType']} of channel {name} {NOT_BUILT}")
    if is_augmented and mode != "Pipe":
        raise Invalid(f"Channel {name}: AugmentedManifestFile can only be used if the input mode of the channel is Pipe.")
    if is_augmented and not source.get("AttributeNames"):
        raise Invalid(f"Channel {name}: AttributeNames must be given when S3DataType is AugmentedManifestFile.")
    if not is_augmented and source.get("AttributeNames"):
        raise Invalid(f"Channel {name}: AttributeNames can only be used when S3DataType is AugmentedManifestFile.")
    if channel.get("RecordWrapperType") == "RecordIO" and mode != "Pipe":
        raise Invalid(f"Channel {name}: RecordWrapperType RecordIO can only be used if the input mode of the channel is Pipe.")


def _check_not_built(req: Mapping[str, Any]) -> None:
    """What would change how the job runs, and cannot be left out silently."""
    for member in (
        "DebugRuleConfigurations",
        "ProfilerRuleConfigurations",
        "ServerlessJobConfig",
        "ModelPackageConfig",
        "MlflowConfig",
    ):
        if req.get(member):
            raise Invalid(f"{member} {NOT_BUILT}")
    if (req.get("InfraCheckConfig") or {}).get("EnableInfraCheck"):
        raise Invalid(f"InfraCheckConfig {NOT_BUILT}")
    if (req["AlgorithmSpecification"].get("TrainingImageConfig") or {}).get("TrainingRepositoryAccessMode") == "Vpc":
        raise Invalid(f"TrainingImageConfig with a registry in a VPC {NOT_BUILT}")
    if (req.get("RemoteDebugConfig") or {}).get("EnableRemoteDebug"):
        raise Invalid(f"RemoteDebugConfig {NOT_BUILT}")
    if (req.get("SessionChainingConfig") or {}).get("EnableSessionTagChaining"):
        raise Invalid(f"SessionChainingConfig {NOT_BUILT}")
    for member, words in (("CheckpointConfig", "checkpoint path"), ("TensorBoardOutputConfig", "TensorBoard path")):
        path = (req.get(member) or {}).get("LocalPath")
        if path is not None and (not path.startswith("/") or ".." in path or is_system(path) or plain(path) in _TAKEN):
            raise Invalid(f"The {words} {path} cannot be used: give an absolute path that is no system folder.")


def _null(place: str) -> str:
    return f"1 validation error detected: Value null at '{place}' failed to satisfy constraint: Member must not be null"
