"""Subscriptions, through boto3 and by the links in messages."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from pilvi.services.sns import spool
from pilvi.testing.server import Account, TestServer, eventually
from tests.services.sns.stage import Refusal, Web, new_queue, new_topic, received, subscribed, told


def visit(url: str) -> str:
    """As a browser, or curl, would: unsigned."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def letters(server: TestServer, aws: Account, many: int) -> list[dict[str, Any]]:
    """All letters of an account with their texts, once there are so many; oldest first."""
    found = eventually(
        lambda: len(spool.letters(server.cloud, aws.account, 100)) >= many and spool.letters(server.cloud, aws.account, 100)
    )
    return [spool.read(server.cloud, aws.account, letter["id"]) for letter in reversed(found)]


def link_in(text: str) -> str:
    return next(line for line in text.splitlines() if line.startswith("http"))


def test_subscribe_gives_the_same_subscription_again(aws: Account, refusal: Refusal) -> None:
    sns, topic = aws.client("sns"), new_topic(aws)
    _, queue = new_queue(aws)
    arn = sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue, Attributes={"RawMessageDelivery": "true"})[
        "SubscriptionArn"
    ]
    assert arn.startswith(f"{topic}:")
    assert sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue)["SubscriptionArn"] == arn
    _code, message = refusal(
        sns.subscribe, TopicArn=topic, Protocol="sqs", Endpoint=queue, Attributes={"FilterPolicy": '{"a":["b"]}'}
    )
    assert message == "Invalid parameter: Attributes Reason: Subscription already exists with different attributes"
    assert len(sns.list_subscriptions()["Subscriptions"]) == 1


def test_subscribe_asks_again_while_nobody_has_confirmed(aws: Account, web: Web) -> None:
    sns, topic = aws.client("sns"), new_topic(aws)
    arn = subscribed(aws, topic, web.url, "http")
    assert subscribed(aws, topic, web.url, "http") == arn
    first, second = eventually(lambda: len(web.heard) == 2 and web.of_kind("SubscriptionConfirmation"))
    assert first["Token"] != second["Token"]
    for asking in (second, first):
        assert sns.confirm_subscription(TopicArn=topic, Token=asking["Token"])["SubscriptionArn"] == arn


def test_subscribe_refuses(aws: Account, refusal: Refusal) -> None:
    sns, topic, fifo = aws.client("sns"), new_topic(aws), new_topic(aws, "f.fifo")
    queue = f"arn:aws:sqs:us-east-1:{aws.account}:q"

    def message(protocol: str, endpoint: str, to: str = topic, **attributes: str) -> str:
        return refusal(sns.subscribe, TopicArn=to, Protocol=protocol, Endpoint=endpoint, Attributes=attributes)[1]

    assert message("pigeon", "x") == "Invalid parameter: Amazon SNS does not support this protocol string: pigeon"
    assert message("sqs", "q") == "Invalid parameter: SQS endpoint ARN"
    assert message("http", "https://x/") == "Invalid parameter: Endpoint must match the specified protocol"
    assert message("https", "https://[x/") == "Invalid parameter: Endpoint Reason: it is no URL"
    assert message("email", "nobody") == "Invalid parameter: Email address"
    assert "Invalid SMS endpoint" in message("sms", "call me")
    assert message("lambda", "arn:aws:lambda:us-east-1:1:layer:x") == "Invalid parameter: Lambda endpoint ARN"
    assert "FIFO SQS Queues can not be subscribed to standard SNS topics" in message("sqs", f"{queue}.fifo")
    assert "FIFO topics deliver to SQS queues only" in message("email", "a@b.org", fifo)
    assert message("sqs", queue, Nothing="1") == "Invalid parameter: AttributeName"
    assert "RawMessageDelivery" in message("email", "a@b.org", RawMessageDelivery="true")
    assert "deadLetterTargetArn is an invalid arn" in message("sqs", queue, RedrivePolicy='{"deadLetterTargetArn": "x"}')
    assert "failed to parse JSON" in message("sqs", queue, FilterPolicy="{")
    assert "FilterPolicyScope" in message("sqs", queue, FilterPolicyScope="Everything")
    assert "HTTP and HTTPS endpoints only" in message("sqs", queue, DeliveryPolicy="{}")
    assert "does not send messages to itself" in message("http", f"{aws.endpoint}/_pilvi/reset")
    firehose = "arn:aws:firehose:us-east-1:1:deliverystream/x"
    assert refusal(sns.subscribe, TopicArn=topic, Protocol="firehose", Endpoint=firehose)[0] == "NotImplemented"
    assert refusal(sns.subscribe, TopicArn=f"{topic}x", Protocol="sqs", Endpoint=queue) == ("NotFound", "Topic does not exist")


