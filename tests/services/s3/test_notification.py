"""Event notifications, through boto3."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.testing.server import Account, eventually


@pytest.fixture
def queue(aws: Account) -> tuple[str, str]:
    """URL and ARN of a queue that S3 may send to."""
    sqs = aws.client("sqs")
    url = sqs.create_queue(QueueName="events")["QueueUrl"]
    arn = f"arn:aws:sqs:us-east-1:{aws.account}:events"
    allow(aws, url, arn)
    return url, arn


def allow(aws: Account, url: str, arn: str) -> None:
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
        "Condition": {"StringEquals": {"aws:SourceAccount": aws.account}},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    aws.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})


def told(aws: Account, url: str) -> list[dict[str, Any]]:
    """What the queue holds; taken out of it."""
    sqs, found = aws.client("sqs"), []
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            found.append(json.loads(message["Body"]))
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return found


def configure(aws: Account, bucket: str, arn: str, *events: str, **rules: str) -> None:
    one: dict[str, Any] = {"Id": "mine", "QueueArn": arn, "Events": list(events)}
    if rules:
        one["Filter"] = {"Key": {"FilterRules": [{"Name": name, "Value": value} for name, value in rules.items()]}}
    aws.client("s3").put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={"QueueConfigurations": [one]})


def test_put_bucket_notification_configuration_tells_a_queue(aws: Account, queue: tuple[str, str]) -> None:
    s3, (url, arn), bucket = aws.client("s3"), queue, f"told-{aws.account}"
    s3.create_bucket(Bucket=bucket)
    configure(aws, bucket, arn, "s3:ObjectCreated:*", "s3:ObjectRemoved:Delete", prefix="in/", suffix=".csv")
    (test,) = told(aws, url)
    assert (test["Event"], test["Bucket"]) == ("s3:TestEvent", bucket)
    (kept,) = s3.get_bucket_notification_configuration(Bucket=bucket)["QueueConfigurations"]
    assert (kept["Id"], kept["QueueArn"]) == ("mine", arn)
    s3.put_object(Bucket=bucket, Key="in/a b.csv", Body=b"123")
    s3.put_object(Bucket=bucket, Key="in/a.txt", Body=b"1")
    s3.put_object(Bucket=bucket, Key="out/a.csv", Body=b"1")
    s3.delete_object(Bucket=bucket, Key="in/a b.csv")
    events: list[dict[str, Any]] = []
    eventually(lambda: events.extend(told(aws, url)) or len(events) >= 2)
    records = [event["Records"][0] for event in events]
    assert [(record["eventName"], record["s3"]["object"]["key"]) for record in records] == [
        ("ObjectCreated:Put", "in/a+b.csv"),
        ("ObjectRemoved:Delete", "in/a+b.csv"),
    ]
    created = records[0]
    assert (created["eventSource"], created["awsRegion"], created["eventVersion"]) == ("aws:s3", "us-east-1", "2.1")
    assert created["s3"]["object"]["size"] == 3
    assert created["s3"]["bucket"]["arn"] == f"arn:aws:s3:::{bucket}"
    assert created["s3"]["configurationId"] == "mine"
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={})
    assert "QueueConfigurations" not in s3.get_bucket_notification_configuration(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="in/c.csv", Body=b"1")
    assert told(aws, url) == []


def test_put_bucket_notification_configuration_only_after_the_policy(aws: Account) -> None:
    s3, bucket = aws.client("s3"), f"denied-{aws.account}"
    s3.create_bucket(Bucket=bucket)
    url = aws.client("sqs").create_queue(QueueName="closed")["QueueUrl"]
    arn = f"arn:aws:sqs:us-east-1:{aws.account}:closed"
    with pytest.raises(ClientError) as caught:
        configure(aws, bucket, arn, "s3:ObjectCreated:*")
    assert caught.value.response["Error"]["Code"] == "InvalidArgument"
    assert "Unable to validate the following destination" in caught.value.response["Error"]["Message"]
    allow(aws, url, arn)
    configure(aws, bucket, arn, "s3:ObjectCreated:*")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda arn: {"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:Nothing:*"]}]}, "InvalidArgument"),
        (lambda arn: {"QueueConfigurations": [{"QueueArn": arn + "-not", "Events": ["s3:ObjectCreated:*"]}]}, "InvalidArgument"),
        (
            lambda arn: {
                "QueueConfigurations": [{"QueueArn": arn, "Events": [e]} for e in ("s3:ObjectCreated:*", "s3:ObjectCreated:Put")]
            },
            "InvalidArgument",
        ),
        (
            lambda _: {"TopicConfigurations": [{"TopicArn": "arn:aws:sns:us-east-1:1:t", "Events": ["s3:ObjectCreated:*"]}]},
            "InvalidArgument",
        ),
    ],
)
def test_put_bucket_notification_configuration_refuses(
    aws: Account, queue: tuple[str, str], change: Callable[[str], dict[str, Any]], code: str
) -> None:
    s3, bucket = aws.client("s3"), f"refused-{aws.account}"
    s3.create_bucket(Bucket=bucket)
    with pytest.raises(ClientError) as caught:
        s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=change(queue[1]))
    assert caught.value.response["Error"]["Code"] == code


def test_put_bucket_notification_configuration_tells_a_topic(aws: Account, queue: tuple[str, str]) -> None:
    s3, sns, sqs, (url, arn), bucket = aws.client("s3"), aws.client("sns"), aws.client("sqs"), queue, f"topic-{aws.account}"
    s3.create_bucket(Bucket=bucket)
    topic = sns.create_topic(Name="uploads")["TopicArn"]
    one = {
        "TopicArn": topic,
        "Events": ["s3:ObjectCreated:*"],
        "Filter": {"Key": {"FilterRules": [{"Name": "suffix", "Value": ".csv"}]}},
    }
    configuration = {"TopicConfigurations": [one]}
    with pytest.raises(ClientError) as caught:
        s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=configuration)
    assert caught.value.response["Error"]["Code"] == "InvalidArgument"
    statements = [
        {
            "Effect": "Allow",
            "Principal": {"Service": f"{who}.amazonaws.com"},
            "Action": action,
            "Resource": resource,
            "Condition": condition,
        }
        for who, action, resource, condition in (
            ("s3", "sns:Publish", topic, {"ArnLike": {"aws:SourceArn": f"arn:aws:s3:::{bucket}"}}),
            ("sns", "sqs:SendMessage", arn, {"ArnEquals": {"aws:SourceArn": topic}}),
        )
    ]
    policies = [json.dumps({"Version": "2012-10-17", "Statement": [statement]}) for statement in statements]
    sns.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=policies[0])
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policies[1]})
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=configuration)
    assert s3.get_bucket_notification_configuration(Bucket=bucket)["TopicConfigurations"][0]["TopicArn"] == topic
    s3.put_object(Bucket=bucket, Key="a.txt", Body=b"1")
    s3.put_object(Bucket=bucket, Key="a.csv", Body=b"1")
    heard: list[dict[str, Any]] = []

    def enough() -> bool:
        heard.extend(told(aws, url))
        return len(heard) >= 2

    eventually(enough)
    assert {message["Subject"] for message in heard} == {"Amazon S3 Notification"}
    contents = [json.loads(message["Message"]) for message in heard]
    (test,) = [content for content in contents if "Event" in content]
    assert (test["Event"], test["Bucket"]) == ("s3:TestEvent", bucket)
    (record,) = [content["Records"][0] for content in contents if "Records" in content]
    assert (record["eventName"], record["s3"]["object"]["key"]) == ("ObjectCreated:Put", "a.csv")


def test_put_bucket_notification_configuration_starts_a_function(aws: Account) -> None:
    s3, lam, bucket = aws.client("s3"), aws.client("lambda"), f"starts-{aws.account}"
    s3.create_bucket(Bucket=bucket)
    logging = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "logs:*", "Resource": "*"}]}
    role = aws.role("function", "lambda.amazonaws.com", logging)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("index.py", "def handler(event, context):\n    print('got', event['Records'][0]['s3']['object']['key'])\n")
    arn = lam.create_function(
        FunctionName="hear", Runtime="python3.11", Handler="index.handler", Role=role, Code={"ZipFile": buffer.getvalue()}
    )["FunctionArn"]
    one = {"LambdaFunctionArn": arn, "Events": ["s3:ObjectCreated:Put"]}
    configuration = {"LambdaFunctionConfigurations": [one]}
    with pytest.raises(ClientError) as caught:
        s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=configuration)
    assert caught.value.response["Error"]["Code"] == "InvalidArgument"
    lam.add_permission(
        FunctionName="hear",
        StatementId="s3",
        Action="lambda:InvokeFunction",
        Principal="s3.amazonaws.com",
        SourceArn=f"arn:aws:s3:::{bucket}",
    )
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=configuration)
    s3.put_object(Bucket=bucket, Key="heard.txt", Body=b"1")
    logs = aws.client("logs")

    def lines() -> list[str]:
        try:
            events = logs.filter_log_events(logGroupName="/aws/lambda/hear", filterPattern="got")["events"]
        except logs.exceptions.ResourceNotFoundException:
            return []
        return [event["message"] for event in events]

    assert "got heard.txt" in eventually(lines)[0]
