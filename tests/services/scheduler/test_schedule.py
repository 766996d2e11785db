"""Schedules as their API shows them; what they do stands in test_firing.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pilvi.testing.server import Account

Refusal = Callable[..., tuple[str, str]]
ALLOWED = {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": "*"}


@pytest.fixture
def request_for(aws: Account, queue_in: Any, role_in: Any, asked: Any) -> Callable[..., dict[str, Any]]:
    """A request for a schedule far in the future, in this test's account."""
    queue, role = queue_in(aws), role_in(aws)

    def make(expression: str = "cron(0 0 1 1 ? 2190)", **members: Any) -> dict[str, Any]:
        return dict(asked(queue, role, expression, **members))

    return make


def test_create_schedule_keeps_what_was_asked_for(aws: Account, request_for: Any) -> None:
    scheduler = aws.client("scheduler")
    start = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    asked = request_for(
        Name="nightly",
        Description="every night",
        ScheduleExpressionTimezone="Europe/Helsinki",
        StartDate=start,
        EndDate=start + timedelta(days=400 * 365),
        FlexibleTimeWindow={"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 15},
        State="DISABLED",
    )
    arn = scheduler.create_schedule(**asked)["ScheduleArn"]
    assert arn == f"arn:aws:scheduler:us-east-1:{aws.account}:schedule/default/nightly"
    found = scheduler.get_schedule(Name="nightly")
    assert {member: found[member] for member in asked if member != "Target"} == {
        member: value for member, value in asked.items() if member != "Target"
    }
    assert found["Target"] == {**asked["Target"], "RetryPolicy": {"MaximumEventAgeInSeconds": 86400, "MaximumRetryAttempts": 185}}
    assert (found["Arn"], found["GroupName"], found["ActionAfterCompletion"]) == (arn, "default", "NONE")
    assert found["CreationDate"] == found["LastModificationDate"]


def test_create_schedule_defaults(aws: Account, request_for: Any) -> None:
    scheduler = aws.client("scheduler")
    scheduler.create_schedule(**request_for(Name="plain"))
    found = scheduler.get_schedule(Name="plain", GroupName="default")
    assert (found["State"], found["ScheduleExpressionTimezone"]) == ("ENABLED", "UTC")
    assert not {"Description", "StartDate", "EndDate", "KmsKeyArn"} & found.keys()


def test_create_schedule_again_needs_the_same_token_and_request(aws: Account, request_for: Any, refusal: Refusal) -> None:
    scheduler = aws.client("scheduler")
    asked = request_for(Name="once", ClientToken="t1")
    assert scheduler.create_schedule(**asked) | {"ResponseMetadata": None} == scheduler.create_schedule(**asked) | {
        "ResponseMetadata": None
    }
    taken = ("ConflictException", "Schedule once already exists.")
    assert refusal(scheduler.create_schedule, **asked | {"ClientToken": "t2"}) == taken
    assert refusal(scheduler.create_schedule, **asked | {"Description": "other"}) == taken


def test_names_are_taken_by_group(aws: Account, request_for: Any) -> None:
    scheduler = aws.client("scheduler")
    scheduler.create_schedule_group(Name="other")
    scheduler.create_schedule(**request_for(Name="same"))
    scheduler.create_schedule(**request_for(Name="same", GroupName="other"))
    arns = [schedule["Arn"].partition(":schedule/")[2] for schedule in scheduler.list_schedules()["Schedules"]]
    assert arns == ["default/same", "other/same"]


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"ScheduleExpression": "cron(0 10 * * *)"}, "Invalid Schedule Expression cron(0 10 * * *)."),
        ({"ScheduleExpression": "rate(10 seconds)"}, "Invalid Schedule Expression rate(10 seconds)."),
        ({"ScheduleExpressionTimezone": "Mars/Olympus"}, "Timezone Mars/Olympus"),
        ({"FlexibleTimeWindow": {"Mode": "FLEXIBLE"}}, "MaximumWindowInMinutes is required"),
        ({"FlexibleTimeWindow": {"Mode": "OFF", "MaximumWindowInMinutes": 5}}, "MaximumWindowInMinutes is not supported"),
        ({"StartDate": datetime(2020, 1, 1, tzinfo=UTC)}, "The StartDate you specify cannot be earlier than 5 minutes ago."),
        ({"EndDate": datetime(2020, 1, 1, tzinfo=UTC)}, "The EndDate you specify cannot be in the past."),
        (
            {"StartDate": datetime(2190, 1, 2, tzinfo=UTC), "EndDate": datetime(2190, 1, 1, tzinfo=UTC)},
            "The EndDate you specify must come after the StartDate.",
        ),
        ({"Name": "no spaces"}, "failed to satisfy constraint"),
    ],
)
def test_create_schedule_refuses(aws: Account, request_for: Any, refusal: Refusal, members: Any, words: str) -> None:
    code, message = refusal(aws.client("scheduler").create_schedule, **request_for(**members) | members)
    assert code == "ValidationException"
    assert words in message


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ({"Arn": "no-arn"}, "Provided Arn is not in correct format."),
        ({"Arn": "arn:aws:scheduler:::aws-sdk:sqs:getQueueUrl"}, "read-only"),
        ({"Arn": "arn:aws:scheduler:::aws-sdk:sqs:fly", "Input": "{}"}, "There is no operation sqs:fly."),
        ({"Arn": "arn:aws:scheduler:::aws-sdk:sqs:sendMessage", "Input": "hello"}, "not valid JSON"),
        ({"Arn": "arn:aws:scheduler:::aws-sdk:sqs:sendMessage", "Input": "[]"}, "not a JSON object"),
        ({"Arn": "arn:aws:lambda:us-east-1:111122223333:function:f", "Input": "hello"}, "not valid JSON"),
        ({"Arn": "arn:aws:sqs:us-east-1:111122223333:q.fifo"}, "MessageGroupId is required"),
        ({"SqsParameters": {"MessageGroupId": "a"}}, "MessageGroupId is required"),
        ({"KinesisParameters": {"PartitionKey": "a"}}, "KinesisParameters is not supported for this target."),
        ({"DeadLetterConfig": {"Arn": "arn:aws:sqs:us-east-1:111122223333:q.fifo"}}, "failed to satisfy constraint"),
        ({"RetryPolicy": {"MaximumRetryAttempts": 186}}, "failed to satisfy constraint"),
    ],
)
def test_create_schedule_refuses_targets(aws: Account, request_for: Any, refusal: Refusal, target: Any, words: str) -> None:
    code, message = refusal(aws.client("scheduler").create_schedule, **request_for(target=target))
    assert code == "ValidationException"
    assert words in message


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:ecs:us-east-1:111122223333:cluster/c",
        "arn:aws:codebuild:us-east-1:111122223333:project/p",
        "arn:aws:states:us-east-1:111122223333:stateMachine:m",
        "arn:aws:firehose:us-east-1:111122223333:deliverystream/d",
        "arn:aws:scheduler:::aws-sdk:braket:createJob",
    ],
)
def test_create_schedule_says_what_is_not_built(aws: Account, request_for: Any, refusal: Refusal, arn: str) -> None:
    code, message = refusal(aws.client("scheduler").create_schedule, **request_for(target={"Arn": arn, "Input": "{}"}))
    assert code == "NotImplemented"
    assert "not built into this cloud yet" in message


