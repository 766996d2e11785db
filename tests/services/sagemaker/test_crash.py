"""The server dies during a training job: nothing is left running, and the job's end is told honestly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest

from pilvi.testing.contracts.compute import is_alive
from pilvi.testing.server import eventually
from tests.services.sagemaker.conftest import BASE_IMAGE, PERMISSIONS


class Up:
    """`pilvi up` as its own process, on one data directory."""

    def __init__(self, folder: Path) -> None:
        command = [str(Path(sys.executable).with_name("pilvi")), "up", "--port", "0", "--data-dir", str(folder)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        said = []
        for line in self.process.stdout or ():
            said.append(line)
            if line.startswith("ready"):
                break
        else:
            pytest.fail(f"it did not start: {said}")
        env = subprocess.run([command[0], "env", "--data-dir", str(folder)], capture_output=True, text=True, check=True).stdout
        self.env = dict(line.removeprefix("export ").split("=", 1) for line in env.splitlines() if line.startswith("export "))
        self.env = {name: value.strip("'\"") for name, value in self.env.items()}

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            region_name="us-east-1",
            endpoint_url=self.env["AWS_ENDPOINT_URL"],
            aws_access_key_id=self.env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.env["AWS_SECRET_ACCESS_KEY"],
        )

    def end(self, number: int) -> None:
        os.kill(self.process.pid, number)
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()


def start(up: Up, name: str, marker: str) -> None:
    trust = {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
    iam = up.client("iam")
    policy = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=policy)["Role"]["Arn"]
    iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=json.dumps(PERMISSIONS))
    up.client("sagemaker").create_training_job(
        TrainingJobName=name,
        RoleArn=role,
        AlgorithmSpecification={
            "TrainingImage": BASE_IMAGE,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["/bin/sh", "-c", f"trap '' TERM; setsid sleep {marker} & sleep {marker}"],
        },
        OutputDataConfig={"S3OutputPath": "s3://nowhere/out"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 3600},
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "term"])
def test_jobs_of_a_dead_server_have_failed(tmp_path: Path, number: int) -> None:
    marker = f"5{tmp_path.stat().st_ino}"
    up = Up(tmp_path / "data")
    start(up, "lost", marker)
    eventually(lambda: is_alive(f"sleep\0{marker}"))
    up.end(number)
    eventually(lambda: not is_alive(f"sleep\0{marker}"))
    again = Up(tmp_path / "data")
    try:
        job = again.client("sagemaker").describe_training_job(TrainingJobName="lost")
        assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Failed", "Failed")
        assert job["FailureReason"] == "InternalServerError: the server stopped while the job was running"
        assert job["SecondaryStatusTransitions"][-2]["Status"] == "Training"
        eventually(lambda: not list((tmp_path / "data" / "jobs").glob("*")))
    finally:
        again.end(signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "term"])
def test_a_job_that_was_stopping_when_the_server_died_is_stopped(tmp_path: Path, number: int) -> None:
    marker = f"6{tmp_path.stat().st_ino}"
    up = Up(tmp_path / "data")
    start(up, "stopping", marker)
    eventually(lambda: is_alive(f"sleep\0{marker}"))
    up.client("sagemaker").stop_training_job(TrainingJobName="stopping")
    up.end(number)
    again = Up(tmp_path / "data")
    try:
        job = again.client("sagemaker").describe_training_job(TrainingJobName="stopping")
        assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "Stopped")
        assert "FailureReason" not in job
        assert job["SecondaryStatusTransitions"][-2]["Status"] == "Stopping"
    finally:
        again.end(signal.SIGTERM)
