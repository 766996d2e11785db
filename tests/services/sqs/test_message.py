"""Sending, through boto3."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from pilvi.testing.server import Account

Refusal = Callable[..., tuple[str, str]]


def new_queue(aws: Account, name: str = "one", **attributes: str) -> str:
    if name.endswith(".fifo"):
        attributes["FifoQueue"] = "true"
    return str(aws.client("sqs").create_queue(QueueName=name, Attributes=attributes)["QueueUrl"])


def bodies(aws: Account, url: str, many: int = 10, **options: Any) -> list[str]:
    found = aws.client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=many, **options).get("Messages", [])
    return [message["Body"] for message in found]


def test_send_message_is_received_once_and_gone_after_delete(aws: Account) -> None:
    sqs, url = aws.client("sqs"), new_queue(aws)
    sent = sqs.send_message(QueueUrl=url, MessageBody="hello ünicode\n")
    (message,) = sqs.receive_message(QueueUrl=url)["Messages"]
    assert message["Body"] == "hello ünicode\n"
    assert message["MessageId"] == sent["MessageId"]
    assert message["MD5OfBody"] == sent["MD5OfMessageBody"] == hashlib.md5("hello ünicode\n".encode()).hexdigest()
    assert bodies(aws, url) == []
    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessagesNotVisible"])["Attributes"]
    assert counts == {"ApproximateNumberOfMessagesNotVisible": "0"}


def test_send_message_keeps_attributes_and_system_attributes(aws: Account) -> None:
    sqs, url = aws.client("sqs"), new_queue(aws)
    attributes = {
        "text": {"DataType": "String.custom", "StringValue": "väl"},
        "count": {"DataType": "Number", "StringValue": "-12.5e3"},
        "bytes.one": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
    }
    trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1"
    sent = sqs.send_message(
        QueueUrl=url,
        MessageBody="x",
        MessageAttributes=attributes,
        MessageSystemAttributes={"AWSTraceHeader": {"DataType": "String", "StringValue": trace}},
    )
    (message,) = sqs.receive_message(
        QueueUrl=url, MessageAttributeNames=["All"], MessageSystemAttributeNames=["All"], VisibilityTimeout=0
    )["Messages"]
    assert message["MessageAttributes"] == attributes
    assert message["MD5OfMessageAttributes"] == sent["MD5OfMessageAttributes"]
    assert message["Attributes"]["AWSTraceHeader"] == trace
    assert message["Attributes"]["ApproximateReceiveCount"] == "1"
    (some,) = sqs.receive_message(
        QueueUrl=url, MessageAttributeNames=["bytes.*"], AttributeNames=["SenderId"], VisibilityTimeout=0
    )["Messages"]
    assert set(some["MessageAttributes"]) == {"bytes.one"}
    assert some["Attributes"] == {"SenderId": aws.account}
    (none,) = sqs.receive_message(QueueUrl=url)["Messages"]
    assert "MessageAttributes" not in none
    assert "Attributes" not in none


def test_send_message_takes_a_mebibyte_and_no_more(aws: Account, refusal: Refusal) -> None:
    sqs, url = aws.client("sqs"), new_queue(aws)
    body = "x" * (1 << 20)
    sqs.send_message(QueueUrl=url, MessageBody=body)
    assert bodies(aws, url) == [body]
    code, _ = refusal(sqs.send_message, QueueUrl=url, MessageBody=body + "x")
    assert code == "InvalidParameterValue"
    small = new_queue(aws, "small", MaximumMessageSize="1024")
    code, _ = refusal(
        sqs.send_message,
        QueueUrl=small,
        MessageBody="x" * 1020,
        MessageAttributes={"a": {"DataType": "String", "StringValue": "y"}},
    )
    assert code == "InvalidParameterValue"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"MessageBody": "bad \x01"}, "InvalidMessageContents"),
        ({"MessageBody": ""}, "MissingParameter"),
        ({"MessageBody": "x", "DelaySeconds": 901}, "InvalidParameterValue"),
        ({"MessageBody": "x", "MessageDeduplicationId": "d"}, "InvalidParameterValue"),
        ({"MessageBody": "x", "MessageAttributes": {"aws.x": {"DataType": "String", "StringValue": "v"}}}, "InvalidParameterValue"),
        ({"MessageBody": "x", "MessageAttributes": {"x": {"DataType": "Text", "StringValue": "v"}}}, "InvalidParameterValue"),
        ({"MessageBody": "x", "MessageAttributes": {"x": {"DataType": "Number", "StringValue": "v"}}}, "InvalidParameterValue"),
        ({"MessageBody": "x", "MessageAttributes": {"x": {"DataType": "String", "StringValue": ""}}}, "InvalidParameterValue"),
        (
            {"MessageBody": "x", "MessageAttributes": {f"a{n}": {"DataType": "String", "StringValue": "v"} for n in range(11)}},
            "InvalidParameterValue",
        ),
    ],
)
def test_send_message_refuses(aws: Account, refusal: Refusal, options: dict[str, Any], expected: str) -> None:
    code, _ = refusal(aws.client("sqs").send_message, QueueUrl=new_queue(aws), **options)
    assert code == expected


def test_send_message_to_no_queue(aws: Account) -> None:
    sqs = aws.client("sqs")
    with pytest.raises(sqs.exceptions.QueueDoesNotExist) as caught:
        sqs.send_message(QueueUrl=f"{aws.endpoint}/{aws.account}/nowhere", MessageBody="x")
    assert caught.value.response["Error"]["Code"] == "AWS.SimpleQueueService.NonExistentQueue"


def test_send_message_batch_accepts_and_refuses_one_by_one(aws: Account) -> None:
    sqs, url = aws.client("sqs"), new_queue(aws)
    answer = sqs.send_message_batch(
        QueueUrl=url,
        Entries=[
            {"Id": "good", "MessageBody": "a"},
            {"Id": "bad", "MessageBody": "\x02"},
            {"Id": "late", "MessageBody": "c", "DelaySeconds": 900},
        ],
    )
    assert [one["Id"] for one in answer["Successful"]] == ["good", "late"]
    assert [(one["Id"], one["Code"], one["SenderFault"]) for one in answer["Failed"]] == [("bad", "InvalidMessageContents", True)]
    assert bodies(aws, url) == ["a"]
    counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert counts["ApproximateNumberOfMessagesDelayed"] == "1"


def test_send_message_batch_as_a_whole(aws: Account, refusal: Refusal) -> None:
    sqs, url = aws.client("sqs"), new_queue(aws)

    def code(entries: list[dict[str, Any]]) -> str:
        return refusal(sqs.send_message_batch, QueueUrl=url, Entries=entries)[0]

    one = {"MessageBody": "x"}
    assert code([]) == "AWS.SimpleQueueService.EmptyBatchRequest"
    assert code([{"Id": str(n), **one} for n in range(11)]) == "AWS.SimpleQueueService.TooManyEntriesInBatchRequest"
    assert code([{"Id": "a", **one}, {"Id": "a", **one}]) == "AWS.SimpleQueueService.BatchEntryIdsNotDistinct"
    assert code([{"Id": "a b", **one}]) == "AWS.SimpleQueueService.InvalidBatchEntryId"
    assert code([{"Id": str(n), "MessageBody": "x" * 600_000} for n in range(2)]) == "AWS.SimpleQueueService.BatchRequestTooLong"
    assert bodies(aws, url) == []


# -- FIFO -----------------------------------------------------------------------------------------------------------------


def test_send_message_once_by_deduplication_id(aws: Account) -> None:
    sqs, url = aws.client("sqs"), new_queue(aws, "once.fifo")
    first = sqs.send_message(QueueUrl=url, MessageBody="a", MessageGroupId="g", MessageDeduplicationId="same")
    again = sqs.send_message(QueueUrl=url, MessageBody="b", MessageGroupId="h", MessageDeduplicationId="same")
    assert again["MessageId"] == first["MessageId"]
    assert again["SequenceNumber"] == first["SequenceNumber"]
    assert bodies(aws, url) == ["a"]


def test_send_message_once_by_content_and_by_group(aws: Account) -> None:
    sqs = aws.client("sqs")
    url = new_queue(
        aws,
        "groups.fifo",
        ContentBasedDeduplication="true",
        DeduplicationScope="messageGroup",
        FifoThroughputLimit="perMessageGroupId",
    )
    for group in ("a", "b", "a"):
        sqs.send_message(QueueUrl=url, MessageBody="same", MessageGroupId=group)
    assert bodies(aws, url) == ["same", "same"]


def test_send_message_again_after_five_minutes(later_aws: Account, passes: Callable[[float], None]) -> None:
    sqs, url = later_aws.client("sqs"), new_queue(later_aws, "later.fifo", ContentBasedDeduplication="true")
    first = sqs.send_message(QueueUrl=url, MessageBody="x", MessageGroupId="g")
    passes(299)
    assert sqs.send_message(QueueUrl=url, MessageBody="x", MessageGroupId="g")["MessageId"] == first["MessageId"]
    passes(2)
    assert sqs.send_message(QueueUrl=url, MessageBody="x", MessageGroupId="g")["MessageId"] != first["MessageId"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "MissingParameter"),
        ({"MessageGroupId": "g"}, "InvalidParameterValue"),
        ({"MessageGroupId": "g g", "MessageDeduplicationId": "d"}, "InvalidParameterValue"),
        ({"MessageGroupId": "g", "MessageDeduplicationId": "d" * 129}, "InvalidParameterValue"),
        ({"MessageGroupId": "g", "MessageDeduplicationId": "d", "DelaySeconds": 5}, "InvalidParameterValue"),
    ],
)
def test_send_message_to_a_fifo_queue_refuses(aws: Account, refusal: Refusal, options: dict[str, Any], expected: str) -> None:
    code, _ = refusal(aws.client("sqs").send_message, QueueUrl=new_queue(aws, "f.fifo"), MessageBody="x", **options)
    assert code == expected


# -- at rest --------------------------------------------------------------------------------------------------------------


def test_send_message_under_a_kms_key(aws: Account, refusal: Refusal) -> None:
    sqs, kms = aws.client("sqs"), aws.client("kms")
    key_id = kms.create_key()["KeyMetadata"]["KeyId"]
    url = new_queue(aws, "sealed", KmsMasterKeyId=key_id, KmsDataKeyReusePeriodSeconds="60")
    sqs.send_message(QueueUrl=url, MessageBody="secret")
    assert bodies(aws, url, VisibilityTimeout=0) == ["secret"]
    assert bodies(aws, url, VisibilityTimeout=0) == ["secret"]
    everything = {"Statement": [{"Effect": "Allow", "Action": "sqs:*", "Resource": "*"}], "Version": "2012-10-17"}
    stranger = aws.user("no-key", everything).client("sqs")
    assert refusal(stranger.send_message, QueueUrl=url, MessageBody="x")[0] == "KmsAccessDenied"
    assert refusal(stranger.receive_message, QueueUrl=url)[0] == "KmsAccessDenied"
    assert bodies(aws, url) == ["secret"]
    kms.disable_key(KeyId=key_id)
    other = new_queue(aws, "other", KmsMasterKeyId=key_id)
    assert refusal(sqs.send_message, QueueUrl=other, MessageBody="x")[0] == "KmsDisabled"


def test_send_message_leaves_no_plaintext(server: Any, aws: Account) -> None:
    word = "plain-words-of-a-message"
    aws.client("sqs").send_message(QueueUrl=new_queue(aws), MessageBody=json.dumps([word] * 200))
    aws.client("sqs").send_message(QueueUrl=new_queue(aws), MessageBody=word)
    for path in server.config.data_dir.rglob("*"):
        if path.is_file():
            assert word.encode() not in path.read_bytes()
