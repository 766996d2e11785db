"""Endpoints of many models and of several containers: by name, in a row, loaded when asked for and unloaded when there is no room."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.testing.server import eventually
from tests.services.sagemaker_runtime.conftest import BASE_IMAGE, SCRIPT, Desk, archive

ADD = """\
def model_fn(model_dir):
    return None

def predict_fn(data, model):
    return [value + 1 for value in data]
"""


def times(factor: float) -> bytes:
    return archive({"factor.txt": str(factor), "code/inference.py": SCRIPT})


@pytest.fixture(scope="module")
def many(desk: Desk) -> str:
    """An endpoint with room for two models."""
    for factor in range(1, 5):
        desk.s3.put_object(Bucket=desk.bucket, Key=f"many/{factor}.tar.gz", Body=times(factor))
    container = {
        "Image": BASE_IMAGE,
        "Mode": "MultiModel",
        "ModelDataUrl": f"s3://{desk.bucket}/many/",
        "Environment": {"SAGEMAKER_MAX_MODELS": "2"},
    }
    desk.sagemaker.create_model(ModelName="many", PrimaryContainer=container, ExecutionRoleArn=desk.role)
    return desk.endpoint("many", desk.variant("many"))


def test_many_models_answer_by_name_and_make_room_for_each_other(desk: Desk, many: str, server: Any) -> None:
    for _ in range(2):
        for factor in range(1, 5):
            assert json.loads(desk.ask(many, "[1]", TargetModel=f"{factor}.tar.gz")) == [float(factor)]
    live = next(one for place, one in server.cloud.memory["sagemaker-endpoints"].live.items() if place.name == many)
    (variant,) = live.deployments[0].variants.values()
    assert len(variant.instances[0].models[0]._loaded) == 2


def test_a_new_model_is_there_at_once(desk: Desk, many: str) -> None:
    desk.s3.put_object(Bucket=desk.bucket, Key="many/deep/new.tar.gz", Body=times(9))
    assert json.loads(desk.ask(many, "[1]", TargetModel="deep/new.tar.gz")) == [9.0]


def test_a_model_that_is_not_there(desk: Desk, many: str) -> None:
    with pytest.raises(
        ClientError, match=f"Failed to download model data.bucket: {desk.bucket}, key: many/nobody.tar.gz."
    ) as failure:
        desk.ask(many, "[1]", TargetModel="nobody.tar.gz")
    assert failure.value.response["Error"]["Code"] == "ValidationError"
    with pytest.raises(ClientError, match="Target model header is required"):
        desk.ask(many)


def test_containers_in_a_row(desk: Desk) -> None:
    """Batch transform leads its records through the same row."""
    containers = [desk.container("row-add", script=ADD), desk.container("row-times", 10.0)]
    desk.sagemaker.create_model(ModelName="row", Containers=containers, ExecutionRoleArn=desk.role)
    desk.endpoint("row", desk.variant("row"))
    assert json.loads(desk.ask("row", "[1, 2]")) == [20.0, 30.0]
    with pytest.raises(ClientError, match="from container-2 with message"):
        desk.ask("row", "[1, 2]", Accept="image/png")

    def writers() -> list[str]:
        return sorted(stream.rsplit("/", 1)[1] for stream in desk.streams("/aws/sagemaker/Endpoints/row"))

    eventually(lambda: writers() == ["container-1", "container-2"])
    desk.remove("row")


def test_containers_that_are_asked_directly(desk: Desk) -> None:
    containers = [
        desk.container("direct-add", script=ADD, ContainerHostname="adder"),
        desk.container("direct-times", 10.0, ContainerHostname="multiplier"),
    ]
    direct = {"InferenceExecutionConfig": {"Mode": "Direct"}}
    desk.sagemaker.create_model(ModelName="direct", Containers=containers, ExecutionRoleArn=desk.role, **direct)
    desk.endpoint("direct", desk.variant("direct"))
    assert json.loads(desk.ask("direct", "[1]", TargetContainerHostname="adder")) == [2]
    assert json.loads(desk.ask("direct", "[1]", TargetContainerHostname="multiplier")) == [10.0]
    with pytest.raises(ClientError, match="Target container other is not found"):
        desk.ask("direct", TargetContainerHostname="other")
    desk.remove("direct")
