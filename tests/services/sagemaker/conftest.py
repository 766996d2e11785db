"""What the SageMaker tests share: a role that may do what a job needs, and short requests."""

from __future__ import annotations

import io
import itertools
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pilvi.testing.server import Account, eventually

BASE_IMAGE = "081325390199.dkr.ecr.us-east-1.amazonaws.com/sagemaker-base-python:1.0"
SKLEARN_IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.4-2-cpu-py3"
PERMISSIONS = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": ["s3:*", "logs:*", "cloudwatch:PutMetricData"], "Resource": "*"}],
}
BUCKET = "lab"


class Lab:
    """One account's SageMaker, with a bucket and a role."""

    def __init__(self, aws: Account) -> None:
        self.aws = aws
        self.sagemaker = aws.client("sagemaker")
        self.s3 = aws.client("s3")
        self.logs = aws.client("logs")
        self.role = aws.role("Trainer", "sagemaker.amazonaws.com", PERMISSIONS)
        self.bucket = f"lab-{aws.account}"
        self.s3.create_bucket(Bucket=self.bucket)

    def put(self, key: str, data: bytes | str) -> str:
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=data)
        return f"s3://{self.bucket}/{key}"

    def get(self, key: str) -> bytes:
        return bytes(self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read())

    def keys(self, prefix: str = "") -> list[str]:
        return [entry["Key"] for entry in self.s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix).get("Contents", ())]

    def members(self, key: str) -> dict[str, bytes]:
        """The files of an archive in the bucket."""
        with tarfile.open(fileobj=io.BytesIO(self.get(key))) as tar:
            files = {member.name: tar.extractfile(member) for member in tar if member.isfile()}
            return {name: file.read() for name, file in files.items() if file is not None}

    def request(self, name: str, script: str = "", **changes: Any) -> dict[str, Any]:
        """A request whose program is a shell script in the bare interpreter's runtime."""
        algorithm: dict[str, Any] = {"TrainingImage": BASE_IMAGE, "TrainingInputMode": "File"}
        if script:
            algorithm |= {"ContainerEntrypoint": ["/bin/bash", "-c"], "ContainerArguments": [script]}
        algorithm |= changes.pop("algorithm", {})
        request = {
            "TrainingJobName": name,
            "AlgorithmSpecification": algorithm,
            "RoleArn": self.role,
            "OutputDataConfig": {"S3OutputPath": f"s3://{self.bucket}/out"},
            "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
            "StoppingCondition": {"MaxRuntimeInSeconds": 300},
        }
        return {key: value for key, value in {**request, **changes}.items() if value is not None}

    def channel(self, name: str, uri: str, **changes: Any) -> dict[str, Any]:
        kind = changes.pop("kind", "S3Prefix")
        return {"ChannelName": name, "DataSource": {"S3DataSource": {"S3DataType": kind, "S3Uri": uri}}, **changes}

    def start(self, name: str, script: str = "", **changes: Any) -> str:
        return str(self.sagemaker.create_training_job(**self.request(name, script, **changes))["TrainingJobArn"])

    def describe(self, name: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.sagemaker.describe_training_job(TrainingJobName=name)
        return found

    def wait(self, name: str, within_s: float = 120.0) -> Mapping[str, Any]:
        """The description once the job has ended."""

        def ended() -> Any:
            found = self.describe(name)
            return found if found["TrainingJobStatus"] in ("Completed", "Failed", "Stopped") else None

        found: Mapping[str, Any] = eventually(ended, within_s=within_s)
        return found

    def run(self, name: str, script: str = "", **changes: Any) -> Mapping[str, Any]:
        self.start(name, script, **changes)
        return self.wait(name)

    def start_file(self, name: str, script: str, **changes: Any) -> str:
        """Start a script of several lines: it comes by a channel."""
        channels = [self.channel("code", self.put(f"scripts/{name}/run.sh", script), InputMode="File")]
        channels += changes.pop("InputDataConfig", [])
        algorithm = {"ContainerEntrypoint": ["/bin/bash", "/opt/ml/input/data/code/run.sh"], **changes.pop("algorithm", {})}
        return self.start(name, algorithm=algorithm, InputDataConfig=channels, **changes)

    def run_file(self, name: str, script: str, **changes: Any) -> Mapping[str, Any]:
        self.start_file(name, script, **changes)
        return self.wait(name)

    def lines(self, name: str) -> list[str]:
        """Everything the job said, without what is said before it of a machine smaller than the type."""
        return [line for line in self.all_lines(name) if not line.startswith("this machine gives ")]

    def all_lines(self, name: str) -> list[str]:
        group = "/aws/sagemaker/TrainingJobs"
        try:
            streams = self.logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/")["logStreams"]
        except self.logs.exceptions.ResourceNotFoundException:
            return []
        return [
            event["message"]
            for stream in streams
            for event in self.logs.get_log_events(logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True)[
                "events"
            ]
        ]

    def wait_for_line(self, name: str, line: str) -> None:
        eventually(lambda: line in self.lines(name))


_numbers = itertools.count(710000000001)


@pytest.fixture(scope="module")
def lab(server: Any) -> Lab:
    """One account for all tests of a file: making clients is what costs. Tests use names of their own."""
    return Lab(server.account(str(next(_numbers))))


@pytest.fixture
def fresh_lab(aws: Account) -> Lab:
    """An account in which nothing has happened yet."""
    return Lab(aws)


@pytest.fixture(scope="session")
def source_archive() -> Callable[[Mapping[str, str]], bytes]:
    """A sourcedir.tar.gz as the SageMaker SDK makes it."""

    def made(files: Mapping[str, str]) -> bytes:
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w:gz") as tar:
            for name, text in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(text.encode())
                tar.addfile(member, io.BytesIO(text.encode()))
        return data.getvalue()

    return made


@pytest.fixture(scope="session")
def scikit_learn(server: Any) -> Path:
    """The installed runtime; the test is skipped where it is not installed."""
    from pilvi.compute.environments import Environments

    found = Environments(server.config.runtimes_dir).find("scikit-learn")
    if found is None:
        pytest.skip("the runtime is not installed: pilvi runtimes install scikit-learn")
    return found.path
