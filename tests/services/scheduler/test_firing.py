"""Schedules at work: what arrives at their targets, when, and what becomes of what cannot."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pilvi.testing.server import Account, TestServer, eventually
from tests.services.scheduler.conftest import Queue, body_of

Passes = Callable[[float], None]
MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0


@pytest.fixture
def queue(later_aws: Account, queue_in: Any) -> Queue:
    return queue_in(later_aws)  # type: ignore[no-any-return]


@pytest.fixture
def role(later_aws: Account, role_in: Any) -> str:
    return str(role_in(later_aws))


@pytest.fixture
def now(timed: TestServer) -> Callable[..., datetime]:
    """The product's time, and later."""

    def at(later_s: float = 0.0) -> datetime:
        found: datetime = timed.cloud.clock.now() + timedelta(seconds=later_s)
        return found

    return at


def at(moment: datetime) -> str:
    return f"at({moment:%Y-%m-%dT%H:%M:%S})"


def test_a_one_time_schedule_fires_at_its_time(
    later_aws: Account, queue: Queue, role: str, asked: Any, now: Any, passes: Passes
) -> None:
    scheduler = later_aws.client("scheduler")
    moment = now(10 * MINUTE)
    scheduler.create_schedule(**asked(queue, role, at(moment), Name="once"))
    passes(9 * MINUTE)
    assert queue.is_empty()
    passes(MINUTE)
    (message,) = queue.received()
    assert message["Body"] == "hello"
    passes(DAY)
    assert queue.is_empty()
    assert scheduler.get_schedule(Name="once")["State"] == "ENABLED"


def test_a_one_time_schedule_fires_in_real_time_to_the_second(aws: Account, queue_in: Any, role_in: Any, asked: Any) -> None:
    """On the product's clock as it goes: no one moves it."""
    queue = queue_in(aws)
    due = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)
    aws.client("scheduler").create_schedule(**asked(queue, role_in(aws), at(due)))
    (message,) = queue.received()
    late_s = int(message["Attributes"]["SentTimestamp"]) / 1000 - due.timestamp()
    assert 0 <= late_s < 1.0


def test_a_rate_begins_at_once_and_goes_on(later_aws: Account, queue: Queue, role: str, asked: Any, passes: Passes) -> None:
    later_aws.client("scheduler").create_schedule(
        **asked(queue, role, "rate(5 minutes)", target={"Input": "<aws.scheduler.scheduled-time>"})
    )
    passes(0)
    first = queue.texts()
    passes(20 * MINUTE)
    times = [datetime.fromisoformat(text) for text in first + queue.texts(4)]
    assert sorted(times) == [times[0] + timedelta(minutes=5 * number) for number in range(5)]
    assert queue.is_empty()


def test_cron_in_a_time_zone_fires_each_time_that_the_clock_passes(
    later_aws: Account, queue: Queue, role: str, asked: Any, now: Any, passes: Passes
) -> None:
    later_aws.client("scheduler").create_schedule(
        **asked(
            queue,
            role,
            "cron(30 6 * * ? *)",
            ScheduleExpressionTimezone="Asia/Kathmandu",
            target={"Input": "<aws.scheduler.scheduled-time>"},
        )
    )
    passes(3 * DAY)
    texts = queue.texts(3)
    assert {text[10:] for text in texts} == {"T00:45:00Z"}
    assert len(set(texts)) == 3


def test_start_and_end_bound_a_schedule(later_aws: Account, queue: Queue, role: str, asked: Any, now: Any, passes: Passes) -> None:
    start = now(HOUR).replace(microsecond=0)
    later_aws.client("scheduler").create_schedule(
        **asked(
            queue,
            role,
            "rate(10 minutes)",
            StartDate=start,
            EndDate=start + timedelta(minutes=25),
            target={"Input": "<aws.scheduler.scheduled-time>"},
        )
    )
    passes(DAY)
    expected = [f"{start + timedelta(minutes=minutes):%Y-%m-%dT%H:%M:%SZ}" for minutes in (0, 10, 20)]
    assert sorted(queue.texts(3)) == expected
    assert queue.is_empty()


