"""Secrets: made, found by every name, changed, deleted and restored."""

from __future__ import annotations

from collections.abc import Callable

from pilvi.testing.server import Account, TestServer

Earn = Callable[..., tuple[str, str]]
Days = Callable[[float], None]


def test_create_secret_and_read_it_by_every_name(aws: Account) -> None:
    sm = aws.client("secretsmanager")
    made = sm.create_secret(Name="app/db", SecretString="s3cret", Description="a db", Tags=[{"Key": "team", "Value": "ml"}])
    assert made["ARN"].startswith(f"arn:aws:secretsmanager:us-east-1:{aws.account}:secret:app/db-")
    for name in ("app/db", made["ARN"], made["ARN"][:-7]):
        found = sm.get_secret_value(SecretId=name)
        assert (found["SecretString"], found["VersionId"], found["VersionStages"]) == ("s3cret", made["VersionId"], ["AWSCURRENT"])
    seen = sm.describe_secret(SecretId="app/db")
    assert (seen["Description"], seen["Tags"]) == ("a db", [{"Key": "team", "Value": "ml"}])
    assert seen["VersionIdsToStages"] == {made["VersionId"]: ["AWSCURRENT"]}
    assert "LastAccessedDate" in seen
    binary = sm.create_secret(Name="binary", SecretBinary=b"\x00\xff")
    assert sm.get_secret_value(SecretId=binary["ARN"])["SecretBinary"] == b"\x00\xff"


def test_create_secret_refuses(aws: Account, error_of: Earn) -> None:
    sm = aws.client("secretsmanager")
    sm.create_secret(Name="one", SecretString="x")
    code, message = error_of(sm.create_secret, Name="one", SecretString="x")
    assert (code, message) == ("ResourceExistsException", "The operation failed because the secret one already exists.")
    assert error_of(sm.create_secret, Name="a b")[0] == "InvalidParameterException"
    assert error_of(sm.create_secret, Name="two", SecretString="x", SecretBinary=b"x")[0] == "InvalidRequestException"
    code, message = error_of(sm.create_secret, Name="two", SecretString="x", KmsKeyId="alias/none")
    assert code == "EncryptionFailure"
    token = "t" * 32
    first = sm.create_secret(Name="again", SecretString="x", ClientRequestToken=token)
    assert sm.create_secret(Name="again", SecretString="x", ClientRequestToken=token)["ARN"] == first["ARN"]
    assert error_of(sm.create_secret, Name="again", SecretString="y", ClientRequestToken=token)[0] == "ResourceExistsException"
    assert error_of(sm.get_secret_value, SecretId="none") == (
        "ResourceNotFoundException",
        "Secrets Manager can't find the specified secret.",
    )


def test_a_value_is_sealed_and_returned_with_rights_only(aws: Account, server: TestServer, error_of: Earn) -> None:
    sm = aws.client("secretsmanager")
    arn = sm.create_secret(Name="hidden", SecretString="a value that nobody may find")["ARN"]
    for path in server.config.data_dir.rglob("records.sqlite*"):
        assert b"a value that nobody may find" not in path.read_bytes()
    may = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": arn}]}
    assert aws.user("may", may).client("secretsmanager").get_secret_value(SecretId="hidden")["SecretString"]
    assert error_of(aws.user("maynot").client("secretsmanager").get_secret_value, SecretId="hidden")[0] == "AccessDeniedException"


def test_a_key_of_ones_own_decides_too(aws: Account, error_of: Earn) -> None:
    sm, kms = aws.client("secretsmanager"), aws.client("kms")
    key = kms.create_key()["KeyMetadata"]["Arn"]
    sm.create_secret(Name="own", SecretString="x", KmsKeyId=key)
    assert sm.describe_secret(SecretId="own")["KmsKeyId"] == key
    everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "secretsmanager:*", "Resource": "*"}]}
    user = aws.user("nokey", everything).client("secretsmanager")
    assert error_of(user.get_secret_value, SecretId="own") == ("AccessDeniedException", "Access to KMS is not allowed")
    kms.disable_key(KeyId=key)
    assert error_of(sm.get_secret_value, SecretId="own")[0] == "DecryptionFailure"


def test_update_secret(aws: Account) -> None:
    sm = aws.client("secretsmanager")
    first = sm.create_secret(Name="one", SecretString="1")["VersionId"]
    assert "VersionId" not in sm.update_secret(SecretId="one", Description="new")
    second = sm.update_secret(SecretId="one", SecretString="2")["VersionId"]
    seen = sm.describe_secret(SecretId="one")
    assert (seen["Description"], seen["VersionIdsToStages"]) == ("new", {first: ["AWSPREVIOUS"], second: ["AWSCURRENT"]})


