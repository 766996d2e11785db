"""FIFO topics: order, deduplication, archives."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta

from pilvi.testing.server import Account, TestServer, eventually
from tests.services.sns.stage import Refusal, is_empty, new_queue, new_topic, received, subscribed, told


def stamp(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"


def test_order_is_kept_into_a_fifo_queue(aws: Account) -> None:
    sns, topic = aws.client("sns"), new_topic(aws, "f.fifo")
    url, queue = new_queue(aws, "q.fifo")
    subscribed(aws, topic, queue, RawMessageDelivery="true")
    numbers = []
    for number in range(30):
        answer = sns.publish(
            TopicArn=topic, Message=str(number), MessageGroupId=f"g{number % 3}", MessageDeduplicationId=f"d{number}"
        )
        numbers.append(int(answer["SequenceNumber"]))
    entries = [
        {"Id": str(number), "Message": str(number), "MessageGroupId": f"g{number % 3}", "MessageDeduplicationId": f"d{number}"}
        for number in range(30, 40)
    ]
    answer = sns.publish_batch(TopicArn=topic, PublishBatchRequestEntries=entries)
    numbers += [int(one["SequenceNumber"]) for one in answer["Successful"]]
    assert numbers == sorted(set(numbers))
    groups: dict[str, list[int]] = {}
    for message in received(aws, url, 40):
        groups.setdefault(message["Attributes"]["MessageGroupId"], []).append(int(message["Body"]))
    assert groups == {f"g{number}": list(range(number, 40, 3)) for number in range(3)}


def test_a_repeated_message_is_delivered_once(aws: Account, refusal: Refusal) -> None:
    sns, topic = aws.client("sns"), new_topic(aws, "f.fifo", ContentBasedDeduplication="true")
    (url, queue), (plain_url, plain) = new_queue(aws, "q.fifo"), new_queue(aws, "plain")
    subscribed(aws, topic, queue)
    subscribed(aws, topic, plain)
    first = sns.publish(TopicArn=topic, Message="same", MessageGroupId="g")
    again = sns.publish(TopicArn=topic, Message="same", MessageGroupId="h")
    assert (again["MessageId"], again["SequenceNumber"]) == (first["MessageId"], first["SequenceNumber"])
    sns.publish(TopicArn=topic, Message="other", MessageGroupId="g")
    messages = [json.loads(message["Body"]) for message in received(aws, url, 2)]
    assert [message["Message"] for message in messages] == ["same", "other"]
    assert messages[0]["SequenceNumber"] == first["SequenceNumber"]
    assert "Signature" not in messages[0]
    assert sorted(told(aws, plain_url, 2)) == ["other", "same"]
    assert is_empty(aws, url)
    assert "MessageGroupId parameter is required" in refusal(sns.publish, TopicArn=topic, Message="m")[1]
    assert "MessageGroupId" in refusal(sns.publish, TopicArn=topic, Message="m", MessageGroupId="a b")[1]
    sns.set_topic_attributes(TopicArn=topic, AttributeName="ContentBasedDeduplication", AttributeValue="false")
    assert "ContentBasedDeduplication" in refusal(sns.publish, TopicArn=topic, Message="m", MessageGroupId="g")[1]


def test_deduplication_by_group_and_for_five_minutes(later_aws: Account, passes: Callable[[float], None]) -> None:
    sns, topic = later_aws.client("sns"), new_topic(later_aws, "f.fifo", FifoThroughputScope="MessageGroup")

    def publish(group: str) -> str:
        return str(sns.publish(TopicArn=topic, Message="m", MessageGroupId=group, MessageDeduplicationId="d")["MessageId"])

    one, other = publish("a"), publish("b")
    assert one != other
    passes(290)
    assert publish("a") == one
    passes(20)
    assert publish("a") != one


def test_an_archive_is_replayed_in_order(
    later_aws: Account, timed: TestServer, passes: Callable[[float], None], refusal: Refusal
) -> None:
    sns, topic = later_aws.client("sns"), new_topic(later_aws, "f.fifo", ArchivePolicy='{"MessageRetentionPeriod": "2"}')
    url, queue = new_queue(later_aws, "q.fifo")
    start = timed.cloud.clock.now() - timedelta(seconds=1)
    for number in range(130):
        sns.publish(TopicArn=topic, Message=str(number), MessageGroupId="g", MessageDeduplicationId=f"d{number}")
    end = timed.cloud.clock.now()
    passes(60)
    sns.publish(TopicArn=topic, Message="late", MessageGroupId="g", MessageDeduplicationId="late")
    policy = json.dumps({"PointType": "Timestamp", "StartingPoint": stamp(start), "EndingPoint": stamp(end + timedelta(seconds=1))})
    arn = subscribed(later_aws, topic, queue, ReplayPolicy=policy)
    assert told(later_aws, url, 130) == [str(number) for number in range(130)]

    def status() -> str:
        return str(sns.get_subscription_attributes(SubscriptionArn=arn)["Attributes"]["ReplayStatus"])

    eventually(lambda: status() == "Completed")
    sns.publish(TopicArn=topic, Message="live", MessageGroupId="g", MessageDeduplicationId="live")
    assert told(later_aws, url) == ["live"]
    assert "BeginningArchiveTime" in sns.get_topic_attributes(TopicArn=topic)["Attributes"]
    sns.set_subscription_attributes(SubscriptionArn=arn, AttributeName="ReplayPolicy", AttributeValue="")
    assert "ReplayStatus" not in sns.get_subscription_attributes(SubscriptionArn=arn)["Attributes"]
    plain = new_topic(later_aws, "g.fifo")
    assert (
        "keeps no archive"
        in refusal(sns.subscribe, TopicArn=plain, Protocol="sqs", Endpoint=queue, Attributes={"ReplayPolicy": policy})[1]
    )
    bad = {"ReplayPolicy": '{"PointType": "Timestamp", "StartingPoint": "then"}'}
    assert "StartingPoint" in refusal(sns.subscribe, TopicArn=topic, Protocol="sqs", Endpoint=f"{queue}2", Attributes=bad)[1]
    passes(3 * 86_400)
    again = subscribed(later_aws, topic, queue.replace("q.fifo", "r.fifo"), ReplayPolicy=policy)
    eventually(lambda: sns.get_subscription_attributes(SubscriptionArn=again)["Attributes"]["ReplayStatus"] == "Completed")
    assert is_empty(later_aws, url)