def test_what_is_disabled_or_deleted_does_not_fire(
    later_aws: Account, queue: Queue, role: str, asked: Any, now: Any, passes: Passes
) -> None:
    scheduler = later_aws.client("scheduler")
    request = asked(queue, role, at(now(HOUR)), Name="off")
    scheduler.create_schedule(**request)
    scheduler.create_schedule(**request | {"Name": "gone"})
    scheduler.create_schedule(**request | {"Name": "never", "State": "DISABLED"})
    scheduler.update_schedule(**request | {"State": "DISABLED"})
    scheduler.delete_schedule(Name="gone")
    passes(2 * HOUR)
    assert queue.is_empty()
    scheduler.update_schedule(**request | {"State": "ENABLED", "ScheduleExpression": at(now(HOUR))})
    passes(HOUR)
    assert queue.texts() == ["hello"]


def test_an_update_moves_what_was_planned(
    later_aws: Account, queue: Queue, role: str, asked: Any, now: Any, passes: Passes
) -> None:
    scheduler = later_aws.client("scheduler")
    request = asked(queue, role, at(now(HOUR)))
    scheduler.create_schedule(**request)
    scheduler.update_schedule(**request | {"ScheduleExpression": at(now(3 * HOUR))})
    passes(2 * HOUR)
    assert queue.is_empty()
    request["Target"]["Input"] = "changed"
    request["ScheduleExpression"] = at(now(HOUR))
    scheduler.update_schedule(**request)
    passes(HOUR + 1)
    assert queue.texts() == ["changed"]


def test_a_flexible_window_is_kept(later_aws: Account, queue: Queue, role: str, asked: Any, now: Any, passes: Passes) -> None:
    moment = now(HOUR)
    for number in range(8):
        window = {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 60}
        later_aws.client("scheduler").create_schedule(
            **asked(queue, role, at(moment), Name=f"flexible-{number}", FlexibleTimeWindow=window)
        )
    passes(HOUR - MINUTE)
    assert queue.is_empty()
    passes(HOUR + MINUTE)
    assert queue.texts(8) == ["hello"] * 8
    assert queue.is_empty()


@pytest.mark.parametrize("expression", ["once", "rate(1 hour)"])
def test_a_completed_schedule_is_deleted_when_asked(
    later_aws: Account, queue: Queue, role: str, asked: Any, now: Any, passes: Passes, expression: str
) -> None:
    scheduler = later_aws.client("scheduler")
    is_once = expression == "once"
    members: dict[str, Any] = {} if is_once else {"EndDate": now(90 * MINUTE)}
    scheduler.create_schedule(
        **asked(queue, role, at(now(HOUR)) if is_once else expression, Name="last", ActionAfterCompletion="DELETE", **members)
    )
    passes(30 * MINUTE)
    assert scheduler.get_schedule(Name="last")["ActionAfterCompletion"] == "DELETE"
    passes(HOUR)
    assert queue.texts(1 if is_once else 2) == ["hello"] * (1 if is_once else 2)
    with pytest.raises(scheduler.exceptions.ResourceNotFoundException):
        scheduler.get_schedule(Name="last")


def test_context_attributes_are_filled_in(
    later_aws: Account, queue: Queue, role: str, asked: Any, now: Any, passes: Passes
) -> None:
    moment = now(HOUR).replace(second=0, microsecond=0)
    names = ("schedule-arn", "scheduled-time", "execution-id", "attempt-number")
    text = json.dumps({name: f"<aws.scheduler.{name}>" for name in names})
    arn = later_aws.client("scheduler").create_schedule(**asked(queue, role, at(moment), target={"Input": text}))["ScheduleArn"]
    passes(HOUR)
    found = body_of(queue.received()[0])
    assert len(found.pop("execution-id")) == 16
    assert found == {"schedule-arn": arn, "scheduled-time": f"{moment:%Y-%m-%dT%H:%M:%SZ}", "attempt-number": "1"}


def test_without_input_a_notification_is_sent(later_aws: Account, queue: Queue, role: str, asked: Any, passes: Passes) -> None:
    request = asked(queue, role)
    del request["Target"]["Input"]
    arn = later_aws.client("scheduler").create_schedule(**request)["ScheduleArn"]
    passes(1)
    found = body_of(queue.received()[0])
    assert (found["source"], found["detail-type"], found["detail"]) == ("aws.scheduler", "Scheduled Event", "{}")
    assert (found["resources"], found["account"], found["region"]) == ([arn], later_aws.account, "us-east-1")


def test_a_fifo_queue_gets_its_group(later_aws: Account, queue_in: Any, role: str, asked: Any, passes: Passes) -> None:
    queue = queue_in(later_aws, "line.fifo", FifoQueue="true", ContentBasedDeduplication="true")
    later_aws.client("scheduler").create_schedule(**asked(queue, role, target={"SqsParameters": {"MessageGroupId": "a"}}))
    passes(1)
    assert queue.received()[0]["Attributes"]["MessageGroupId"] == "a"


