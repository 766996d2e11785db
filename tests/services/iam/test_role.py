"""Roles and their trust policies."""

from __future__ import annotations

import json
import re
from urllib.parse import unquote

import pytest

PASS = "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"


def trusting(principal, action="sts:AssumeRole", **more):
    statement = {"Effect": "Allow", "Principal": principal, "Action": action, **more}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


LAMBDA = trusting({"Service": "lambda.amazonaws.com"})


def test_create_role_names_it_as_aws_does(aws, iam):
    role = iam.create_role(
        RoleName="Worker",
        Path="/service-role/",
        AssumeRolePolicyDocument=LAMBDA,
        Description="works",
        MaxSessionDuration=7200,
        Tags=[{"Key": "a", "Value": "b"}],
        PermissionsBoundary=PASS,
    )["Role"]
    assert role["Arn"] == f"arn:aws:iam::{aws.account}:role/service-role/Worker"
    assert re.fullmatch("AROA[A-Z2-7]{16}", role["RoleId"])
    assert role["AssumeRolePolicyDocument"] == json.loads(LAMBDA)
    got = iam.get_role(RoleName="worker")["Role"]
    assert got.pop("RoleLastUsed") == {}
    assert got == role
    assert (got["Description"], got["MaxSessionDuration"]) == ("works", 7200)
    assert got["PermissionsBoundary"]["PermissionsBoundaryArn"] == PASS


def test_create_role_takes_a_name_once_in_whatever_case(iam, refused):
    iam.create_role(RoleName="Worker", AssumeRolePolicyDocument=LAMBDA)
    with refused("EntityAlreadyExists", "Role with name worker already exists.", 409):
        iam.create_role(RoleName="worker", AssumeRolePolicyDocument=LAMBDA)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "Syntax errors in policy."),
        (trusting({"Service": "lambda"}), 'Invalid principal in policy: "SERVICE":"lambda"'),
        (trusting({"AWS": "somebody"}), 'Invalid principal in policy: "AWS":"somebody"'),
        (
            trusting({"Service": "lambda.amazonaws.com"}, action="s3:GetObject"),
            "AssumeRole policy may only specify STS AssumeRole actions.",
        ),
        (trusting({"Service": "lambda.amazonaws.com"}, Resource="*"), "Has prohibited field Resource"),
    ],
)
def test_create_role_refuses_a_trust_policy_that_is_none(iam, refused, document, message):
    with refused("MalformedPolicyDocument", message, 400):
        iam.create_role(RoleName="r", AssumeRolePolicyDocument=document)


def test_create_role_refuses_to_trust_a_user_who_is_not_there(aws, iam, refused):
    arn = f"arn:aws:iam::{aws.account}:user/ada"
    with refused("MalformedPolicyDocument", f'Invalid principal in policy: "AWS":"{arn}"'):
        iam.create_role(RoleName="r", AssumeRolePolicyDocument=trusting({"AWS": arn}))
    iam.create_user(UserName="ada")
    iam.create_role(RoleName="r", AssumeRolePolicyDocument=trusting({"AWS": [arn, "arn:aws:iam::999999999999:root"]}))


def test_create_role_refuses_a_trust_policy_that_is_too_long(iam, refused):
    long = trusting({"Service": "lambda.amazonaws.com"}, Condition={"StringEquals": {"aws:SourceArn": "x" * 2048}})
    with refused("LimitExceeded", "Cannot exceed quota for ACLSizePerRole: 2048"):
        iam.create_role(RoleName="r", AssumeRolePolicyDocument=long)


def test_get_role_of_another_account_is_not_found(iam, other_aws, refused):
    iam.create_role(RoleName="r", AssumeRolePolicyDocument=LAMBDA)
    with refused("NoSuchEntity", "The role with name r cannot be found.", 404):
        other_aws.client("iam").get_role(RoleName="r")


def test_get_role_is_the_same_in_every_region(aws, iam):
    iam.create_role(RoleName="r", AssumeRolePolicyDocument=LAMBDA)
    assert aws.client("iam", "eu-central-1").get_role(RoleName="r")["Role"] == iam.get_role(RoleName="r")["Role"]


def test_list_roles_pages_to_the_end(iam):
    names = [f"role{number}" for number in range(7)]
    for name in names:
        iam.create_role(RoleName=name, Path=f"/{int(name[4:]) % 2}/", AssumeRolePolicyDocument=LAMBDA)
    pages = list(iam.get_paginator("list_roles").paginate(PaginationConfig={"PageSize": 3}))
    assert [role["RoleName"] for page in pages for role in page["Roles"]] == names
    assert all(role["AssumeRolePolicyDocument"] == json.loads(LAMBDA) for page in pages for role in page["Roles"])
    odd = iam.list_roles(PathPrefix="/1/", MaxItems=3)
    assert [role["RoleName"] for role in odd["Roles"]] == names[1::2]
    assert odd["IsTruncated"] is False


