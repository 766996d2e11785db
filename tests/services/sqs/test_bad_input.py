"""Whatever a batch holds: an answer by AWS's codes, each entry accounted for, nothing lost."""

from __future__ import annotations

import string
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilvi.core.errors import ServiceError
from pilvi.services.sqs.attributes import applied, checked
from pilvi.services.sqs.digests import of_attributes
from pilvi.testing.server import Account

TEXTS = st.text(max_size=30)
IDS = st.one_of(st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=5), TEXTS)
VALUES = st.fixed_dictionaries(
    {"DataType": st.sampled_from(["String", "Number", "Binary", "String.x", "Text", ""])},
    optional={"StringValue": TEXTS, "BinaryValue": st.binary(max_size=10)},
)
ENTRIES = st.fixed_dictionaries(
    {"Id": IDS, "MessageBody": TEXTS},
    optional={
        "DelaySeconds": st.integers(-5, 5),
        "MessageAttributes": st.dictionaries(TEXTS, VALUES, max_size=3),
        "MessageGroupId": TEXTS,
        "MessageDeduplicationId": TEXTS,
    },
)
WHOLE = {
    "AWS.SimpleQueueService.EmptyBatchRequest",
    "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
    "AWS.SimpleQueueService.InvalidBatchEntryId",
    "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
}


@pytest.mark.parametrize("name", ["any", "any.fifo"])
def test_batches_of_anything(aws: Account, name: str) -> None:
    sqs = aws.client("sqs")
    attributes = {"FifoQueue": "true"} if name.endswith(".fifo") else {}
    url = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(ENTRIES, max_size=11))
    def ask(entries: list[dict[str, Any]]) -> None:
        try:
            answer = sqs.send_message_batch(QueueUrl=url, Entries=entries)
        except ClientError as error:
            assert error.response["Error"]["Code"] in WHOLE  # noqa: PT017
            return
        ids = [one["Id"] for kind in ("Successful", "Failed") for one in answer.get(kind, ())]
        assert sorted(ids) == sorted(entry["Id"] for entry in entries)
        assert all(one["SenderFault"] for one in answer.get("Failed", ()))

    ask()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(handle=st.text(max_size=120), seconds=st.integers(-1, 50_000))
def test_handles_of_anything(aws: Account, handle: str, seconds: int) -> None:
    sqs = aws.client("sqs")
    url = sqs.create_queue(QueueName="handles")["QueueUrl"]
    for call, more in ((sqs.delete_message, {}), (sqs.change_message_visibility, {"VisibilityTimeout": seconds})):
        with pytest.raises(ClientError) as caught:
            call(QueueUrl=url, ReceiptHandle=handle, **more)
        assert caught.value.response["Error"]["Code"] in ("ReceiptHandleIsInvalid", "InvalidParameterValue")


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from(["VisibilityTimeout", "Policy", "RedrivePolicy", "RedriveAllowPolicy", "FifoQueue"]), TEXTS))
def test_attributes_of_anything(attributes: dict[str, str]) -> None:
    try:
        applied({}, checked(attributes, name="x", creating=True))
    except ServiceError as error:
        assert error.code in ("InvalidAttributeName", "InvalidAttributeValue", "InvalidParameterValue")  # noqa: PT017


def test_md5_of_attributes_as_aws_counts_it() -> None:
    """An example that SDKs carry in their own tests."""
    attributes = {
        "timestamp": {"DataType": "Number", "StringValue": "1493147359900"},
    }
    assert of_attributes(attributes) == "235c5c510d26fb653d073faed50ae77c"
