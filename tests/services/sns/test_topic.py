"""Topics, through boto3."""

from __future__ import annotations

import json

import pytest

from pilvi.testing.server import Account
from tests.services.sns.stage import Refusal, new_queue, new_topic, subscribed


def test_create_topic_gives_the_same_arn_again(aws: Account, other_aws: Account, refusal: Refusal) -> None:
    sns = aws.client("sns")
    arn = sns.create_topic(Name="news", Attributes={"DisplayName": "News"}, Tags=[{"Key": "a", "Value": "1"}])["TopicArn"]
    assert arn == f"arn:aws:sns:us-east-1:{aws.account}:news"
    assert sns.create_topic(Name="news")["TopicArn"] == arn
    assert sns.create_topic(Name="news", Attributes={"DisplayName": "News"})["TopicArn"] == arn
    code, message = refusal(sns.create_topic, Name="news", Attributes={"DisplayName": "Other"})
    assert (code, message) == (
        "InvalidParameter",
        "Invalid parameter: Attributes Reason: Topic already exists with different attributes",
    )
    assert sns.create_topic(Name="news", Tags=[])["TopicArn"] == arn
    code, message = refusal(sns.create_topic, Name="news", Tags=[{"Key": "a", "Value": "2"}])
    assert message == "Invalid parameter: Tags Reason: Topic already exists with different tags"
    assert other_aws.client("sns").list_topics()["Topics"] == []


@pytest.mark.parametrize("name", ["", "a b", "x" * 257, "fifo.fifo", "ä"])
def test_create_topic_refuses_names(aws: Account, refusal: Refusal, name: str) -> None:
    assert refusal(aws.client("sns").create_topic, Name=name) == ("InvalidParameter", "Invalid parameter: Topic Name")


def test_create_topic_refuses(aws: Account, refusal: Refusal) -> None:
    sns = aws.client("sns")

    def message(name: str = "t", **attributes: str) -> str:
        code, text = refusal(sns.create_topic, Name=name, Attributes=attributes)
        assert code == "InvalidParameter"
        return text

    assert message(FifoTopic="true").endswith("Topic Name")
    assert "Unknown attribute" in message(Nothing="1")
    assert "AttributeName" in message(ContentBasedDeduplication="true")
    assert "Policy Error" in message(Policy="{}}")
    assert "DeliveryPolicy" in message(DeliveryPolicy="[]")
    assert "SignatureVersion" in message(SignatureVersion="3")
    assert "SQSSuccessFeedbackSampleRate" in message(SQSSuccessFeedbackSampleRate="101")
    assert "HTTPFailureFeedbackRoleArn" in message(HTTPFailureFeedbackRoleArn="me")
    assert (
        "Duplicated keys" in refusal(sns.create_topic, Name="t", Tags=[{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}])[1]
    )
    assert refusal(sns.create_topic, Name="t", DataProtectionPolicy="{}")[0] == "NotImplemented"
    assert refusal(sns.create_topic, Name="t", Attributes={"TracingConfig": "Active"})[0] == "NotImplemented"


def test_list_topics_pages_by_a_hundred(aws: Account, refusal: Refusal) -> None:
    sns = aws.client("sns")
    arns = [sns.create_topic(Name=f"t{number:03}")["TopicArn"] for number in range(105)]
    first = sns.list_topics()
    assert len(first["Topics"]) == 100
    rest = sns.list_topics(NextToken=first["NextToken"])
    assert [one["TopicArn"] for one in first["Topics"] + rest["Topics"]] == arns
    assert "NextToken" not in rest
    assert refusal(sns.list_topics, NextToken="no")[0] == "InvalidParameter"


def test_get_topic_attributes_tells_what_is_set_and_how_many_listen(aws: Account, refusal: Refusal) -> None:
    sns, arn = aws.client("sns"), new_topic(aws, DisplayName="News")
    _, queue = new_queue(aws)
    subscription = subscribed(aws, arn, queue)
    subscribed(aws, arn, "a@example.org", "email")
    found = sns.get_topic_attributes(TopicArn=arn)["Attributes"]
    assert (found["TopicArn"], found["Owner"], found["DisplayName"]) == (arn, aws.account, "News")
    counts = [found[f"Subscriptions{what}"] for what in ("Confirmed", "Pending", "Deleted")]
    assert counts == ["1", "1", "0"]
    assert json.loads(found["EffectiveDeliveryPolicy"])["http"]["defaultHealthyRetryPolicy"]["numRetries"] == 3
    assert json.loads(found["Policy"])["Statement"][0]["Sid"] == "__default_statement_ID"
    sns.unsubscribe(SubscriptionArn=subscription)
    found = sns.get_topic_attributes(TopicArn=arn)["Attributes"]
    assert [found[f"Subscriptions{what}"] for what in ("Confirmed", "Pending", "Deleted")] == ["0", "1", "1"]
    assert refusal(sns.get_topic_attributes, TopicArn=f"{arn}x") == ("NotFound", "Topic does not exist")
    _code, message = refusal(sns.get_topic_attributes, TopicArn="news")
    assert message == "Invalid parameter: TopicArn Reason: An ARN must have at least 6 elements, not 1"


