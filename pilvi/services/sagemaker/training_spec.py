"""A training request as a job: the layout of /opt/ml, the container's environment, what goes in and what comes out.

Source: SageMaker Developer Guide, "How Amazon SageMaker AI Provides Training Information" and "... Processes Training Output".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from pilvi.core.service import Context
from pilvi.jobs import Input, JobSpec, Output
from pilvi.services.sagemaker.access import PRINCIPAL
from pilvi.services.sagemaker.image import Runtime, runtime_for
from pilvi.services.sagemaker.instance_types import resources_for
from pilvi.services.sagemaker.metered import PRODUCT
from pilvi.services.sagemaker.training_hosts import groups_of, hosts_in, members_of
from pilvi.services.sagemaker.training_pool import keep_alive_s, pool_key
from pilvi.services.sagemaker.volume_key import volume_notes

SESSION = "SageMaker"
"""The role session's name inside training jobs."""
LOG_GROUP = "/aws/sagemaker/TrainingJobs"
SPOT_SHARE = 0.3
"""What a second of spot training counts. AWS's price follows the spot market ("up to 90 % off"); this is a usual discount."""
_ROOT = "/opt/ml"
_FOLDERS = ("input/config", "input/data", "model", "output/data", "output/metrics/sagemaker", "checkpoints", "code")
_CACHE = "sagemaker/warmpoolcache"
"""What a job leaves here, the next one of its warm pool finds."""
_KINDS: dict[str, Literal["prefix", "manifest", "augmented"]] = {
    "S3Prefix": "prefix",
    "ManifestFile": "manifest",
    "AugmentedManifestFile": "augmented",
}


def spec_for(ctx: Context, req: Mapping[str, Any], arn: str, id: str) -> JobSpec:
    """The job that carries out a request."""
    name, algorithm = req["TrainingJobName"], req["AlgorithmSpecification"]
    runtime = runtime_for(algorithm["TrainingImage"], req.get("HyperParameters"), account=ctx.account)
    stopping = req.get("StoppingCondition") or {}
    return JobSpec(
        id=id,
        kind="training",
        name=name,
        account=ctx.account,
        region=ctx.region,
        service="sagemaker",
        principal=PRINCIPAL,
        arn=arn,
        role_arn=req["RoleArn"],
        session_name=SESSION,
        told_to="sagemaker/jobs",
        runtime=runtime.environment,
        image=runtime.image,
        command=command_for(algorithm, runtime),
        replaces_entry=bool(algorithm.get("ContainerEntrypoint")),
        root=_ROOT,
        cwd=_ROOT,
        env=_environment(req, arn, runtime),
        # Without namespaces there is no /etc/hosts of the job's own, and the toolkit would wait for algo-1 to resolve.
        open_env={"SM_STUDIO_LOCAL_MODE": "True"},
        support=runtime.support,
        folders=(*_FOLDERS, *((_CACHE,) if keep_alive_s(req) else ())),
        files={f"input/config/{file}": json.dumps(content) for file, content in config_files(req).items()},
        inputs=(*_channels(req), *_restored_checkpoints(req)),
        outputs=_outputs(req),
        failure_file="output/failure",
        members=members_of(req, f"{name}/{{host}}-{{started}}"),
        resources=resources_for(groups_of(req)[0].instance_type),
        log_group=LOG_GROUP,
        metrics=tuple((metric["Name"], metric["Regex"]) for metric in algorithm.get("MetricDefinitions") or ()),
        network=not req.get("EnableNetworkIsolation"),
        metric_namespace=LOG_GROUP,
        metric_dimensions={"TrainingJobName": name},
        disk_mib=req["ResourceConfig"]["VolumeSizeInGB"] * 1024,
        notes=volume_notes(req["ResourceConfig"].get("VolumeKmsKeyId")),
        max_runtime_s=stopping.get("MaxRuntimeInSeconds", 86400),
        max_wait_s=stopping.get("MaxWaitTimeInSeconds"),
        max_pending_s=stopping.get("MaxPendingTimeInSeconds"),
        is_interruptible=bool(req.get("EnableManagedSpotTraining")),
        pool_key=pool_key(ctx, req),
        keep_alive_s=keep_alive_s(req),
        restarts=(req.get("RetryStrategy") or {}).get("MaximumRetryAttempts", 0),
        product=PRODUCT,
        usage="Train",
        billed_share=SPOT_SHARE if req.get("EnableManagedSpotTraining") else 1,
    )


def command_for(algorithm: Mapping[str, Any], runtime: Runtime) -> tuple[str, ...]:
    """The entry point with its arguments; the image's own is `train`."""
    arguments = tuple(algorithm.get("ContainerArguments") or ())
    if entry := algorithm.get("ContainerEntrypoint"):
        return (*entry, *arguments)
    return (*runtime.command, *arguments)


def config_files(req: Mapping[str, Any]) -> dict[str, Any]:
    """What stands in /opt/ml/input/config of every host."""
    files: dict[str, Any] = {
        "hyperparameters.json": dict(req.get("HyperParameters") or {}),
        "inputdataconfig.json": {
            channel["ChannelName"]: _channel_config(req, channel) for channel in req.get("InputDataConfig") or ()
        },
        "upstreamoutputdataconfig.json": [],
    }
    if (board := req.get("TensorBoardOutputConfig")) is not None:
        files["tensorboardoutputconfig.json"] = {"LocalPath": _board_path(board), "S3OutputPath": board["S3OutputPath"]}
    if (checkpoints := req.get("CheckpointConfig")) is not None:
        files["checkpointconfig.json"] = {"LocalPath": _checkpoint_path(req), "S3Uri": checkpoints["S3Uri"]}
    return files