def test_create_schedule_needs_a_role_that_trusts_it(aws: Account, request_for: Any, refusal: Refusal) -> None:
    stranger = aws.role("lambdas", "lambda.amazonaws.com")
    for role in (stranger, f"arn:aws:iam::{aws.account}:role/missing"):
        assert refusal(aws.client("scheduler").create_schedule, **request_for(target={"RoleArn": role})) == (
            "ValidationException",
            "The execution role you provide must allow AWS EventBridge Scheduler to assume the role.",
        )
    code, _ = refusal(
        aws.client("scheduler").create_schedule, **request_for(target={"RoleArn": "arn:aws:iam::111122223333:role/r"})
    )
    assert code == "AccessDeniedException"


def test_a_role_may_trust_one_group_only(aws: Account, request_for: Any, refusal: Refusal) -> None:
    """The condition keys by which AWS's guide guards against the confused deputy."""
    aws.client("scheduler").create_schedule_group(Name="trusted")
    role = aws.role("guarded", "scheduler.amazonaws.com", {"Version": "2012-10-17", "Statement": [ALLOWED]})
    group = f"arn:aws:scheduler:us-east-1:{aws.account}:schedule-group/trusted"
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "scheduler.amazonaws.com"},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"aws:SourceAccount": aws.account, "aws:SourceArn": group}},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    aws.client("iam").update_assume_role_policy(RoleName="guarded", PolicyDocument=policy)
    aws.client("scheduler").create_schedule(**request_for(GroupName="trusted", target={"RoleArn": role}))
    code, _ = refusal(aws.client("scheduler").create_schedule, **request_for(target={"RoleArn": role}))
    assert code == "ValidationException"


def test_create_schedule_needs_permission_to_pass_the_role(aws: Account, request_for: Any, refusal: Refusal) -> None:
    statement = {"Effect": "Allow", "Action": "scheduler:*", "Resource": "*"}
    user = aws.user("mere", {"Version": "2012-10-17", "Statement": [statement]})
    code, message = refusal(user.client("scheduler").create_schedule, **request_for())
    assert code == "AccessDeniedException"
    assert "iam:PassRole" in message


def test_create_schedule_in_no_group(aws: Account, request_for: Any, refusal: Refusal) -> None:
    assert refusal(aws.client("scheduler").create_schedule, **request_for(GroupName="none")) == (
        "ResourceNotFoundException",
        "Schedule group none does not exist.",
    )


def test_get_schedule_that_is_not_there(aws: Account, other_aws: Account, request_for: Any, refusal: Refusal) -> None:
    aws.client("scheduler").create_schedule(**request_for(Name="mine"))
    missing = ("ResourceNotFoundException", "Schedule mine does not exist.")
    assert refusal(other_aws.client("scheduler").get_schedule, Name="mine") == missing
    assert refusal(aws.client("scheduler", "eu-west-1").get_schedule, Name="mine") == missing
    assert refusal(aws.client("scheduler").get_schedule, Name="mine", GroupName="none") == (
        "ResourceNotFoundException",
        "Schedule group none does not exist.",
    )


