"""Tags of rules and buses; they may decide who does what."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.testing.server import Account

PATTERN = '{"source": ["shop"]}'


@pytest.mark.parametrize("kind", ["rule", "bus", "default"])
def test_tag_resource_untag_resource_list_tags_for_resource(events: Any, kind: str) -> None:
    made = {
        "rule": lambda: events.put_rule(Name="r", EventPattern=PATTERN, Tags=[{"Key": "a", "Value": "1"}])["RuleArn"],
        "bus": lambda: events.create_event_bus(Name="b", Tags=[{"Key": "a", "Value": "1"}])["EventBusArn"],
        "default": lambda: events.describe_event_bus()["Arn"],
    }
    arn = made[kind]()
    events.tag_resource(ResourceARN=arn, Tags=[{"Key": "a", "Value": "2"}, {"Key": "b", "Value": ""}])
    assert events.list_tags_for_resource(ResourceARN=arn)["Tags"] == [{"Key": "a", "Value": "2"}, {"Key": "b", "Value": ""}]
    events.untag_resource(ResourceARN=arn, TagKeys=["a", "none"])
    assert events.list_tags_for_resource(ResourceARN=arn)["Tags"] == [{"Key": "b", "Value": ""}]


def test_tag_resource_says_what_is_wrong(aws: Account, events: Any) -> None:
    rule = f"arn:aws:events:us-east-1:{aws.account}:rule/none"
    bus = f"arn:aws:events:us-east-1:{aws.account}:event-bus/none"
    tags = [{"Key": "a", "Value": "b"}]
    with pytest.raises(ClientError, match="Rule none does not exist on EventBus default"):
        events.tag_resource(ResourceARN=rule, Tags=tags)
    with pytest.raises(ClientError, match="Event bus none does not exist"):
        events.list_tags_for_resource(ResourceARN=bus)
    with pytest.raises(ClientError, match="Provided Arn is not in correct format"):
        events.untag_resource(ResourceARN="arn:aws:events:us-east-1:123456789012:archive/a", TagKeys=["a"])
    arn = events.describe_event_bus()["Arn"]
    with pytest.raises(ClientError, match="cannot begin with aws:"):
        events.tag_resource(ResourceARN=arn, Tags=[{"Key": "aws:a", "Value": "b"}])
    with pytest.raises(ClientError, match="must be unique"):
        events.tag_resource(ResourceARN=arn, Tags=tags * 2)


def test_tags_decide_who_may_change_a_rule(aws: Account, events: Any) -> None:
    allowed = {
        "Effect": "Allow",
        "Action": "events:*",
        "Resource": "*",
        "Condition": {"StringEquals": {"aws:ResourceTag/team": "sales"}},
    }
    user = aws.user("u", {"Version": "2012-10-17", "Statement": [allowed]}).client("events")
    events.put_rule(Name="ours", EventPattern=PATTERN, Tags=[{"Key": "team", "Value": "sales"}])
    events.put_rule(Name="theirs", EventPattern=PATTERN)
    user.disable_rule(Name="ours")
    with pytest.raises(ClientError, match="not authorized to perform: events:DisableRule"):
        user.disable_rule(Name="theirs")
