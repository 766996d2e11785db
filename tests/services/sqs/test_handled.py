"""What becomes of received messages, through boto3."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pilvi.testing.server import Account
from tests.services.sqs.test_message import bodies, new_queue
from tests.services.sqs.test_receive import receive, send

Refusal = Callable[..., tuple[str, str]]


def test_delete_message_with_an_older_handle_leaves_it(aws: Account) -> None:
    sqs, url = aws.client("sqs"), new_queue(aws)
    send(aws, url, "x")
    (first,) = receive(aws, url, VisibilityTimeout=0)
    (second,) = receive(aws, url, VisibilityTimeout=0)
    assert first["ReceiptHandle"] != second["ReceiptHandle"]
    sqs.delete_message(QueueUrl=url, ReceiptHandle=first["ReceiptHandle"])
    assert bodies(aws, url, VisibilityTimeout=0) == ["x"]


def test_delete_message_refuses_foreign_handles(aws: Account, refusal: Refusal) -> None:
    sqs, url, other = aws.client("sqs"), new_queue(aws), new_queue(aws, "other")
    send(aws, other, "x")
    (message,) = receive(aws, other)
    for handle in ("nonsense", message["ReceiptHandle"]):
        assert refusal(sqs.delete_message, QueueUrl=url, ReceiptHandle=handle)[0] == "ReceiptHandleIsInvalid"


def test_delete_message_of_a_fifo_queue_not_after_its_timeout(
    later_aws: Account, passes: Callable[[float], None], refusal: Refusal
) -> None:
    sqs, url = later_aws.client("sqs"), new_queue(later_aws, "f.fifo", ContentBasedDeduplication="true")
    send(later_aws, url, "x", MessageGroupId="g")
    (message,) = receive(later_aws, url)
    passes(31)
    code, text = refusal(sqs.delete_message, QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    assert (code, text.endswith("The receipt handle has expired.")) == ("InvalidParameterValue", True)
    assert bodies(later_aws, url) == ["x"]


def test_delete_message_batch_one_by_one(aws: Account, refusal: Refusal) -> None:
    sqs, url = aws.client("sqs"), new_queue(aws)
    send(aws, url, "a", "b")
    messages = receive(aws, url)
    entries = [{"Id": str(n), "ReceiptHandle": message["ReceiptHandle"]} for n, message in enumerate(messages)]
    answer = sqs.delete_message_batch(QueueUrl=url, Entries=[*entries, {"Id": "x", "ReceiptHandle": "nonsense"}])
    assert [one["Id"] for one in answer["Successful"]] == ["0", "1"]
    assert [(one["Id"], one["Code"]) for one in answer["Failed"]] == [("x", "ReceiptHandleIsInvalid")]
    assert refusal(sqs.delete_message_batch, QueueUrl=url, Entries=[])[0] == "AWS.SimpleQueueService.EmptyBatchRequest"


def test_change_message_visibility_hides_longer_and_gives_back(later_aws: Account, passes: Callable[[float], None]) -> None:
    sqs, url = later_aws.client("sqs"), new_queue(later_aws)
    send(later_aws, url, "x")
    (message,) = receive(later_aws, url)
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=100)
    passes(60)
    assert bodies(later_aws, url) == []
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0)
    assert bodies(later_aws, url) == ["x"]


def test_change_message_visibility_refuses(later_aws: Account, passes: Callable[[float], None], refusal: Refusal) -> None:
    sqs, url = later_aws.client("sqs"), new_queue(later_aws)
    send(later_aws, url, "x")
    (message,) = receive(later_aws, url, VisibilityTimeout=40_000)
    handle = message["ReceiptHandle"]

    def code(seconds: int, given: str = handle) -> str:
        return refusal(sqs.change_message_visibility, QueueUrl=url, ReceiptHandle=given, VisibilityTimeout=seconds)[0]

    assert code(43_201) == "InvalidParameterValue"
    assert code(5, "nonsense") == "ReceiptHandleIsInvalid"
    passes(10_000)
    assert code(40_000) == "InvalidParameterValue"
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=0)
    assert code(5) == "AWS.SimpleQueueService.MessageNotInflight"
    (message,) = receive(later_aws, url)
    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    assert code(5, message["ReceiptHandle"]) == "InvalidParameterValue"


def test_change_message_visibility_batch_one_by_one(aws: Account) -> None:
    sqs, url = aws.client("sqs"), new_queue(aws)
    send(aws, url, "a", "b")
    messages = receive(aws, url)
    entries = [{"Id": message["Body"], "ReceiptHandle": message["ReceiptHandle"], "VisibilityTimeout": 0} for message in messages]
    entries.append({"Id": "x", "ReceiptHandle": "nonsense", "VisibilityTimeout": 0})
    answer = sqs.change_message_visibility_batch(QueueUrl=url, Entries=entries)
    assert {one["Id"] for one in answer["Successful"]} == {"a", "b"}
    assert [(one["Id"], one["Code"]) for one in answer["Failed"]] == [("x", "ReceiptHandleIsInvalid")]
    assert sorted(bodies(aws, url)) == ["a", "b"]


def test_delete_message_twice_counts_once(aws: Account) -> None:
    sqs, url = aws.client("sqs"), new_queue(aws)
    for text in ("one", "two", "three"):
        sqs.send_message(QueueUrl=url, MessageBody=text)
    messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    assert len(messages) == 3
    handle = messages[0]["ReceiptHandle"]
    entries = [{"Id": str(number), "ReceiptHandle": handle} for number in range(3)]
    assert len(sqs.delete_message_batch(QueueUrl=url, Entries=entries)["Successful"]) == 3
    sqs.delete_message(QueueUrl=url, ReceiptHandle=handle)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: sqs.delete_message(QueueUrl=url, ReceiptHandle=messages[1]["ReceiptHandle"]), range(4)))
    counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert counts["ApproximateNumberOfMessagesNotVisible"] == "1"
    assert counts["ApproximateNumberOfMessages"] == "0"
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=messages[2]["ReceiptHandle"], VisibilityTimeout=0)
    assert sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]["ApproximateNumberOfMessages"] == "1"