def _channel_config(req: Mapping[str, Any], channel: Mapping[str, Any]) -> dict[str, str]:
    config = {
        "ContentType": channel.get("ContentType"),
        "TrainingInputMode": input_mode(req, channel),
        "S3DistributionType": channel["DataSource"]["S3DataSource"].get("S3DataDistributionType") or "FullyReplicated",
        "RecordWrapperType": channel.get("RecordWrapperType") or "None",
    }
    return {name: value for name, value in config.items() if value}


def _environment(req: Mapping[str, Any], arn: str, runtime: Runtime) -> dict[str, str]:
    """The container's environment; what the request gives stands above ours."""
    env = {
        "TRAINING_JOB_NAME": req["TrainingJobName"],
        "TRAINING_JOB_ARN": arn,
        "SAGEMAKER_METRICS_DIRECTORY": f"{_ROOT}/output/metrics/sagemaker",
        "SAGEMAKER_BASE_DIR": _ROOT,
    }
    return {**env, **runtime.env, **(req.get("Environment") or {})}


# -- in and out -----------------------------------------------------------------------------------------------------------


def _channels(req: Mapping[str, Any]) -> tuple[Input, ...]:
    return tuple(_channel(req, channel, channel["DataSource"]["S3DataSource"]) for channel in req.get("InputDataConfig") or ())


def _channel(req: Mapping[str, Any], channel: Mapping[str, Any], source: Mapping[str, Any]) -> Input:
    return Input(
        path=f"input/data/{channel['ChannelName']}",
        uri=source["S3Uri"],
        kind=_KINDS[source["S3DataType"]],
        is_gzipped=channel.get("CompressionType") == "Gzip",
        is_sharded=source.get("S3DataDistributionType") == "ShardedByS3Key",
        mode="pipe" if input_mode(req, channel) == "Pipe" else "file",
        record_wrapper="recordio" if channel.get("RecordWrapperType") == "RecordIO" else "",
        attributes=tuple(source.get("AttributeNames") or ()),
        shuffle_seed=(channel.get("ShuffleConfig") or {}).get("Seed"),
        members=hosts_in(req, source.get("InstanceGroupNames")),
    )


def input_mode(req: Mapping[str, Any], channel: Mapping[str, Any]) -> str:
    """The channel's own mode, else the algorithm's."""
    return str(channel.get("InputMode") or req["AlgorithmSpecification"]["TrainingInputMode"])


def _board_path(board: Mapping[str, Any]) -> str:
    return str(board.get("LocalPath") or f"{_ROOT}/output/tensorboard")


def _checkpoint_path(req: Mapping[str, Any]) -> str:
    return str((req.get("CheckpointConfig") or {}).get("LocalPath") or f"{_ROOT}/checkpoints")


def _restored_checkpoints(req: Mapping[str, Any]) -> tuple[Input, ...]:
    """What an earlier job left under the same address."""
    if (checkpoints := req.get("CheckpointConfig")) is None:
        return ()
    return (Input(path=_checkpoint_path(req), uri=checkpoints["S3Uri"].rstrip("/") + "/", is_optional=True),)


def _outputs(req: Mapping[str, Any]) -> tuple[Output, ...]:
    """The model when there may be one, other output always, checkpoints always."""
    base, is_packed = f"{output_base(req)}/output", _is_packed(req)
    kept = ("Completed", "Stopped", "TimedOut", "WaitedOut")
    archive = ("tar.gz", ".tar.gz") if is_packed else ("none", "")
    found = [
        Output("model", f"{base}/model{archive[1]}", archive[0], after=kept, if_empty=True),  # type: ignore[arg-type]
        Output("output/data", f"{base}/output{archive[1]}", archive[0], after=(*kept, "Failed")),  # type: ignore[arg-type]
    ]
    if (checkpoints := req.get("CheckpointConfig")) is not None:
        found.append(Output(_checkpoint_path(req), checkpoints["S3Uri"], after=(*kept, "Failed"), mode="continuous"))
    if (board := req.get("TensorBoardOutputConfig")) is not None:
        uri = f"{board['S3OutputPath'].rstrip('/')}/{req['TrainingJobName']}/tensorboard-output"
        found.append(Output(_board_path(board), uri, after=(*kept, "Failed"), mode="continuous"))
    # What the toolkit of script mode does when the SDK asks for it.
    if (wanted := (req.get("HyperParameters") or {}).get("sagemaker_s3_output", "").strip('"')).startswith("s3://"):
        uri = f"{wanted.rstrip('/')}/{req['TrainingJobName']}/output/intermediate"
        found.append(Output("output/intermediate", uri, after=(*kept, "Failed"), mode="continuous"))
    key = req["OutputDataConfig"].get("KmsKeyId") or ""
    return tuple(replace(target, kms_key=key) for target in found)


def output_base(req: Mapping[str, Any]) -> str:
    """Where everything of a job goes in S3."""
    return f"{req['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{req['TrainingJobName']}"


def model_uri(req: Mapping[str, Any]) -> str:
    """The model's address: an archive, or the prefix of single files where the request wants them so."""
    return f"{output_base(req)}/output/model" + (".tar.gz" if _is_packed(req) else "/")


def _is_packed(req: Mapping[str, Any]) -> bool:
    return bool(req["OutputDataConfig"].get("CompressionType") != "NONE")
