"""Models: what CreateModel keeps, and what it refuses."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.testing.server import Account
from tests.services.sagemaker_runtime.conftest import BASE_IMAGE, PERMISSIONS, Desk

_numbers = itertools.count(731000000001)


@pytest.fixture(scope="module")
def desk(server: Any) -> Desk:
    return Desk(server.account(str(next(_numbers))))


def refused(call: Any, **request: Any) -> str:
    with pytest.raises(ClientError) as failure:
        call(**request)
    assert failure.value.response["Error"]["Code"] == "ValidationException"
    return str(failure.value.response["Error"]["Message"])


def test_create_model_describe_list_delete(desk: Desk) -> None:
    container = desk.container("one", Environment={"COLOUR": "blue"})
    tags = [{"Key": "team", "Value": "a"}]
    made = desk.sagemaker.create_model(ModelName="One", PrimaryContainer=container, ExecutionRoleArn=desk.role, Tags=tags)
    assert made["ModelArn"] == f"arn:aws:sagemaker:us-east-1:{desk.aws.account}:model/one"
    found = desk.sagemaker.describe_model(ModelName="One")
    assert (found["ModelName"], found["ExecutionRoleArn"], found["EnableNetworkIsolation"]) == ("One", desk.role, False)
    primary = found["PrimaryContainer"]
    assert (primary["Image"], primary["Mode"], primary["Environment"]["COLOUR"]) == (BASE_IMAGE, "SingleModel", "blue")
    source = {"S3Uri": container["ModelDataUrl"], "S3DataType": "S3Object", "CompressionType": "Gzip"}
    assert primary["ModelDataSource"] == {"S3DataSource": source}
    assert desk.sagemaker.list_tags(ResourceArn=made["ModelArn"])["Tags"] == tags
    message = refused(desk.sagemaker.create_model, ModelName="one", PrimaryContainer=container, ExecutionRoleArn=desk.role)
    assert message == f'Cannot create already existing model "{made["ModelArn"]}".'
    desk.sagemaker.delete_model(ModelName="one")
    assert refused(desk.sagemaker.describe_model, ModelName="One") == f'Could not find model "{made["ModelArn"]}".'
    assert "Could not find model" in refused(desk.sagemaker.delete_model, ModelName="one")


def test_list_models_pages_and_filters(desk: Desk, aws: Account) -> None:
    for name in ("list-a", "list-b", "list-c", "other"):
        desk.model(name)
    pages = desk.sagemaker.get_paginator("list_models").paginate(
        NameContains="list-", SortBy="Name", SortOrder="Ascending", MaxResults=2
    )
    assert [entry["ModelName"] for page in pages for entry in page["Models"]] == ["list-a", "list-b", "list-c"]
    assert aws.client("sagemaker").list_models()["Models"] == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ModelDataUrl": "s3://BUCKET/nowhere.tar.gz"}, "Could not find model data at s3://BUCKET/nowhere.tar.gz."),
        ({"Image": "nonsense"}, "is not one of Amazon ECR"),
        ({"Image": "763104351884.dkr.ecr.us-east-1.amazonaws.com/tensorflow-inference:2.12"}, "TensorFlow Serving"),
        ({"ModelDataUrl": "https://example.com/model.tar.gz"}, "must be given as s3://"),
    ],
)
def test_create_model_refuses(desk: Desk, changes: dict[str, str], words: str) -> None:
    container = {**desk.container("refused"), **{key: text.replace("BUCKET", desk.bucket) for key, text in changes.items()}}
    message = refused(desk.sagemaker.create_model, ModelName="refused", PrimaryContainer=container, ExecutionRoleArn=desk.role)
    assert words.replace("BUCKET", desk.bucket) in message


def test_create_model_needs_a_role_that_reads_the_data(desk: Desk) -> None:
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
    }
    iam = desk.aws.client("iam")
    stranger = iam.create_role(RoleName="Stranger", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    container = desk.container("role")
    message = refused(desk.sagemaker.create_model, ModelName="role", PrimaryContainer=container, ExecutionRoleArn=stranger)
    assert message.startswith(f"Could not assume role {stranger}.")
    blind = desk.aws.role(
        "Blind", "sagemaker.amazonaws.com", {**PERMISSIONS, "Statement": [{"Effect": "Deny", "Action": "s3:*", "Resource": "*"}]}
    )
    message = refused(desk.sagemaker.create_model, ModelName="role", PrimaryContainer=container, ExecutionRoleArn=blind)
    assert message.startswith(f"Could not access model data at {container['ModelDataUrl']}.")
    assert "must not be null" in refused(desk.sagemaker.create_model, ModelName="role", PrimaryContainer=container)


def test_create_model_needs_one_kind_of_containers(desk: Desk) -> None:
    container = desk.container("kinds")
    both = {"PrimaryContainer": container, "Containers": [container, container]}
    assert "not both" in refused(desk.sagemaker.create_model, ModelName="kinds", ExecutionRoleArn=desk.role, **both)
    bare = {"Image": BASE_IMAGE, "Mode": "MultiModel"}
    assert "needs ModelDataUrl" in refused(
        desk.sagemaker.create_model, ModelName="kinds", ExecutionRoleArn=desk.role, PrimaryContainer=bare
    )
    direct = {"Containers": [container, container], "InferenceExecutionConfig": {"Mode": "Direct"}}
    assert "ContainerHostname" in refused(desk.sagemaker.create_model, ModelName="kinds", ExecutionRoleArn=desk.role, **direct)


def test_create_model_needs_permission_to_pass_the_role(desk: Desk) -> None:
    statement = {"Effect": "Allow", "Action": "sagemaker:*", "Resource": "*"}
    user = desk.aws.user("modeller", {"Version": "2012-10-17", "Statement": [statement]})
    with pytest.raises(ClientError, match="iam:PassRole"):
        user.client("sagemaker").create_model(
            ModelName="passed", PrimaryContainer=desk.container("passed"), ExecutionRoleArn=desk.role
        )
