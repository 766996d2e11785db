"""Simulation: the SageMaker SDK asks it before it trains."""

from __future__ import annotations

import json

import pytest

ACTIONS = [
    "sagemaker:CreateTrainingJob",
    "sagemaker:DescribeTrainingJob",
    "sagemaker:AddTags",
    "s3:GetObject",
    "s3:ListBucket",
    "s3:CreateBucket",
    "logs:CreateLogGroup",
    "logs:CreateLogStream",
    "logs:PutLogEvents",
    "ecr:GetAuthorizationToken",
    "cloudwatch:PutMetricData",
]
TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}],
    }
)


def document(effect, action, resource="*", **more):
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": effect, "Action": action, "Resource": resource, **more}]})


def decisions(answer):
    return {(found["EvalActionName"], found["EvalResourceName"]): found["EvalDecision"] for found in answer["EvaluationResults"]}


@pytest.fixture
def role(iam):
    arn = iam.create_role(RoleName="R", Path="/service-role/", AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
    iam.attach_role_policy(RoleName="R", PolicyArn="arn:aws:iam::aws:policy/AmazonSageMakerFullAccess")
    return arn


def test_simulate_principal_policy_pages_as_the_sagemaker_sdk_reads_it(iam, role):
    pages = list(
        iam.get_paginator("simulate_principal_policy").paginate(
            PolicySourceArn=role, ActionNames=ACTIONS, PaginationConfig={"PageSize": 4}
        )
    )
    results = [found for page in pages for found in page["EvaluationResults"]]
    assert [found["EvalActionName"] for found in results] == ACTIONS
    assert [len(page["EvaluationResults"]) for page in pages] == [4, 4, 3]
    denied = [found["EvalActionName"] for found in results if found["EvalDecision"] != "allowed"]
    assert denied == ["s3:GetObject"]


def test_simulate_principal_policy_on_resources(iam, role):
    buckets = ["arn:aws:s3:::sagemaker-us-east-1-1/x", "arn:aws:s3:::other/x"]
    answer = iam.simulate_principal_policy(PolicySourceArn=role, ActionNames=["s3:PutObject"], ResourceArns=buckets)
    assert decisions(answer) == {("s3:PutObject", buckets[0]): "allowed", ("s3:PutObject", buckets[1]): "implicitDeny"}
    allowed = answer["EvaluationResults"][0]
    assert {match["SourcePolicyId"] for match in allowed["MatchedStatements"]} == {"AmazonSageMakerFullAccess"}


def test_simulate_principal_policy_of_a_user_with_groups_and_boundary(aws, iam):
    ada = aws.user("ada", json.loads(document("Deny", "s3:DeleteObject")))
    assert ada
    iam.create_group(GroupName="g")
    iam.add_user_to_group(GroupName="g", UserName="ada")
    iam.put_group_policy(GroupName="g", PolicyName="s3", PolicyDocument=document("Allow", "s3:*"))
    arn = iam.create_policy(PolicyName="bound", PolicyDocument=document("Allow", "s3:Get*"))["Policy"]["Arn"]
    iam.put_user_permissions_boundary(UserName="ada", PermissionsBoundary=arn)
    source = f"arn:aws:iam::{aws.account}:user/ada"
    answer = iam.simulate_principal_policy(PolicySourceArn=source, ActionNames=["s3:GetObject", "s3:PutObject", "s3:DeleteObject"])
    assert list(decisions(answer).values()) == ["allowed", "implicitDeny", "explicitDeny"]
    get, put, _ = answer["EvaluationResults"]
    assert get["PermissionsBoundaryDecisionDetail"] == {"AllowedByPermissionsBoundary": True}
    assert put["PermissionsBoundaryDecisionDetail"] == {"AllowedByPermissionsBoundary": False}
    assert get["MatchedStatements"][0]["SourcePolicyId"] == "group_g_s3"
    more = iam.simulate_principal_policy(
        PolicySourceArn=source,
        ActionNames=["ec2:RunInstances"],
        PolicyInputList=[document("Allow", "ec2:*")],
        PermissionsBoundaryPolicyInputList=[document("Allow", "*")],
    )
    assert list(decisions(more).values()) == ["allowed"]


def test_simulate_principal_policy_needs_an_entity(aws, iam, refused):
    with refused("NoSuchEntity", "The role with name nothing cannot be found."):
        iam.simulate_principal_policy(PolicySourceArn=f"arn:aws:iam::{aws.account}:role/nothing", ActionNames=["s3:GetObject"])
    with refused("InvalidInput", "does not clearly define entity type and name"):
        iam.simulate_principal_policy(PolicySourceArn=f"arn:aws:iam::{aws.account}:root", ActionNames=["s3:GetObject"])


def test_simulate_custom_policy_with_conditions_and_variables(iam):
    policy = document(
        "Allow", "s3:GetObject", "arn:aws:s3:::b/${aws:username}/*", Condition={"Bool": {"aws:SecureTransport": "true"}}
    )
    asked = {"PolicyInputList": [policy], "ActionNames": ["s3:GetObject"], "ResourceArns": ["arn:aws:s3:::b/ada/x"]}
    unknown = iam.simulate_custom_policy(**asked)["EvaluationResults"][0]
    assert (unknown["EvalDecision"], unknown["MissingContextValues"]) == ("implicitDeny", ["aws:SecureTransport", "aws:username"])
    entries = [
        {"ContextKeyName": "aws:username", "ContextKeyValues": ["ada"], "ContextKeyType": "string"},
        {"ContextKeyName": "aws:SecureTransport", "ContextKeyValues": ["true"], "ContextKeyType": "boolean"},
    ]
    known = iam.simulate_custom_policy(**asked, ContextEntries=entries)["EvaluationResults"][0]
    assert (known["EvalDecision"], known["MissingContextValues"]) == ("allowed", [])
    assert known["MatchedStatements"][0]["SourcePolicyId"] == "PolicyInputList.1"


def test_simulate_custom_policy_refuses_a_malformed_one(iam, refused):
    with refused("InvalidInput", "Syntax errors in policy."):
        iam.simulate_custom_policy(PolicyInputList=["{"], ActionNames=["s3:GetObject"])
    with refused("InvalidInput", "Invalid Action Name"):
        iam.simulate_custom_policy(PolicyInputList=[document("Allow", "*")], ActionNames=["GetObject"])


def test_get_context_keys(aws, iam):
    policy = document(
        "Allow", "s3:GetObject", "arn:aws:s3:::b/${aws:username}/*", Condition={"Bool": {"aws:SecureTransport": "true"}}
    )
    keys = ["aws:SecureTransport", "aws:username"]
    assert iam.get_context_keys_for_custom_policy(PolicyInputList=[policy])["ContextKeyNames"] == keys
    aws.user("ada", json.loads(policy))
    source = f"arn:aws:iam::{aws.account}:user/ada"
    assert iam.get_context_keys_for_principal_policy(PolicySourceArn=source)["ContextKeyNames"] == keys
