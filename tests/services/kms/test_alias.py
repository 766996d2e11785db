"""Aliases stand for keys, wherever an operation takes them."""

from __future__ import annotations

from collections.abc import Callable

from pilvi.testing.server import Account

Earn = Callable[..., tuple[str, str]]


def test_an_alias_stands_for_its_key_and_moves(aws: Account) -> None:
    kms = aws.client("kms")
    one, two = (kms.create_key()["KeyMetadata"] for _ in range(2))
    kms.create_alias(AliasName="alias/app", TargetKeyId=one["KeyId"])
    arn = f"arn:aws:kms:us-east-1:{aws.account}:alias/app"
    for text in ("alias/app", arn):
        sealed = kms.encrypt(KeyId=text, Plaintext=b"x")
        assert sealed["KeyId"] == one["Arn"]
    kms.update_alias(AliasName="alias/app", TargetKeyId=two["Arn"])
    assert kms.describe_key(KeyId="alias/app")["KeyMetadata"]["KeyId"] == two["KeyId"]
    assert kms.decrypt(CiphertextBlob=sealed["CiphertextBlob"])["Plaintext"] == b"x"
    assert kms.list_aliases(KeyId=one["KeyId"])["Aliases"] == []
    (shown,) = kms.list_aliases(KeyId=two["KeyId"])["Aliases"]
    assert (shown["AliasName"], shown["AliasArn"], shown["TargetKeyId"]) == ("alias/app", arn, two["KeyId"])
    assert shown["LastUpdatedDate"] > shown["CreationDate"]


def test_create_alias_refuses(aws: Account, other_aws: Account, error_of: Earn) -> None:
    kms = aws.client("kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName="alias/app", TargetKeyId=key)
    code, message = error_of(kms.create_alias, AliasName="alias/app", TargetKeyId=key)
    assert code == "AlreadyExistsException"
    assert message == f"An alias with the name arn:aws:kms:us-east-1:{aws.account}:alias/app already exists"
    code, message = error_of(kms.create_alias, AliasName="app", TargetKeyId=key)
    assert code == "ValidationException"
    assert message.startswith('Alias must start with the prefix "alias/".')
    assert error_of(kms.create_alias, AliasName="alias/aws/mine", TargetKeyId=key)[0] == "NotAuthorizedException"
    assert error_of(kms.create_alias, AliasName="alias/b", TargetKeyId="alias/app")[0] == "NotFoundException"
    no_key = "11111111-2222-3333-4444-555555555555"
    assert error_of(kms.create_alias, AliasName="alias/b", TargetKeyId=no_key)[0] == "NotFoundException"
    foreign = other_aws.client("kms").create_key()["KeyMetadata"]["Arn"]
    assert error_of(kms.create_alias, AliasName="alias/b", TargetKeyId=foreign)[0] == "AccessDeniedException"


def test_update_alias_keeps_kind_and_use(aws: Account, error_of: Earn) -> None:
    kms = aws.client("kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    mac = kms.create_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName="alias/app", TargetKeyId=key)
    assert error_of(kms.update_alias, AliasName="alias/app", TargetKeyId=mac)[0] == "ValidationException"
    assert error_of(kms.update_alias, AliasName="alias/none", TargetKeyId=key)[0] == "NotFoundException"


def test_delete_alias_leaves_the_key(aws: Account, error_of: Earn) -> None:
    kms = aws.client("kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName="alias/app", TargetKeyId=key)
    kms.delete_alias(AliasName="alias/app")
    code, message = error_of(kms.encrypt, KeyId="alias/app", Plaintext=b"x")
    assert (code, message) == ("NotFoundException", f"Alias arn:aws:kms:us-east-1:{aws.account}:alias/app is not found.")
    assert error_of(kms.delete_alias, AliasName="alias/app")[0] == "NotFoundException"
    kms.encrypt(KeyId=key, Plaintext=b"x")
    kms.create_alias(AliasName="alias/app", TargetKeyId=key)


def test_list_aliases_pages_and_shows_those_of_aws(aws: Account, other_aws: Account) -> None:
    kms = aws.client("kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    for number in range(3):
        kms.create_alias(AliasName=f"alias/app{number}", TargetKeyId=key)
    pages = list(kms.get_paginator("list_aliases").paginate(PaginationConfig={"PageSize": 4}))
    names = [alias["AliasName"] for page in pages for alias in page["Aliases"]]
    assert names == sorted(names)
    assert {"alias/app0", "alias/app2", "alias/aws/s3", "alias/aws/secretsmanager"} <= set(names)
    others = [alias["AliasName"] for alias in other_aws.client("kms").list_aliases(Limit=100)["Aliases"]]
    assert not any(name.startswith("alias/app") for name in others)


def test_operations_on_keys_take_no_alias(aws: Account, error_of: Earn) -> None:
    kms = aws.client("kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName="alias/app", TargetKeyId=key)
    for call in (kms.disable_key, kms.schedule_key_deletion, kms.get_key_policy, kms.list_grants):
        assert error_of(call, KeyId="alias/app") == ("NotFoundException", "Invalid keyId 'alias/app'")
