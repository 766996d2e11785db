"""Queues that start functions: the mapping's life, and what becomes of messages."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.services.lambda_.schedule import publish
from pilvi.testing.server import eventually

SINK = """
import boto3, json, os
sqs = boto3.client("sqs")
def handler(event, context):
    sqs.send_message(QueueUrl=os.environ["RESULTS"], MessageBody=json.dumps(event))
    bodies = [record["body"] for record in event["Records"]]
    if "raise" in bodies:
        raise ValueError("told to")
    return {"batchItemFailures": [{"itemIdentifier": r["messageId"]} for r in event["Records"] if r["body"].startswith("bad")]}
"""


class Desk:
    """A function that tells of its events, and queues that may start it."""

    def __init__(self, lab: Any) -> None:
        self.lab = lab
        self.client = lab.client
        self.sqs = lab.account.client("sqs")
        lab.grant("sqs", "sqs:*")
        self.results = self.sqs.create_queue(QueueName="results")["QueueUrl"]
        lab.create("sink", SINK, MemorySize=256, Timeout=20, Environment={"Variables": {"RESULTS": self.results}})
        self._number = 0

    def queue(self, *, fifo: bool = False, **attributes: str) -> tuple[str, str]:
        self._number += 1
        given = {"VisibilityTimeout": "30", **attributes} | ({"FifoQueue": "true"} if fifo else {})
        url = self.sqs.create_queue(QueueName=f"source{self._number}{'.fifo' if fifo else ''}", Attributes=given)["QueueUrl"]
        return url, self.arn(url)

    def arn(self, url: str) -> str:
        return str(self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"])

    def map(self, arn: str, **settings: Any) -> str:
        made = self.client.create_event_source_mapping(FunctionName="sink", EventSourceArn=arn, **settings)
        self.wait(made["UUID"], "Enabled")
        return str(made["UUID"])

    def wait(self, uuid: str, state: str) -> None:
        eventually(lambda: self.client.get_event_source_mapping(UUID=uuid)["State"] == state)

    def unmap(self, uuid: str) -> None:
        eventually(lambda: self.client.get_event_source_mapping(UUID=uuid)["State"] in ("Enabled", "Disabled"))
        assert self.client.delete_event_source_mapping(UUID=uuid)["State"] == "Deleting"

        def gone() -> bool:
            try:
                self.client.get_event_source_mapping(UUID=uuid)
            except self.client.exceptions.ResourceNotFoundException:
                return True
            return False

        eventually(gone)

    def event(self) -> dict[str, Any]:
        """The next event that the function got."""
        answer = eventually(lambda: self.sqs.receive_message(QueueUrl=self.results, WaitTimeSeconds=5).get("Messages"))
        self.sqs.delete_message(QueueUrl=self.results, ReceiptHandle=answer[0]["ReceiptHandle"])
        return dict(json.loads(answer[0]["Body"]))

    def bodies(self, many: int) -> list[str]:
        found: list[str] = []
        while len(found) < many:
            found += [record["body"] for record in self.event()["Records"]]
        return found

    def counts(self, url: str) -> tuple[int, int]:
        """Visible, in flight."""
        found = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        return int(found["ApproximateNumberOfMessages"]), int(found["ApproximateNumberOfMessagesNotVisible"])


@pytest.fixture(scope="module")
def desk(lab) -> Desk:
    return Desk(lab)


@pytest.fixture
def mapped(desk) -> Iterator[Callable[..., str]]:
    """Makes mappings that are gone after the test."""
    made: list[str] = []

    def make(arn: str, **settings: Any) -> str:
        made.append(desk.map(arn, **settings))
        return made[-1]

    yield make
    for uuid in made:
        desk.unmap(uuid)


def refused(call: Callable[..., Any], code: str, text: str, **params: Any) -> None:
    with pytest.raises(ClientError) as error:
        call(**params)
    assert error.value.response["Error"]["Code"] == code
    assert text in error.value.response["Error"]["Message"]


def test_a_message_starts_the_function_with_its_record(desk, mapped):
    url, arn = desk.queue()
    uuid = mapped(arn)
    sent = desk.sqs.send_message(
        QueueUrl=url,
        MessageBody="hello",
        MessageAttributes={
            "colour": {"DataType": "String", "StringValue": "red"},
            "raw": {"DataType": "Binary", "BinaryValue": b"\x00\x01"},
        },
    )
    (record,) = desk.event()["Records"]
    assert record["messageId"] == sent["MessageId"]
    assert record["body"] == "hello"
    assert record["md5OfBody"] == sent["MD5OfMessageBody"]
    assert (record["eventSource"], record["eventSourceARN"], record["awsRegion"]) == ("aws:sqs", arn, "us-east-1")
    assert {"ApproximateReceiveCount", "SentTimestamp", "SenderId", "ApproximateFirstReceiveTimestamp"} <= record[
        "attributes"
    ].keys()
    assert record["attributes"]["ApproximateReceiveCount"] == "1"
    assert record["messageAttributes"]["colour"] == {
        "stringValue": "red",
        "stringListValues": [],
        "binaryListValues": [],
        "dataType": "String",
    }
    assert record["messageAttributes"]["raw"]["binaryValue"] == "AAE="
    eventually(lambda: desk.counts(url) == (0, 0))
    assert desk.client.get_event_source_mapping(UUID=uuid)["LastProcessingResult"] == "OK"


def test_a_batch_with_one_bad_message_returns_only_that_one(desk, mapped):
    _, dead_arn = desk.queue()
    url, arn = desk.queue(VisibilityTimeout="20", RedrivePolicy=json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": 5}))
    names = ["good1", "bad", "good2"]
    desk.sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": name, "MessageBody": name} for name in names])
    mapped(arn, FunctionResponseTypes=["ReportBatchItemFailures"])
    assert desk.bodies(3) == names
    eventually(lambda: desk.counts(url) == (0, 1))


def test_without_partial_failures_the_report_is_no_failure(desk, mapped):
    url, arn = desk.queue()
    mapped(arn)
    desk.sqs.send_message(QueueUrl=url, MessageBody="bad")
    assert desk.bodies(1) == ["bad"]
    eventually(lambda: desk.counts(url) == (0, 0))


def test_what_a_function_fails_on_comes_back_and_ends_in_the_dead_letter_queue(desk, mapped):
    dead, dead_arn = desk.queue()
    url, arn = desk.queue(RedrivePolicy=json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": 2}))
    uuid = mapped(arn)
    desk.sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "2"})
    desk.sqs.send_message(QueueUrl=url, MessageBody="first")  # the poll that was waiting knows of 30 seconds
    assert desk.bodies(1) == ["first"]
    desk.sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": name, "MessageBody": name} for name in ("fine", "raise")])
    seen = [desk.event(), desk.event()]
    assert [record["attributes"]["ApproximateReceiveCount"] for event in seen for record in event["Records"]] == [
        "1",
        "1",
        "2",
        "2",
    ]
    eventually(lambda: desk.counts(dead)[0] == 2)
    assert desk.client.get_event_source_mapping(UUID=uuid)["LastProcessingResult"] == "PROBLEM: Function call failed"


def test_filters_delete_what_does_not_fit(desk, mapped):
    url, arn = desk.queue()
    patterns = [{"body": {"kind": ["cat"]}}, {"body": [{"prefix": "plain-"}]}]
    mapped(arn, FilterCriteria={"Filters": [{"Pattern": json.dumps(pattern)} for pattern in patterns]})
    bodies = ['{"kind": "dog"}', '{"kind": "cat"}', "plain-text", "other"]
    desk.sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies)])
    assert sorted(desk.bodies(2)) == ["plain-text", '{"kind": "cat"}']
    eventually(lambda: desk.counts(url) == (0, 0))


def test_counts_are_told_where_they_are_asked_for(server, desk, mapped):
    url, arn = desk.queue()
    uuid = mapped(
        arn, MetricsConfig={"Metrics": ["EventCount"]}, FilterCriteria={"Filters": [{"Pattern": '{"body": [{"prefix": "yes"}]}'}]}
    )
    entries = [{"Id": body, "MessageBody": body} for body in ("yes1", "no", "yes2")]
    desk.sqs.send_message_batch(QueueUrl=url, Entries=entries)
    assert sorted(desk.bodies(2)) == ["yes1", "yes2"]
    eventually(lambda: desk.counts(url) == (0, 0))
    publish(server.cloud)
    cloudwatch, now = desk.lab.account.client("cloudwatch"), server.cloud.clock.now()

    def told(name: str) -> float:
        found = cloudwatch.get_metric_statistics(
            Namespace="AWS/Lambda",
            MetricName=name,
            Dimensions=[{"Name": "EventSourceMappingUUID", "Value": uuid}],
            StartTime=now - timedelta(hours=1),
            EndTime=now + timedelta(hours=1),
            Period=60,
            Statistics=["Sum"],
        )["Datapoints"]
        return sum(point["Sum"] for point in found)

    names = ("PolledEventCount", "FilteredOutEventCount", "InvokedEventCount", "FailedInvokeEventCount", "DeletedEventCount")
    assert [told(name) for name in names] == [3, 1, 2, 0, 3]


def test_an_alias_handles_what_its_version_is(desk, mapped):
    url, arn = desk.queue()
    version = desk.client.publish_version(FunctionName="sink")["Version"]
    made = desk.client.create_alias(FunctionName="sink", Name=f"live{version}", FunctionVersion=version)
    uuid = desk.client.create_event_source_mapping(FunctionName=made["AliasArn"], EventSourceArn=arn)["UUID"]
    assert desk.client.get_event_source_mapping(UUID=uuid)["FunctionArn"] == made["AliasArn"]
    desk.sqs.send_message(QueueUrl=url, MessageBody="aliased")
    assert desk.bodies(1) == ["aliased"]
    listed = desk.client.list_event_source_mappings(FunctionName=made["AliasArn"])["EventSourceMappings"]
    assert [one["UUID"] for one in listed] == [uuid]
    desk.unmap(uuid)


def test_a_function_or_a_queue_that_goes_is_told(desk):
    url, arn = desk.queue()
    desk.lab.create("leaving", SINK)
    uuid = desk.client.create_event_source_mapping(FunctionName="leaving", EventSourceArn=arn)["UUID"]
    desk.wait(uuid, "Enabled")
    desk.client.delete_function(FunctionName="leaving")
    desk.sqs.send_message(QueueUrl=url, MessageBody="kept")
    eventually(lambda: "Function not found" in desk.client.get_event_source_mapping(UUID=uuid)["LastProcessingResult"])
    desk.sqs.delete_queue(QueueUrl=url)
    desk.unmap(uuid)


def test_a_window_makes_batches_of_more_than_ten(desk, mapped):
    url, arn = desk.queue()
    for start in range(0, 30, 10):
        entries = [{"Id": str(n), "MessageBody": str(n)} for n in range(start, start + 10)]
        desk.sqs.send_message_batch(QueueUrl=url, Entries=entries)
    mapped(arn, BatchSize=25, MaximumBatchingWindowInSeconds=1)
    sizes = [len(desk.event()["Records"]), len(desk.event()["Records"])]
    assert sizes == [25, 5]


def test_a_fifo_queue_keeps_the_order_of_each_group(desk, mapped):
    url, arn = desk.queue(fifo=True, ContentBasedDeduplication="true")
    for number in range(6):
        desk.sqs.send_message(QueueUrl=url, MessageBody=f"{number % 2}-{number}", MessageGroupId=f"g{number % 2}")
    mapped(arn, BatchSize=2)
    found: list[dict[str, Any]] = []
    while len(found) < 6:
        found += desk.event()["Records"]
    for group in ("0", "1"):
        bodies = [record["body"] for record in found if record["body"].startswith(group)]
        assert bodies == sorted(bodies)
    assert {"MessageGroupId", "SequenceNumber", "MessageDeduplicationId"} <= found[0]["attributes"].keys()


def test_a_throttled_function_gets_the_batch_later(desk, mapped):
    url, arn = desk.queue()
    uuid = mapped(arn)
    desk.client.put_function_concurrency(FunctionName="sink", ReservedConcurrentExecutions=0)
    desk.sqs.send_message(QueueUrl=url, MessageBody="patient")
    eventually(lambda: "throttled" in desk.client.get_event_source_mapping(UUID=uuid)["LastProcessingResult"])
    desk.client.delete_function_concurrency(FunctionName="sink")
    (record,) = desk.event()["Records"]
    assert record["attributes"]["ApproximateReceiveCount"] == "1"


def test_a_mapping_is_disabled_and_enabled(desk, mapped):
    url, arn = desk.queue()
    uuid = mapped(arn)
    assert desk.client.update_event_source_mapping(UUID=uuid, Enabled=False)["State"] == "Disabling"
    desk.wait(uuid, "Disabled")
    desk.sqs.send_message(QueueUrl=url, MessageBody="asleep")
    assert desk.counts(url) == (1, 0)
    assert desk.client.update_event_source_mapping(UUID=uuid, Enabled=True)["State"] == "Enabling"
    assert desk.bodies(1) == ["asleep"]
    desk.wait(uuid, "Enabled")


def test_update_changes_what_is_given(desk, mapped):
    _, arn = desk.queue()
    uuid = mapped(
        arn,
        FilterCriteria={"Filters": [{"Pattern": '{"body": ["x"]}'}]},
        ScalingConfig={"MaximumConcurrency": 2},
        FunctionResponseTypes=["ReportBatchItemFailures"],
    )
    answer = desk.client.update_event_source_mapping(UUID=uuid, BatchSize=5, FilterCriteria={}, ScalingConfig={})
    assert (answer["State"], answer["BatchSize"]) == ("Updating", 5)
    assert "FilterCriteria" not in answer
    assert "ScalingConfig" not in answer
    assert answer["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    desk.wait(uuid, "Enabled")
    refused(
        desk.client.update_event_source_mapping,
        "InvalidParameterValueException",
        "Maximum batch window in seconds must be greater than 0",
        UUID=uuid,
        BatchSize=11,
    )


def test_what_is_between_two_states_is_in_use(desk, lab):
    url, arn = desk.queue()
    lab.create("sleepy", "import time\ndef handler(event, context):\n    time.sleep(2)\n", Timeout=10)
    uuid = desk.client.create_event_source_mapping(FunctionName="sleepy", EventSourceArn=arn)["UUID"]
    desk.wait(uuid, "Enabled")
    desk.sqs.send_message(QueueUrl=url, MessageBody="slow")
    eventually(lambda: desk.counts(url) == (0, 1))
    assert desk.client.update_event_source_mapping(UUID=uuid, Enabled=False)["State"] == "Disabling"
    for call, words in (
        (desk.client.update_event_source_mapping, "Cannot update"),
        (desk.client.delete_event_source_mapping, "Cannot delete"),
    ):
        refused(call, "ResourceInUseException", words, UUID=uuid)
    desk.wait(uuid, "Disabled")
    assert desk.counts(url) == (0, 0)  # what was under way came to its end
    desk.unmap(uuid)


def test_create_tells_what_it_made(desk, mapped):
    _, arn = desk.queue()
    made = desk.client.create_event_source_mapping(FunctionName="sink", EventSourceArn=arn, Tags={"team": "a"}, Enabled=False)
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert made["State"] == "Creating"
    assert (made["BatchSize"], made["MaximumBatchingWindowInSeconds"], made["EventSourceArn"]) == (10, 0, arn)
    assert made["FunctionArn"].endswith(":function:sink")
    assert made["StateTransitionReason"] == "USER_INITIATED"
    uuid = made["UUID"]
    desk.wait(uuid, "Disabled")
    assert desk.client.list_tags(Resource=made["EventSourceMappingArn"])["Tags"] == {"team": "a"}
    desk.client.tag_resource(Resource=made["EventSourceMappingArn"], Tags={"more": "b"})
    desk.client.untag_resource(Resource=made["EventSourceMappingArn"], TagKeys=["team"])
    assert desk.client.list_tags(Resource=made["EventSourceMappingArn"])["Tags"] == {"more": "b"}
    refused(
        desk.client.create_event_source_mapping,
        "ResourceConflictException",
        f"Please update or delete the existing mapping with UUID {uuid}",
        FunctionName="sink",
        EventSourceArn=arn,
    )
    found = desk.client.list_event_source_mappings(EventSourceArn=arn)["EventSourceMappings"]
    assert [one["UUID"] for one in found] == [uuid]
    desk.unmap(uuid)


def test_of_many_who_create_the_same_one_succeeds(desk):
    _, arn = desk.queue()

    def create(_: int) -> str:
        try:
            return str(desk.client.create_event_source_mapping(FunctionName="sink", EventSourceArn=arn)["UUID"])
        except desk.client.exceptions.ResourceConflictException:
            return ""

    with ThreadPoolExecutor(8) as threads:
        made = [uuid for uuid in threads.map(create, range(8)) if uuid]
    assert len(made) == 1
    desk.unmap(made[0])
    again = desk.client.create_event_source_mapping(FunctionName="sink", EventSourceArn=arn, Enabled=False)["UUID"]
    desk.unmap(again)


def test_list_pages(desk):
    made = []
    for _ in range(3):
        _, arn = desk.queue()
        made.append(desk.client.create_event_source_mapping(FunctionName="sink", EventSourceArn=arn, Enabled=False)["UUID"])
    pages = desk.client.get_paginator("list_event_source_mappings").paginate(FunctionName="sink", PaginationConfig={"PageSize": 2})
    assert sorted(one["UUID"] for page in pages for one in page["EventSourceMappings"]) == sorted(made)
    refused(desk.client.list_event_source_mappings, "ResourceNotFoundException", "Function not found", FunctionName="nobody")
    for uuid in made:
        desk.unmap(uuid)


def test_create_refuses_what_the_queue_cannot(desk):
    _, arn = desk.queue()
    _, fifo = desk.queue(fifo=True)
    for text, arn_, settings in (
        ("Maximum batch window in seconds must be greater than 0", arn, {"BatchSize": 11}),
        ("Batching window is not supported for FIFO", fifo, {"MaximumBatchingWindowInSeconds": 1}),
        ("StartingPosition is not valid for SQS event sources.", arn, {"StartingPosition": "LATEST"}),
        ("Invalid filter pattern definition.", arn, {"FilterCriteria": {"Filters": [{"Pattern": '{"body": 1}'}]}}),
        ("Number of filters", arn, {"FilterCriteria": {"Filters": [{"Pattern": '{"body": ["1"]}'}] * 6}}),
        ("provisioned pollers", arn, {"ProvisionedPollerConfig": {"MinimumPollers": 2}}),
        ("Kinesis streams are not available", "arn:aws:kinesis:us-east-1:123456789012:stream/s", {"StartingPosition": "LATEST"}),
        ("Unrecognized event source", "arn:aws:sns:us-east-1:123456789012:t", {}),
        ("NonExistentQueue", f"{arn}-missing", {}),
    ):
        refused(
            desk.client.create_event_source_mapping,
            "InvalidParameterValueException",
            text,
            FunctionName="sink",
            EventSourceArn=arn_,
            **settings,
        )
    refused(
        desk.client.create_event_source_mapping,
        "ResourceNotFoundException",
        "Function not found",
        FunctionName="nobody",
        EventSourceArn=arn,
    )
    _, short = desk.queue(VisibilityTimeout="5")
    refused(
        desk.client.create_event_source_mapping,
        "InvalidParameterValueException",
        "Queue visibility timeout: 5 seconds is less than Function timeout: 20 seconds",
        FunctionName="sink",
        EventSourceArn=short,
    )
    for call in (desk.client.get_event_source_mapping, desk.client.delete_event_source_mapping):
        refused(call, "ResourceNotFoundException", "does not exist", UUID="0" * 8 + "-0000-0000-0000-" + "0" * 12)


def test_the_role_must_be_let_in(new_lab):
    lab = new_lab()
    sqs = lab.account.client("sqs")
    url = sqs.create_queue(QueueName="q")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    lab.create("plain")
    needed = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]
    for many in range(3):
        if many:
            lab.grant("sqs", *needed[:many])
        refused(
            lab.client.create_event_source_mapping,
            "InvalidParameterValueException",
            f"The function execution role does not have permissions to call {needed[many][4:]} on SQS",
            FunctionName="plain",
            EventSourceArn=arn,
        )
    lab.grant("sqs", *needed)
    uuid = lab.client.create_event_source_mapping(FunctionName="plain", EventSourceArn=arn)["UUID"]
    eventually(lambda: lab.client.get_event_source_mapping(UUID=uuid)["State"] == "Enabled")
    # Rights that go later are missed at run time.
    lab.iam.delete_role_policy(RoleName=lab.role_name, PolicyName="sqs")
    sqs.send_message(QueueUrl=url, MessageBody="locked")
    eventually(lambda: "PROBLEM" in lab.client.get_event_source_mapping(UUID=uuid)["LastProcessingResult"])
    lab.client.delete_event_source_mapping(UUID=uuid)


def test_update_moves_a_mapping_to_another_function(desk, lab):
    url, arn = desk.queue()
    lab.create("taker", Timeout=3)
    first, second = (
        desk.client.create_event_source_mapping(FunctionName=name, EventSourceArn=arn, Enabled=False)["UUID"]
        for name in ("sink", "taker")
    )
    desk.wait(first, "Disabled")
    desk.wait(second, "Disabled")
    refused(
        desk.client.update_event_source_mapping,
        "ResourceConflictException",
        f"existing mapping with UUID {first}",
        UUID=second,
        FunctionName="sink",
    )
    desk.unmap(first)
    assert desk.client.update_event_source_mapping(UUID=second, FunctionName="sink", Enabled=True)["FunctionArn"].endswith(":sink")
    desk.sqs.send_message(QueueUrl=url, MessageBody="moved")
    assert desk.bodies(1) == ["moved"]
    desk.unmap(second)
