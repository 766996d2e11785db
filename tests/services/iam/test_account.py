"""The account as a whole."""

from __future__ import annotations

import json

READ = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iam:List*", "Resource": "*"}]}
TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
    }
)


def test_account_alias_is_unique_over_all_accounts(aws, iam, other_aws, refused):
    alias, new = f"first-{aws.account}", f"second-{aws.account}"
    iam.create_account_alias(AccountAlias=alias)
    with refused("EntityAlreadyExists", alias, 409):
        other_aws.client("iam").create_account_alias(AccountAlias=alias)
    iam.create_account_alias(AccountAlias=new)
    assert iam.list_account_aliases()["AccountAliases"] == [new]
    other_aws.client("iam").create_account_alias(AccountAlias=alias)
    with refused("NoSuchEntity"):
        iam.delete_account_alias(AccountAlias=alias)
    iam.delete_account_alias(AccountAlias=new)
    assert iam.list_account_aliases()["AccountAliases"] == []


def test_get_account_summary_counts(aws, iam):
    before = iam.get_account_summary()["SummaryMap"]
    assert (before["Users"], before["AccountAccessKeysPresent"]) == (0, 1)
    aws.user("ada")
    iam.create_policy(PolicyName="p", PolicyDocument=json.dumps(READ))
    after = iam.get_account_summary()["SummaryMap"]
    assert (after["Users"], after["Policies"], after["PolicyVersionsInUse"]) == (1, 1, 1)
    assert after["AccessKeysPerUserQuota"] == 2


def test_get_account_authorization_details_shows_everything_in_pages(aws, iam):
    arn = iam.create_policy(PolicyName="p", PolicyDocument=json.dumps(READ))["Policy"]["Arn"]
    aws.user("ada", READ)
    iam.create_group(GroupName="g")
    iam.add_user_to_group(GroupName="g", UserName="ada")
    iam.attach_group_policy(GroupName="g", PolicyArn=arn)
    iam.create_role(RoleName="r", AssumeRolePolicyDocument=TRUST, PermissionsBoundary=arn)
    iam.create_instance_profile(InstanceProfileName="i")
    iam.add_role_to_instance_profile(InstanceProfileName="i", RoleName="r")
    kinds = ["User", "Group", "Role", "LocalManagedPolicy"]
    paginator = iam.get_paginator("get_account_authorization_details")
    details = paginator.paginate(Filter=kinds, PaginationConfig={"PageSize": 1}).build_full_result()
    (user,), (group,), (role,) = details["UserDetailList"], details["GroupDetailList"], details["RoleDetailList"]
    assert (user["GroupList"], user["UserPolicyList"]) == (["g"], [{"PolicyName": "p0", "PolicyDocument": READ}])
    assert group["AttachedManagedPolicies"] == [{"PolicyName": "p", "PolicyArn": arn}]
    assert role["PermissionsBoundary"]["PermissionsBoundaryArn"] == arn
    assert role["InstanceProfileList"][0]["InstanceProfileName"] == "i"
    assert role["AssumeRolePolicyDocument"] == json.loads(TRUST)
    (policy,) = details["Policies"]
    assert policy["PolicyVersionList"][0]["Document"] == READ
    every = paginator.paginate(PaginationConfig={"PageSize": 7}).build_full_result()
    assert len({found["Arn"] for found in every["Policies"]}) == len(every["Policies"]) > 20
    only = iam.get_account_authorization_details(Filter=["Role"])
    assert ([found["RoleName"] for found in only["RoleDetailList"]], only["UserDetailList"], only["Policies"]) == (["r"], [], [])
