"""What the runtime's tests share: an account with models of a few lines that run in the bare interpreter."""

from __future__ import annotations

import io
import itertools
import tarfile
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from pilvi.testing.server import Account, eventually

BASE_IMAGE = "081325390199.dkr.ecr.us-east-1.amazonaws.com/sagemaker-base-python:1.0"
PERMISSIONS = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["s3:*", "sns:Publish"], "Resource": "*"}]}
SCRIPT = """\
import json, os, time

def model_fn(model_dir):
    with open(os.path.join(model_dir, "factor.txt")) as file:
        return float(file.read())

def predict_fn(data, factor):
    if isinstance(data, dict):
        if "sleep" in data:
            time.sleep(data["sleep"])
        if "die" in data:
            os._exit(3)
        if "raise" in data:
            raise ValueError(data["raise"])
        if "pid" in data:
            return [os.getpid()]
        return data
    return [factor * (sum(row) if isinstance(row, list) else row) for row in data]
"""


def archive(files: Mapping[str, str | bytes]) -> bytes:
    """A model.tar.gz."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            content = content.encode() if isinstance(content, str) else content
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return data.getvalue()


class Desk:
    """One account's models and endpoints."""

    def __init__(self, aws: Account) -> None:
        self.aws = aws
        self.sagemaker = aws.client("sagemaker")
        self.runtime = aws.client("sagemaker-runtime")
        self.s3 = aws.client("s3")
        self.logs = aws.client("logs")
        self.role = aws.role("Server", "sagemaker.amazonaws.com", PERMISSIONS)
        self.bucket = f"desk-{aws.account}"
        self.s3.create_bucket(Bucket=self.bucket)

    def put(self, key: str, data: bytes | str) -> str:
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=data)
        return f"s3://{self.bucket}/{key}"

    def keys(self, prefix: str = "") -> list[str]:
        return [entry["Key"] for entry in self.s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix).get("Contents", ())]

    def get(self, key: str) -> bytes:
        return bytes(self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read())

    def logged(self, group: str, stream: str) -> list[str]:
        """Lines so far; none before the first was written."""
        try:
            found = self.logs.get_log_events(logGroupName=group, logStreamName=stream, startFromHead=True)["events"]
        except self.logs.exceptions.ResourceNotFoundException:
            return []
        return [event["message"] for event in found]

    def streams(self, group: str) -> list[str]:
        try:
            return [stream["logStreamName"] for stream in self.logs.describe_log_streams(logGroupName=group)["logStreams"]]
        except self.logs.exceptions.ResourceNotFoundException:
            return []

    def data(self, name: str, factor: float = 2.0, script: str = SCRIPT) -> str:
        return self.put(f"models/{name}.tar.gz", archive({"factor.txt": str(factor), "code/inference.py": script}))

    def container(self, name: str, factor: float = 2.0, script: str = SCRIPT, **more: Any) -> dict[str, Any]:
        environment = {"SAGEMAKER_MODEL_SERVER_WORKERS": "1", **more.pop("Environment", {})}
        return {"Image": BASE_IMAGE, "ModelDataUrl": self.data(name, factor, script), "Environment": environment, **more}

    def model(self, name: str, factor: float = 2.0, script: str = SCRIPT, **more: Any) -> str:
        self.sagemaker.create_model(
            ModelName=name, PrimaryContainer=self.container(name, factor, script, **more), ExecutionRoleArn=self.role
        )
        return name

    def variant(self, model: str, name: str = "AllTraffic", **more: Any) -> dict[str, Any]:
        return {"VariantName": name, "ModelName": model, "InitialInstanceCount": 1, "InstanceType": "ml.m5.large", **more}

    def config(self, name: str, *variants: Mapping[str, Any], **more: Any) -> str:
        self.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=list(variants), **more)
        return name

    def endpoint(self, name: str, *variants: Mapping[str, Any], **more: Any) -> str:
        """An endpoint in service."""
        self.config(name, *(variants or (self.variant(self.model(name)),)), **more)
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
        assert self.settled(name)["EndpointStatus"] == "InService"
        return name

    def describe(self, name: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.sagemaker.describe_endpoint(EndpointName=name)
        return found

    def settled(self, name: str, within_s: float = 60.0) -> Mapping[str, Any]:
        """The endpoint when nothing is being changed any more."""

        def there() -> Any:
            found = self.describe(name)
            return found if found["EndpointStatus"] in ("InService", "Failed") else None

        found: Mapping[str, Any] = eventually(there, within_s=within_s)
        return found

    def ask(self, name: str, body: str | bytes = "[1, 2]", **more: Any) -> bytes:
        answer = self.runtime.invoke_endpoint(EndpointName=name, Body=body, **{"ContentType": "application/json", **more})
        return bytes(answer["Body"].read())

    def remove(self, name: str) -> None:
        self.sagemaker.delete_endpoint(EndpointName=name)


_numbers = itertools.count(720000000001)


@pytest.fixture(scope="module")
def desk(server: Any) -> Iterator[Desk]:
    """One account for all tests of a file; its endpoints are ended with it."""
    made = Desk(server.account(str(next(_numbers))))
    yield made
    for entry in made.sagemaker.list_endpoints(MaxResults=100)["Endpoints"]:
        if entry["EndpointStatus"] in ("InService", "Failed"):
            made.remove(entry["EndpointName"])