def test_list_schedules_by_group_prefix_and_state_in_pages(aws: Account, request_for: Any, refusal: Refusal) -> None:
    scheduler = aws.client("scheduler")
    scheduler.create_schedule_group(Name="b")
    for number in range(5):
        scheduler.create_schedule(**request_for(Name=f"one-{number}", State="DISABLED" if number == 3 else "ENABLED"))
        scheduler.create_schedule(**request_for(Name=f"two-{number}", GroupName="b"))
    pages = list(scheduler.get_paginator("list_schedules").paginate(PaginationConfig={"PageSize": 3}))
    assert [len(page["Schedules"]) for page in pages] == [3, 3, 3, 1]
    assert {member for page in pages for schedule in page["Schedules"] for member in schedule["Target"]} == {"Arn"}
    assert [one["Name"] for one in scheduler.list_schedules(GroupName="b", MaxResults=2)["Schedules"]] == ["two-0", "two-1"]
    assert [one["Name"] for one in scheduler.list_schedules(State="DISABLED")["Schedules"]] == ["one-3"]
    pages = list(scheduler.get_paginator("list_schedules").paginate(NamePrefix="two", PaginationConfig={"PageSize": 4}))
    assert [one["Name"] for page in pages for one in page["Schedules"]] == [f"two-{number}" for number in range(5)]
    assert refusal(scheduler.list_schedules, GroupName="none")[0] == "ResourceNotFoundException"
    assert refusal(scheduler.list_schedules, NextToken="foreign")[0] == "ValidationException"


def test_update_schedule_replaces_everything(aws: Account, request_for: Any, refusal: Refusal) -> None:
    scheduler = aws.client("scheduler")
    asked = request_for(Name="changing", Description="before", ScheduleExpressionTimezone="Asia/Tokyo")
    scheduler.create_schedule(**asked)
    before = scheduler.get_schedule(Name="changing")
    del asked["Description"], asked["ScheduleExpressionTimezone"]
    arn = scheduler.update_schedule(**asked | {"State": "DISABLED"})["ScheduleArn"]
    after = scheduler.get_schedule(Name="changing")
    assert arn == after["Arn"] == before["Arn"]
    assert (after["State"], after["ScheduleExpressionTimezone"], after.get("Description")) == ("DISABLED", "UTC", None)
    assert after["CreationDate"] == before["CreationDate"]
    assert after["LastModificationDate"] >= before["LastModificationDate"]
    assert refusal(scheduler.update_schedule, **asked | {"Name": "none"})[0] == "ResourceNotFoundException"
    assert refusal(scheduler.update_schedule, **asked | {"ScheduleExpression": "never"})[0] == "ValidationException"


def test_delete_schedule(aws: Account, request_for: Any, refusal: Refusal) -> None:
    scheduler = aws.client("scheduler")
    scheduler.create_schedule(**request_for(Name="short"))
    scheduler.delete_schedule(Name="short", ClientToken="t")
    assert refusal(scheduler.get_schedule, Name="short")[0] == "ResourceNotFoundException"
    assert refusal(scheduler.delete_schedule, Name="short") == ("ResourceNotFoundException", "Schedule short does not exist.")


def test_permissions_are_those_of_the_schedule(aws: Account, request_for: Any, refusal: Refusal) -> None:
    aws.client("scheduler").create_schedule(**request_for(Name="open"))
    aws.client("scheduler").create_schedule(**request_for(Name="shut"))
    arn = f"arn:aws:scheduler:us-east-1:{aws.account}:schedule/default/open"
    user = aws.user(
        "reader", {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "scheduler:Get*", "Resource": arn}]}
    )
    assert user.client("scheduler").get_schedule(Name="open")["Arn"] == arn
    assert refusal(user.client("scheduler").get_schedule, Name="shut")[0] == "AccessDeniedException"
    assert refusal(user.client("scheduler").delete_schedule, Name="open")[0] == "AccessDeniedException"


def test_a_kms_key_seals_the_input(aws: Account, request_for: Any, refusal: Refusal) -> None:
    scheduler, kms = aws.client("scheduler"), aws.client("kms")
    key = kms.create_key()["KeyMetadata"]["Arn"]
    scheduler.create_schedule(**request_for(Name="sealed", KmsKeyArn=key, target={"Input": "secret words"}))
    found = scheduler.get_schedule(Name="sealed")
    assert (found["KmsKeyArn"], found["Target"]["Input"]) == (key, "secret words")
    kms.disable_key(KeyId=key)
    assert refusal(scheduler.get_schedule, Name="sealed")[0] == "ValidationException"
    missing = f"arn:aws:kms:us-east-1:{aws.account}:key/00000000-0000-0000-0000-000000000000"
    assert refusal(scheduler.create_schedule, **request_for(KmsKeyArn=missing))[0] == "ValidationException"