def test_set_topic_attributes_counts_at_once(aws: Account, refusal: Refusal) -> None:
    sns, arn = aws.client("sns"), new_topic(aws)
    sns.set_topic_attributes(TopicArn=arn, AttributeName="DisplayName", AttributeValue="Daily")
    policy = {"http": {"defaultHealthyRetryPolicy": {"numRetries": 7, "minDelayTarget": 1, "maxDelayTarget": 5}}}
    sns.set_topic_attributes(TopicArn=arn, AttributeName="DeliveryPolicy", AttributeValue=json.dumps(policy))
    found = sns.get_topic_attributes(TopicArn=arn)["Attributes"]
    assert found["DisplayName"] == "Daily"
    assert json.loads(found["EffectiveDeliveryPolicy"])["http"]["defaultHealthyRetryPolicy"]["numRetries"] == 7
    sns.set_topic_attributes(TopicArn=arn, AttributeName="DeliveryPolicy", AttributeValue="")
    assert "DeliveryPolicy" not in sns.get_topic_attributes(TopicArn=arn)["Attributes"]
    for name, value in (("FifoTopic", "true"), ("Nothing", "1"), ("FifoThroughputScope", "Topic")):
        assert refusal(sns.set_topic_attributes, TopicArn=arn, AttributeName=name, AttributeValue=value)[1].endswith(
            "AttributeName"
        )
    bad = {"http": {"defaultHealthyRetryPolicy": {"numRetries": 101}}}
    _code, message = refusal(sns.set_topic_attributes, TopicArn=arn, AttributeName="DeliveryPolicy", AttributeValue=json.dumps(bad))
    assert "numRetries must be less than or equal to 100" in message


def test_delete_topic_takes_its_subscriptions_with_it(aws: Account) -> None:
    sns, arn = aws.client("sns"), new_topic(aws)
    subscribed(aws, arn, new_queue(aws)[1])
    sns.delete_topic(TopicArn=arn)
    sns.delete_topic(TopicArn=arn)
    assert sns.list_topics()["Topics"] == []
    assert sns.list_subscriptions()["Subscriptions"] == []
    assert sns.create_topic(Name="news")["TopicArn"] == arn
    assert sns.list_subscriptions_by_topic(TopicArn=arn)["Subscriptions"] == []


def test_tag_resource_and_untag_resource(aws: Account, refusal: Refusal) -> None:
    sns, arn = aws.client("sns"), new_topic(aws)
    sns.tag_resource(ResourceArn=arn, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    sns.untag_resource(ResourceArn=arn, TagKeys=["a", "c"])
    assert sns.list_tags_for_resource(ResourceArn=arn)["Tags"] == [{"Key": "b", "Value": "2"}]
    many = [{"Key": f"k{number}", "Value": ""} for number in range(50)]
    assert refusal(sns.tag_resource, ResourceArn=arn, Tags=many)[0] == "TagLimitExceeded"
    assert refusal(sns.tag_resource, ResourceArn=f"{arn}x", Tags=many[:1])[0] == "ResourceNotFound"
    assert refusal(sns.list_tags_for_resource, ResourceArn="x")[0] == "InvalidParameter"


def test_topics_are_asked_in_their_region(aws: Account, refusal: Refusal) -> None:
    arn = new_topic(aws)
    elsewhere = aws.client("sns", region="eu-central-1")
    assert refusal(elsewhere.publish, TopicArn=arn, Message="m") == ("InvalidParameter", "Invalid parameter: TopicArn")
    assert elsewhere.list_topics()["Topics"] == []


def test_delivery_policies_retry_for_an_hour_at_most(aws: Account, refusal: Refusal) -> None:
    policy = {"http": {"defaultHealthyRetryPolicy": {"numRetries": 50, "minDelayTarget": 100, "maxDelayTarget": 100}}}
    assert (
        "total retry time"
        in refusal(aws.client("sns").create_topic, Name="t", Attributes={"DeliveryPolicy": json.dumps(policy)})[1]
    )