def test_a_letter_confirms_a_subscription_and_its_link_ends_it(server: TestServer, aws: Account, refusal: Refusal) -> None:
    sns, topic = aws.client("sns"), new_topic(aws, DisplayName="News")
    assert sns.subscribe(TopicArn=topic, Protocol="email", Endpoint="ada@example.org")["SubscriptionArn"] == "pending confirmation"
    sns.publish(TopicArn=topic, Message="too early")
    (asking,) = letters(server, aws, 1)
    assert (asking["to"], asking["subject"]) == ("ada@example.org", "AWS Notification - Subscription Confirmation")
    (pending,) = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert pending["SubscriptionArn"] == "PendingConfirmation"
    assert "ConfirmSubscriptionResult" in visit(link_in(asking["text"]))
    visit(link_in(asking["text"]))  # people click twice
    (one,) = sns.list_subscriptions()["Subscriptions"]
    assert (
        sns.get_subscription_attributes(SubscriptionArn=one["SubscriptionArn"])["Attributes"]["ConfirmationWasAuthenticated"]
        == "false"
    )
    sns.publish(TopicArn=topic, Message="Read this", Subject="Today")
    told_them = letters(server, aws, 2)[1]
    assert told_them["subject"] == "Today"
    assert told_them["from"] == "News <no-reply@sns.amazonaws.com>"
    assert told_them["text"].startswith("Read this\n")
    visit(link_in(told_them["text"]))
    assert sns.list_subscriptions()["Subscriptions"] == []
    farewell = letters(server, aws, 3)[2]
    assert farewell["subject"] == "AWS Notification - Unsubscribe Confirmation"
    visit(link_in(farewell["text"]))
    assert sns.list_subscriptions()["Subscriptions"] == [one]


def test_confirm_subscription_refuses_tokens(aws: Account, refusal: Refusal) -> None:
    sns, topic = aws.client("sns"), new_topic(aws)
    assert refusal(sns.confirm_subscription, TopicArn=topic, Token="no") == ("InvalidParameter", "Invalid token")
    assert refusal(sns.confirm_subscription, TopicArn=topic, Token="00" * 100) == ("InvalidParameter", "Invalid parameter: Token")
    assert refusal(sns.confirm_subscription, TopicArn="no", Token="00") == ("InvalidParameter", "Invalid parameter: Topic")
    with pytest.raises(urllib.error.HTTPError) as caught:
        visit(f"{aws.endpoint}/?Action=ConfirmSubscription&TopicArn={topic}&Token=no")
    assert caught.value.code == 400
    caught.value.close()


def test_confirm_subscription_signed_keeps_strangers_from_ending_it(
    aws: Account, other_aws: Account, web: Web, refusal: Refusal
) -> None:
    sns, topic = aws.client("sns"), new_topic(aws)
    subscribed(aws, topic, web.url, "http")
    (asking,) = eventually(lambda: web.of_kind("SubscriptionConfirmation"))
    arn = sns.confirm_subscription(TopicArn=topic, Token=asking["Token"], AuthenticateOnUnsubscribe="true")["SubscriptionArn"]
    with pytest.raises(urllib.error.HTTPError) as caught:
        visit(f"{aws.endpoint}/?Action=Unsubscribe&SubscriptionArn={arn}")
    assert caught.value.code == 403
    caught.value.close()
    assert refusal(other_aws.client("sns").unsubscribe, SubscriptionArn=arn)[0] == "AuthorizationError"
    assert refusal(other_aws.client("sns").get_subscription_attributes, SubscriptionArn=arn)[0] == "AuthorizationError"
    sns.unsubscribe(SubscriptionArn=arn)
    sns.unsubscribe(SubscriptionArn=arn)
    assert refusal(sns.get_subscription_attributes, SubscriptionArn=arn) == ("NotFound", "Subscription does not exist")
    assert refusal(sns.unsubscribe, SubscriptionArn="PendingConfirmation")[0] == "InvalidParameter"


