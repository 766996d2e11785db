"""Customers' managed policies, their versions and where they are attached."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

S3_FULL = "arn:aws:iam::aws:policy/AmazonS3FullAccess"
TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}],
    }
)


def allow(action, resource="*"):
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": resource}]})


READ, WRITE = allow("iam:List*"), allow("iam:Create*")


def test_create_policy_names_it_as_aws_does(aws, iam, refused):
    policy = iam.create_policy(
        PolicyName="Read", Path="/team/", PolicyDocument=READ, Description="reads", Tags=[{"Key": "a", "Value": "b"}]
    )
    policy = policy["Policy"]
    assert policy["Arn"] == f"arn:aws:iam::{aws.account}:policy/team/Read"
    assert re.fullmatch("ANPA[A-Z2-7]{16}", policy["PolicyId"])
    assert (policy["DefaultVersionId"], policy["AttachmentCount"], policy["IsAttachable"]) == ("v1", 0, True)
    got = iam.get_policy(PolicyArn=policy["Arn"])["Policy"]
    assert got["Description"] == "reads"
    assert got["Tags"] == [{"Key": "a", "Value": "b"}]
    with refused("EntityAlreadyExists", "A policy called read already exists. Duplicate names are not allowed.", 409):
        iam.create_policy(PolicyName="read", PolicyDocument=READ)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "Syntax errors in policy."),
        (allow("iam: GetUser"), "Syntax errors in policy."),
        (allow("s3>List*"), "Actions/Conditions must be prefaced by a vendor"),
        (allow("s3:GetObject", "bucket"), "must be in ARN format"),
        ('{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Resource":"*"}]}', "Policy statement must contain actions."),
    ],
)
def test_create_policy_refuses_what_is_none(iam, refused, document, message):
    with refused("MalformedPolicyDocument", message, 400):
        iam.create_policy(PolicyName="p", PolicyDocument=document)


def test_create_policy_stops_at_6144_characters(iam, refused):
    with refused("LimitExceeded", "Cannot exceed quota for PolicySize: 6144"):
        iam.create_policy(PolicyName="p", PolicyDocument=allow([f"s3:Get{'x' * 90}{number}" for number in range(70)]))


def test_get_policy_of_another_account_is_not_found(iam, other_aws, refused):
    arn = iam.create_policy(PolicyName="p", PolicyDocument=READ)["Policy"]["Arn"]
    with refused("NoSuchEntity", f"Policy {arn} was not found."):
        other_aws.client("iam").get_policy(PolicyArn=arn)


def test_list_policies_pages_to_the_end(iam):
    names = [f"p{number}" for number in range(5)]
    for name in names:
        iam.create_policy(PolicyName=name, PolicyDocument=READ)
    local = list(iam.get_paginator("list_policies").paginate(Scope="Local", PaginationConfig={"PageSize": 2}))
    assert [policy["PolicyName"] for page in local for policy in page["Policies"]] == names
    every = iam.get_paginator("list_policies").paginate(PaginationConfig={"PageSize": 7}).build_full_result()["Policies"]
    assert len({policy["Arn"] for policy in every}) == len(every)
    assert names == [policy["PolicyName"] for policy in every][-5:]


def test_list_policies_that_are_attached(iam):
    iam.create_user(UserName="ada")
    arn = iam.create_policy(PolicyName="mine", PolicyDocument=READ)["Policy"]["Arn"]
    iam.create_policy(PolicyName="idle", PolicyDocument=READ)
    for used in (arn, S3_FULL):
        iam.attach_user_policy(UserName="ada", PolicyArn=used)
    iam.put_user_permissions_boundary(UserName="ada", PermissionsBoundary=arn)
    assert {policy["Arn"] for policy in iam.list_policies(OnlyAttached=True)["Policies"]} == {arn, S3_FULL}
    (bound,) = iam.list_policies(PolicyUsageFilter="PermissionsBoundary")["Policies"]
    assert (bound["Arn"], bound["PermissionsBoundaryUsageCount"]) == (arn, 1)


def test_create_policy_version_up_to_five(iam, refused):
    arn = iam.create_policy(PolicyName="p", PolicyDocument=READ)["Policy"]["Arn"]
    for number in range(2, 6):
        version = iam.create_policy_version(PolicyArn=arn, PolicyDocument=WRITE)["PolicyVersion"]
        assert (version["VersionId"], version["IsDefaultVersion"]) == (f"v{number}", False)
    with refused("LimitExceeded", "A managed policy can have up to 5 versions.", 409):
        iam.create_policy_version(PolicyArn=arn, PolicyDocument=WRITE)
    iam.delete_policy_version(PolicyArn=arn, VersionId="v3")
    assert iam.create_policy_version(PolicyArn=arn, PolicyDocument=WRITE, SetAsDefault=True)["PolicyVersion"]["VersionId"] == "v6"
    listed = iam.get_paginator("list_policy_versions").paginate(PolicyArn=arn, PaginationConfig={"PageSize": 2}).build_full_result()
    assert [version["VersionId"] for version in listed["Versions"]] == ["v6", "v5", "v4", "v2", "v1"]
    assert [version["IsDefaultVersion"] for version in listed["Versions"]] == [True, False, False, False, False]


def test_set_default_policy_version_changes_access_at_once(aws, iam, refused):
    ada = aws.user("ada")
    arn = iam.create_policy(PolicyName="p", PolicyDocument=READ)["Policy"]["Arn"]
    iam.attach_user_policy(UserName="ada", PolicyArn=arn)
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=WRITE)
    assert ada.client("iam").list_users()
    iam.set_default_policy_version(PolicyArn=arn, VersionId="v2")
    with refused("AccessDenied"):
        ada.client("iam").list_users()
    assert iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"] == "v2"
    assert iam.get_policy_version(PolicyArn=arn, VersionId="v1")["PolicyVersion"]["Document"] == json.loads(READ)
    with refused("NoSuchEntity", "version v9 does not exist"):
        iam.set_default_policy_version(PolicyArn=arn, VersionId="v9")
    with refused("DeleteConflict", "Cannot delete the default version of a policy."):
        iam.delete_policy_version(PolicyArn=arn, VersionId="v2")


def test_delete_policy_waits_until_nobody_uses_it(iam, refused):
    iam.create_user(UserName="ada")
    arn = iam.create_policy(PolicyName="p", PolicyDocument=READ)["Policy"]["Arn"]
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=WRITE)
    iam.attach_user_policy(UserName="ada", PolicyArn=arn)
    with refused("DeleteConflict", "Cannot delete a policy attached to entities.", 409):
        iam.delete_policy(PolicyArn=arn)
    iam.detach_user_policy(UserName="ada", PolicyArn=arn)
    with refused("DeleteConflict", "This policy has more than one version."):
        iam.delete_policy(PolicyArn=arn)
    iam.delete_policy_version(PolicyArn=arn, VersionId="v2")
    iam.delete_policy(PolicyArn=arn)
    with refused("NoSuchEntity"):
        iam.delete_policy(PolicyArn=arn)


def test_tag_policy(iam):
    arn = iam.create_policy(PolicyName="p", PolicyDocument=READ)["Policy"]["Arn"]
    iam.tag_policy(PolicyArn=arn, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    iam.untag_policy(PolicyArn=arn, TagKeys=["a"])
    assert iam.list_policy_tags(PolicyArn=arn)["Tags"] == [{"Key": "b", "Value": "2"}]
    assert iam.list_policy_tags(PolicyArn=S3_FULL)["Tags"] == []


# -- attachments --------------------------------------------------------------------------------------------------------


def test_attach_to_user_group_and_role_and_list_them(iam):
    arn = iam.create_policy(PolicyName="p", Path="/team/", PolicyDocument=READ)["Policy"]["Arn"]
    iam.create_user(UserName="ada", Path="/lab/")
    iam.create_group(GroupName="devs")
    iam.create_role(RoleName="r", AssumeRolePolicyDocument=TRUST, PermissionsBoundary=arn)
    for _ in range(2):
        iam.attach_user_policy(UserName="ada", PolicyArn=arn)
        iam.attach_group_policy(GroupName="devs", PolicyArn=arn)
        iam.attach_role_policy(RoleName="r", PolicyArn=arn)
    attached = [{"PolicyName": "p", "PolicyArn": arn}]
    assert iam.list_attached_user_policies(UserName="ada")["AttachedPolicies"] == attached
    assert iam.list_attached_group_policies(GroupName="devs")["AttachedPolicies"] == attached
    assert iam.list_attached_role_policies(RoleName="r", PathPrefix="/team/")["AttachedPolicies"] == attached
    assert iam.list_attached_role_policies(RoleName="r", PathPrefix="/other/")["AttachedPolicies"] == []
    policy = iam.get_policy(PolicyArn=arn)["Policy"]
    assert (policy["AttachmentCount"], policy["PermissionsBoundaryUsageCount"]) == (3, 1)
    used = iam.list_entities_for_policy(PolicyArn=arn)
    assert [len(used[f"Policy{noun}s"]) for noun in ("User", "Group", "Role")] == [1, 1, 1]
    assert iam.list_entities_for_policy(PolicyArn=arn, EntityFilter="Group")["PolicyUsers"] == []
    assert iam.list_entities_for_policy(PolicyArn=arn, PathPrefix="/lab/")["PolicyRoles"] == []
    iam.detach_group_policy(GroupName="devs", PolicyArn=arn)
    assert iam.list_attached_group_policies(GroupName="devs")["AttachedPolicies"] == []
    bound = iam.list_entities_for_policy(PolicyArn=arn, PolicyUsageFilter="PermissionsBoundary")
    assert ([role["RoleName"] for role in bound["PolicyRoles"]], bound["PolicyUsers"]) == (["r"], [])


def test_list_entities_for_policy_pages_to_the_end(iam):
    for number in range(5):
        iam.create_user(UserName=f"u{number}")
        iam.attach_user_policy(UserName=f"u{number}", PolicyArn=S3_FULL)
    pages = list(iam.get_paginator("list_entities_for_policy").paginate(PolicyArn=S3_FULL, PaginationConfig={"PageSize": 2}))
    assert [user["UserName"] for page in pages for user in page["PolicyUsers"]] == [f"u{number}" for number in range(5)]
    assert len(pages) == 3


def test_list_attached_policies_pages_to_the_end(iam):
    iam.create_user(UserName="ada")
    arns = [iam.create_policy(PolicyName=f"p{number}", PolicyDocument=READ)["Policy"]["Arn"] for number in range(5)]
    for arn in reversed(arns):
        iam.attach_user_policy(UserName="ada", PolicyArn=arn)
    pages = list(iam.get_paginator("list_attached_user_policies").paginate(UserName="ada", PaginationConfig={"PageSize": 2}))
    assert [policy["PolicyArn"] for page in pages for policy in page["AttachedPolicies"]] == arns


def test_attach_refuses_what_is_not_there(aws, iam, refused):
    iam.create_user(UserName="ada")
    arn = f"arn:aws:iam::{aws.account}:policy/nothing"
    with refused("NoSuchEntity", f"Policy {arn} does not exist or is not attachable.", 404):
        iam.attach_user_policy(UserName="ada", PolicyArn=arn)
    with refused("NoSuchEntity", "The role with name r cannot be found."):
        iam.attach_role_policy(RoleName="r", PolicyArn=S3_FULL)
    with refused("NoSuchEntity", f"Policy {S3_FULL} was not found."):
        iam.detach_user_policy(UserName="ada", PolicyArn=S3_FULL)


def test_attach_stops_at_the_quota(iam, refused):
    iam.create_group(GroupName="g")
    for number in range(10):
        arn = iam.create_policy(PolicyName=f"p{number}", PolicyDocument=READ)["Policy"]["Arn"]
        iam.attach_group_policy(GroupName="g", PolicyArn=arn)
    with refused("LimitExceeded", "Cannot exceed quota for PoliciesPerGroup: 10"):
        iam.attach_group_policy(GroupName="g", PolicyArn=S3_FULL)


def test_attaching_at_once_counts_right(iam):
    arn = iam.create_policy(PolicyName="p", PolicyDocument=READ)["Policy"]["Arn"]
    for number in range(12):
        iam.create_user(UserName=f"u{number}")
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda number: iam.attach_user_policy(UserName=f"u{number}", PolicyArn=arn), range(12)))
    assert iam.get_policy(PolicyArn=arn)["Policy"]["AttachmentCount"] == 12
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda number: iam.detach_user_policy(UserName=f"u{number}", PolicyArn=arn), range(12)))
    iam.delete_policy(PolicyArn=arn)


def test_detaching_ends_what_was_granted(aws, iam):
    ada = aws.user("ada")
    arn = iam.create_policy(PolicyName="p", PolicyDocument=READ)["Policy"]["Arn"]
    iam.attach_user_policy(UserName="ada", PolicyArn=arn)
    assert ada.client("iam").list_users()
    iam.detach_user_policy(UserName="ada", PolicyArn=arn)
    with pytest.raises(ClientError, match="AccessDenied"):
        ada.client("iam").list_users()


def test_boundary_narrows_and_goes(aws, iam, refused):
    ada = aws.user("ada", json.loads(allow("*")))
    arn = iam.create_policy(PolicyName="p", PolicyDocument=WRITE)["Policy"]["Arn"]
    iam.put_user_permissions_boundary(UserName="ada", PermissionsBoundary=arn)
    with refused("AccessDenied", "no permissions boundary allows the iam:ListUsers action"):
        ada.client("iam").list_users()
    with refused("DeleteConflict"):
        iam.delete_policy(PolicyArn=arn)
    iam.delete_user_permissions_boundary(UserName="ada")
    assert ada.client("iam").list_users()
    with refused("NoSuchEntity"):
        iam.delete_user_permissions_boundary(UserName="ada")
    iam.delete_policy(PolicyArn=arn)


def test_explicit_deny_wins(aws, iam, refused):
    deny = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "iam:ListUsers", "Resource": "*"}]}
    ada = aws.user("ada", json.loads(allow("*")), deny)
    with refused("AccessDenied", "with an explicit deny in an identity-based policy"):
        ada.client("iam").list_users()
    assert ada.client("iam").list_groups()["Groups"] == []


# -- inline -------------------------------------------------------------------------------------------------------------


INLINE = {
    "user": ("put_user_policy", "get_user_policy", "list_user_policies", "delete_user_policy"),
    "group": ("put_group_policy", "get_group_policy", "list_group_policies", "delete_group_policy"),
    "role": ("put_role_policy", "get_role_policy", "list_role_policies", "delete_role_policy"),
}


@pytest.mark.parametrize("noun", INLINE)
def test_inline_policies(iam, refused, noun):
    named = {f"{noun.title()}Name": "x"}
    getattr(iam, f"create_{noun}")(**named, **({"AssumeRolePolicyDocument": TRUST} if noun == "role" else {}))
    put, get, listing, delete = (getattr(iam, name) for name in INLINE[noun])
    for number in (3, 1, 2):
        put(**named, PolicyName=f"p{number}", PolicyDocument=READ)
    put(**named, PolicyName="p1", PolicyDocument=WRITE)
    got = get(**named, PolicyName="p1")
    assert (got["PolicyDocument"], got["PolicyName"], got[f"{noun.title()}Name"]) == (json.loads(WRITE), "p1", "x")
    assert listing(**named)["PolicyNames"] == ["p1", "p2", "p3"]
    pages = list(iam.get_paginator(INLINE[noun][2]).paginate(**named, PaginationConfig={"PageSize": 2}))
    assert [name for page in pages for name in page["PolicyNames"]] == ["p1", "p2", "p3"]
    with refused("MalformedPolicyDocument", "Syntax errors in policy."):
        put(**named, PolicyName="p4", PolicyDocument="[]")
    with refused("LimitExceeded", "bytes exceeded for"):
        put(**named, PolicyName="p4", PolicyDocument=allow([f"s3:{'x' * 100}{number}" for number in range(110)]))
    delete(**named, PolicyName="p1")
    with refused("NoSuchEntity", f"The {noun} policy with name p1 cannot be found.", 404):
        get(**named, PolicyName="p1")
    with refused("NoSuchEntity"):
        delete(**named, PolicyName="p1")
