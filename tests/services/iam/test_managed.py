"""AWS's own managed policies."""

from __future__ import annotations

import json

import pytest

from pilvi.auth.policy import parse
from pilvi.services.iam import managed

NAMED = [
    "AdministratorAccess",
    "PowerUserAccess",
    "ReadOnlyAccess",
    "IAMFullAccess",
    "IAMReadOnlyAccess",
    "AmazonS3FullAccess",
    "AmazonS3ReadOnlyAccess",
    "AmazonSageMakerFullAccess",
    "AmazonSageMakerReadOnly",
    "AWSLambda_FullAccess",
    "AWSLambda_ReadOnlyAccess",
    "service-role/AWSLambdaBasicExecutionRole",
    "service-role/AmazonAPIGatewayPushToCloudWatchLogs",
    "AmazonAPIGatewayAdministrator",
    "CloudWatchLogsFullAccess",
]


@pytest.mark.parametrize("policy", managed.every(), ids=lambda policy: policy.name)
def test_every_file_is_a_policy(policy):
    assert parse(policy.document, "identity").statements
    assert policy.id.startswith("ANPA")
    assert policy.created <= policy.updated
    assert policy.arn == f"arn:aws:iam::aws:policy{policy.path}{policy.name}"
    assert managed.find(policy.arn) is policy


def test_find_knows_nothing_else():
    assert managed.find("arn:aws:iam::aws:policy/AWSLambdaBasicExecutionRole") is None
    assert managed.find("arn:aws:iam::aws:policy/../../__init__") is None
    assert managed.find("arn:aws:iam::123456789012:policy/AdministratorAccess") is None


def test_get_policy_and_its_version(iam, refused):
    for name in NAMED:
        policy = iam.get_policy(PolicyArn=f"arn:aws:iam::aws:policy/{name}")["Policy"]
        version = iam.get_policy_version(PolicyArn=policy["Arn"], VersionId=policy["DefaultVersionId"])["PolicyVersion"]
        assert version["IsDefaultVersion"]
        assert version["Document"] == json.loads(managed.find(policy["Arn"]).document)
    with refused("NoSuchEntity", "v999"):
        iam.get_policy_version(PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess", VersionId="v999")
    with refused("NoSuchEntity", "Policy arn:aws:iam::aws:policy/Nothing was not found.", 404):
        iam.get_policy(PolicyArn="arn:aws:iam::aws:policy/Nothing")


def test_list_policies_of_aws(iam):
    pages = list(iam.get_paginator("list_policies").paginate(Scope="AWS", PaginationConfig={"PageSize": 10}))
    names = [policy["PolicyName"] for page in pages for policy in page["Policies"]]
    assert names == [policy.name for policy in managed.every()]
    roles = iam.list_policies(Scope="AWS", PathPrefix="/service-role/")["Policies"]
    assert {policy["Path"] for policy in roles} == {"/service-role/"}


def test_they_cannot_be_changed(iam, refused):
    arn = "arn:aws:iam::aws:policy/AdministratorAccess"
    with refused("AccessDenied"):
        iam.delete_policy(PolicyArn=arn)
    with refused("AccessDenied"):
        iam.create_policy_version(
            PolicyArn=arn, PolicyDocument='{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}'
        )


def test_administrator_access_allows_everything(aws, iam):
    ada = aws.user("ada")
    iam.attach_user_policy(UserName="ada", PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess")
    assert ada.client("iam").list_users()["Users"]
