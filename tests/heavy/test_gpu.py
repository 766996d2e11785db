"""GPU instance types on a machine that has a GPU."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pilvi.compute.machine import gpus
from pilvi.testing.server import Account, TestServer, eventually

BASE_IMAGE = "081325390199.dkr.ecr.us-east-1.amazonaws.com/sagemaker-base-python:1.0"
ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["s3:*", "logs:*"], "Resource": "*"}]}


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    if not gpus():
        pytest.skip("this machine has no NVIDIA GPU")
    with TestServer(tmp_path_factory.mktemp("gpu")) as server:
        aws = server.account("111122223333")
        aws.role("Trainer", "sagemaker.amazonaws.com", ALL)
        aws.client("s3").create_bucket(Bucket="lab")
        yield aws


def lines_of(aws: Account, name: str, instance_type: str, script: str) -> list[str]:
    sagemaker = aws.client("sagemaker")
    sagemaker.create_training_job(
        TrainingJobName=name,
        RoleArn=f"arn:aws:iam::{aws.account}:role/Trainer",
        AlgorithmSpecification={
            "TrainingImage": BASE_IMAGE,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["/bin/bash", "-c"],
            "ContainerArguments": [script],
        },
        OutputDataConfig={"S3OutputPath": "s3://lab/out"},
        ResourceConfig={"InstanceType": instance_type, "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 120},
    )

    def ended() -> Any:
        found = sagemaker.describe_training_job(TrainingJobName=name)
        return found if found["TrainingJobStatus"] in ("Completed", "Failed") else None

    assert eventually(ended, within_s=120)["TrainingJobStatus"] == "Completed"
    found = aws.client("logs").filter_log_events(logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix=f"{name}/")
    return [event["message"] for event in found["events"]]


def test_gpu_type_sees_a_gpu(account: Account) -> None:
    lines = lines_of(account, "one", "ml.g4dn.xlarge", "echo devices /dev/nvidia[0-9]*; echo visible $CUDA_VISIBLE_DEVICES")
    (devices,) = [line.split()[1:] for line in lines if line.startswith("devices")]
    assert len(devices) == 1
    assert Path(devices[0]).is_char_device()
    assert f"visible {gpus()[0].id}" in lines
    if shutil.which("nvidia-smi"):
        listed = lines_of(account, "list", "ml.g4dn.xlarge", "nvidia-smi --list-gpus")
        assert len([line for line in listed if line.startswith("GPU ")]) == 1


def test_type_without_gpus_sees_none(account: Account) -> None:
    lines = lines_of(account, "none", "ml.m5.large", "ls /dev/nvidia[0-9]* 2>/dev/null; echo visible [$CUDA_VISIBLE_DEVICES]")
    assert "visible []" in lines
    assert not [line for line in lines if line.startswith("/dev/nvidia")]
