"""Resource policies: kept, shown, taken away; EventBridge writes only where one lets it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.testing.server import Account, eventually


def document(resource: str = "*") -> str:
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": ["events.amazonaws.com", "delivery.logs.amazonaws.com"]},
        "Action": ["logs:CreateLogStream", "logs:PutLogEvents"],
        "Resource": resource,
    }
    return json.dumps({"Version": "2012-10-17", "Statement": statement})


def test_put_resource_policy_describe_resource_policies_delete_resource_policy(aws: Account) -> None:
    logs = aws.client("logs")
    made = logs.put_resource_policy(policyName="p", policyDocument=document())["resourcePolicy"]
    assert (made["policyName"], made["policyDocument"]) == ("p", document())
    logs.put_resource_policy(policyName="q", policyDocument=document())
    first = logs.describe_resource_policies(limit=1)
    assert [one["policyName"] for one in first["resourcePolicies"]] == ["p"]
    assert [one["policyName"] for one in logs.describe_resource_policies(nextToken=first["nextToken"])["resourcePolicies"]] == ["q"]
    logs.delete_resource_policy(policyName="p")
    with pytest.raises(ClientError, match=r"Policy with name \[p\] does not exist"):
        logs.delete_resource_policy(policyName="p")


def test_put_resource_policy_says_what_is_wrong(aws: Account) -> None:
    logs = aws.client("logs")
    with pytest.raises(ClientError) as raised:
        logs.put_resource_policy(policyName="p", policyDocument="{")
    assert raised.value.response["Error"]["Code"] == "InvalidParameterException"
    for number in range(10):
        logs.put_resource_policy(policyName=f"p{number}", policyDocument=document())
    with pytest.raises(ClientError) as raised:
        logs.put_resource_policy(policyName="more", policyDocument=document())
    assert raised.value.response["Error"]["Code"] == "LimitExceededException"


def test_events_reach_a_group_that_a_policy_opens(aws: Account) -> None:
    logs, events = aws.client("logs"), aws.client("events")
    for name in ("/aws/events/open", "/aws/events/shut"):
        logs.create_log_group(logGroupName=name)
    opened = f"arn:aws:logs:us-east-1:{aws.account}:log-group:/aws/events/open:*"
    logs.put_resource_policy(policyName="p", policyDocument=document(opened))
    events.put_rule(Name="r", EventPattern='{"source": ["shop"]}')
    groups = [opened, opened.replace("open", "shut")]
    events.put_targets(Rule="r", Targets=[{"Id": str(number), "Arn": arn} for number, arn in enumerate(groups)])
    events.put_events(Entries=[{"Source": "shop", "DetailType": "sale", "Detail": "{}"}])

    def lines(name: str) -> list[Any]:
        return list(logs.filter_log_events(logGroupName=name)["events"])

    eventually(lambda: lines("/aws/events/open"))
    assert lines("/aws/events/shut") == []
