"""A processing request as a job: the layout of /opt/ml, what goes in and what comes out.

Source: SageMaker Developer Guide, "How Amazon SageMaker Processing Configures Your Processing Container" and "How Amazon SageMaker
Processing Configures Input and Output For Your Processing Container".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pilvi.core.service import Context
from pilvi.jobs import Input, JobSpec, Member, Output
from pilvi.services.sagemaker.access import PRINCIPAL
from pilvi.services.sagemaker.image import SCRIPT, Runtime, runtime_for
from pilvi.services.sagemaker.instance_types import resources_for
from pilvi.services.sagemaker.metered import PRODUCT
from pilvi.services.sagemaker.volume_key import volume_notes

SESSION = "SageMaker"
"""The role session's name inside processing jobs."""
LOG_GROUP = "/aws/sagemaker/ProcessingJobs"
LONGEST_S = 86400
"""How long a job may run when it does not say."""
_ROOT = "/opt/ml"
_SPARK = {
    "JAVA_HOME": "/opt/pilvi/home",
    "HADOOP_CONF_DIR": "/opt/pilvi/conf",
    "SPARK_CONF_DIR": "/opt/pilvi/conf",
    "SPARK_DIST_CLASSPATH": "/opt/pilvi/jars/pilvi-s3.jar",
}
"""Where Spark finds Java, its settings and S3, however a script starts it (pilvi/runtimes/spark)."""
_KEPT = ("Completed", "Stopped", "TimedOut")
"""The outcomes after which outputs of the end are brought to S3. What goes there continuously is brought after a failure, too."""


def recorded(req: Mapping[str, Any]) -> dict[str, Any]:
    """The request as Describe gives it back, with what AWS fills in."""
    record: dict[str, Any] = {key: value for key, value in req.items() if key != "Tags"}
    record["ProcessingResources"] = {"ClusterConfig": _cluster(req["ProcessingResources"]["ClusterConfig"])}
    record["StoppingCondition"] = req.get("StoppingCondition") or {"MaxRuntimeInSeconds": LONGEST_S}
    if req.get("ProcessingInputs"):
        record["ProcessingInputs"] = [_input(source) for source in req["ProcessingInputs"]]
    if req.get("ProcessingOutputConfig"):
        outputs = [{"AppManaged": False, **target} for target in req["ProcessingOutputConfig"]["Outputs"]]
        record["ProcessingOutputConfig"] = {**req["ProcessingOutputConfig"], "Outputs": outputs}
    return record


def _cluster(cluster: Mapping[str, Any]) -> Mapping[str, Any]:
    """With the type that is taken of those preferred: the first, as there is always room for it in time."""
    if not (preferences := cluster.get("InstancePreferences")):
        return cluster
    first = preferences[0]
    count = first.get("InstanceCount") or cluster.get("InstanceCount") or 1
    return {**cluster, "SelectedInstanceType": first["InstanceType"], "SelectedInstanceCount": count}


def _input(source: Mapping[str, Any]) -> Mapping[str, Any]:
    filled = {"S3InputMode": "File", "S3DataDistributionType": "FullyReplicated", "S3CompressionType": "None", **source["S3Input"]}
    return {"AppManaged": False, **source, "S3Input": filled}


def spec_for(ctx: Context, record: Mapping[str, Any], arn: str, id: str) -> JobSpec:
    """The job that carries out a request, as `recorded` completes it."""
    name, app = record["ProcessingJobName"], record["AppSpecification"]
    runtime = runtime_for(app["ImageUri"], account=ctx.account)
    cluster = record["ProcessingResources"]["ClusterConfig"]
    return JobSpec(
        id=id,
        kind="processing",
        name=name,
        account=ctx.account,
        region=ctx.region,
        service="sagemaker",
        principal=PRINCIPAL,
        arn=arn,
        role_arn=record["RoleArn"],
        session_name=SESSION,
        told_to="sagemaker/jobs",
        runtime=runtime.environment,
        image=runtime.image,
        command=command_for(app, runtime),
        replaces_entry=bool(app.get("ContainerEntrypoint")),
        root=_ROOT,
        cwd=_ROOT,
        env=_environment(record, arn, runtime),
        support=runtime.support,
        folders=("config", "processing", "output"),
        files={"config/processingjobconfig.json": json.dumps(job_config(record, arn))},
        inputs=_inputs(record),
        outputs=_outputs(record),
        failure_file="output/message",
        members=_members(record, name),
        resources=resources_for(cluster.get("SelectedInstanceType") or cluster["InstanceType"]),
        log_group=LOG_GROUP,
        network=not (record.get("NetworkConfig") or {}).get("EnableNetworkIsolation"),
        disk_mib=cluster["VolumeSizeInGB"] * 1024,
        notes=volume_notes(cluster.get("VolumeKmsKeyId")),
        max_runtime_s=record["StoppingCondition"]["MaxRuntimeInSeconds"],
        product=PRODUCT,
        usage="Processing",
    )


