"""Pipes as their API shows them; what flows through stands in test_flow.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from pilvi.testing.server import Account, eventually
from tests.services.pipes.conftest import ALLOW_ALL, Plumber

Refusal = Callable[..., tuple[str, str]]


def test_create_pipe_becomes_running(plumber: Plumber) -> None:
    _, source = plumber.queue()
    _, target = plumber.queue()
    made = plumber.pipes.create_pipe(
        Name="first",
        Description="one to another",
        Source=source,
        SourceParameters={"FilterCriteria": {"Filters": [{"Pattern": '{"body": {"a": [1]}}'}]}},
        Target=target,
        TargetParameters={"InputTemplate": "<$.body.a>"},
        RoleArn=plumber.role,
        Tags={"team": "ml"},
    )
    assert made["Arn"] == f"arn:aws:pipes:us-east-1:{plumber.account.account}:pipe/first"
    assert (made["DesiredState"], made["CurrentState"]) == ("RUNNING", "CREATING")
    found = plumber.becomes("first", "RUNNING")
    assert (found["Source"], found["Target"], found["RoleArn"]) == (source, target, plumber.role)
    assert found["SourceParameters"] == {
        "FilterCriteria": {"Filters": [{"Pattern": '{"body": {"a": [1]}}'}]},
        "SqsQueueParameters": {"BatchSize": 10, "MaximumBatchingWindowInSeconds": 0},
    }
    assert (found["TargetParameters"], found["Tags"]) == ({"InputTemplate": "<$.body.a>"}, {"team": "ml"})
    assert "StateReason" not in found


def test_a_pipe_is_stopped_started_and_deleted(plumber: Plumber, refusal: Refusal) -> None:
    pipes = plumber.pipes
    name = plumber.pipe(plumber.queue()[1], plumber.queue()[1])
    assert refusal(pipes.start_pipe, Name=name)[0] == "ConflictException"
    assert pipes.stop_pipe(Name=name)["CurrentState"] == "STOPPING"
    assert plumber.becomes(name, "STOPPED")["DesiredState"] == "STOPPED"
    assert refusal(pipes.stop_pipe, Name=name)[0] == "ConflictException"
    assert pipes.start_pipe(Name=name)["CurrentState"] == "STARTING"
    plumber.becomes(name, "RUNNING")
    gone = pipes.delete_pipe(Name=name)
    assert (gone["DesiredState"], gone["CurrentState"]) == ("DELETED", "DELETING")
    eventually(lambda: not pipes.list_pipes()["Pipes"])
    assert refusal(pipes.describe_pipe, Name=name) == ("NotFoundException", f"Pipe {name} does not exist.")


def test_create_pipe_that_is_to_be_stopped(plumber: Plumber) -> None:
    plumber.pipes.create_pipe(
        Name="idle", Source=plumber.queue()[1], Target=plumber.queue()[1], RoleArn=plumber.role, DesiredState="STOPPED"
    )
    assert plumber.becomes("idle", "STOPPED")["DesiredState"] == "STOPPED"


def test_create_pipe_fails_where_the_role_may_not_read_the_source(plumber: Plumber) -> None:
    statement = {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": "*"}
    poor = plumber.account.role("poor", "pipes.amazonaws.com", {"Version": "2012-10-17", "Statement": [statement]})
    plumber.pipes.create_pipe(Name="blind", Source=plumber.queue()[1], Target=plumber.queue()[1], RoleArn=poor)
    found = plumber.becomes("blind", "CREATE_FAILED")
    assert "sqs:getqueueattributes" in found["StateReason"].lower()
    plumber.account.client("iam").put_role_policy(RoleName="poor", PolicyName="more", PolicyDocument=json.dumps(ALLOW_ALL))
    plumber.pipes.start_pipe(Name="blind")
    assert "StateReason" not in plumber.becomes("blind", "RUNNING")


def test_create_pipe_fails_where_the_source_is_missing(plumber: Plumber) -> None:
    missing = f"arn:aws:sqs:us-east-1:{plumber.account.account}:missing"
    plumber.pipes.create_pipe(Name="dry", Source=missing, Target=plumber.queue()[1], RoleArn=plumber.role)
    assert "does not exist" in plumber.becomes("dry", "CREATE_FAILED")["StateReason"]


def test_create_pipe_whose_name_is_taken(plumber: Plumber, other_aws: Account, refusal: Refusal) -> None:
    _, arn = plumber.queue()
    name = plumber.pipe(arn, plumber.queue()[1])
    assert refusal(plumber.pipes.create_pipe, Name=name, Source=arn, Target=arn, RoleArn=plumber.role) == (
        "ConflictException",
        f"Pipe {name} already exists.",
    )
    assert refusal(other_aws.client("pipes").describe_pipe, Name=name)[0] == "NotFoundException"


SQS, LAMBDA = "arn:aws:sqs:us-east-1:111122223333:q", "arn:aws:lambda:us-east-1:111122223333:function:f"


@pytest.mark.parametrize(
    ("members", "code", "words"),
    [
        ({"Source": "arn:aws:sns:us-east-1:111122223333:t"}, "ValidationException", "not a supported source"),
        ({"Source": "arn:aws:kinesis:us-east-1:111122223333:stream/s"}, "NotImplemented", "Sources of the kind kinesis"),
        ({"Source": "arn:aws:dynamodb:us-east-1:111122223333:table/t/stream/1"}, "NotImplemented", "kind dynamodb"),
        ({"Source": "smk://broker.example:9092"}, "NotImplemented", "kind kafka"),
        ({"Target": "arn:aws:kinesis:us-east-1:111122223333:stream/s"}, "NotImplemented", "Targets of the kind kinesis"),
        ({"Target": "arn:aws:ecs:us-east-1:111122223333:cluster/c"}, "NotImplemented", "kind ecs/cluster"),
        ({"Enrichment": "arn:aws:states:us-east-1:111122223333:stateMachine:m"}, "NotImplemented", "Enrichments of the kind"),
        ({"KmsKeyIdentifier": "alias/mine"}, "NotImplemented", "Customer managed keys"),
        ({"SourceParameters": {"SqsQueueParameters": {"BatchSize": 11}}}, "ValidationException", "MaximumBatchingWindowInSeconds"),
        (
            {"SourceParameters": {"SqsQueueParameters": {"BatchSize": 11, "MaximumBatchingWindowInSeconds": 1}}},
            "ValidationException",
            "exceeds what the target takes (10)",
        ),
        (
            {"SourceParameters": {"DynamoDBStreamParameters": {"StartingPosition": "LATEST"}}},
            "ValidationException",
            "DynamoDBStreamParameters is not supported",
        ),
        ({"SourceParameters": {"FilterCriteria": {"Filters": [{"Pattern": "{"}]}}}, "ValidationException", ""),
        (
            {"TargetParameters": {"LambdaFunctionParameters": {}}},
            "ValidationException",
            "LambdaFunctionParameters is not supported",
        ),
        ({"TargetParameters": {"InputTemplate": "<aws.pipes.nothing>"}}, "ValidationException", "unknown variable"),
        ({"TargetParameters": {"InputTemplate": "<$.a..b>"}}, "ValidationException", "not a valid JSON path"),
        ({"RoleArn": "arn:aws:iam::111122223333:role/r"}, "AccessDeniedException", "Cross-account"),
        (
            {"LogConfiguration": {"Level": "INFO", "S3LogDestination": {"BucketName": "bbb", "BucketOwner": "111122223333"}}},
            "NotImplemented",
            "Logs to S3",
        ),
        ({"LogConfiguration": {"Level": "INFO"}}, "ValidationException", "log destination"),
        ({"Tags": {"aws:x": "y"}}, "ValidationException", "aws:"),
    ],
)
def test_create_pipe_refuses(plumber: Plumber, refusal: Refusal, members: dict[str, Any], code: str, words: str) -> None:
    asked = {"Name": "wrong", "Source": SQS, "Target": SQS, "RoleArn": plumber.role}
    found, message = refusal(plumber.pipes.create_pipe, **asked | members)
    assert found == code
    assert words in message


def test_create_pipe_needs_a_role_that_trusts_it_and_may_be_passed(plumber: Plumber, refusal: Refusal) -> None:
    stranger = plumber.account.role("stranger", "lambda.amazonaws.com")
    code, message = refusal(plumber.pipes.create_pipe, Name="x", Source=SQS, Target=SQS, RoleArn=stranger)
    assert code == "ValidationException"
    assert "pipes.amazonaws.com" in message
    statement = {"Effect": "Allow", "Action": "pipes:*", "Resource": "*"}
    user = plumber.account.user("mere", {"Version": "2012-10-17", "Statement": [statement]})
    code, message = refusal(user.client("pipes").create_pipe, Name="x", Source=SQS, Target=SQS, RoleArn=plumber.role)
    assert code == "AccessDeniedException"
    assert "iam:PassRole" in message


def test_update_pipe_replaces_what_is_given(plumber: Plumber, refusal: Refusal) -> None:
    (_, source), (_, target), (_, other) = plumber.queue(), plumber.queue(), plumber.queue()
    name = plumber.pipe(source, target, Description="before", TargetParameters={"InputTemplate": "<$.body>"})
    pipes = plumber.pipes
    assert pipes.update_pipe(Name=name, RoleArn=plumber.role, Target=other)["CurrentState"] == "UPDATING"
    found = plumber.becomes(name, "RUNNING")
    assert (found["Target"], found["Description"]) == (other, "before")
    assert found["TargetParameters"] == {"InputTemplate": "<$.body>"}
    pipes.update_pipe(
        Name=name,
        RoleArn=plumber.role,
        Description="",
        DesiredState="STOPPED",
        SourceParameters={"SqsQueueParameters": {"BatchSize": 3}},
    )
    found = plumber.becomes(name, "STOPPED")
    assert "Description" not in found
    assert found["SourceParameters"]["SqsQueueParameters"]["BatchSize"] == 3
    assert refusal(pipes.update_pipe, Name="none", RoleArn=plumber.role)[0] == "NotFoundException"
    asked = {"Name": name, "RoleArn": plumber.role, "SourceParameters": {"SqsQueueParameters": {"BatchSize": 11}}}
    assert refusal(pipes.update_pipe, **asked)[0] == "ValidationException"


def test_list_pipes_in_pages(plumber: Plumber) -> None:
    (_, source), (_, target) = plumber.queue(), plumber.queue()
    for number in range(5):
        plumber.pipe(source, target, Name=f"a{number}", DesiredState="RUNNING")
    plumber.pipes.create_pipe(Name="b0", Source=target, Target=source, RoleArn=plumber.role, DesiredState="STOPPED")
    plumber.becomes("b0", "STOPPED")
    pages = list(plumber.pipes.get_paginator("list_pipes").paginate(PaginationConfig={"PageSize": 2}))
    assert [pipe["Name"] for page in pages for pipe in page["Pipes"]] == ["a0", "a1", "a2", "a3", "a4", "b0"]
    assert len(pages) == 3
    assert [pipe["Name"] for pipe in plumber.pipes.list_pipes(NamePrefix="b")["Pipes"]] == ["b0"]
    assert [pipe["Name"] for pipe in plumber.pipes.list_pipes(CurrentState="STOPPED")["Pipes"]] == ["b0"]
    assert [pipe["Name"] for pipe in plumber.pipes.list_pipes(SourcePrefix=target)["Pipes"]] == ["b0"]
    assert len(plumber.pipes.list_pipes(TargetPrefix=target, DesiredState="RUNNING")["Pipes"]) == 5


def test_tags_of_a_pipe(plumber: Plumber, refusal: Refusal) -> None:
    pipes = plumber.pipes
    name = plumber.pipe(plumber.queue()[1], plumber.queue()[1], Tags={"a": "1"})
    arn = pipes.describe_pipe(Name=name)["Arn"]
    pipes.tag_resource(resourceArn=arn, tags={"b": "2"})
    assert pipes.list_tags_for_resource(resourceArn=arn)["tags"] == {"a": "1", "b": "2"}
    pipes.untag_resource(resourceArn=arn, tagKeys=["a"])
    assert pipes.list_tags_for_resource(resourceArn=arn)["tags"] == {"b": "2"}
    assert refusal(pipes.list_tags_for_resource, resourceArn=arn + "x")[0] == "NotFoundException"
    many = {f"k{number}": "v" for number in range(50)}
    assert refusal(pipes.tag_resource, resourceArn=arn, tags=many)[0] == "ValidationException"
