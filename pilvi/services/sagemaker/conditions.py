"""What policies may ask of a SageMaker request: the condition keys of its instance types, network, keys, roots and tags.

Source: Service Authorization Reference, "Actions, resources, and condition keys for Amazon SageMaker".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pilvi.core.service import Context

_LISTS = {
    "sagemaker:InstanceTypes": ("InstanceType",),
    "sagemaker:VpcSubnets": ("Subnets", "SubnetIds", "SubnetId"),
    "sagemaker:VpcSecurityGroupIds": ("SecurityGroupIds", "SecurityGroups"),
    "sagemaker:ImageArns": ("SageMakerImageArn",),
    "sagemaker:ImageVersionArns": ("SageMakerImageVersionArn",),
}
"""Keys of several values -> the members that give them, wherever they stand."""
_SINGLES = {
    "sagemaker:AppNetworkAccessType": "AppNetworkAccessType",
    "sagemaker:DirectInternetAccess": "DirectInternetAccess",
    "sagemaker:EnableRemoteDebug": "EnableRemoteDebug",
    "sagemaker:KeepAlivePeriod": "KeepAlivePeriodInSeconds",
    "sagemaker:MinimumInstanceMetadataServiceVersion": "MinimumInstanceMetadataServiceVersion",
    "sagemaker:RootAccess": "RootAccess",
    "sagemaker:SpaceSharingType": "SharingType",
    "sagemaker:VolumeKmsKey": "VolumeKmsKeyId",
}
_JOBS = ("CreateTrainingJob", "CreateProcessingJob", "CreateHyperParameterTuningJob")
_SWITCHES = {
    "sagemaker:NetworkIsolation": "EnableNetworkIsolation",
    "sagemaker:InterContainerTrafficEncryption": "EnableInterContainerTrafficEncryption",
}
"""Off where a job's request does not say."""
_KEY_PLACES = ("OutputDataConfig", "ProcessingOutputConfig")
_OF_THE_USER = ("HyperParameters", "StaticHyperParameters", "Environment", "Tags")
"""What stands in these is the program's, whatever it is called."""


def asked_for(operation: str, req: Mapping[str, Any]) -> dict[str, Any]:
    """The condition keys of a request that makes or changes something."""
    members = list(_members(req))
    found: dict[str, Any] = {}
    for key, names in _LISTS.items():
        if values := [text for name, value in members if name in names for text in _texts(value)]:
            found[key] = list(dict.fromkeys(values))
    for key, wanted in _SINGLES.items():
        if values := [value for name, value in members if name == wanted]:
            found[key] = _text(values[0])
    if operation == "CreateModel":
        found["sagemaker:NetworkIsolation"] = _text(bool(req.get("EnableNetworkIsolation")))
    if operation in _JOBS:
        for key, wanted in _SWITCHES.items():
            said = [bool(value) for name, value in members if name == wanted]
            # A tuning job has it in each of its definitions: one that leaves it out is enough.
            found[key] = _text(bool(said) and all(said) and len(said) >= len(req.get("TrainingJobDefinitions") or ()))
    stops = [
        value["MaxRuntimeInSeconds"] for name, value in members if name == "StoppingCondition" and value.get("MaxRuntimeInSeconds")
    ]
    if stops:
        found["sagemaker:MaxRuntimeInSeconds"] = str(max(stops))
    if keys := [value["KmsKeyId"] for name, value in members if name in _KEY_PLACES and value.get("KmsKeyId")]:
        found["sagemaker:OutputKmsKey"] = keys[0]
    if operation == "CreateNotebookInstance" and req.get("KmsKeyId"):
        found["sagemaker:VolumeKmsKey"] = req["KmsKeyId"]
    return found


def tagged(ctx: Context, arn: str) -> dict[str, str]:
    """The condition keys of the tags that a resource has."""
    record = ctx.records("Tags").find(arn) if arn != "*" else None
    return {
        f"{prefix}:ResourceTag/{tag['Key']}": tag["Value"]
        for tag in (record or {"Tags": ()})["Tags"]
        for prefix in ("aws", "sagemaker")
    }


def _members(value: Any) -> Iterator[tuple[str, Any]]:
    """Every member that is given, however deep."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if inner is not None and name not in _OF_THE_USER:
                yield name, inner
                yield from _members(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _members(inner)


def _texts(value: Any) -> Sequence[str]:
    return value if isinstance(value, list) else [value]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
