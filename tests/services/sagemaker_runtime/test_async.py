"""Asynchronous inference: answers come to S3, topics hear of them, nothing runs when there is nothing to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.testing.server import Account, TestServer, eventually
from tests.services.sagemaker_runtime.conftest import Desk


def asynchronous(desk: Desk, name: str, **output: Any) -> None:
    places = {"S3OutputPath": f"s3://{desk.bucket}/{name}/out", "S3FailurePath": f"s3://{desk.bucket}/{name}/failed", **output}
    desk.endpoint(name, desk.variant(desk.model(name)), AsyncInferenceConfig={"OutputConfig": places})


def left(desk: Desk, name: str, body: str, **more: Any) -> Any:
    uri = desk.put(f"{name}/in/{abs(hash(body))}.json", body)
    return desk.runtime.invoke_endpoint_async(EndpointName=name, InputLocation=uri, ContentType="application/json", **more)


def came(desk: Desk, uri: str) -> bytes:
    key = uri.removeprefix(f"s3://{desk.bucket}/")
    eventually(lambda: desk.keys(key) == [key])
    return desk.get(key)


def test_invoke_endpoint_async_answers_in_s3_and_tells_topics(desk: Desk) -> None:
    sns, sqs = desk.aws.client("sns"), desk.aws.client("sqs")
    topic = sns.create_topic(Name="told")["TopicArn"]
    url = sqs.create_queue(QueueName="told")["QueueUrl"]
    queue = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    allow = {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": queue}
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps({"Version": "2012-10-17", "Statement": [allow]})})
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue, Attributes={"RawMessageDelivery": "true"})
    asynchronous(desk, "later", NotificationConfig={"SuccessTopic": topic, "ErrorTopic": topic})
    answer = left(desk, "later", "[1, 2]", InferenceId="mine")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert answer["InferenceId"] == "mine"
    assert json.loads(came(desk, answer["OutputLocation"])) == [2.0, 4.0]
    failed = left(desk, "later", '{"raise": "not today"}')
    assert b"not today" in came(desk, failed["FailureLocation"])
    told: dict[str, Any] = {}

    def all_told() -> bool:
        for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1).get("Messages", ()):
            found = json.loads(message["Body"])
            told[found["invocationStatus"]] = found
        return len(told) == 2

    eventually(all_told)
    assert told["Completed"]["responseParameters"] == {
        "contentType": "application/json",
        "outputLocation": answer["OutputLocation"],
    }
    assert told["Completed"]["inferenceId"] == "mine"
    assert "not today" in told["Failed"]["failureReason"]
    desk.s3.put_object(Bucket=desk.bucket, Key="typed.csv", Body="1,2", ContentType="text/csv")
    typed = desk.runtime.invoke_endpoint_async(EndpointName="later", InputLocation=f"s3://{desk.bucket}/typed.csv")
    assert json.loads(came(desk, typed["OutputLocation"])) == [6.0]
    missing = desk.runtime.invoke_endpoint_async(EndpointName="later", InputLocation=f"s3://{desk.bucket}/nowhere")
    assert b"does not exist" in came(desk, missing["FailureLocation"])
    desk.remove("later")


def test_invoke_endpoint_async_waits_while_there_is_no_instance(desk: Desk) -> None:
    asynchronous(desk, "zero")

    def become(count: int) -> None:
        wanted = [{"VariantName": "AllTraffic", "DesiredInstanceCount": count}]
        desk.sagemaker.update_endpoint_weights_and_capacities(EndpointName="zero", DesiredWeightsAndCapacities=wanted)
        assert desk.settled("zero")["ProductionVariants"][0]["CurrentInstanceCount"] == count

    become(0)
    answer = left(desk, "zero", "[3]")
    assert desk.keys("zero/out") == []
    become(1)
    assert json.loads(came(desk, answer["OutputLocation"])) == [6.0]
    with pytest.raises(ClientError, match="InputLocation must be given"):
        desk.runtime.invoke_endpoint_async(EndpointName="zero", InputLocation="https://a.b/c")
    desk.remove("zero")


def test_accepted_requests_outlive_the_server(tmp_path: Path) -> None:
    with TestServer(tmp_path) as server:
        desk = Desk(server.account("734000000001"))
        asynchronous(desk, "kept")
        wanted = [{"VariantName": "AllTraffic", "DesiredInstanceCount": 0}]
        desk.sagemaker.update_endpoint_weights_and_capacities(EndpointName="kept", DesiredWeightsAndCapacities=wanted)
        desk.settled("kept")
        answer = left(desk, "kept", "[4]")
        keys = (desk.aws.access_key_id, desk.aws.secret)
    with TestServer(tmp_path) as server:
        aws = Account(server.endpoint, "734000000001", *keys)
        sagemaker, s3 = aws.client("sagemaker"), aws.client("s3")
        eventually(lambda: sagemaker.describe_endpoint(EndpointName="kept")["EndpointStatus"] == "InService")
        wanted = [{"VariantName": "AllTraffic", "DesiredInstanceCount": 1}]
        sagemaker.update_endpoint_weights_and_capacities(EndpointName="kept", DesiredWeightsAndCapacities=wanted)
        key = answer["OutputLocation"].removeprefix(f"s3://{desk.bucket}/")
        found = lambda: [entry["Key"] for entry in s3.list_objects_v2(Bucket=desk.bucket, Prefix=key).get("Contents", ())]  # noqa: E731
        eventually(lambda: found() == [key])
        assert json.loads(s3.get_object(Bucket=desk.bucket, Key=key)["Body"].read()) == [8.0]