def _members(record: Mapping[str, Any], name: str) -> tuple[Member, ...]:
    hosts = hosts_of(record)
    return tuple(
        Member(
            host,
            files={"config/resourceconfig.json": json.dumps({"current_host": host, "hosts": hosts})},
            log_stream=f"{name}/{host}-{{started}}",
        )
        for host in hosts
    )


def hosts_of(record: Mapping[str, Any]) -> list[str]:
    return [f"algo-{number}" for number in range(1, instances_of(record) + 1)]


def instances_of(req: Mapping[str, Any]) -> int:
    """How many instances a request, or its record, is for."""
    cluster = _cluster(req["ProcessingResources"]["ClusterConfig"])
    return int(cluster.get("SelectedInstanceCount") or cluster["InstanceCount"])


def command_for(app: Mapping[str, Any], runtime: Runtime) -> tuple[str, ...]:
    """The entry point with its arguments. An image of AWS's whose own program trains and serves has none for processing."""
    entry = app.get("ContainerEntrypoint") or (() if runtime.image or runtime.command == SCRIPT else runtime.command)
    return (*entry, *(app.get("ContainerArguments") or ()))


def job_config(record: Mapping[str, Any], arn: str) -> dict[str, Any]:
    """/opt/ml/config/processingjobconfig.json: the request as it is recorded; null stands for what it leaves out."""
    members = (
        "ProcessingJobName",
        "AppSpecification",
        "Environment",
        "ProcessingInputs",
        "ProcessingOutputConfig",
        "ProcessingResources",
        "NetworkConfig",
        "RoleArn",
        "StoppingCondition",
        "ExperimentConfig",
    )
    return {"ProcessingJobArn": arn, **{member: record.get(member) for member in members}}


def _environment(record: Mapping[str, Any], arn: str, runtime: Runtime) -> dict[str, str]:
    """The container's environment; what the request gives stands above ours."""
    env = {"PROCESSING_JOB_NAME": record["ProcessingJobName"], "PROCESSING_JOB_ARN": arn}
    if runtime.environment == "spark":
        env |= _SPARK
    return {**env, **runtime.env, **(record.get("Environment") or {})}


# -- in and out -----------------------------------------------------------------------------------------------------------


def _inputs(record: Mapping[str, Any]) -> tuple[Input, ...]:
    return tuple(
        Input(
            path=source["S3Input"]["LocalPath"],
            uri=source["S3Input"]["S3Uri"],
            kind="manifest" if source["S3Input"]["S3DataType"] == "ManifestFile" else "prefix",
            is_gzipped=source["S3Input"]["S3CompressionType"] == "Gzip",
            mode="pipe" if source["S3Input"]["S3InputMode"] == "Pipe" else "file",
            is_sharded=source["S3Input"]["S3DataDistributionType"] == "ShardedByS3Key",
        )
        for source in record.get("ProcessingInputs") or ()
        if not source["AppManaged"]
    )


def _managed_outputs(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Those that the server brings to S3."""
    outputs = (record.get("ProcessingOutputConfig") or {}).get("Outputs") or ()
    return [target for target in outputs if not target["AppManaged"]]


def _outputs(record: Mapping[str, Any]) -> tuple[Output, ...]:
    return tuple(
        Output(
            target["S3Output"]["LocalPath"],
            target["S3Output"]["S3Uri"],
            after=_KEPT if target["S3Output"]["S3UploadMode"] == "EndOfJob" else (*_KEPT, "Failed"),
            mode="end" if target["S3Output"]["S3UploadMode"] == "EndOfJob" else "continuous",
            kms_key=(record["ProcessingOutputConfig"].get("KmsKeyId") or ""),
        )
        for target in _managed_outputs(record)
    )
