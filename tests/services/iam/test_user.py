"""Users."""

from __future__ import annotations

import json
import re

ALLOW_ALL = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]})
BOUNDARY = "arn:aws:iam::aws:policy/PowerUserAccess"


def test_create_user_names_it_as_aws_does(aws, iam):
    user = iam.create_user(UserName="Ada", Path="/lab/", Tags=[{"Key": "team", "Value": "ml"}])["User"]
    assert user["Arn"] == f"arn:aws:iam::{aws.account}:user/lab/Ada"
    assert re.fullmatch("AIDA[A-Z2-7]{16}", user["UserId"])
    assert (user["UserName"], user["Path"], user["Tags"]) == ("Ada", "/lab/", [{"Key": "team", "Value": "ml"}])
    assert iam.get_user(UserName="Ada")["User"] == user


def test_create_user_takes_a_name_once_in_whatever_case(iam, refused):
    iam.create_user(UserName="Ada")
    with refused("EntityAlreadyExists", "User with name ADA already exists.", 409):
        iam.create_user(UserName="ADA", Path="/other/")
    assert iam.get_user(UserName="aDa")["User"]["UserName"] == "Ada"


def test_create_user_refuses_a_boundary_that_is_not_there(aws, iam, refused):
    with refused("NoSuchEntity", "nothing"):
        iam.create_user(UserName="ada", PermissionsBoundary=f"arn:aws:iam::{aws.account}:policy/nothing")
    with refused("NoSuchEntity"):
        iam.get_user(UserName="ada")