def test_a_universal_target_makes_any_call(later_aws: Account, queue: Queue, role: str, asked: Any, passes: Passes) -> None:
    scheduler = later_aws.client("scheduler")
    calls = {
        "sqs:sendMessage": {"QueueUrl": queue.url, "MessageBody": "<aws.scheduler.schedule-arn>", "DelaySeconds": 0},
        "sqs:createQueue": {"QueueName": "made", "Attributes": {"DelaySeconds": "5"}},
        "cloudwatchlogs:createLogGroup": {"LogGroupName": "made"},
        "s3:createBucket": {"Bucket": f"made-{later_aws.account}"},
    }
    for number, (action, parameters) in enumerate(calls.items()):
        target = {"Arn": f"arn:aws:scheduler:::aws-sdk:{action}", "Input": json.dumps(parameters)}
        scheduler.create_schedule(**asked(queue, role, Name=f"universal-{number}", target=target))
    passes(1)
    assert queue.texts() == [f"arn:aws:scheduler:us-east-1:{later_aws.account}:schedule/default/universal-0"]
    assert later_aws.client("sqs").get_queue_url(QueueName="made")["QueueUrl"]
    assert later_aws.client("logs").describe_log_groups()["logGroups"][0]["logGroupName"] == "made"
    assert later_aws.client("s3").list_buckets()["Buckets"][0]["Name"] == f"made-{later_aws.account}"
    bucket = f"made-{later_aws.account}"
    target = {
        "Arn": "arn:aws:scheduler:::aws-sdk:s3:putObject",
        "Input": json.dumps({"Bucket": bucket, "Key": "k", "Body": "text"}),
    }
    scheduler.create_schedule(**asked(queue, role, target=target))
    passes(1)
    assert later_aws.client("s3").get_object(Bucket=bucket, Key="k")["Body"].read() == b"text"


# -- what cannot be invoked ---------------------------------------------------------------------------------------------------


