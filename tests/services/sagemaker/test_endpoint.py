"""Endpoint configurations and endpoints: their records, states, errors; restarts. What they answer: tests/services/sagemaker_runtime."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.testing.server import Account, TestServer, eventually
from tests.services.sagemaker_runtime.conftest import Desk

_numbers = itertools.count(732000000001)


@pytest.fixture(scope="module")
def desk(server: Any) -> Desk:
    made = Desk(server.account(str(next(_numbers))))
    made.model("model")
    return made


def refused(call: Any, **request: Any) -> str:
    with pytest.raises(ClientError) as failure:
        call(**request)
    assert failure.value.response["Error"]["Code"] == "ValidationException"
    return str(failure.value.response["Error"]["Message"])


def gone(desk: Desk, name: str) -> bool:
    try:
        desk.describe(name)
    except ClientError as error:
        return "Could not find endpoint" in str(error)
    return False


def test_create_endpoint_config_describe_list_delete(desk: Desk) -> None:
    sagemaker = desk.sagemaker
    arn = sagemaker.create_endpoint_config(EndpointConfigName="Config", ProductionVariants=[desk.variant("model")])[
        "EndpointConfigArn"
    ]
    found = sagemaker.describe_endpoint_config(EndpointConfigName="config")
    assert (found["EndpointConfigName"], found["ProductionVariants"][0]["InitialVariantWeight"]) == ("Config", 1.0)
    again = refused(sagemaker.create_endpoint_config, EndpointConfigName="Config", ProductionVariants=[desk.variant("model")])
    assert again == f'Cannot create already existing endpoint configuration "{arn}".'
    assert [one["EndpointConfigName"] for one in sagemaker.list_endpoint_configs(NameContains="Conf")["EndpointConfigs"]] == [
        "Config"
    ]
    sagemaker.delete_endpoint_config(EndpointConfigName="Config")
    assert (
        refused(sagemaker.describe_endpoint_config, EndpointConfigName="Config")
        == f'Could not find endpoint configuration "{arn}".'
    )


@pytest.mark.parametrize(
    ("variants", "words"),
    [
        ([{"ModelName": "nobody"}], "Could not find model"),
        ([{"VariantName": "a"}, {"VariantName": "a"}], "must be unique"),
        ([{"InstanceType": None}], "InstanceType and InitialInstanceCount"),
        ([{"InitialVariantWeight": 0.0}], "must be greater than 0"),
        ([{"ModelName": None}], "inference components"),
        ([{"ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 5}}], "cannot be given together"),
    ],
)
def test_create_endpoint_config_refuses(desk: Desk, variants: list[dict[str, Any]], words: str) -> None:
    asked = [{key: value for key, value in {**desk.variant("model"), **one}.items() if value is not None} for one in variants]
    assert words in refused(desk.sagemaker.create_endpoint_config, EndpointConfigName="refused", ProductionVariants=asked)


def test_create_endpoint_lives_and_goes(desk: Desk) -> None:
    desk.config("life", desk.variant("model"))
    made = desk.sagemaker.create_endpoint(EndpointName="Life", EndpointConfigName="life", Tags=[{"Key": "a", "Value": "b"}])
    arn = f"arn:aws:sagemaker:us-east-1:{desk.aws.account}:endpoint/life"
    assert made["EndpointArn"] == arn
    first = desk.describe("Life")
    assert first["EndpointStatus"] in ("Creating", "InService")
    found = desk.settled("Life")
    assert (found["EndpointName"], found["EndpointStatus"], found["EndpointConfigName"]) == ("Life", "InService", "life")
    (variant,) = found["ProductionVariants"]
    assert (variant["CurrentInstanceCount"], variant["DesiredInstanceCount"], variant["CurrentWeight"]) == (1, 1, 1.0)
    assert variant["DeployedImages"][0]["SpecifiedImage"].endswith("sagemaker-base-python:1.0")
    again = refused(desk.sagemaker.create_endpoint, EndpointName="life", EndpointConfigName="life")
    assert again == f'Cannot create already existing endpoint "{arn}".'
    listed = desk.sagemaker.list_endpoints(StatusEquals="InService")["Endpoints"]
    assert [one["EndpointName"] for one in listed] == ["Life"]
    desk.sagemaker.delete_model(ModelName=desk.model("unused"))
    desk.remove("life")
    eventually(lambda: gone(desk, "Life"))
    assert "Could not find endpoint" in refused(desk.sagemaker.delete_endpoint, EndpointName="life")


def test_create_endpoint_without_its_configuration(desk: Desk) -> None:
    assert "Could not find endpoint configuration" in refused(
        desk.sagemaker.create_endpoint, EndpointName="e", EndpointConfigName="no"
    )


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("def model_fn(model_dir):\n    raise ValueError('not today')\n", "ValueError: not today"),
        ("import nothing_of_this_name\n", "No module named 'nothing_of_this_name'"),
        ("def predict_fn(data, model):\n    return data\n", "Please provide a model_fn implementation"),
    ],
)
def test_create_endpoint_of_a_broken_model_fails(desk: Desk, script: str, words: str) -> None:
    name = desk.model(f"broken-{abs(hash(script)) % 10000}", script=script)
    desk.config(name, desk.variant(name))
    desk.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    found = desk.settled(name)
    assert found["EndpointStatus"] == "Failed"
    start = (
        "The primary container for production variant AllTraffic did not pass the ping health check. Please check CloudWatch logs"
    )
    assert found["FailureReason"].startswith(start)
    assert words in found["FailureReason"]
    desk.remove(name)
    eventually(lambda: gone(desk, name))


def test_create_endpoint_with_model_data_that_is_no_archive_fails(desk: Desk) -> None:
    container = {**desk.container("rotten"), "ModelDataUrl": desk.put("models/rotten.tar.gz", "this is no archive")}
    desk.sagemaker.create_model(ModelName="rotten", PrimaryContainer=container, ExecutionRoleArn=desk.role)
    desk.config("rotten", desk.variant("rotten"))
    desk.sagemaker.create_endpoint(EndpointName="rotten", EndpointConfigName="rotten")
    found = desk.settled("rotten")
    assert found["EndpointStatus"] == "Failed"
    assert f"Failed to extract model data for container from URL: s3://{desk.bucket}/models/rotten.tar.gz" in found["FailureReason"]


def test_endpoints_tell_the_bus_of_their_states(desk: Desk) -> None:
    events, sqs = desk.aws.client("events"), desk.aws.client("sqs")
    url = sqs.create_queue(QueueName="states")["QueueUrl"]
    queue = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    allow = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": queue}
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps({"Version": "2012-10-17", "Statement": [allow]})})
    pattern = {"source": ["aws.sagemaker"], "detail-type": ["SageMaker Endpoint State Change"]}
    events.put_rule(Name="states", EventPattern=json.dumps(pattern))
    events.put_targets(Rule="states", Targets=[{"Id": "queue", "Arn": queue}])
    desk.endpoint("states", desk.variant("model"))
    desk.remove("states")
    seen: list[str] = []

    def all_there() -> bool:
        found = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1).get("Messages", ())
        seen.extend(json.loads(message["Body"])["detail"]["EndpointStatus"] for message in found)
        return set(seen) >= {"Creating", "InService", "Deleting", "Deleted"}

    eventually(all_there)


def test_update_endpoint_retains_what_it_is_told_to(desk: Desk) -> None:
    desk.endpoint("retain", desk.variant("model", InitialInstanceCount=1, InitialVariantWeight=3.0))
    desk.config("retain-2", desk.variant("model", InitialInstanceCount=2))
    excluded = [{"VariantPropertyType": "DesiredInstanceCount"}]
    desk.sagemaker.update_endpoint(
        EndpointName="retain",
        EndpointConfigName="retain-2",
        RetainAllVariantProperties=True,
        ExcludeRetainedVariantProperties=excluded,
    )
    (variant,) = desk.settled("retain")["ProductionVariants"]
    assert (variant["CurrentInstanceCount"], variant["CurrentWeight"]) == (2, 3.0)
    assert "Could not find variant" in refused(
        desk.sagemaker.update_endpoint_weights_and_capacities,
        EndpointName="retain",
        DesiredWeightsAndCapacities=[{"VariantName": "other", "DesiredWeight": 1}],
    )
    desk.remove("retain")


def test_endpoints_come_back_after_a_restart(tmp_path: Path) -> None:
    with TestServer(tmp_path) as server:
        desk = Desk(server.account("733000000001"))
        desk.endpoint("back", desk.variant(desk.model("back")))
        wanted = [{"VariantName": "AllTraffic", "DesiredWeight": 7.0}]
        desk.sagemaker.update_endpoint_weights_and_capacities(EndpointName="back", DesiredWeightsAndCapacities=wanted)
        desk.settled("back")
        desk.sagemaker.delete_model(ModelName="back")
        keys = (desk.aws.access_key_id, desk.aws.secret)
    with TestServer(tmp_path) as server:
        aws = Account(server.endpoint, "733000000001", *keys)
        sagemaker, runtime = aws.client("sagemaker"), aws.client("sagemaker-runtime")
        assert sagemaker.describe_endpoint(EndpointName="back")["EndpointStatus"] in ("SystemUpdating", "InService")
        eventually(lambda: sagemaker.describe_endpoint(EndpointName="back")["EndpointStatus"] == "InService")
        answer = runtime.invoke_endpoint(EndpointName="back", Body="[1]", ContentType="application/json")
        assert json.loads(answer["Body"].read()) == [2.0]
        (variant,) = sagemaker.describe_endpoint(EndpointName="back")["ProductionVariants"]
        assert variant["CurrentWeight"] == 7.0