def test_get_user_without_a_name_is_the_caller(aws, iam):
    root = iam.get_user()["User"]
    assert (root["Arn"], root["UserId"]) == (f"arn:aws:iam::{aws.account}:root", aws.account)
    assert "UserName" not in root
    ada = aws.user("ada", {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iam:GetUser", "Resource": "*"}]})
    assert ada.client("iam").get_user()["User"]["UserName"] == "ada"


def test_get_user_of_another_account_is_not_found(iam, other_aws, refused):
    iam.create_user(UserName="ada")
    with refused("NoSuchEntity", "The user with name ada cannot be found.", 404):
        other_aws.client("iam").get_user(UserName="ada")


def test_list_users_pages_to_the_end(iam):
    names = [f"user{number:02d}" for number in range(12)]
    for name in names:
        iam.create_user(UserName=name, Path="/even/" if int(name[4:]) % 2 == 0 else "/odd/")
    pages = list(iam.get_paginator("list_users").paginate(PaginationConfig={"PageSize": 5}))
    assert [len(page["Users"]) for page in pages] == [5, 5, 2]
    assert [user["UserName"] for page in pages for user in page["Users"]] == names
    even = iam.get_paginator("list_users").paginate(PathPrefix="/even/", PaginationConfig={"PageSize": 2}).build_full_result()
    assert [user["UserName"] for user in even["Users"]] == names[::2]


def test_list_users_refuses_a_foreign_marker(iam, refused):
    with refused("ValidationError"):
        iam.list_users(Marker="no such marker")


def test_update_user_takes_everything_along(aws, iam):
    ada = aws.user("ada", json.loads(ALLOW_ALL))
    iam.create_group(GroupName="g")
    iam.add_user_to_group(GroupName="g", UserName="ada")
    iam.attach_user_policy(UserName="ada", PolicyArn=BOUNDARY)
    iam.put_user_permissions_boundary(UserName="ada", PermissionsBoundary=BOUNDARY)
    iam.update_user(UserName="ada", NewUserName="Grace", NewPath="/navy/")
    user = iam.get_user(UserName="grace")["User"]
    assert user["Arn"] == f"arn:aws:iam::{aws.account}:user/navy/Grace"
    assert user["PermissionsBoundary"]["PermissionsBoundaryArn"] == BOUNDARY
    assert ada.client("sts").get_caller_identity()["Arn"] == user["Arn"]
    assert [member["UserName"] for member in iam.get_group(GroupName="g")["Users"]] == ["Grace"]
    assert iam.list_access_keys(UserName="Grace")["AccessKeyMetadata"][0]["UserName"] == "Grace"
    used = iam.list_entities_for_policy(PolicyArn=BOUNDARY)
    assert [entity["UserName"] for entity in used["PolicyUsers"]] == ["Grace"]
    iam.remove_user_from_group(GroupName="g", UserName="grace")
    iam.delete_group(GroupName="g")


def test_update_user_refuses_a_name_that_is_taken(iam, refused):
    iam.create_user(UserName="ada")
    iam.create_user(UserName="grace")
    with refused("EntityAlreadyExists", "User with name GRACE already exists."):
        iam.update_user(UserName="ada", NewUserName="GRACE")
    iam.update_user(UserName="ada", NewUserName="ADA")
    assert iam.get_user(UserName="ada")["User"]["UserName"] == "ADA"


def test_delete_user_waits_until_it_holds_nothing(aws, iam, refused):
    ada = aws.user("ada", json.loads(ALLOW_ALL))
    iam.create_group(GroupName="g")
    iam.add_user_to_group(GroupName="g", UserName="ada")
    iam.attach_user_policy(UserName="ada", PolicyArn=BOUNDARY)
    iam.put_user_permissions_boundary(UserName="ada", PermissionsBoundary=BOUNDARY)
    with refused("DeleteConflict", "must delete access keys first", 409):
        iam.delete_user(UserName="ada")
    iam.delete_access_key(UserName="ada", AccessKeyId=ada.access_key_id)
    with refused("DeleteConflict", "must detach all policies first"):
        iam.delete_user(UserName="ada")
    iam.detach_user_policy(UserName="ada", PolicyArn=BOUNDARY)
    with refused("DeleteConflict", "must delete policies first"):
        iam.delete_user(UserName="ada")
    iam.delete_user_policy(UserName="ada", PolicyName="p0")
    with refused("DeleteConflict", "must remove users from group first"):
        iam.delete_user(UserName="ada")
    iam.remove_user_from_group(GroupName="g", UserName="ada")
    iam.delete_user(UserName="ada")
    assert iam.get_policy(PolicyArn=BOUNDARY)["Policy"]["PermissionsBoundaryUsageCount"] == 0
    with refused("NoSuchEntity", "The user with name ada cannot be found."):
        iam.delete_user(UserName="ada")


def test_tag_user_replaces_by_key_in_whatever_case(iam, refused):
    iam.create_user(UserName="ada", Tags=[{"Key": "Team", "Value": "a"}])
    iam.tag_user(UserName="ada", Tags=[{"Key": "team", "Value": "b"}, {"Key": "z", "Value": ""}])
    assert iam.list_user_tags(UserName="ada")["Tags"] == [{"Key": "team", "Value": "b"}, {"Key": "z", "Value": ""}]
    iam.untag_user(UserName="ada", TagKeys=["TEAM", "unknown"])
    assert iam.list_user_tags(UserName="ada")["Tags"] == [{"Key": "z", "Value": ""}]
    with refused("InvalidInput", "Duplicate tag keys found"):
        iam.tag_user(UserName="ada", Tags=[{"Key": "a", "Value": "1"}, {"Key": "A", "Value": "2"}])
    with refused("LimitExceeded", "TagsPerUser: 50"):
        iam.tag_user(UserName="ada", Tags=[{"Key": f"k{number}", "Value": ""} for number in range(50)])


def test_list_user_tags_pages_to_the_end(iam):
    iam.create_user(UserName="ada", Tags=[{"Key": f"k{number}", "Value": ""} for number in range(7)])
    pages = list(iam.get_paginator("list_user_tags").paginate(UserName="ada", PaginationConfig={"PageSize": 3}))
    assert [tag["Key"] for page in pages for tag in page["Tags"]] == [f"k{number}" for number in range(7)]
    assert len(pages) == 3


def test_a_new_user_may_do_nothing(aws, refused):
    with refused("AccessDenied", f"User: arn:aws:iam::{aws.account}:user/ada is not authorized to perform: iam:ListUsers", 403):
        aws.user("ada").client("iam").list_users()
