"""Which permission on which entity an IAM call needs, seen from callers who have just that."""

from __future__ import annotations

import json

import pytest

BOUNDARY = "arn:aws:iam::aws:policy/AmazonS3FullAccess"
TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
    }
)


def allow(action, resource="*", **more):
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": resource, **more}]}


def test_permissions_follow_the_path(aws, iam, refused):
    iam.create_user(UserName="inside", Path="/lab/")
    iam.create_user(UserName="outside")
    ada = aws.user("ada", allow("iam:*", f"arn:aws:iam::{aws.account}:user/lab/*")).client("iam")
    assert ada.get_user(UserName="inside")["User"]["Path"] == "/lab/"
    assert ada.create_user(UserName="new", Path="/lab/")
    assert ada.list_users(PathPrefix="/lab/")["Users"]
    for call in (
        lambda: ada.get_user(UserName="outside"),
        lambda: ada.create_user(UserName="new2"),
        lambda: ada.list_users(),
        lambda: ada.update_user(UserName="inside", NewPath="/"),
        lambda: ada.create_role(RoleName="r", AssumeRolePolicyDocument=TRUST),
    ):
        with refused("AccessDenied", "is not authorized to perform"):
            call()
    ada.update_user(UserName="inside", NewUserName="renamed")


def test_denials_name_the_entity(aws, iam, refused):
    bob = aws.user("bob").client("iam")
    iam.create_role(RoleName="R", Path="/x/", AssumeRolePolicyDocument=TRUST)
    prefix = f"arn:aws:iam::{aws.account}:"
    cases = {
        "role/x/R": lambda: bob.get_role(RoleName="r"),
        "role/none": lambda: bob.delete_role(RoleName="none"),
        "role/": lambda: bob.list_roles(),
        "policy/": lambda: bob.list_policies(),
        "user/bob": lambda: bob.get_user(),
        "group/g": lambda: bob.add_user_to_group(GroupName="g", UserName="bob"),
        "instance-profile/p": lambda: bob.create_instance_profile(InstanceProfileName="p"),
        "policy/t/p": lambda: bob.create_policy(PolicyName="p", Path="/t/", PolicyDocument=json.dumps(allow("*"))),
    }
    for resource, call in cases.items():
        with refused("AccessDenied", f"{prefix}{resource}"):
            call()


def test_users_may_be_made_only_within_a_boundary(aws, refused):
    condition = {"StringEquals": {"iam:PermissionsBoundary": BOUNDARY}}
    ada = aws.user("ada", allow(["iam:CreateUser", "iam:AttachUserPolicy"], Condition=condition)).client("iam")
    with refused("AccessDenied"):
        ada.create_user(UserName="free")
    ada.create_user(UserName="bound", PermissionsBoundary=BOUNDARY)
    ada.attach_user_policy(UserName="bound", PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess")


def test_only_some_policies_may_be_attached(aws, iam, refused):
    iam.create_group(GroupName="g")
    condition = {"ArnEquals": {"iam:PolicyARN": BOUNDARY}}
    ada = aws.user("ada", allow("iam:AttachGroupPolicy", Condition=condition)).client("iam")
    ada.attach_group_policy(GroupName="g", PolicyArn=BOUNDARY)
    with refused("AccessDenied"):
        ada.attach_group_policy(GroupName="g", PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess")


def test_tags_of_request_and_entity_count(aws, iam, refused):
    iam.create_user(UserName="ours", Tags=[{"Key": "team", "Value": "ml"}])
    iam.create_user(UserName="theirs", Tags=[{"Key": "team", "Value": "hr"}])
    deleting = allow("iam:DeleteUser", Condition={"StringEquals": {"aws:ResourceTag/team": "ml"}})
    creating = allow(["iam:CreateUser", "iam:TagUser"], Condition={"StringEquals": {"aws:RequestTag/team": "ml"}})
    ada = aws.user("ada", deleting, creating).client("iam")
    ada.create_user(UserName="new", Tags=[{"Key": "team", "Value": "ml"}])
    with refused("AccessDenied"):
        ada.create_user(UserName="other", Tags=[{"Key": "team", "Value": "hr"}])
    with refused("AccessDenied"):
        ada.delete_user(UserName="theirs")
    ada.delete_user(UserName="ours")


BOUNDING = {
    "user": ("put_user_permissions_boundary", "delete_user_permissions_boundary"),
    "role": ("put_role_permissions_boundary", "delete_role_permissions_boundary"),
}


@pytest.mark.parametrize("noun", BOUNDING)
def test_put_permissions_boundary_replaces_and_lifts(iam, refused, noun):
    named = {f"{noun.title()}Name": "x"}
    getattr(iam, f"create_{noun}")(**named, **({"AssumeRolePolicyDocument": TRUST} if noun == "role" else {}))
    put, lift = (getattr(iam, name) for name in BOUNDING[noun])
    other = "arn:aws:iam::aws:policy/PowerUserAccess"
    for arn in (other, BOUNDARY, BOUNDARY):
        put(**named, PermissionsBoundary=arn)
        assert getattr(iam, f"get_{noun}")(**named)[noun.title()]["PermissionsBoundary"] == {
            "PermissionsBoundaryType": "Policy",
            "PermissionsBoundaryArn": arn,
        }
    counts = [iam.get_policy(PolicyArn=arn)["Policy"]["PermissionsBoundaryUsageCount"] for arn in (other, BOUNDARY)]
    assert counts == [0, 1]
    lift(**named)
    assert "PermissionsBoundary" not in getattr(iam, f"get_{noun}")(**named)[noun.title()]
    with refused("NoSuchEntity", f"the {noun} with name x"):
        lift(**named)
    with refused("NoSuchEntity", "does not exist or is not attachable"):
        put(**named, PermissionsBoundary="arn:aws:iam::aws:policy/Nothing")
