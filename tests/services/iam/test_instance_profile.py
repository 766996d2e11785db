"""Instance profiles."""

from __future__ import annotations

import json
import re

import pytest

TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
    }
)


@pytest.fixture
def role(iam):
    return iam.create_role(RoleName="R", AssumeRolePolicyDocument=TRUST)["Role"]


def test_create_instance_profile_names_it_as_aws_does(aws, iam, refused):
    profile = iam.create_instance_profile(InstanceProfileName="P", Path="/x/", Tags=[{"Key": "a", "Value": "b"}])["InstanceProfile"]
    assert profile["Arn"] == f"arn:aws:iam::{aws.account}:instance-profile/x/P"
    assert re.fullmatch("AIPA[A-Z2-7]{16}", profile["InstanceProfileId"])
    assert profile["Roles"] == []
    assert iam.get_instance_profile(InstanceProfileName="p")["InstanceProfile"] == profile
    with refused("EntityAlreadyExists", "Instance Profile p already exists.", 409):
        iam.create_instance_profile(InstanceProfileName="p")


def test_add_role_to_instance_profile_holds_one(iam, role, refused):
    iam.create_instance_profile(InstanceProfileName="p")
    iam.add_role_to_instance_profile(InstanceProfileName="p", RoleName="r")
    (held,) = iam.get_instance_profile(InstanceProfileName="p")["InstanceProfile"]["Roles"]
    assert (held["Arn"], held["AssumeRolePolicyDocument"]) == (role["Arn"], json.loads(TRUST))
    assert [found["InstanceProfileName"] for found in iam.list_instance_profiles_for_role(RoleName="R")["InstanceProfiles"]] == [
        "p"
    ]
    with refused("LimitExceeded", "InstanceSessionsPerInstanceProfile: 1", 409):
        iam.add_role_to_instance_profile(InstanceProfileName="p", RoleName="R")
    with refused("DeleteConflict", "must remove roles from instance profile first"):
        iam.delete_instance_profile(InstanceProfileName="p")
    iam.remove_role_from_instance_profile(InstanceProfileName="p", RoleName="R")
    with refused("NoSuchEntity", "The role with name R cannot be found."):
        iam.remove_role_from_instance_profile(InstanceProfileName="p", RoleName="R")
    iam.delete_instance_profile(InstanceProfileName="p")
    with refused("NoSuchEntity", "Instance Profile p cannot be found.", 404):
        iam.get_instance_profile(InstanceProfileName="p")


def test_add_role_to_instance_profile_needs_pass_role(aws, iam, role, refused):
    iam.create_instance_profile(InstanceProfileName="p")
    statement = {"Effect": "Allow", "Action": "iam:AddRoleToInstanceProfile", "Resource": "*"}
    ada = aws.user("ada", {"Version": "2012-10-17", "Statement": [statement]})
    with refused("AccessDenied", "iam:PassRole"):
        ada.client("iam").add_role_to_instance_profile(InstanceProfileName="p", RoleName="R")


def test_list_instance_profiles_pages_to_the_end(iam, other_aws):
    names = [f"p{number}" for number in range(5)]
    for name in names:
        iam.create_instance_profile(InstanceProfileName=name)
    pages = list(iam.get_paginator("list_instance_profiles").paginate(PaginationConfig={"PageSize": 2}))
    assert [profile["InstanceProfileName"] for page in pages for profile in page["InstanceProfiles"]] == names
    assert other_aws.client("iam").list_instance_profiles()["InstanceProfiles"] == []


def test_tag_instance_profile(iam):
    iam.create_instance_profile(InstanceProfileName="p")
    iam.tag_instance_profile(InstanceProfileName="p", Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    iam.untag_instance_profile(InstanceProfileName="p", TagKeys=["a"])
    assert iam.list_instance_profile_tags(InstanceProfileName="p")["Tags"] == [{"Key": "b", "Value": "2"}]
