"""A transform request as a job: the model's files, its input, and the program that leads every file through the model.

Source: SageMaker Developer Guide, "Use batch transform to run inference with Amazon SageMaker AI", "Use Your Own Inference Code with Batch
Transform".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from pilvi.core.service import Context
from pilvi.jobs import Input, JobSpec, Output
from pilvi.jobs.spec import Member
from pilvi.services.sagemaker.access import PRINCIPAL
from pilvi.services.sagemaker.instance_types import instance_type, resources_for
from pilvi.services.sagemaker.job_check import SESSION
from pilvi.services.sagemaker.metered import PRODUCT
from pilvi.services.sagemaker.model import containers_of
from pilvi.services.sagemaker.model_check import data_uri, is_single_object
from pilvi.services.sagemaker.serving_image import serving_for
from pilvi.services.sagemaker.serving_spec import names_of
from pilvi.services.sagemaker.volume_key import volume_notes

LOG_GROUP = "/aws/sagemaker/TransformJobs"
_ROOT = "/opt/ml"
_SUPPORT = "/opt/pilvi"
_KINDS: dict[str, Literal["prefix", "manifest"]] = {"S3Prefix": "prefix", "ManifestFile": "manifest"}
_MOST_CONCURRENT = 100
_TIMEOUT_S = 600
"""Source: SageMaker API reference, ModelClientConfig: InvocationsTimeoutInSeconds is 600 where nothing is said."""


def spec_for(ctx: Context, req: Mapping[str, Any], model: Mapping[str, Any], arn: str, id: str) -> JobSpec:
    """The job that carries out a request."""
    name, resources = req["TransformJobName"], req["TransformResources"]
    containers = containers_of(model)
    servings = [serving_for(one["Image"], _environment(one, req), account=ctx.account) for one in containers]
    output = req["TransformOutput"]
    return JobSpec(
        id=id,
        kind="transform",
        name=name,
        account=ctx.account,
        region=ctx.region,
        service="sagemaker",
        principal=PRINCIPAL,
        arn=arn,
        role_arn=model["ExecutionRoleArn"],
        session_name=SESSION,
        told_to="sagemaker/jobs",
        runtime=servings[0].environment,
        also_runtimes=tuple(dict.fromkeys(one.environment for one in servings[1:])),
        command=("python3", "-m", "pilvi_transform"),
        root=_ROOT,
        cwd=_ROOT,
        env={
            # What one program needs of ours, the others may see.
            "PYTHONPATH": f"{_SUPPORT}/serving:/tmp/packages:{_SUPPORT}/builtin:{_SUPPORT}/training",
            "SAGEMAKER_BASE_DIR": _ROOT,
        },
        support="pilvi.runtimes",
        folders=("input/config", "input/data", "model", "code", "output/transform"),
        files={"input/config/transform.json": json.dumps(config_for(ctx, req, model))},
        inputs=(_data(req), *(source for number, one in enumerate(containers) for source in _files(number, one, req))),
        outputs=(
            Output(
                "output/transform",
                output["S3OutputPath"].rstrip("/"),
                after=("Completed", "Failed"),
                kms_key=output.get("KmsKeyId") or "",
            ),
        ),
        failure_file="output/failure",
        members=tuple(
            Member(hostname=f"algo-{number}", log_stream=f"{name}/i-{ctx.ids.hex(17)}")
            for number in range(1, resources["InstanceCount"] + 1)
        ),
        resources=resources_for(resources["InstanceType"]),
        log_group=LOG_GROUP,
        network=not model.get("EnableNetworkIsolation"),
        notes=volume_notes(resources.get("VolumeKmsKeyId")),
        product=PRODUCT,
        usage="Tsform",
    )


def config_for(ctx: Context, req: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """What pilvi_transform reads."""
    source, output, client = req["TransformInput"], req["TransformOutput"], req.get("ModelClientConfig") or {}
    return {
        "containers": [_container(ctx, number, one, req, model) for number, one in enumerate(containers_of(model))],
        "concurrency": req.get("MaxConcurrentTransforms") or 0,
        "payload_mb": req.get("MaxPayloadInMB"),
        "strategy": req.get("BatchStrategy") or "",
        "split": source.get("SplitType") or "None",
        "assemble": output.get("AssembleWith") or "None",
        "content_type": source.get("ContentType") or "",
        "accept": output.get("Accept") or "",
        "processing": req.get("DataProcessing"),
        "timeout_s": client.get("InvocationsTimeoutInSeconds") or _TIMEOUT_S,
        "retries": 3 if client.get("InvocationsMaxRetries") is None else client["InvocationsMaxRetries"],
    }


def _container(
    ctx: Context, number: int, container: Mapping[str, Any], req: Mapping[str, Any], model: Mapping[str, Any]
) -> dict[str, Any]:
    given = _environment(container, req)
    serving = serving_for(container["Image"], given, account=ctx.account)
    workers = given.get("SAGEMAKER_MODEL_SERVER_WORKERS") or str(_workers(req))
    place, unpack = _place(number), []
    if data_uri(container) and is_single_object(container) and _is_packed(container):
        unpack.append((f"input/model-{number}", f"{place}model"))
    if serving.is_script and _submitted(given):
        unpack.append((f"input/code-{number}", f"{place}code"))
    return {
        "name": names_of(model)[number],
        "runtime": serving.environment,
        "command": list(serving.command[1:]),
        # Below the job's folder, wherever that is.
        "folders": {"PILVI_MODEL_DIR": f"{place}model", "PILVI_CODE_DIR": f"{place}code"},
        "unpack": unpack,
        "env": {
            "PILVI_SERVING_WORKERS": workers,
            "PILVI_SERVING_TIMEOUT_S": str((req.get("ModelClientConfig") or {}).get("InvocationsTimeoutInSeconds") or _TIMEOUT_S),
            "OMP_NUM_THREADS": "1",
            "SAGEMAKER_BATCH": "true",
            "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": str(req.get("MaxConcurrentTransforms") or 0),
            "SAGEMAKER_MAX_PAYLOAD_IN_MB": str(6 if req.get("MaxPayloadInMB") is None else req["MaxPayloadInMB"]),
            "SAGEMAKER_BATCH_STRATEGY": "SINGLE_RECORD" if req.get("BatchStrategy") == "SingleRecord" else "MULTI_RECORD",
            **given,
            "PILVI_SERVING_FRAMEWORK": serving.framework,
        },
    }


def _data(req: Mapping[str, Any]) -> Input:
    source = req["TransformInput"]
    s3 = source["DataSource"]["S3DataSource"]
    return Input(
        path="input/data",
        uri=s3["S3Uri"],
        kind=_KINDS[s3["S3DataType"]],
        is_gzipped=source.get("CompressionType") == "Gzip",
        is_sharded=True,
    )


def _files(number: int, container: Mapping[str, Any], req: Mapping[str, Any]) -> list[Input]:
    """The model and the code of one container."""
    found, uri = [], data_uri(container)
    if uri:
        is_archive = is_single_object(container) and _is_packed(container)
        found.append(Input(path=f"input/model-{number}" if is_archive else f"{_place(number)}model", uri=uri))
    if submitted := _submitted(_environment(container, req)):
        found.append(Input(path=f"input/code-{number}", uri=submitted))
    return found


def _place(number: int) -> str:
    """Where a container's files are below /opt/ml: the first has them where containers look for them."""
    return "" if number == 0 else f"containers/{number}/"


def _is_packed(container: Mapping[str, Any]) -> bool:
    source = (container.get("ModelDataSource") or {}).get("S3DataSource") or {}
    return bool(source.get("CompressionType", "Gzip") == "Gzip")


def _submitted(environment: Mapping[str, str]) -> str:
    uri = environment.get("SAGEMAKER_SUBMIT_DIRECTORY", "").strip('"')
    return uri if uri.startswith("s3://") else ""


def _environment(container: Mapping[str, Any], req: Mapping[str, Any]) -> dict[str, str]:
    """The container's, with what the job says above it."""
    return {**(container.get("Environment") or {}), **(req.get("Environment") or {})}


def _workers(req: Mapping[str, Any]) -> int:
    """Requests at once: as many as asked for, else one a core of the instance type."""
    wanted = req.get("MaxConcurrentTransforms") or instance_type(req["TransformResources"]["InstanceType"]).vcpus
    return int(min(wanted, _MOST_CONCURRENT))
