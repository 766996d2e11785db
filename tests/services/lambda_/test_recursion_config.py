"""Functions that cause themselves: found by the lineage that boto3 carries, and stopped."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.services.lambda_ import figures
from pilvi.services.lambda_.lineage import MOST_RUNS, mark_of
from pilvi.testing.server import eventually

ROUND = """
import boto3, os
made = {name: boto3.client(name) for name in ("s3", "sqs", "lambda", "sns")}
def handler(event, context):
    print("round")
    made["sqs"].send_message(QueueUrl=os.environ["COUNTS"], MessageBody="x", MessageSystemAttributes={
        "AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-5759e988-bd862e3fe1be46a994272793"}})
    how = os.environ["HOW"]
    if how == "sqs":
        made["sqs"].send_message(QueueUrl=os.environ["QUEUE"], MessageBody="again")
    elif how == "sns":
        made["sns"].publish(TopicArn=os.environ["TOPIC"], Message="again")
    elif how == "s3":
        made["s3"].put_object(Bucket=os.environ["BUCKET"], Key=context.aws_request_id, Body=b"again")
    else:
        made["lambda"].invoke(FunctionName=context.function_name, InvocationType=how, Payload=b"{}")
"""


class Rounds:
    def __init__(self, lab: Any) -> None:
        self.lab = lab
        self.sqs = lab.account.client("sqs")
        lab.grant("all", "sqs:*", "s3:*", "lambda:*", "sns:*")

    def queue(self, name: str, **attributes: str) -> tuple[str, str]:
        url = self.sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "30", **attributes})["QueueUrl"]
        return url, self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]

    def count(self, url: str) -> int:
        found = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        return int(found["ApproximateNumberOfMessages"])

    def function(self, name: str, how: str, **variables: str) -> tuple[str, str]:
        """The URL of the queue that counts its runs, and its ARN."""
        counts, _ = self.queue(f"{name}-counts")
        made = self.lab.create(
            name,
            ROUND,
            MemorySize=256,
            Timeout=30,
            Environment={"Variables": {"HOW": how, "COUNTS": counts, **variables}},
        )
        return counts, made["FunctionArn"]


@pytest.fixture(scope="module")
def rounds(lab) -> Rounds:
    return Rounds(lab)


def dropped(server: Any, account: str, name: str) -> float:
    figures.FIGURES.publish(server.cloud)
    now = datetime.now(UTC)
    points = (
        server.account(account)
        .client("cloudwatch")
        .get_metric_statistics(
            Namespace="AWS/Lambda",
            MetricName="RecursiveInvocationsDropped",
            Dimensions=[{"Name": "FunctionName", "Value": name}],
            StartTime=now - timedelta(hours=1),
            EndTime=now + timedelta(minutes=1),
            Period=3600,
            Statistics=["Sum"],
        )["Datapoints"]
    )
    return float(sum(point["Sum"] for point in points))


def test_a_loop_over_a_queue_is_stopped_and_the_message_kept(server, lab, rounds):
    _, dead_arn = rounds.queue("dead")
    redrive = json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": 1})
    url, arn = rounds.queue("circle", VisibilityTimeout="30", RedrivePolicy=redrive)
    counts, _ = rounds.function("circling", "sqs", QUEUE=url)
    uuid = lab.client.create_event_source_mapping(FunctionName="circling", EventSourceArn=arn)["UUID"]
    rounds.sqs.send_message(QueueUrl=url, MessageBody="first")
    eventually(lambda: dropped(server, lab.account.account, "circling"))
    assert rounds.count(counts) == MOST_RUNS
    eventually(lambda: lab.client.get_event_source_mapping(UUID=uuid)["State"] == "Enabled")
    lab.client.delete_event_source_mapping(UUID=uuid)
    found = rounds.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert found["ApproximateNumberOfMessagesNotVisible"] == "1"  # on its way to the dead-letter queue


def test_a_loop_over_a_bucket_is_stopped_and_told(server, lab, rounds):
    bucket = f"circle-{lab.account.account}"
    s3 = lab.account.client("s3")
    s3.create_bucket(Bucket=bucket)
    told, told_arn = rounds.queue("told")
    counts, arn = rounds.function("writing", "s3", BUCKET=bucket)
    lab.client.put_function_event_invoke_config(FunctionName="writing", DestinationConfig={"OnFailure": {"Destination": told_arn}})
    lab.client.add_permission(
        FunctionName="writing", StatementId="s3", Action="lambda:InvokeFunction", Principal="s3.amazonaws.com"
    )
    s3.put_bucket_notification_configuration(
        Bucket=bucket,
        NotificationConfiguration={"LambdaFunctionConfigurations": [{"LambdaFunctionArn": arn, "Events": ["s3:ObjectCreated:*"]}]},
    )
    s3.put_object(Bucket=bucket, Key="first", Body=b"")
    found = eventually(lambda: rounds.sqs.receive_message(QueueUrl=told, WaitTimeSeconds=5).get("Messages"))
    assert json.loads(found[0]["Body"])["requestContext"]["condition"] == "RecursiveInvocation"
    assert rounds.count(counts) == MOST_RUNS


def test_a_loop_over_a_topic_is_stopped(server, lab, rounds):
    sns = lab.account.client("sns")
    topic = sns.create_topic(Name="circle")["TopicArn"]
    counts, arn = rounds.function("publishing", "sns", TOPIC=topic)
    lab.client.add_permission(
        FunctionName="publishing", StatementId="sns", Action="lambda:InvokeFunction", Principal="sns.amazonaws.com", SourceArn=topic
    )
    sns.subscribe(TopicArn=topic, Protocol="lambda", Endpoint=arn)
    sns.publish(TopicArn=topic, Message="first")
    eventually(lambda: dropped(server, lab.account.account, "publishing"))
    assert rounds.count(counts) == MOST_RUNS


def test_a_function_that_invokes_itself_is_stopped(server, lab, rounds):
    counts, _ = rounds.function("selfish", "Event")
    lab.raw(FunctionName="selfish", InvocationType="Event", Payload=b"{}")
    eventually(lambda: dropped(server, lab.account.account, "selfish"))
    assert rounds.count(counts) == MOST_RUNS


def test_invoke_refuses_one_round_too_many(lab):
    arn = lab.create("refused")["FunctionArn"]
    client = lab.account.client("lambda")
    header = f"Root=1-5759e988-bd862e3fe1be46a994272793;Lineage={mark_of(arn)}:{MOST_RUNS}"
    client.meta.events.register(
        "before-send.lambda.Invoke", lambda request, **_: request.headers.update({"X-Amzn-Trace-Id": header})
    )
    with pytest.raises(ClientError) as error:
        client.invoke(FunctionName="refused")
    assert error.value.response["Error"]["Code"] == "RecursiveInvocationException"
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_a_function_that_may_loop_goes_on(server, lab, rounds):
    url, arn = rounds.queue("allowed")
    counts, _ = rounds.function("allowed", "sqs", QUEUE=url)
    assert lab.client.get_function_recursion_config(FunctionName="allowed")["RecursiveLoop"] == "Terminate"
    assert lab.client.put_function_recursion_config(FunctionName="allowed", RecursiveLoop="Allow")["RecursiveLoop"] == "Allow"
    assert lab.client.get_function_recursion_config(FunctionName="allowed")["RecursiveLoop"] == "Allow"
    uuid = lab.client.create_event_source_mapping(FunctionName="allowed", EventSourceArn=arn)["UUID"]
    rounds.sqs.send_message(QueueUrl=url, MessageBody="first")
    eventually(lambda: rounds.count(counts) > MOST_RUNS + 3)
    lab.client.put_function_recursion_config(FunctionName="allowed", RecursiveLoop="Terminate")
    eventually(lambda: dropped(server, lab.account.account, "allowed"))
    lab.client.delete_event_source_mapping(UUID=uuid)
    with pytest.raises(ClientError) as error:
        lab.client.get_function_recursion_config(FunctionName="nobody")
    assert error.value.response["Error"]["Code"] == "ResourceNotFoundException"
