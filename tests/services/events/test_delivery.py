"""Deliveries that fail: tried again, or into the dead-letter queue with what AWS writes on them; nobody else waits."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from pilvi.core.errors import Invalid, ServiceError
from pilvi.events import Entry
from pilvi.services.events.dead_letters import attributes_of, code
from pilvi.services.events.deliver import delay_s, exhausted
from pilvi.testing.server import Account, eventually
from tests.services.events.conftest import Queue, entry


def test_an_event_for_a_target_that_is_gone_becomes_a_dead_letter(
    aws: Account, events: Any, queue: Queue, rule: Callable[..., str]
) -> None:
    gone = f"arn:aws:sqs:us-east-1:{aws.account}:gone"
    target = {"Arn": gone, "DeadLetterConfig": {"Arn": queue.arn}, "InputPath": "$.detail"}
    arn = rule({"source": ["shop"]}, target)
    events.put_events(Entries=[entry({"n": 1})])
    (message,) = queue.messages()
    texts = {name: value["StringValue"] for name, value in message["MessageAttributes"].items()}
    assert texts.pop("ERROR_MESSAGE")
    assert texts == {"RULE_ARN": arn, "TARGET_ARN": gone, "ERROR_CODE": "NO_RESOURCE"}
    assert json.loads(message["Body"])["detail"] == {"n": 1}


def test_an_event_for_a_target_that_refuses_becomes_a_dead_letter(
    aws: Account, events: Any, queue: Queue, rule: Callable[..., str]
) -> None:
    closed = Queue(aws, "closed", is_open=False)
    rule({"source": ["shop"]}, {"Arn": closed.arn, "DeadLetterConfig": {"Arn": queue.arn}})
    events.put_events(Entries=[entry()])
    assert queue.messages()[0]["MessageAttributes"]["ERROR_CODE"]["StringValue"] == "NO_PERMISSIONS"


def test_a_role_that_does_not_trust_events_gives_a_dead_letter(
    aws: Account, events: Any, queue: Queue, rule: Callable[..., str]
) -> None:
    role = aws.role("wrong", "lambda.amazonaws.com")
    rule({"source": ["shop"]}, {"Arn": queue.arn, "RoleArn": role, "DeadLetterConfig": {"Arn": queue.arn}})
    events.put_events(Entries=[entry()])
    assert queue.messages()[0]["MessageAttributes"]["ERROR_CODE"]["StringValue"] == "NO_PERMISSIONS"


def test_a_broken_target_holds_up_nobody(own_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from pilvi.services.events import deliver

    server, account = own_server
    events = account.client("events")
    good, bad, dead = (Queue(account, name) for name in ("good", "bad", "dead"))
    is_broken = True
    send = deliver.send

    async def breaking(ctx: Any, arn: str, body: str, **more: Any) -> None:
        if is_broken and arn == bad.arn:
            raise ServiceError("ServiceUnavailable", "come back later")
        await send(ctx, arn, body, **more)

    monkeypatch.setattr(deliver, "send", breaking)
    events.put_rule(Name="r", EventPattern='{"source": ["shop"]}')
    policy = {"MaximumRetryAttempts": 2, "MaximumEventAgeInSeconds": 3600}
    last = {"Id": "last", "Arn": bad.arn, "RetryPolicy": policy, "DeadLetterConfig": {"Arn": dead.arn}}
    events.put_targets(Rule="r", Targets=[{"Id": "good", "Arn": good.arn}, {"Id": "bad", "Arn": bad.arn}, last])
    for number in range(20):
        events.put_events(Entries=[entry({"n": number})])
    assert sorted(one["detail"]["n"] for one in good.bodies(20)) == list(range(20))
    for _ in range(4):
        server.cloud.advance_clock(60)
    letters = dead.messages(20)
    texts = {name: value["StringValue"] for name, value in letters[0]["MessageAttributes"].items()}
    assert texts["EXHAUSTED_RETRY_CONDITION"] == "MaximumRetryAttempts"
    assert texts["RETRY_ATTEMPTS"] == "2"
    assert bad.is_empty()
    is_broken = False
    server.cloud.advance_clock(900)
    assert sorted(one["detail"]["n"] for one in bad.bodies(20)) == list(range(20))


def test_a_target_that_was_taken_away_gets_nothing_more(own_server: Any) -> None:
    server, account = own_server
    events = account.client("events")
    queue = Queue(account, "q")
    events.put_rule(Name="r", EventPattern='{"source": ["shop"]}')
    events.put_targets(Rule="r", Targets=[{"Id": "q", "Arn": queue.arn}])
    wake, server.cloud.delivery.wake = server.cloud.delivery.wake, lambda *_: None
    events.put_events(Entries=[entry({"n": 1})])
    events.remove_targets(Rule="r", Ids=["q"])
    server.cloud.delivery.wake = wake
    wake("events/delivery", f"{account.account}/us-east-1/default/r/q")
    eventually(lambda: not server.cloud.events.waiting("events/delivery", f"{account.account}/us-east-1/default/r/q", 1))
    assert queue.is_empty()


def test_figures_of_rules(own_server: Any) -> None:
    server, account = own_server
    events = account.client("events")
    queue = Queue(account, "q")
    events.put_rule(Name="r", EventPattern='{"source": ["shop"]}')
    events.put_targets(
        Rule="r", Targets=[{"Id": "q", "Arn": queue.arn}, {"Id": "no", "Arn": f"arn:aws:sqs:us-east-1:{account.account}:no"}]
    )
    events.put_events(Entries=[entry(), entry(source="bank")])
    queue.messages()
    began = server.cloud.clock.now()
    server.cloud.advance_clock(120)

    def total(metric: str, *dimensions: dict[str, str]) -> float:
        answer = account.client("cloudwatch").get_metric_statistics(
            Namespace="AWS/Events",
            MetricName=metric,
            Dimensions=list(dimensions),
            StartTime=began.timestamp() - 600,
            EndTime=began.timestamp() + 600,
            Period=60,
            Statistics=["Sum"],
        )
        return float(sum(point["Sum"] for point in answer["Datapoints"]))

    named = {"Name": "RuleName", "Value": "r"}
    assert eventually(lambda: total("FailedInvocations", named) == 1)
    assert total("Invocations", named) == 2
    assert total("MatchedEvents", named) == 1
    assert total("TriggeredRules", named) == 1
    assert total("PutEventsEntriesCount") == 2


def entry_of(tries: int, at: float = 0.0) -> Entry:
    return Entry("id", "lane", "key", {}, at, tries, 0.0, "")


def test_exhausted_by_attempts_and_by_age() -> None:
    assert exhausted({}, entry_of(184), 10.0) == ""
    assert exhausted({}, entry_of(185), 10.0) == "MaximumRetryAttempts"
    assert exhausted({}, entry_of(1), 86_400.0) == "MaximumEventAgeInSeconds"
    assert exhausted({"MaximumRetryAttempts": 0}, entry_of(0), 1.0) == "MaximumRetryAttempts"
    assert exhausted({"MaximumEventAgeInSeconds": 60}, entry_of(0), 60.0) == "MaximumEventAgeInSeconds"


def test_delay_s_grows_to_a_quarter_of_an_hour() -> None:
    assert 0.75 <= delay_s(entry_of(0)) <= 1.25
    assert 675 <= delay_s(entry_of(40)) <= 1125


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (ServiceError("QueueDoesNotExist"), "NO_RESOURCE"),
        (ServiceError("AccessDeniedException"), "NO_PERMISSIONS"),
        (ServiceError("TooManyRequestsException"), "THROTTLING"),
        (ServiceError("InvalidParameterValue"), "INVALID_PARAMETER"),
        (ServiceError("ERROR_FROM_TARGET"), "ERROR_FROM_TARGET"),
        (Invalid("no json"), "INVALID_JSON"),
        (OSError("x"), "UNKNOWN"),
    ],
)
def test_code_is_awss_word(error: Exception, word: str) -> None:
    assert code(error) == word


def test_attributes_of_leaves_out_what_is_empty() -> None:
    assert set(attributes_of("rule", "", OSError("x"))) == {"RULE_ARN", "ERROR_CODE", "ERROR_MESSAGE"}
