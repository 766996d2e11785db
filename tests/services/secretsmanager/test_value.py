"""Versions and their labels."""

from __future__ import annotations

from collections.abc import Callable

from pilvi.testing.server import Account

Earn = Callable[..., tuple[str, str]]


def test_put_secret_value_moves_current_to_previous(aws: Account, error_of: Earn) -> None:
    sm = aws.client("secretsmanager")
    one = sm.create_secret(Name="s", SecretString="1")["VersionId"]
    two = sm.put_secret_value(SecretId="s", SecretString="2")
    assert two["VersionStages"] == ["AWSCURRENT"]
    assert sm.get_secret_value(SecretId="s")["SecretString"] == "2"
    assert sm.get_secret_value(SecretId="s", VersionStage="AWSPREVIOUS")["VersionId"] == one
    three = sm.put_secret_value(SecretId="s", SecretString="3")["VersionId"]
    stages = sm.describe_secret(SecretId="s")["VersionIdsToStages"]
    assert stages == {two["VersionId"]: ["AWSPREVIOUS"], three: ["AWSCURRENT"]}
    listed = sm.list_secret_version_ids(SecretId="s", IncludeDeprecated=True)["Versions"]
    assert {entry["VersionId"] for entry in listed} == {one, two["VersionId"], three}
    assert listed[0]["KmsKeyIds"] == ["DefaultEncryptionKey"]
    assert len(sm.list_secret_version_ids(SecretId="s")["Versions"]) == 2
    code, message = error_of(sm.get_secret_value, SecretId="s", VersionStage="AWSPENDING")
    assert message == "Secrets Manager can't find the specified secret value for staging label: AWSPENDING"
    assert code == "ResourceNotFoundException"
    wrong = {"VersionId": one, "VersionStage": "AWSCURRENT"}
    assert error_of(sm.get_secret_value, SecretId="s", **wrong)[0] == "InvalidRequestException"


def test_put_secret_value_is_made_once_for_a_token(aws: Account, error_of: Earn) -> None:
    sm, token = aws.client("secretsmanager"), "t" * 32
    sm.create_secret(Name="s", SecretString="1")
    for _ in range(2):
        made = sm.put_secret_value(SecretId="s", SecretString="2", ClientRequestToken=token)
        assert made["VersionId"] == token
    assert error_of(sm.put_secret_value, SecretId="s", SecretString="3", ClientRequestToken=token)[0] == "ResourceExistsException"
    assert error_of(sm.put_secret_value, SecretId="s")[0] == "InvalidRequestException"


def test_update_secret_version_stage(aws: Account, error_of: Earn) -> None:
    sm = aws.client("secretsmanager")
    one = sm.create_secret(Name="s", SecretString="1")["VersionId"]
    two = sm.put_secret_value(SecretId="s", SecretString="2", VersionStages=["TEST"])["VersionId"]
    assert sm.get_secret_value(SecretId="s")["SecretString"] == "1"
    request = {"SecretId": "s", "VersionStage": "AWSCURRENT"}
    code, message = error_of(sm.update_secret_version_stage, MoveToVersionId=two, **request)
    assert code == "InvalidParameterException"
    assert f"currently attached to version {one}" in message
    assert error_of(sm.update_secret_version_stage, RemoveFromVersionId=one, **request)[0] == "InvalidRequestException"
    assert error_of(sm.update_secret_version_stage, **request)[0] == "InvalidParameterException"
    nowhere = {"MoveToVersionId": "n" * 32, "RemoveFromVersionId": one}
    assert error_of(sm.update_secret_version_stage, **nowhere, **request)[0] == "ResourceNotFoundException"
    sm.update_secret_version_stage(MoveToVersionId=two, RemoveFromVersionId=one, **request)
    assert sm.get_secret_value(SecretId="s")["SecretString"] == "2"
    assert sm.describe_secret(SecretId="s")["VersionIdsToStages"][one] == ["AWSPREVIOUS"]
    sm.update_secret_version_stage(SecretId="s", VersionStage="TEST", RemoveFromVersionId=two)
    assert sm.describe_secret(SecretId="s")["VersionIdsToStages"][two] == ["AWSCURRENT"]


def test_batch_get_secret_value_tells_what_it_cannot(aws: Account, error_of: Earn) -> None:
    sm = aws.client("secretsmanager")
    for name in ("a", "b"):
        sm.create_secret(Name=name, SecretString=name)
    found = sm.batch_get_secret_value(SecretIdList=["a", "b", "c"])
    assert [entry["SecretString"] for entry in found["SecretValues"]] == ["a", "b"]
    assert [(entry["SecretId"], entry["ErrorCode"]) for entry in found["Errors"]] == [("c", "ResourceNotFoundException")]
    assert len(sm.batch_get_secret_value(Filters=[{"Key": "name", "Values": ["a", "b"]}])["SecretValues"]) == 2
    assert error_of(sm.batch_get_secret_value)[0] == "InvalidParameterException"
    allow = {"Effect": "Allow", "Action": "secretsmanager:BatchGetSecretValue", "Resource": "*"}
    user = aws.user("batch", {"Version": "2012-10-17", "Statement": [allow]}).client("secretsmanager")
    found = user.batch_get_secret_value(SecretIdList=["a"])
    assert (found["SecretValues"], found["Errors"][0]["ErrorCode"]) == ([], "AccessDeniedException")
