"""Who may: topic policies, IAM, other accounts, links."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from pilvi.core.errors import ServiceError
from pilvi.core.principal import Principal
from pilvi.core.service import Context
from pilvi.testing.server import Account
from tests.services.sns.stage import Refusal, new_queue, new_topic, subscribed, told


def allow(aws: Account, topic: str, **statement: Any) -> None:
    one = {"Effect": "Allow", "Action": "sns:Publish", "Resource": topic, **statement}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [one]})
    aws.client("sns").set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=policy)


def test_another_account_publishes_after_the_policy(aws: Account, other_aws: Account, refusal: Refusal) -> None:
    topic, there = new_topic(aws), other_aws.client("sns")
    url, queue = new_queue(aws)
    subscribed(aws, topic, queue)
    code, message = refusal(there.publish, TopicArn=topic, Message="m")
    assert code == "AuthorizationError"
    assert message.startswith(
        f"User: arn:aws:iam::{other_aws.account}:root is not authorized to perform: SNS:Publish on resource: {topic}"
    )
    allow(aws, topic, Principal={"AWS": f"arn:aws:iam::{other_aws.account}:root"})
    there.publish(TopicArn=topic, Message="from afar")
    there.publish_batch(TopicArn=topic, PublishBatchRequestEntries=[{"Id": "a", "Message": "again"}])
    assert sorted(told(aws, url, 2)) == ["again", "from afar"]
    assert (
        refusal(there.set_topic_attributes, TopicArn=topic, AttributeName="DisplayName", AttributeValue="x")[0]
        == "AuthorizationError"
    )


def test_add_permission_and_remove_permission(aws: Account, other_aws: Account, refusal: Refusal) -> None:
    sns, there, topic = aws.client("sns"), other_aws.client("sns"), new_topic(aws)
    sns.add_permission(TopicArn=topic, Label="l", AWSAccountId=[other_aws.account], ActionName=["Publish", "GetTopicAttributes"])
    there.publish(TopicArn=topic, Message="m")
    assert there.get_topic_attributes(TopicArn=topic)["Attributes"]["Owner"] == aws.account
    policy = json.loads(sns.get_topic_attributes(TopicArn=topic)["Attributes"]["Policy"])
    assert [statement["Sid"] for statement in policy["Statement"]] == ["__default_statement_ID", "l"]
    sns.remove_permission(TopicArn=topic, Label="l")
    assert refusal(there.publish, TopicArn=topic, Message="m")[0] == "AuthorizationError"

    def code(**changed: Any) -> str:
        given: dict[str, Any] = {"Label": "l", "AWSAccountId": ["111122223333"], "ActionName": ["Publish"]}
        return refusal(sns.add_permission, TopicArn=topic, **(given | changed))[0]

    changes: list[dict[str, Any]] = [
        {"Label": "a b"},
        {"AWSAccountId": ["1"]},
        {"ActionName": ["CreateTopic"]},
        {"ActionName": []},
        {"AWSAccountId": []},
    ]
    for changed in changes:
        assert code(**changed) == "InvalidParameter"
    sns.add_permission(TopicArn=topic, Label="l", AWSAccountId=["111122223333"], ActionName=["Publish"])
    assert code() == "InvalidParameter"


def test_iam_policies_count_on_topics_tags_and_endpoints(aws: Account, refusal: Refusal) -> None:
    sns, one, other = aws.client("sns"), new_topic(aws), new_topic(aws, "other")
    sns.tag_resource(ResourceArn=other, Tags=[{"Key": "team", "Value": "red"}])
    publishing = {"Effect": "Allow", "Action": "sns:Publish", "Resource": one}
    subscribing = {
        "Effect": "Allow",
        "Action": "sns:Subscribe",
        "Resource": "*",
        "Condition": {
            "StringEquals": {"sns:Protocol": "email", "aws:ResourceTag/team": "red"},
            "StringLike": {"sns:Endpoint": "*@example.org"},
        },
    }
    user = aws.user("some", {"Version": "2012-10-17", "Statement": [publishing, subscribing]}).client("sns")
    user.publish(TopicArn=one, Message="m")
    assert refusal(user.publish, TopicArn=other, Message="m")[0] == "AuthorizationError"
    assert refusal(user.publish, PhoneNumber="+15550100", Message="m")[0] == "AuthorizationError"
    user.subscribe(TopicArn=other, Protocol="email", Endpoint="ada@example.org")
    assert refusal(user.subscribe, TopicArn=other, Protocol="email", Endpoint="ada@example.com")[0] == "AuthorizationError"
    assert refusal(user.subscribe, TopicArn=one, Protocol="email", Endpoint="ada@example.org")[0] == "AuthorizationError"
    assert refusal(user.list_topics)[0] == "AuthorizationError"
    allow(aws, one, Effect="Deny", Principal="*")
    assert refusal(user.publish, TopicArn=one, Message="m")[0] == "AuthorizationError"


def test_a_service_publishes_only_for_the_source_that_the_policy_names(server: Any, aws: Account) -> None:
    topic = new_topic(aws)
    url, queue = new_queue(aws)
    subscribed(aws, topic, queue)

    def publish(source_arn: str) -> None:
        principal = Principal("service", aws.account, "", "s3.amazonaws.com", "s3.amazonaws.com", source_arn=source_arn)
        ctx = Context(server.cloud, principal=principal, account=aws.account, region=aws.region, service="s3")
        ctx.call("sns", "Publish", TopicArn=topic, Message="from s3")

    with pytest.raises(ServiceError):
        publish("arn:aws:s3:::a-bucket")
    condition = {"ArnLike": {"aws:SourceArn": "arn:aws:s3:::a-bucket"}, "StringEquals": {"aws:SourceAccount": aws.account}}
    allow(aws, topic, Principal={"Service": "s3.amazonaws.com"}, Condition=condition)
    publish("arn:aws:s3:::a-bucket")
    with pytest.raises(ServiceError):
        publish("arn:aws:s3:::another")
    assert told(aws, url) == ["from s3"]


@pytest.mark.parametrize(
    "action", ["Publish&Message=m", "DeleteTopic", "GetTopicAttributes", "Subscribe&Protocol=email&Endpoint=a@b.org"]
)
def test_only_links_need_no_signature(aws: Account, action: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{aws.endpoint}/?Action={action}&TopicArn={new_topic(aws)}&Version=2010-03-31", timeout=10)
    assert caught.value.code == 403
    caught.value.close()
