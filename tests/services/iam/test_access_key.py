"""Access keys."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

OWN_KEYS = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "iam:*AccessKey*", "Resource": "arn:aws:iam::*:user/${aws:username}"}],
}


def whoami(account, key):
    return account.with_keys(key["AccessKeyId"], key["SecretAccessKey"]).client("sts").get_caller_identity()


def test_create_access_key_works_at_once(aws, iam):
    iam.create_user(UserName="ada")
    key = iam.create_access_key(UserName="ada")["AccessKey"]
    assert key["AccessKeyId"].startswith("AKIA")
    assert len(key["AccessKeyId"]) == 20
    assert len(key["SecretAccessKey"]) == 40
    assert (key["UserName"], key["Status"]) == ("ada", "Active")
    assert whoami(aws, key)["Arn"] == f"arn:aws:iam::{aws.account}:user/ada"


def test_create_access_key_stops_at_two(iam, refused):
    iam.create_user(UserName="ada")
    first = iam.create_access_key(UserName="ada")["AccessKey"]
    iam.create_access_key(UserName="ada")
    with refused("LimitExceeded", "Cannot exceed quota for AccessKeysPerUser: 2", 409):
        iam.create_access_key(UserName="ada")
    iam.delete_access_key(UserName="ada", AccessKeyId=first["AccessKeyId"])
    iam.create_access_key(UserName="ada")


def test_create_access_key_without_a_name_is_for_the_caller(aws):
    ada = aws.user("ada", OWN_KEYS)
    key = ada.client("iam").create_access_key()["AccessKey"]
    assert whoami(aws, key)["Arn"] == f"arn:aws:iam::{aws.account}:user/ada"


def test_create_access_key_for_the_root_user(aws, iam):
    key = iam.create_access_key()["AccessKey"]
    assert whoami(aws, key)["Arn"] == f"arn:aws:iam::{aws.account}:root"
    assert {held["AccessKeyId"] for held in iam.list_access_keys()["AccessKeyMetadata"]} == {aws.access_key_id, key["AccessKeyId"]}


def test_create_access_key_for_another_is_denied(aws, iam, refused):
    iam.create_user(UserName="bob")
    ada = aws.user("ada", OWN_KEYS)
    with refused("AccessDenied", f"arn:aws:iam::{aws.account}:user/bob"):
        ada.client("iam").create_access_key(UserName="bob")


def test_list_access_keys_never_shows_a_secret(aws, iam, server):
    iam.create_user(UserName="ada")
    key = iam.create_access_key(UserName="ada")["AccessKey"]
    (listed,) = iam.list_access_keys(UserName="ada")["AccessKeyMetadata"]
    assert listed == {name: value for name, value in key.items() if name != "SecretAccessKey"}
    kept = server.cloud.rows("", "", "iam", "AccessKey").get(key["AccessKeyId"])
    assert key["SecretAccessKey"] not in repr(kept)


def test_update_access_key_switches_it_off_and_on(aws, iam):
    iam.create_user(UserName="ada")
    key = iam.create_access_key(UserName="ada")["AccessKey"]
    iam.update_access_key(UserName="ada", AccessKeyId=key["AccessKeyId"], Status="Inactive")
    with pytest.raises(ClientError, match="InvalidClientTokenId"):
        whoami(aws, key)
    iam.update_access_key(UserName="ada", AccessKeyId=key["AccessKeyId"], Status="Active")
    assert whoami(aws, key)["Account"] == aws.account


def test_update_access_key_of_somebody_else_is_not_found(aws, iam, refused):
    iam.create_user(UserName="ada")
    bob = aws.user("bob")
    with refused("NoSuchEntity", f"The Access Key with id {bob.access_key_id} cannot be found."):
        iam.update_access_key(UserName="ada", AccessKeyId=bob.access_key_id, Status="Inactive")


def test_delete_access_key_ends_it(aws, iam, refused):
    iam.create_user(UserName="ada")
    key = iam.create_access_key(UserName="ada")["AccessKey"]
    assert whoami(aws, key)
    iam.delete_access_key(UserName="ada", AccessKeyId=key["AccessKeyId"])
    with pytest.raises(ClientError, match="InvalidClientTokenId"):
        whoami(aws, key)
    with refused("NoSuchEntity", key["AccessKeyId"]):
        iam.delete_access_key(UserName="ada", AccessKeyId=key["AccessKeyId"])


def test_list_access_keys_of_nobody_is_not_found(iam, refused):
    with refused("NoSuchEntity", "The user with name nobody cannot be found."):
        iam.list_access_keys(UserName="nobody")
