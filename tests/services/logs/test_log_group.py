"""Log groups, their retention and their tags."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError


def code_of(raised):
    return raised.value.response["Error"]["Code"]


def test_create_log_group_describes_it(aws):
    logs = aws.client("logs")
    logs.create_log_group(logGroupName="/aws/sagemaker/TrainingJobs", tags={"team": "a"})
    (group,) = logs.describe_log_groups(logGroupNamePrefix="/aws/sage")["logGroups"]
    arn = f"arn:aws:logs:{aws.region}:{aws.account}:log-group:/aws/sagemaker/TrainingJobs"
    assert (group["arn"], group["logGroupArn"]) == (f"{arn}:*", arn)
    assert group["storedBytes"] == 0
    assert group["logGroupClass"] == "STANDARD"
    assert "retentionInDays" not in group
    assert logs.list_tags_for_resource(resourceArn=arn)["tags"] == {"team": "a"}


def test_create_log_group_twice_is_refused(aws):
    logs = aws.client("logs")
    logs.create_log_group(logGroupName="g")
    with pytest.raises(ClientError, match="The specified log group already exists") as raised:
        logs.create_log_group(logGroupName="g")
    assert code_of(raised) == "ResourceAlreadyExistsException"


def test_create_log_group_keeps_reserved_names(aws):
    with pytest.raises(ClientError) as raised:
        aws.client("logs").create_log_group(logGroupName="aws/mine")
    assert code_of(raised) == "InvalidParameterException"


def test_describe_log_groups_pages_to_the_end(aws):
    logs = aws.client("logs")
    names = [f"g{n:03d}" for n in range(23)]
    for name in reversed(names):
        logs.create_log_group(logGroupName=name)
    pages = list(logs.get_paginator("describe_log_groups").paginate(PaginationConfig={"PageSize": 10}))
    assert [len(page["logGroups"]) for page in pages] == [10, 10, 3]
    assert [group["logGroupName"] for page in pages for group in page["logGroups"]] == names


def test_describe_log_groups_by_pattern_is_a_case_sensitive_part(aws):
    logs = aws.client("logs")
    for name in ("DataLogs", "aws_DataLogs", "datalogs"):
        logs.create_log_group(logGroupName=name)
    found = logs.describe_log_groups(logGroupNamePattern="DataLogs")["logGroups"]
    assert [group["logGroupName"] for group in found] == ["DataLogs", "aws_DataLogs"]
    assert "storedBytes" not in found[0]
    with pytest.raises(ClientError, match="mutually exclusive"):
        logs.describe_log_groups(logGroupNamePattern="x", logGroupNamePrefix="y")


def test_list_log_groups_takes_alternatives(aws):
    logs = aws.client("logs")
    for name in ("alpha", "beta", "alphabet"):
        logs.create_log_group(logGroupName=name)
    assert [g["logGroupName"] for g in logs.list_log_groups(logGroupNamePattern="^bet|bet|xyz")["logGroups"]] == [
        "alphabet",
        "beta",
    ]
    assert [g["logGroupName"] for g in logs.list_log_groups(logGroupNamePattern="^bet")["logGroups"]] == ["beta"]


def test_put_retention_policy_is_described_and_deleted(aws):
    logs = aws.client("logs")
    logs.create_log_group(logGroupName="g")
    logs.put_retention_policy(logGroupName="g", retentionInDays=7)
    assert logs.describe_log_groups()["logGroups"][0]["retentionInDays"] == 7
    logs.delete_retention_policy(logGroupName="g")
    assert "retentionInDays" not in logs.describe_log_groups()["logGroups"][0]
    with pytest.raises(ClientError) as raised:
        logs.put_retention_policy(logGroupName="g", retentionInDays=2)
    assert code_of(raised) == "InvalidParameterException"
    with pytest.raises(ClientError, match="The specified log group does not exist"):
        logs.put_retention_policy(logGroupName="none", retentionInDays=1)


def test_delete_log_group_removes_streams_and_events(aws):
    logs = aws.client("logs")
    logs.create_log_group(logGroupName="g")
    logs.create_log_stream(logGroupName="g", logStreamName="s")
    logs.delete_log_group(logGroupName="g")
    with pytest.raises(ClientError, match="The specified log group does not exist") as raised:
        logs.delete_log_group(logGroupName="g")
    assert code_of(raised) == "ResourceNotFoundException"
    logs.create_log_group(logGroupName="g")
    assert logs.describe_log_streams(logGroupName="g")["logStreams"] == []


def test_delete_log_group_heeds_deletion_protection(aws):
    logs = aws.client("logs")
    logs.create_log_group(logGroupName="g", deletionProtectionEnabled=True)
    with pytest.raises(ClientError) as raised:
        logs.delete_log_group(logGroupName="g")
    assert code_of(raised) == "ValidationException"
    logs.put_log_group_deletion_protection(logGroupIdentifier="g", deletionProtectionEnabled=False)
    logs.delete_log_group(logGroupName="g")


def test_tag_resource_and_the_older_names_agree(aws):
    logs = aws.client("logs")
    logs.create_log_group(logGroupName="g")
    arn = f"arn:aws:logs:{aws.region}:{aws.account}:log-group:g"
    logs.tag_resource(resourceArn=arn, tags={"a": "1", "b": "2"})
    logs.tag_log_group(logGroupName="g", tags={"b": "3", "c": "4"})
    logs.untag_resource(resourceArn=arn, tagKeys=["a", "nothing"])
    assert logs.list_tags_log_group(logGroupName="g")["tags"] == {"b": "3", "c": "4"}
    logs.untag_log_group(logGroupName="g", tags=["b", "c"])
    assert logs.list_tags_for_resource(resourceArn=arn)["tags"] == {}
    logs.tag_resource(resourceArn=arn, tags={f"k{n}": "" for n in range(50)})
    with pytest.raises(ClientError) as raised:
        logs.tag_resource(resourceArn=arn, tags={"one": "more"})
    assert code_of(raised) == "TooManyTagsException"
    with pytest.raises(ClientError) as raised:
        logs.list_tags_for_resource(resourceArn=arn + "other")
    assert code_of(raised) == "ResourceNotFoundException"


def test_another_account_sees_nothing(aws, other_aws):
    aws.client("logs").create_log_group(logGroupName="g")
    assert other_aws.client("logs").describe_log_groups()["logGroups"] == []
    with pytest.raises(ClientError):
        other_aws.client("logs").describe_log_streams(logGroupIdentifier=f"arn:aws:logs:{aws.region}:{aws.account}:log-group:g")