def test_delete_and_restore_secret(later_aws: Account, days_pass: Days, error_of: Earn) -> None:
    sm = later_aws.client("secretsmanager")
    sm.create_secret(Name="one", SecretString="x")
    both = {"RecoveryWindowInDays": 7, "ForceDeleteWithoutRecovery": True}
    assert error_of(sm.delete_secret, SecretId="one", **both)[0] == "InvalidParameterException"
    assert error_of(sm.delete_secret, SecretId="one", RecoveryWindowInDays=6)[0] == "InvalidParameterException"
    date = sm.delete_secret(SecretId="one", RecoveryWindowInDays=7)["DeletionDate"]
    assert sm.describe_secret(SecretId="one")["DeletedDate"] == date
    marked = "You can't perform this operation on the secret because it was marked for deletion."
    assert error_of(sm.get_secret_value, SecretId="one") == ("InvalidRequestException", marked)
    assert error_of(sm.put_secret_value, SecretId="one", SecretString="y") == ("InvalidRequestException", marked)
    assert error_of(sm.create_secret, Name="one")[0] == "InvalidRequestException"
    assert sm.list_secrets()["SecretList"] == []
    assert len(sm.list_secrets(IncludePlannedDeletion=True)["SecretList"]) == 1
    sm.restore_secret(SecretId="one")
    assert sm.get_secret_value(SecretId="one")["SecretString"] == "x"
    sm.delete_secret(SecretId="one", RecoveryWindowInDays=7)
    days_pass(7.1)
    assert error_of(sm.restore_secret, SecretId="one")[0] == "ResourceNotFoundException"
    sm.create_secret(Name="one", SecretString="new")
    sm.delete_secret(SecretId="one", ForceDeleteWithoutRecovery=True)
    assert error_of(sm.describe_secret, SecretId="one")[0] == "ResourceNotFoundException"


def test_list_secrets_filters_sorts_and_pages(aws: Account, other_aws: Account, error_of: Earn) -> None:
    sm = aws.client("secretsmanager")
    for number, team in enumerate(("ml", "ml", "hr")):
        sm.create_secret(Name=f"app/{number}", Description=f"Secret of {team}", Tags=[{"Key": "team", "Value": team}])

    def names(key: str, *values: str) -> list[str]:
        return [entry["Name"] for entry in sm.list_secrets(Filters=[{"Key": key, "Values": list(values)}])["SecretList"]]

    assert names("name", "app/") == ["app/0", "app/1", "app/2"]
    assert names("name", "!app/1") == ["app/0", "app/2"]
    assert names("tag-value", "hr") == ["app/2"]
    assert names("description", "OF") == ["app/0", "app/1", "app/2"]
    assert names("all", "hr") == ["app/2"]
    by_name = sm.list_secrets(SortBy="name", SortOrder="desc", MaxResults=2)
    assert [entry["Name"] for entry in by_name["SecretList"]] == ["app/2", "app/1"]
    pages = list(sm.get_paginator("list_secrets").paginate(PaginationConfig={"PageSize": 2}))
    assert [len(page["SecretList"]) for page in pages] == [2, 1]
    assert error_of(sm.list_secrets, NextToken="nonsense")[0] == "InvalidNextTokenException"
    assert other_aws.client("secretsmanager").list_secrets()["SecretList"] == []
    found = sm.batch_get_secret_value(SecretIdList=["app/0", "none"])
    assert [entry["ErrorCode"] for entry in found["Errors"]] == ["ResourceNotFoundException"] * 2


def test_tags_come_and_go(aws: Account, error_of: Earn) -> None:
    sm = aws.client("secretsmanager")
    sm.create_secret(Name="one")
    sm.tag_resource(SecretId="one", Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    sm.untag_resource(SecretId="one", TagKeys=["a"])
    assert sm.describe_secret(SecretId="one")["Tags"] == [{"Key": "b", "Value": "2"}]
    assert error_of(sm.tag_resource, SecretId="one", Tags=[{"Key": "aws:x", "Value": "1"}])[0] == "InvalidParameterException"


def test_get_random_password(aws: Account, error_of: Earn) -> None:
    sm = aws.client("secretsmanager")
    password = sm.get_random_password()["RandomPassword"]
    assert len(password) == 32
    assert any(letter.isdigit() for letter in password)
    plain = sm.get_random_password(PasswordLength=100, ExcludePunctuation=True, ExcludeNumbers=True, ExcludeCharacters="aeiou")
    assert plain["RandomPassword"].isalpha()
    assert not set("aeiou") & set(plain["RandomPassword"])
    assert error_of(sm.get_random_password, PasswordLength=3)[0] == "InvalidParameterException"