def test_what_the_role_may_not_do_becomes_a_dead_letter(
    later_aws: Account, queue: Queue, queue_in: Any, role_in: Any, asked: Any, now: Any, passes: Passes
) -> None:
    letters = queue_in(later_aws)
    statement = {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": letters.arn}
    poor = role_in(later_aws, {"Version": "2012-10-17", "Statement": [statement]})
    moment = now(HOUR).replace(second=0, microsecond=0)
    request = asked(queue, poor, at(moment), target={"DeadLetterConfig": {"Arn": letters.arn}})
    arn = later_aws.client("scheduler").create_schedule(**request)["ScheduleArn"]
    passes(HOUR)
    (letter,) = letters.received()
    assert letter["Body"] == "hello"
    attributes = {name: value["StringValue"] for name, value in letter["MessageAttributes"].items()}
    assert len(attributes.pop("EXECUTION_ID")) == 16
    assert "sqs:sendmessage" in attributes.pop("ERROR_MESSAGE").lower()
    assert attributes == {
        "ERROR_CODE": "AccessDeniedException",
        "IS_PAYLOAD_TRUNCATED": "false",
        "RETRY_ATTEMPTS": "0",
        "SCHEDULED_TIME": f"{moment:%Y-%m-%dT%H:%M:%SZ}",
        "SCHEDULE_ARN": arn,
        "TARGET_ARN": queue.arn,
    }
    assert queue.is_empty()


def test_a_role_that_is_gone_fails_the_invocation_only(
    later_aws: Account, queue: Queue, role: str, role_in: Any, asked: Any, passes: Passes
) -> None:
    iam, scheduler = later_aws.client("iam"), later_aws.client("scheduler")
    lost = role_in(later_aws)
    name = lost.rpartition("/")[2]
    scheduler.create_schedule(**asked(queue, lost, "rate(1 day)", StartDate=datetime(2100, 1, 1, tzinfo=UTC), Name="later"))
    iam.delete_role_policy(RoleName=name, PolicyName="p0")
    iam.delete_role(RoleName=name)
    scheduler.create_schedule(**asked(queue, role))
    passes(1)
    assert queue.texts() == ["hello"]
    assert scheduler.get_schedule(Name="later")["Target"]["RoleArn"] == lost


def test_attempts_go_on_as_the_policy_says(
    later_aws: Account,
    timed: TestServer,
    queue: Queue,
    queue_in: Any,
    role: str,
    asked: Any,
    passes: Passes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A target that cannot be reached for now: tried again later and later, and in the end a dead letter."""
    from pilvi.core.errors import ServiceError
    from pilvi.services.scheduler import invocation

    letters = queue_in(later_aws)
    attempts: list[str] = []
    real = invocation.invoke

    async def throttled(ctx: Any, target: Any, message: str, *others: Any) -> None:
        if target["Arn"] == queue.arn and ctx.account == later_aws.account:
            attempts.append(message)
            raise ServiceError("ThrottlingException", "Slow down.")
        await real(ctx, target, message, *others)

    monkeypatch.setattr(invocation, "invoke", throttled)
    policy = {
        "RetryPolicy": {"MaximumRetryAttempts": 3, "MaximumEventAgeInSeconds": 3600},
        "DeadLetterConfig": {"Arn": letters.arn},
    }
    request = asked(queue, role, "rate(30 days)", target={"Input": "attempt <aws.scheduler.attempt-number>", **policy})
    later_aws.client("scheduler").create_schedule(**request)
    for _ in range(6):
        passes(30)
    attributes = {name: value["StringValue"] for name, value in letters.received()[0]["MessageAttributes"].items()}
    assert attempts == [f"attempt {number}" for number in (1, 2, 3, 4)]
    assert (attributes["ERROR_CODE"], attributes["EXHAUSTED_RETRY_CONDITION"]) == ("ThrottlingException", "MaximumRetryAttempts")
    assert attributes["RETRY_ATTEMPTS"] == "3"

    attempts.clear()
    short = {"MaximumRetryAttempts": 185, "MaximumEventAgeInSeconds": 60}
    request = asked(queue, role, "rate(30 days)", target={"RetryPolicy": short, "DeadLetterConfig": {"Arn": letters.arn}})
    later_aws.client("scheduler").create_schedule(**request)
    for _ in range(4):
        passes(40)
    attributes = {name: value["StringValue"] for name, value in letters.received()[0]["MessageAttributes"].items()}
    assert attributes["EXHAUSTED_RETRY_CONDITION"] == "MaximumEventAgeInSeconds"


def test_a_disabled_key_stops_the_invocation(
    later_aws: Account, queue: Queue, role: str, asked: Any, now: Any, passes: Passes
) -> None:
    kms = later_aws.client("kms")
    root = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{later_aws.account}:root"}, "Action": "kms:*", "Resource": "*"}
    mine = {"Effect": "Allow", "Principal": {"Service": "scheduler.amazonaws.com"}, "Action": "kms:Decrypt", "Resource": "*"}
    key = kms.create_key(Policy=json.dumps({"Version": "2012-10-17", "Statement": [root, mine]}))["KeyMetadata"]["Arn"]
    later_aws.client("scheduler").create_schedule(**asked(queue, role, at(now(HOUR)), KmsKeyArn=key))
    passes(HOUR + 1)
    assert queue.texts() == ["hello"]
    later_aws.client("scheduler").create_schedule(**asked(queue, role, at(now(HOUR)), KmsKeyArn=key))
    kms.disable_key(KeyId=key)
    passes(HOUR + 1)
    assert queue.is_empty()


def test_figures_reach_cloudwatch(
    later_aws: Account, queue: Queue, queue_in: Any, role: str, role_in: Any, asked: Any, now: Any, passes: Passes
) -> None:
    scheduler = later_aws.client("scheduler")
    scheduler.create_schedule_group(Name="measured")
    scheduler.create_schedule(**asked(queue, role, at(now(HOUR)), GroupName="measured"))
    poor = role_in(later_aws, {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]})
    scheduler.create_schedule(**asked(queue, poor, at(now(HOUR)), GroupName="measured"))
    passes(HOUR)
    passes(2 * MINUTE)

    def sums() -> dict[str, float]:
        found = {}
        for name in ("InvocationAttemptCount", "TargetErrorCount", "InvocationDroppedCount"):
            points = later_aws.client("cloudwatch").get_metric_statistics(
                Namespace="AWS/Scheduler",
                MetricName=name,
                Dimensions=[{"Name": "ScheduleGroup", "Value": "measured"}],
                StartTime=now(-2 * HOUR),
                EndTime=now(HOUR),
                Period=60,
                Statistics=["Sum"],
            )["Datapoints"]
            found[name] = sum(point["Sum"] for point in points)
        return found

    eventually(lambda: sums() == {"InvocationAttemptCount": 2, "TargetErrorCount": 1, "InvocationDroppedCount": 1})
