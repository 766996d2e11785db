"""Publishing, through boto3."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pilvi.testing.server import Account
from tests.services.sns.stage import Refusal, is_empty, new_queue, new_topic, received, subscribed, told

TEXT = {"DataType": "String", "StringValue": "x"}


def test_publish_reaches_every_subscription(aws: Account) -> None:
    sns, topic = aws.client("sns"), new_topic(aws)
    queues = [new_queue(aws, name, topic=topic) for name in ("one", "two", "three")]
    for _, arn in queues:
        subscribed(aws, topic, arn)
    message_id = sns.publish(TopicArn=topic, Message="hello", Subject="hi", MessageAttributes={"a": TEXT})["MessageId"]
    for url, _ in queues:
        (message,) = received(aws, url)
        content = json.loads(message["Body"])
        assert (content["Type"], content["MessageId"], content["TopicArn"]) == ("Notification", message_id, topic)
        assert (content["Message"], content["Subject"]) == ("hello", "hi")
        assert content["MessageAttributes"] == {"a": {"Type": "String", "Value": "x"}}
        assert "MessageAttributes" not in message


def test_raw_delivery_gives_the_message_with_its_attributes(aws: Account) -> None:
    sns, topic = aws.client("sns"), new_topic(aws)
    url, queue = new_queue(aws)
    subscribed(aws, topic, queue, RawMessageDelivery="true")
    attributes = {"a": TEXT, "n": {"DataType": "Number", "StringValue": "1.5"}, "b": {"DataType": "Binary", "BinaryValue": b"\0\1"}}
    sns.publish(TargetArn=topic, Message="plain", MessageAttributes=attributes)
    (message,) = received(aws, url)
    assert message["Body"] == "plain"
    assert message["MessageAttributes"] == attributes


def test_each_protocol_gets_its_own_text(aws: Account) -> None:
    sns, topic = aws.client("sns"), new_topic(aws)
    url, queue = new_queue(aws)
    subscribed(aws, topic, queue)
    sns.publish(TopicArn=topic, MessageStructure="json", Message=json.dumps({"default": "all", "sqs": "queues", "email": 1}))
    sns.publish(TopicArn=topic, MessageStructure="json", Message=json.dumps({"default": "all"}))
    assert sorted(told(aws, url, 2)) == ["all", "queues"]


def test_publish_refuses(aws: Account, refusal: Refusal) -> None:
    sns, topic = aws.client("sns"), new_topic(aws)

    def error(**arguments: Any) -> tuple[str, str]:
        return refusal(sns.publish, **({"TopicArn": topic, "Message": "m"} | arguments))

    assert error(Message="") == ("InvalidParameter", "Invalid parameter: Empty message")
    assert error(Message="x" * (256 * 1024 + 1)) == ("InvalidParameter", "Invalid parameter: Message too long")
    assert error(Message="x" * (256 * 1024 - 7), MessageAttributes={"a": TEXT})[1] == "Invalid parameter: Message too long"
    for subject in ("", "x" * 101, "two\nlines"):
        assert error(Subject=subject) == ("InvalidParameter", "Invalid parameter: Subject")
    assert error(MessageStructure="xml")[1] == "Invalid parameter: MessageStructure"
    assert error(MessageStructure="json")[1].endswith("JSON message body failed to parse")
    assert error(MessageStructure="json", Message="{}")[1].endswith("No default entry in JSON message body")
    assert "MessageDeduplicationId" in error(MessageDeduplicationId="d")[1]
    assert error(TopicArn=f"{topic}x") == ("NotFound", "Topic does not exist")
    assert error(TargetArn=topic)[0] == "InvalidParameter"
    assert (
        refusal(sns.publish, Message="m")[1] == "Invalid parameter: TopicArn or TargetArn Reason: no value for required parameter"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a b", TEXT),
        ("AWS.x", TEXT),
        (".a", TEXT),
        ("a", {"DataType": "Text", "StringValue": "x"}),
        ("a", {"DataType": "String", "StringValue": ""}),
        ("a", {"DataType": "Number", "StringValue": "one"}),
        ("a", {"DataType": "Binary", "StringValue": "x"}),
        ("a", {"DataType": "String", "BinaryValue": b"x"}),
    ],
)
def test_publish_refuses_attributes(aws: Account, refusal: Refusal, name: str, value: dict[str, Any]) -> None:
    topic = new_topic(aws)
    assert (
        refusal(aws.client("sns").publish, TopicArn=topic, Message="m", MessageAttributes={name: value})[0]
        == "ParameterValueInvalid"
    )


def test_publish_batch_publishes_all_or_none(aws: Account, refusal: Refusal) -> None:
    sns, topic = aws.client("sns"), new_topic(aws)
    url, queue = new_queue(aws)
    subscribed(aws, topic, queue)
    entries = [{"Id": "a", "Message": "1"}, {"Id": "b", "Message": "2", "Subject": ""}, {"Id": "c", "Message": "3"}]
    assert refusal(sns.publish_batch, TopicArn=topic, PublishBatchRequestEntries=entries) == (
        "InvalidParameter",
        "Invalid parameter: Subject",
    )
    del entries[1]
    answer = sns.publish_batch(TopicArn=topic, PublishBatchRequestEntries=entries)
    assert [one["Id"] for one in answer["Successful"]] == ["a", "c"]
    assert answer.get("Failed", []) == []
    assert sorted(told(aws, url, 2)) == ["1", "3"]

    def code(*entries: dict[str, str]) -> str:
        return refusal(sns.publish_batch, TopicArn=topic, PublishBatchRequestEntries=list(entries))[0]

    assert code() == "EmptyBatchRequest"
    assert code(*[{"Id": str(number), "Message": "m"} for number in range(11)]) == "TooManyEntriesInBatchRequest"
    assert code({"Id": "a", "Message": "m"}, {"Id": "a", "Message": "m"}) == "BatchEntryIdsNotDistinct"
    assert code({"Id": "a b", "Message": "m"}) == "InvalidBatchEntryId"
    assert code({"Id": "a", "Message": "x" * 150_000}, {"Id": "b", "Message": "x" * 150_000}) == "BatchRequestTooLong"


def test_nothing_is_delivered_to_who_left(aws: Account) -> None:
    sns, topic = aws.client("sns"), new_topic(aws)
    (url, queue), (other_url, other) = new_queue(aws), new_queue(aws, "two")
    arn = subscribed(aws, topic, queue)
    subscribed(aws, topic, other)
    sns.unsubscribe(SubscriptionArn=arn)
    sns.publish(TopicArn=topic, Message="m")
    assert told(aws, other_url) == ["m"]
    assert is_empty(aws, url)


def test_a_key_is_asked_as_the_publisher(aws: Account, refusal: Refusal) -> None:
    sns, kms = aws.client("sns"), aws.client("kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    topic = new_topic(aws, KmsMasterKeyId=key)
    url, queue = new_queue(aws)
    subscribed(aws, topic, queue)
    publishing = {"Effect": "Allow", "Action": "sns:Publish", "Resource": topic}
    using = {"Effect": "Allow", "Action": ["kms:GenerateDataKey", "kms:Decrypt"], "Resource": "*"}
    without = aws.user("without", {"Version": "2012-10-17", "Statement": [publishing]}).client("sns")
    assert refusal(without.publish, TopicArn=topic, Message="m")[0] == "KMSAccessDenied"
    user = aws.user("with", {"Version": "2012-10-17", "Statement": [publishing, using]}).client("sns")
    user.publish(TopicArn=topic, Message="sealed")
    assert told(aws, url) == ["sealed"]
    kms.disable_key(KeyId=key)
    assert refusal(sns.publish, TopicArn=topic, Message="m")[0] == "KMSDisabled"
    sns.set_topic_attributes(TopicArn=topic, AttributeName="KmsMasterKeyId", AttributeValue="alias/none")
    assert refusal(sns.publish, TopicArn=topic, Message="m")[0] == "KMSNotFound"