def test_update_role_changes_what_is_given(iam, refused):
    iam.create_role(RoleName="r", AssumeRolePolicyDocument=LAMBDA, Description="old")
    iam.update_role(RoleName="r", MaxSessionDuration=43200)
    role = iam.get_role(RoleName="r")["Role"]
    assert (role["Description"], role["MaxSessionDuration"]) == ("old", 43200)
    assert iam.update_role_description(RoleName="r", Description="new")["Role"]["Description"] == "new"
    with refused("ValidationError"):
        iam.update_role(RoleName="r", MaxSessionDuration=3601 * 100)
    with refused("NoSuchEntity"):
        iam.update_role(RoleName="nothing")


def test_update_assume_role_policy_replaces_the_trust(iam, refused):
    iam.create_role(RoleName="r", AssumeRolePolicyDocument=LAMBDA)
    new = trusting({"Service": ["sagemaker.amazonaws.com", "lambda.amazonaws.com"]})
    iam.update_assume_role_policy(RoleName="r", PolicyDocument=new)
    assert iam.get_role(RoleName="r")["Role"]["AssumeRolePolicyDocument"] == json.loads(new)
    with refused("MalformedPolicyDocument"):
        iam.update_assume_role_policy(RoleName="r", PolicyDocument="{}")


def test_delete_role_waits_until_it_holds_nothing(iam, refused):
    iam.create_role(RoleName="r", AssumeRolePolicyDocument=LAMBDA, PermissionsBoundary=PASS)
    iam.attach_role_policy(RoleName="r", PolicyArn=PASS)
    iam.create_instance_profile(InstanceProfileName="p")
    iam.add_role_to_instance_profile(InstanceProfileName="p", RoleName="r")
    with refused("DeleteConflict", "must remove roles from instance profile first", 409):
        iam.delete_role(RoleName="r")
    iam.remove_role_from_instance_profile(InstanceProfileName="p", RoleName="r")
    with refused("DeleteConflict", "must detach all policies first"):
        iam.delete_role(RoleName="r")
    iam.detach_role_policy(RoleName="r", PolicyArn=PASS)
    iam.delete_role(RoleName="r")
    assert iam.get_policy(PolicyArn=PASS)["Policy"]["PermissionsBoundaryUsageCount"] == 0
    with refused("NoSuchEntity"):
        iam.delete_role(RoleName="r")


def test_tag_role(iam):
    iam.create_role(RoleName="r", AssumeRolePolicyDocument=LAMBDA)
    iam.tag_role(RoleName="r", Tags=[{"Key": "b", "Value": "1"}, {"Key": "a", "Value": "2"}])
    assert iam.list_role_tags(RoleName="r")["Tags"] == [{"Key": "a", "Value": "2"}, {"Key": "b", "Value": "1"}]
    iam.untag_role(RoleName="r", TagKeys=["b"])
    assert iam.get_role(RoleName="r")["Role"]["Tags"] == [{"Key": "a", "Value": "2"}]


def test_policy_documents_are_percent_encoded_on_the_wire(aws, iam):
    iam.create_role(RoleName="r", AssumeRolePolicyDocument=LAMBDA)
    seen = []
    raw = aws.session.client("iam", region_name="us-east-1", endpoint_url=aws.endpoint)
    raw.meta.events.register("after-call.iam.GetRole", lambda http_response, **_: seen.append(http_response.text))
    raw.get_role(RoleName="r")
    encoded = re.search("<AssumeRolePolicyDocument>(.*?)</", seen[0]).group(1)
    assert encoded.startswith("%7B%22Version%22%3A")
    assert unquote(encoded) == LAMBDA


def test_service_linked_role_lives_and_goes(aws, iam, refused):
    role = iam.create_service_linked_role(AWSServiceName="sagemaker.amazonaws.com")["Role"]
    name = role["RoleName"]
    assert role["Path"] == "/aws-service-role/sagemaker.amazonaws.com/"
    assert iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
    with refused("InvalidInput", "has been taken in this account"):
        iam.create_service_linked_role(AWSServiceName="sagemaker.amazonaws.com")
    with refused("UnmodifiableEntity", f"protected role '{name}'"):
        iam.attach_role_policy(RoleName=name, PolicyArn=PASS)
    with refused("UnmodifiableEntity"):
        iam.delete_role(RoleName=name)
    task = iam.delete_service_linked_role(RoleName=name)["DeletionTaskId"]
    assert iam.get_service_linked_role_deletion_status(DeletionTaskId=task)["Status"] == "SUCCEEDED"
    with refused("NoSuchEntity"):
        iam.get_role(RoleName=name)
    with refused("InvalidInput"):
        iam.create_service_linked_role(AWSServiceName="nothing.amazonaws.com")
