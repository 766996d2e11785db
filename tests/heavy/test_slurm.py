"""Jobs on a real Slurm, where one answers (Debian: slurm-wlm, munge; SLURM_CONF says which): the contract, and a training job."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pilvi.compute import Compute
from pilvi.compute.slurm import SlurmCompute
from pilvi.testing.contracts import compute as promises
from pilvi.testing.contracts.compute import CONTRACT
from pilvi.testing.server import TestServer, eventually

BASE_IMAGE = "081325390199.dkr.ecr.us-east-1.amazonaws.com/sagemaker-base-python:1.0"
ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["s3:*", "logs:*"], "Resource": "*"}]}
NOT_HERE = {
    promises.memory_used_is_told: "told at the end only",
    promises.too_much_memory_ends_it: "told at the end, after the promise asks",
    promises.stop_right_after_launch_works: "the step may be asked before it listens",
    promises.many_run_at_once: "those that wait say why, which the promise does not expect",
    promises.it_sees_as_many_cores_as_it_is_given: "Slurm gives whole allocations; what it does not give it refuses",
}


@pytest.fixture(scope="module", autouse=True)
def answering() -> None:
    if shutil.which("sinfo") is None or subprocess.run(["sinfo", "--noheader"], capture_output=True, timeout=60).returncode:
        pytest.skip("there is no Slurm that answers: install slurm-wlm and munge, start them, and set SLURM_CONF")


@pytest.fixture
def compute(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compute]:
    made = SlurmCompute("", "auto", (), tmp_path_factory.mktemp("server"))
    yield made
    made.close()


@pytest.mark.parametrize("promise", [one for one in CONTRACT if one not in NOT_HERE], ids=lambda promise: promise.__name__)
def test_adapter_keeps(promise: Callable[[Compute, Path], None], compute: Compute, tmp_path: Path) -> None:
    promise(compute, tmp_path)


def test_create_training_job_runs_on_slurm(tmp_path: Path) -> None:
    with TestServer(tmp_path, compute="slurm") as server:
        aws = server.account("111122223333")
        role = aws.role("Trainer", "sagemaker.amazonaws.com", ALL)
        aws.client("s3").create_bucket(Bucket="lab")
        script = "echo slurm job $SLURM_JOB_ID; nproc > /opt/ml/model/cores"
        aws.client("sagemaker").create_training_job(
            TrainingJobName="on-slurm",
            RoleArn=role,
            AlgorithmSpecification={
                "TrainingImage": BASE_IMAGE,
                "TrainingInputMode": "File",
                "ContainerEntrypoint": ["/bin/bash", "-c"],
                "ContainerArguments": [script],
            },
            OutputDataConfig={"S3OutputPath": "s3://lab/out", "CompressionType": "NONE"},
            ResourceConfig={"InstanceType": "ml.t3.medium", "InstanceCount": 1, "VolumeSizeInGB": 1},
            StoppingCondition={"MaxRuntimeInSeconds": 120},
        )

        def ended() -> Any:
            found = aws.client("sagemaker").describe_training_job(TrainingJobName="on-slurm")
            return found if found["TrainingJobStatus"] in ("Completed", "Failed") else None

        found = eventually(ended, within_s=120)
        assert found["TrainingJobStatus"] == "Completed", found.get("FailureReason")
        body = aws.client("s3").get_object(Bucket="lab", Key="out/on-slurm/output/model/cores")["Body"].read()
        assert int(body) >= 1
