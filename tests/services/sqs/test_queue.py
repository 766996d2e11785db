"""Queues, through boto3."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from pilvi.testing.server import Account, eventually
from tests.services.sqs.test_message import bodies, new_queue
from tests.services.sqs.test_receive import send

Refusal = Callable[..., tuple[str, str]]


def test_create_queue_again_gives_the_same(aws: Account, refusal: Refusal) -> None:
    sqs = aws.client("sqs")
    url = new_queue(aws, "same", VisibilityTimeout="40")
    assert url == f"{aws.endpoint}/{aws.account}/same"
    assert new_queue(aws, "same", VisibilityTimeout="40") == url
    assert new_queue(aws, "same") == url
    assert new_queue(aws, "same", DelaySeconds="0") == url
    code, message = refusal(sqs.create_queue, QueueName="same", Attributes={"VisibilityTimeout": "41"})
    assert (code, message) == (
        "QueueAlreadyExists",
        "A queue already exists with the same name and a different value for attribute VisibilityTimeout",
    )


@pytest.mark.parametrize(
    ("name", "attributes", "expected"),
    [
        ("bad name", {}, "InvalidParameterValue"),
        ("x" * 81, {}, "InvalidParameterValue"),
        ("x.fifo", {}, "InvalidParameterValue"),
        ("x", {"FifoQueue": "true"}, "InvalidParameterValue"),
        ("x.fifo", {"FifoQueue": "false"}, "InvalidAttributeValue"),
        ("x", {"FifoQueue": "false"}, "InvalidAttributeName"),
        ("x", {"ContentBasedDeduplication": "true"}, "InvalidAttributeName"),
        ("x", {"Colour": "red"}, "InvalidAttributeName"),
        ("x", {"QueueArn": "arn"}, "InvalidAttributeName"),
        ("x", {"VisibilityTimeout": "43201"}, "InvalidAttributeValue"),
        ("x", {"VisibilityTimeout": "-1"}, "InvalidAttributeValue"),
        ("x", {"MaximumMessageSize": "1023"}, "InvalidAttributeValue"),
        ("x", {"Policy": "{"}, "InvalidAttributeValue"),
        ("x", {"RedrivePolicy": "[]"}, "InvalidParameterValue"),
        ("x", {"RedrivePolicy": json.dumps({"deadLetterTargetArn": "arn", "maxReceiveCount": 3})}, "InvalidParameterValue"),
        ("x", {"RedriveAllowPolicy": json.dumps({"redrivePermission": "byQueue"})}, "InvalidParameterValue"),
        ("x.fifo", {"FifoQueue": "true", "FifoThroughputLimit": "perMessageGroupId"}, "InvalidAttributeValue"),
        ("x", {"KmsMasterKeyId": "alias/aws/sqs", "SqsManagedSseEnabled": "true"}, "InvalidAttributeValue"),
    ],
)
def test_create_queue_refuses(aws: Account, refusal: Refusal, name: str, attributes: dict[str, str], expected: str) -> None:
    code, _ = refusal(aws.client("sqs").create_queue, QueueName=name, Attributes=attributes)
    assert code == expected
    assert "QueueUrls" not in aws.client("sqs").list_queues()


def test_create_queue_not_within_a_minute_of_its_deletion(
    later_aws: Account, passes: Callable[[float], None], refusal: Refusal
) -> None:
    sqs, url = later_aws.client("sqs"), new_queue(later_aws, "again")
    send(later_aws, url, "x")
    sqs.delete_queue(QueueUrl=url)
    assert refusal(sqs.create_queue, QueueName="again")[0] == "AWS.SimpleQueueService.QueueDeletedRecently"
    assert refusal(sqs.delete_queue, QueueUrl=url)[0] == "AWS.SimpleQueueService.NonExistentQueue"
    passes(61)
    assert bodies(later_aws, new_queue(later_aws, "again")) == []


def test_get_queue_url_of_ones_own_and_anothers(aws: Account, other_aws: Account, refusal: Refusal) -> None:
    url = new_queue(aws)
    assert aws.client("sqs").get_queue_url(QueueName="one")["QueueUrl"] == url
    assert refusal(aws.client("sqs").get_queue_url, QueueName="none")[0] == "AWS.SimpleQueueService.NonExistentQueue"
    assert refusal(other_aws.client("sqs").get_queue_url, QueueName="one", QueueOwnerAWSAccountId=aws.account)[0].startswith(
        "AccessDenied"
    )
    policy = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": other_aws.account}, "Action": "sqs:*", "Resource": "*"}],
    }
    aws.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(policy)})
    assert other_aws.client("sqs").get_queue_url(QueueName="one", QueueOwnerAWSAccountId=aws.account)["QueueUrl"] == url


def test_list_queues_in_pages_and_by_prefix(aws: Account, other_aws: Account, refusal: Refusal) -> None:
    sqs = aws.client("sqs")
    urls = [new_queue(aws, f"{kind}-{number}") for kind in "ab" for number in range(4)]
    assert sqs.list_queues()["QueueUrls"] == urls
    assert sqs.list_queues(QueueNamePrefix="b-")["QueueUrls"] == urls[4:]
    pages = sqs.get_paginator("list_queues").paginate(PaginationConfig={"PageSize": 3})
    assert [page["QueueUrls"] for page in pages] == [urls[:3], urls[3:6], urls[6:]]
    assert "QueueUrls" not in other_aws.client("sqs").list_queues()
    assert "QueueUrls" not in aws.client("sqs", region="eu-west-1").list_queues()
    assert refusal(sqs.list_queues, MaxResults=1001)[0] == "InvalidParameterValue"
    assert refusal(sqs.list_queues, MaxResults=1, NextToken="x")[0] == "InvalidParameterValue"


def test_set_queue_attributes_count_at_once(aws: Account, refusal: Refusal) -> None:
    sqs, url = aws.client("sqs"), new_queue(aws)
    before = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert before["QueueArn"] == f"arn:aws:sqs:us-east-1:{aws.account}:one"
    assert before["SqsManagedSseEnabled"] == "true"
    assert "Policy" not in before
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "0", "KmsMasterKeyId": "alias/aws/sqs"})
    after = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert after["KmsMasterKeyId"] == "alias/aws/sqs"
    assert (after["KmsDataKeyReusePeriodSeconds"], after["SqsManagedSseEnabled"]) == ("300", "false")
    send(aws, url, "x")
    assert bodies(aws, url) == bodies(aws, url) == ["x"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"KmsMasterKeyId": ""})
    assert "KmsMasterKeyId" not in sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert bodies(aws, url) == ["x"]
    assert refusal(sqs.get_queue_attributes, QueueUrl=url, AttributeNames=["Nothing"])[0] == "InvalidAttributeName"
    assert refusal(sqs.set_queue_attributes, QueueUrl=url, Attributes={"FifoQueue": "true"})[0] == "InvalidAttributeName"
    assert "Attributes" not in sqs.get_queue_attributes(QueueUrl=url)


def test_purge_queue_removes_everything_once_a_minute(
    timed: Any, later_aws: Account, passes: Callable[[float], None], refusal: Refusal
) -> None:
    sqs, url = later_aws.client("sqs"), new_queue(later_aws)
    send(later_aws, url, *"abc", "x" * 5000)
    assert len(bodies(later_aws, url, 2)) == 2
    sqs.purge_queue(QueueUrl=url)
    assert refusal(sqs.purge_queue, QueueUrl=url)[0] == "AWS.SimpleQueueService.PurgeQueueInProgress"
    send(later_aws, url, "new")
    passes(61)
    assert bodies(later_aws, url) == ["new"]
    sqs.purge_queue(QueueUrl=url)
    store = timed.cloud.store
    eventually(lambda: [table for table in store.tables(service="sqsdata") if table.account == later_aws.account] == [])


def test_tags_of_queues(aws: Account, refusal: Refusal) -> None:
    sqs = aws.client("sqs")
    url = sqs.create_queue(QueueName="tagged", tags={"a": "1"})["QueueUrl"]
    sqs.tag_queue(QueueUrl=url, Tags={"b": "2", "a": "3"})
    assert sqs.list_queue_tags(QueueUrl=url)["Tags"] == {"a": "3", "b": "2"}
    sqs.untag_queue(QueueUrl=url, TagKeys=["a", "none"])
    assert sqs.list_queue_tags(QueueUrl=url)["Tags"] == {"b": "2"}
    assert refusal(sqs.tag_queue, QueueUrl=url, Tags={f"k{n}": "v" for n in range(50)})[0] == "InvalidParameterValue"
    assert refusal(sqs.tag_queue, QueueUrl=url, Tags={"aws:x": "v"})[0] == "InvalidParameterValue"


def test_figures_reach_cloudwatch_and_the_bill(timed: Any, later_aws: Account, passes: Callable[[float], None]) -> None:
    from pilvi.metering.line import lines_between

    url = new_queue(later_aws, "measured")
    start = timed.cloud.clock.now()
    send(later_aws, url, "x", "x" * 200_000)
    bodies(later_aws, url, 1)
    passes(300)
    names = {metric["MetricName"] for metric in later_aws.client("cloudwatch").list_metrics(Namespace="AWS/SQS")["Metrics"]}
    assert {"NumberOfMessagesSent", "ApproximateNumberOfMessagesNotVisible", "SentMessageSize"} <= names
    hour = start.replace(minute=0, second=0, microsecond=0)
    lines = list(lines_between(timed.cloud.store, later_aws.account, hour, timed.cloud.clock.now()))
    requests = sum(line.quantity for line in lines if line.meter.product == "AWSQueueService")
    assert requests == 1 + 4 + 1
