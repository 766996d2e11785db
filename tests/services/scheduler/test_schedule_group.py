"""Schedule groups and their tags."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pilvi.testing.server import Account, TestServer, eventually

Refusal = Callable[..., tuple[str, str]]


def test_create_schedule_group(aws: Account, other_aws: Account, refusal: Refusal) -> None:
    scheduler = aws.client("scheduler")
    arn = scheduler.create_schedule_group(Name="g", ClientToken="t")["ScheduleGroupArn"]
    assert arn == f"arn:aws:scheduler:us-east-1:{aws.account}:schedule-group/g"
    found = scheduler.get_schedule_group(Name="g")
    assert (found["Arn"], found["Name"], found["State"]) == (arn, "g", "ACTIVE")
    assert scheduler.create_schedule_group(Name="g", ClientToken="t")["ScheduleGroupArn"] == arn
    assert refusal(scheduler.create_schedule_group, Name="g", ClientToken="u") == (
        "ConflictException",
        "Schedule group g already exists.",
    )
    assert refusal(other_aws.client("scheduler").get_schedule_group, Name="g") == (
        "ResourceNotFoundException",
        "Schedule group g does not exist.",
    )


def test_the_default_group_is_there(aws: Account, refusal: Refusal) -> None:
    scheduler = aws.client("scheduler")
    assert scheduler.get_schedule_group(Name="default")["State"] == "ACTIVE"
    assert [group["Name"] for group in scheduler.list_schedule_groups()["ScheduleGroups"]] == ["default"]
    assert refusal(scheduler.create_schedule_group, Name="default")[0] == "ConflictException"
    assert refusal(scheduler.delete_schedule_group, Name="default")[0] == "ValidationException"


def test_list_schedule_groups_in_pages(aws: Account) -> None:
    scheduler = aws.client("scheduler")
    for number in range(5):
        scheduler.create_schedule_group(Name=f"g{number}")
    pages = list(scheduler.get_paginator("list_schedule_groups").paginate(NamePrefix="g", PaginationConfig={"PageSize": 2}))
    assert [[group["Name"] for group in page["ScheduleGroups"]] for page in pages] == [["g0", "g1"], ["g2", "g3"], ["g4"]]


def test_delete_schedule_group_takes_its_schedules_with_it(
    aws: Account, queue_in: Any, role_in: Any, asked: Any, refusal: Refusal
) -> None:
    scheduler = aws.client("scheduler")
    queue, role = queue_in(aws), role_in(aws)
    scheduler.create_schedule_group(Name="g")
    for number in range(120):
        scheduler.create_schedule(**asked(queue, role, "rate(1 day)", Name=f"s{number}", GroupName="g", State="DISABLED"))
    scheduler.create_schedule(**asked(queue, role, "cron(0 0 1 1 ? 2190)", Name="planned", GroupName="g"))
    scheduler.delete_schedule_group(Name="g")

    def is_gone() -> bool:
        try:
            assert scheduler.get_schedule_group(Name="g")["State"] == "DELETING"
        except scheduler.exceptions.ResourceNotFoundException:
            return True
        return False

    eventually(is_gone)
    assert scheduler.list_schedules()["Schedules"] == []
    assert refusal(scheduler.delete_schedule_group, Name="g")[0] == "ResourceNotFoundException"
    scheduler.create_schedule_group(Name="g")
    assert scheduler.list_schedules(GroupName="g")["Schedules"] == []


def test_tags_of_a_group(aws: Account, refusal: Refusal) -> None:
    scheduler = aws.client("scheduler")
    arn = scheduler.create_schedule_group(Name="g", Tags=[{"Key": "team", "Value": "ml"}])["ScheduleGroupArn"]
    scheduler.tag_resource(ResourceArn=arn, Tags=[{"Key": "stage", "Value": "test"}, {"Key": "team", "Value": "data"}])
    assert scheduler.list_tags_for_resource(ResourceArn=arn)["Tags"] == [
        {"Key": "team", "Value": "data"},
        {"Key": "stage", "Value": "test"},
    ]
    scheduler.untag_resource(ResourceArn=arn, TagKeys=["team", "none"])
    assert scheduler.list_tags_for_resource(ResourceArn=arn)["Tags"] == [{"Key": "stage", "Value": "test"}]
    assert refusal(scheduler.list_tags_for_resource, ResourceArn=arn + "x")[0] == "ResourceNotFoundException"
    assert refusal(scheduler.tag_resource, ResourceArn=arn, Tags=[{"Key": "aws:x", "Value": "y"}])[0] == "ValidationException"
    many = [{"Key": f"k{number}", "Value": "v"} for number in range(50)]
    assert refusal(scheduler.tag_resource, ResourceArn=arn, Tags=many)[0] == "ServiceQuotaExceededException"


@pytest.mark.parametrize("team", ["ml", "other"])
def test_a_groups_tags_decide_who_may(aws: Account, team: str, refusal: Refusal) -> None:
    aws.client("scheduler").create_schedule_group(Name="g", Tags=[{"Key": "team", "Value": team}])
    statement = {
        "Effect": "Allow",
        "Action": "scheduler:*",
        "Resource": "*",
        "Condition": {"StringEquals": {"aws:ResourceTag/team": "ml"}},
    }
    user = aws.user("member", {"Version": "2012-10-17", "Statement": [statement]})
    if team == "ml":
        assert user.client("scheduler").get_schedule_group(Name="g")["Name"] == "g"
    else:
        assert refusal(user.client("scheduler").get_schedule_group, Name="g")[0] == "AccessDeniedException"


def test_a_group_that_is_being_deleted_takes_no_schedule(
    server: TestServer, aws: Account, queue_in: Any, role_in: Any, asked: Any, refusal: Refusal
) -> None:
    """Written by hand: the state lasts for moments only."""
    scheduler = aws.client("scheduler")
    request = asked(queue_in(aws), role_in(aws), "cron(0 0 1 1 ? 2190)", GroupName="g", Name="s")
    scheduler.create_schedule_group(Name="g")
    scheduler.create_schedule(**request)
    rows = server.cloud.rows(aws.account, "us-east-1", "scheduler", "ScheduleGroup")
    rows.update("g", lambda group: {**group, "State": "DELETING"})
    deleting = ("ConflictException", "Schedule group g is being deleted.")
    assert refusal(scheduler.create_schedule, **request | {"Name": "other"}) == deleting
    assert refusal(scheduler.update_schedule, **request) == deleting
    assert refusal(scheduler.delete_schedule_group, Name="g") == deleting
    assert refusal(scheduler.create_schedule_group, Name="g")[0] == "ConflictException"