def test_a_token_is_good_for_two_days(
    later_aws: Account, timed: TestServer, passes: Callable[[float], None], refusal: Refusal
) -> None:
    sns, topic = later_aws.client("sns"), new_topic(later_aws)
    subscribed(later_aws, topic, "ada@example.org", "email")
    (asking,) = letters(timed, later_aws, 1)
    passes(47 * 3600)
    assert len(sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]) == 1
    passes(2 * 3600)
    assert sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"] == []
    assert sns.list_subscriptions()["Subscriptions"] == []
    with pytest.raises(urllib.error.HTTPError) as caught:
        visit(link_in(asking["text"]))
    caught.value.close()


def test_another_accounts_queue_is_asked_first(aws: Account, other_aws: Account) -> None:
    sns, topic = aws.client("sns"), new_topic(aws)
    url, queue = new_queue(other_aws)
    assert sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue)["SubscriptionArn"] == "pending confirmation"
    (asking,) = received(other_aws, url)
    content = json.loads(asking["Body"])
    assert content["Type"] == "SubscriptionConfirmation"
    visit(content["SubscribeURL"])
    sns.publish(TopicArn=topic, Message="hello")
    assert told(other_aws, url) == ["hello"]


def test_a_queues_owner_subscribes_to_another_accounts_topic(aws: Account, other_aws: Account, refusal: Refusal) -> None:
    topic = new_topic(aws)
    url, queue = new_queue(other_aws)
    there = other_aws.client("sns")
    assert refusal(there.subscribe, TopicArn=topic, Protocol="sqs", Endpoint=queue)[0] == "AuthorizationError"
    aws.client("sns").add_permission(TopicArn=topic, Label="l", AWSAccountId=[other_aws.account], ActionName=["Subscribe"])
    arn = there.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue)["SubscriptionArn"]
    assert there.list_subscriptions()["Subscriptions"][0]["SubscriptionArn"] == arn
    assert aws.client("sns").list_subscriptions()["Subscriptions"] == []
    aws.client("sns").publish(TopicArn=topic, Message="across")
    assert told(other_aws, url) == ["across"]


def test_list_subscriptions_pages_by_a_hundred(aws: Account) -> None:
    sns, topic = aws.client("sns"), new_topic(aws)
    for number in range(103):
        subscribed(aws, topic, f"arn:aws:sqs:us-east-1:{aws.account}:q{number}")
    by_topic = sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
    assert [len(page["Subscriptions"]) for page in by_topic] == [100, 3]
    pages = [page["Subscriptions"] for page in sns.get_paginator("list_subscriptions").paginate()]
    assert [len(page) for page in pages] == [100, 3]
    assert len({one["Endpoint"] for page in pages for one in page}) == 103


def test_set_subscription_attributes(aws: Account, refusal: Refusal) -> None:
    sns, topic = aws.client("sns"), new_topic(aws)
    arn = subscribed(aws, topic, new_queue(aws)[1])

    def put(name: str, value: str) -> None:
        sns.set_subscription_attributes(SubscriptionArn=arn, AttributeName=name, AttributeValue=value)

    def found() -> dict[str, str]:
        return dict(sns.get_subscription_attributes(SubscriptionArn=arn)["Attributes"])

    put("RawMessageDelivery", "true")
    put("FilterPolicy", '{"a": ["b"]}')
    assert (found()["RawMessageDelivery"], found()["FilterPolicyScope"]) == ("true", "MessageAttributes")
    put("FilterPolicyScope", "MessageBody")
    put("FilterPolicy", '{"a": {"b": ["c"]}}')
    assert (
        refusal(
            sns.set_subscription_attributes,
            SubscriptionArn=arn,
            AttributeName="FilterPolicyScope",
            AttributeValue="MessageAttributes",
        )[1]
        == "Invalid parameter: Filter policy scope MessageAttributes does not support nested filter policy"
    )
    put("FilterPolicy", "")
    assert "FilterPolicy" not in found()
    dead = f"arn:aws:sqs:us-east-1:{aws.account}:dead"
    put("RedrivePolicy", json.dumps({"deadLetterTargetArn": dead}))
    assert json.loads(found()["RedrivePolicy"])["deadLetterTargetArn"] == dead
    _code, message = refusal(sns.set_subscription_attributes, SubscriptionArn=arn, AttributeName="Nothing", AttributeValue="1")
    assert message == "Invalid parameter: AttributeName"
