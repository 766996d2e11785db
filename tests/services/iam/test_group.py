"""Groups and their members."""

from __future__ import annotations

import json
import re

READ = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iam:List*", "Resource": "*"}]}


def test_create_group_names_it_as_aws_does(aws, iam, refused):
    group = iam.create_group(GroupName="Devs", Path="/eng/")["Group"]
    assert group["Arn"] == f"arn:aws:iam::{aws.account}:group/eng/Devs"
    assert re.fullmatch("AGPA[A-Z2-7]{16}", group["GroupId"])
    with refused("EntityAlreadyExists", "Group with name devs already exists.", 409):
        iam.create_group(GroupName="devs")


def test_members_have_the_rights_of_their_groups(aws, iam, refused):
    ada = aws.user("ada")
    iam.create_group(GroupName="devs")
    iam.put_group_policy(GroupName="devs", PolicyName="read", PolicyDocument=json.dumps(READ))
    with refused("AccessDenied"):
        ada.client("iam").list_users()
    iam.add_user_to_group(GroupName="devs", UserName="ada")
    assert ada.client("iam").list_users()["Users"]
    iam.remove_user_from_group(GroupName="devs", UserName="ada")
    with refused("AccessDenied"):
        ada.client("iam").list_users()


def test_get_group_pages_its_members(iam, refused):
    iam.create_group(GroupName="devs")
    names = [f"user{number}" for number in range(7)]
    for name in names:
        iam.create_user(UserName=name)
        iam.add_user_to_group(GroupName="devs", UserName=name)
    iam.add_user_to_group(GroupName="devs", UserName="USER0")
    pages = list(iam.get_paginator("get_group").paginate(GroupName="devs", PaginationConfig={"PageSize": 3}))
    assert [user["UserName"] for page in pages for user in page["Users"]] == names
    assert len(pages) == 3
    with refused("NoSuchEntity", "The group with name ops cannot be found.", 404):
        iam.get_group(GroupName="ops")


def test_list_groups_pages_to_the_end(iam, other_aws):
    names = [f"g{number}" for number in range(5)]
    for name in names:
        iam.create_group(GroupName=name)
    pages = list(iam.get_paginator("list_groups").paginate(PaginationConfig={"PageSize": 2}))
    assert [group["GroupName"] for page in pages for group in page["Groups"]] == names
    assert other_aws.client("iam").list_groups()["Groups"] == []


def test_list_groups_for_user(iam, refused):
    iam.create_user(UserName="ada")
    for name in ("b", "a", "c"):
        iam.create_group(GroupName=name)
        iam.add_user_to_group(GroupName=name, UserName="ada")
    pages = list(iam.get_paginator("list_groups_for_user").paginate(UserName="ada", PaginationConfig={"PageSize": 2}))
    assert [group["GroupName"] for page in pages for group in page["Groups"]] == ["a", "b", "c"]
    with refused("NoSuchEntity"):
        iam.list_groups_for_user(UserName="nobody")


def test_add_user_to_group_stops_at_ten(iam, refused):
    iam.create_user(UserName="ada")
    for number in range(10):
        iam.create_group(GroupName=f"g{number}")
        iam.add_user_to_group(GroupName=f"g{number}", UserName="ada")
    iam.create_group(GroupName="g10")
    with refused("LimitExceeded", "GroupsPerUser: 10"):
        iam.add_user_to_group(GroupName="g10", UserName="ada")


def test_add_user_to_group_needs_both(iam, refused):
    iam.create_user(UserName="ada")
    iam.create_group(GroupName="devs")
    with refused("NoSuchEntity", "group with name ops"):
        iam.add_user_to_group(GroupName="ops", UserName="ada")
    with refused("NoSuchEntity", "user with name bob"):
        iam.add_user_to_group(GroupName="devs", UserName="bob")


def test_update_group_keeps_members_and_policies(aws, iam, refused):
    ada = aws.user("ada")
    iam.create_group(GroupName="devs")
    iam.create_group(GroupName="ops")
    iam.add_user_to_group(GroupName="devs", UserName="ada")
    iam.attach_group_policy(GroupName="devs", PolicyArn="arn:aws:iam::aws:policy/IAMReadOnlyAccess")
    with refused("EntityAlreadyExists"):
        iam.update_group(GroupName="devs", NewGroupName="OPS")
    iam.update_group(GroupName="devs", NewGroupName="Makers", NewPath="/x/")
    assert [user["UserName"] for user in iam.get_group(GroupName="makers")["Users"]] == ["ada"]
    assert iam.list_groups_for_user(UserName="ada")["Groups"][0]["Arn"].endswith(":group/x/Makers")
    assert ada.client("iam").list_users()["Users"]
    used = iam.list_entities_for_policy(PolicyArn="arn:aws:iam::aws:policy/IAMReadOnlyAccess")
    assert [group["GroupName"] for group in used["PolicyGroups"]] == ["Makers"]


def test_delete_group_waits_until_it_is_empty(iam, refused):
    iam.create_user(UserName="ada")
    iam.create_group(GroupName="devs")
    iam.add_user_to_group(GroupName="devs", UserName="ada")
    iam.put_group_policy(GroupName="devs", PolicyName="read", PolicyDocument=json.dumps(READ))
    with refused("DeleteConflict", "must remove users from group first", 409):
        iam.delete_group(GroupName="devs")
    iam.remove_user_from_group(GroupName="devs", UserName="ada")
    with refused("DeleteConflict", "must delete policies first"):
        iam.delete_group(GroupName="devs")
    iam.delete_group_policy(GroupName="devs", PolicyName="read")
    iam.delete_group(GroupName="devs")
    with refused("NoSuchEntity"):
        iam.delete_group(GroupName="devs")
