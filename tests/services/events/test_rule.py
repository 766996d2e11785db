"""Rules: made, changed, listed, enabled, disabled, deleted; patterns tried out."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.testing.server import Account
from tests.services.events.conftest import Queue, entry

PATTERN = json.dumps({"source": ["shop"]})


def test_put_rule_describe_rule(aws: Account, events: Any) -> None:
    arn = f"arn:aws:events:us-east-1:{aws.account}:rule/r"
    assert events.put_rule(Name="r", EventPattern=PATTERN, Description="all sales")["RuleArn"] == arn
    described = events.describe_rule(Name="r")
    described.pop("ResponseMetadata")
    assert described == {
        "Name": "r",
        "Arn": arn,
        "EventPattern": PATTERN,
        "State": "ENABLED",
        "Description": "all sales",
        "EventBusName": "default",
        "CreatedBy": aws.account,
    }


def test_put_rule_replaces_what_it_says_and_keeps_targets(events: Any, queue: Queue, rule: Callable[..., str]) -> None:
    rule({"source": ["shop"]}, {"Arn": queue.arn}, Description="first", State="DISABLED", Tags=[{"Key": "a", "Value": "b"}])
    events.put_rule(Name="r", EventPattern='{"source": ["bank"]}')
    described = events.describe_rule(Name="r")
    assert described["State"] == "ENABLED"
    assert "Description" not in described
    events.put_events(Entries=[entry(source="bank"), entry(source="shop")])
    assert queue.bodies()[0]["source"] == "bank"


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        ({}, "ValidationException", "Parameter(s) EventPattern or ScheduleExpression must be specified."),
        (
            {"EventPattern": '{"source": "shop"}'},
            "InvalidEventPatternException",
            'Event pattern is not valid. Reason: "source" must be an object or an array',
        ),
        ({"ScheduleExpression": "cron(INVALID)"}, "ValidationException", "Parameter ScheduleExpression is not valid."),
        ({"ScheduleExpression": "rate(1 minutes)"}, "ValidationException", "Parameter ScheduleExpression is not valid."),
        ({"ScheduleExpression": "at(2030-01-01T00:00:00)"}, "ValidationException", "Parameter ScheduleExpression is not valid."),
        ({"EventPattern": PATTERN, "EventBusName": "none"}, "ResourceNotFoundException", "Event bus none does not exist."),
    ],
)
def test_put_rule_says_what_is_wrong(events: Any, given: dict[str, str], code: str, message: str) -> None:
    with pytest.raises(ClientError) as raised:
        events.put_rule(Name="r", **given)
    assert raised.value.response["Error"] == {"Code": code, "Message": message}


def test_put_rule_with_a_schedule_belongs_on_the_default_bus(events: Any) -> None:
    events.create_event_bus(Name="own")
    with pytest.raises(ClientError, match="ScheduleExpression is supported only on the default event bus"):
        events.put_rule(Name="r", ScheduleExpression="rate(1 minute)", EventBusName="own")


def test_put_rule_needs_to_pass_its_role(aws: Account) -> None:
    user = aws.user("u", {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "events:*", "Resource": "*"}]})
    with pytest.raises(ClientError, match="iam:PassRole"):
        user.client("events").put_rule(Name="r", EventPattern=PATTERN, RoleArn=f"arn:aws:iam::{aws.account}:role/x")


def test_list_rules_pages_by_name(events: Any) -> None:
    for number in range(5):
        events.put_rule(Name=f"r{number}", EventPattern=PATTERN)
    events.put_rule(Name="other", EventPattern=PATTERN)
    first = events.list_rules(NamePrefix="r", Limit=3)
    assert [one["Name"] for one in first["Rules"]] == ["r0", "r1", "r2"]
    assert "CreatedBy" not in first["Rules"][0]
    second = events.list_rules(NamePrefix="r", Limit=3, NextToken=first["NextToken"])
    assert [one["Name"] for one in second["Rules"]] == ["r3", "r4"]
    assert "NextToken" not in second
    with pytest.raises(ClientError, match="ValidationException"):
        events.list_rules(NextToken="bogus")


def test_list_rules_of_another_account_are_its_own(events: Any, other_aws: Account) -> None:
    events.put_rule(Name="r", EventPattern=PATTERN)
    assert other_aws.client("events").list_rules()["Rules"] == []


def test_disable_rule_enable_rule(events: Any, queue: Queue, rule: Callable[..., str]) -> None:
    rule({"source": ["shop"]}, {"Arn": queue.arn})
    events.disable_rule(Name="r")
    assert events.describe_rule(Name="r")["State"] == "DISABLED"
    events.put_events(Entries=[entry({"n": 1})])
    events.enable_rule(Name="r")
    events.put_events(Entries=[entry({"n": 2})])
    assert queue.bodies()[0]["detail"] == {"n": 2}
    for call in (events.disable_rule, events.enable_rule, events.describe_rule):
        with pytest.raises(ClientError, match="Rule none does not exist on EventBus default"):
            call(Name="none")


def test_delete_rule_must_have_no_targets(events: Any, queue: Queue, rule: Callable[..., str]) -> None:
    rule({"source": ["shop"]}, {"Arn": queue.arn})
    with pytest.raises(ClientError, match="Rule can't be deleted since it has targets"):
        events.delete_rule(Name="r")
    events.remove_targets(Rule="r", Ids=["0"])
    events.delete_rule(Name="r")
    events.delete_rule(Name="r")
    assert events.list_rules()["Rules"] == []


def test_list_rule_names_by_target(events: Any, queue: Queue, rule: Callable[..., str]) -> None:
    for name in ("a", "b", "c"):
        rule({"source": ["shop"]}, {"Arn": queue.arn}, name=name)
    rule({"source": ["shop"]}, name="d")
    first = events.list_rule_names_by_target(TargetArn=queue.arn, Limit=2)
    assert first["RuleNames"] == ["a", "b"]
    assert events.list_rule_names_by_target(TargetArn=queue.arn, NextToken=first["NextToken"])["RuleNames"] == ["c"]


def test_put_rule_allows_300_rules_a_bus(events: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilvi.services.events.rule.MOST", 2)
    events.put_rule(Name="a", EventPattern=PATTERN)
    events.put_rule(Name="b", EventPattern=PATTERN)
    events.put_rule(Name="b", EventPattern=PATTERN)
    with pytest.raises(ClientError, match="The requested resource exceeds the maximum number allowed") as raised:
        events.put_rule(Name="c", EventPattern=PATTERN)
    assert raised.value.response["Error"]["Code"] == "LimitExceededException"


EVENT = {
    "id": "1",
    "account": "123456789012",
    "source": "shop",
    "time": "2026-03-01T00:00:00Z",
    "region": "us-east-1",
    "resources": [],
    "detail-type": "sale",
    "detail": {"ip": "10.0.0.1"},
}


def test_test_event_pattern(events: Any) -> None:
    for pattern, expected in (({"detail": {"ip": [{"cidr": "10.0.0.0/24"}]}}, True), ({"source": ["bank"]}, False)):
        assert events.test_event_pattern(EventPattern=json.dumps(pattern), Event=json.dumps(EVENT))["Result"] is expected
    with pytest.raises(ClientError, match="Parameter Event is not valid"):
        events.test_event_pattern(EventPattern=PATTERN, Event="no json")
    with pytest.raises(ClientError, match="Parameter Event is not valid"):
        events.test_event_pattern(EventPattern=PATTERN, Event='{"source": "shop"}')
    with pytest.raises(ClientError, match="Unrecognized match type EXISTS") as raised:
        events.test_event_pattern(EventPattern='{"source": [{"EXISTS": true}]}', Event=json.dumps(EVENT))
    assert raised.value.response["Error"]["Code"] == "InvalidEventPatternException"


def test_managed_rules_are_their_services_to_change(server: Any, aws: Account, events: Any, queue: Queue) -> None:
    from pilvi.core.principal import Principal
    from pilvi.core.service import Context

    name = "states.amazonaws.com"
    ctx = Context(
        server.cloud,
        principal=Principal("service", aws.account, "", name, name),
        account=aws.account,
        region="us-east-1",
        service="states",
    )
    ctx.call("events", "PutRule", Name="managed", EventPattern=PATTERN)
    assert events.describe_rule(Name="managed")["ManagedBy"] == name
    for call, more in (
        (events.put_rule, {"EventPattern": PATTERN}),
        (events.disable_rule, {}),
        (events.delete_rule, {}),
    ):
        with pytest.raises(ClientError) as raised:
            call(Name="managed", **more)
        assert raised.value.response["Error"]["Code"] == "ManagedRuleException"
    with pytest.raises(ClientError, match="ManagedRuleException"):
        events.put_targets(Rule="managed", Targets=[{"Id": "1", "Arn": queue.arn}])
    ctx.call("events", "PutTargets", Rule="managed", Targets=[{"Id": "1", "Arn": queue.arn}])
    events.remove_targets(Rule="managed", Ids=["1"], Force=True)
    events.delete_rule(Name="managed", Force=True)
