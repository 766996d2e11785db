"""The same image with a container engine and without one: the same lines, the same model, the same ways to end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pilvi.cli import images
from pilvi.compute import ProcessSpec, Root
from pilvi.compute.podman import PodmanCompute
from pilvi.core.errors import Unavailable
from pilvi.testing.server import TestServer, eventually
from tests.services.sagemaker.conftest import Lab
from tests.services.sagemaker.test_own_image import PULL, built  # noqa: F401


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory) -> None:
    """podman is here, and can run something."""
    folder = tmp_path_factory.mktemp("podman")
    try:
        engine = PodmanCompute("auto", (), folder / "server")
        engine.launch(ProcessSpec(("/-",), {}, root=Root(folder, folder / "changes")), lambda _: None).wait(60)
    except Unavailable as error:
        pytest.skip(error.message)
    engine.close()


@pytest.fixture(params=["podman", "local"])
def own(request: pytest.FixtureRequest, works: None, tmp_path: Path, built: Path) -> Iterator[tuple[Lab, str]]:  # noqa: F811
    """A server that runs images so, and the image in its registry."""
    with TestServer(tmp_path / "data", compute=request.param) as server:
        lab = Lab(server.account("750000000001"))
        aws = lab.aws
        target = images.Target(aws.endpoint, aws.region, aws.access_key_id, aws.secret, None)
        assert images.push(target, built, "app:v1", lambda _: None) == 0
        document = {"Version": "2012-10-17", "Statement": [PULL]}
        aws.client("iam").put_role_policy(RoleName="Trainer", PolicyName="pull", PolicyDocument=json.dumps(document))
        yield lab, f"{aws.account}.dkr.ecr.us-east-1.amazonaws.com/app:v1"


def train(lab: Lab, uri: str, name: str, algorithm: Any = None, **hyperparameters: str) -> Any:
    lab.start(name, algorithm={"TrainingImage": uri, **(algorithm or {})}, HyperParameters=hyperparameters)
    return lab.wait(name)


def test_own_image_gives_the_same_with_and_without_an_engine(own: tuple[Lab, str]) -> None:
    lab, uri = own
    job = train(lab, uri, "own", epochs="3", write="/app/written")
    assert job["TrainingJobStatus"] == "Completed", (job.get("FailureReason"), lab.lines("own"))
    assert lab.members("out/own/output/model.tar.gz") == {"model.txt": b"built here\n3"}
    assert lab.lines("own") == ["arguments ['train'] user 0 in /work blue own"]
    job = train(lab, uri, "missing", **{"import": "pandas_is_not_here"})
    assert (job["TrainingJobStatus"], job["FailureReason"]) == ("Failed", "AlgorithmError: , exit code: 1")
    assert any("No module named 'pandas_is_not_here'" in line for line in lab.lines("missing"))
    lab.put("pipe/a", "aaa")
    entry = {"ContainerEntrypoint": ["/bin/sh", "-c"], "ContainerArguments": ["cat /opt/ml/input/data/train_0; echo"]}
    channel = lab.channel("train", f"s3://{lab.bucket}/pipe/", InputMode="Pipe")
    lab.start("piped", algorithm={"TrainingImage": uri, **entry}, InputDataConfig=[channel])
    assert lab.wait("piped")["TrainingJobStatus"] == "Completed"
    assert lab.lines("piped") == ["aaa"]
    entry = {
        "ContainerEntrypoint": ["/bin/sh", "-c"],
        "ContainerArguments": ["trap 'echo asked; exit 0' TERM; echo up; while :; do sleep 0.1; done"],
    }
    lab.start("stopped", algorithm={"TrainingImage": uri, **entry})
    eventually(lambda: "up" in lab.lines("stopped"), within_s=60)
    lab.sagemaker.stop_training_job(TrainingJobName="stopped")
    assert lab.wait("stopped")["TrainingJobStatus"] == "Stopped"
    # Without an engine the shell's own child is asked as well, and bash says so.
    assert [line for line in lab.lines("stopped") if line != "Terminated"] == ["up", "asked"]
