"""Script mode jobs as the SDK sends them, for the heavy tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from pilvi.compute.environments import Environments
from pilvi.testing.server import TestServer
from tests.services.sagemaker.conftest import Lab

IMAGES = {
    "pytorch": "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.6.0-cpu-py312",
    "tensorflow": "763104351884.dkr.ecr.us-east-1.amazonaws.com/tensorflow-training:2.19.0-cpu-py312",
    "mxnet": "763104351884.dkr.ecr.us-east-1.amazonaws.com/mxnet-training:1.9.0-cpu-py38",
    "huggingface": "763104351884.dkr.ecr.us-east-1.amazonaws.com/huggingface-pytorch-training:2.5.1-transformers4.49.0-cpu-py311",
    "xgboost": "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.5-1",
    "scikit-learn": "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:0.23-1-cpu-py3",
}
ENVIRONMENT = {"huggingface": "pytorch", "xgboost": "algorithms"}


def need(server: TestServer, framework: str) -> None:
    """Skip, with the command that installs it, where an environment is missing."""
    name = ENVIRONMENT.get(framework, framework)
    if Environments(server.config.runtimes_dir).find(name) is None:
        pytest.skip(f"the runtime is not installed: pilvi runtimes install {name}")


def run_script(
    lab: Lab,
    name: str,
    framework: str,
    files: Mapping[str, bytes],
    hyperparameters: Mapping[str, Any],
    hosts: int = 1,
    **changes: Any,
) -> Any:
    """A job of that framework's image to its end; `files` has train.py. The values of hyperparameters become JSON, as in the SDK."""
    parameters = {
        "sagemaker_program": "train.py",
        "sagemaker_submit_directory": lab.put(f"{name}/sourcedir.tar.gz", archive(files)),
        "sagemaker_region": "us-east-1",
        "sagemaker_container_log_level": 20,
        "sagemaker_job_name": name,
    } | dict(hyperparameters)
    lab.start(
        name,
        algorithm={"TrainingImage": IMAGES[framework], "TrainingInputMode": "File"},
        HyperParameters={key: json.dumps(value) for key, value in parameters.items()},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": hosts, "VolumeSizeInGB": 10},
        StoppingCondition={"MaxRuntimeInSeconds": 400},
        **changes,
    )
    return lab.wait(name, within_s=420)


def archive(files: Mapping[str, bytes]) -> bytes:
    import io
    import tarfile

    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return data.getvalue()


def said(lab: Lab, name: str, word: str) -> list[list[str]]:
    """What the job's lines say after a word, each as words; launchers' marks before it are let go."""
    return [
        line.split(f"{word} ", 1)[1].split()
        for line in lab.lines(name)
        if f"{word} " in line and not line.startswith(("SM_", "    "))
    ]
