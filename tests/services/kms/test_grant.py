"""Grants let a principal in beside all policies, under constraints, until they are retired or revoked."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from pilvi.testing.server import Account, TestServer

Earn = Callable[..., tuple[str, str]]


@pytest.fixture
def key(aws: Account) -> str:
    return str(aws.client("kms").create_key()["KeyMetadata"]["Arn"])


def arn_of(account: Account, name: str) -> str:
    return f"arn:aws:iam::{account.account}:user/{name}"


def test_a_grantee_decrypts_until_the_grant_is_revoked(aws: Account, key: str, error_of: Earn) -> None:
    kms = aws.client("kms")
    user = aws.user("worker").client("kms")
    blob = kms.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"]
    assert error_of(user.decrypt, CiphertextBlob=blob)[0] == "AccessDeniedException"
    made = kms.create_grant(KeyId=key, GranteePrincipal=arn_of(aws, "worker"), Operations=["Decrypt"], Name="work")
    assert user.decrypt(CiphertextBlob=blob, GrantTokens=[made["GrantToken"]])["Plaintext"] == b"x"
    assert user.decrypt(CiphertextBlob=blob)["Plaintext"] == b"x"
    assert error_of(user.encrypt, KeyId=key, Plaintext=b"x")[0] == "AccessDeniedException"
    (shown,) = kms.list_grants(KeyId=key)["Grants"]
    assert (shown["GrantId"], shown["Name"], shown["KeyId"]) == (made["GrantId"], "work", key)
    assert shown["IssuingAccount"] == f"arn:aws:iam::{aws.account}:root"
    kms.revoke_grant(KeyId=key, GrantId=made["GrantId"])
    assert error_of(user.decrypt, CiphertextBlob=blob)[0] == "AccessDeniedException"
    assert error_of(kms.revoke_grant, KeyId=key, GrantId=made["GrantId"])[0] == "InvalidGrantIdException"


def test_a_service_decrypts_by_grant_until_it_is_revoked(aws: Account, key: str, server: TestServer) -> None:
    kms = aws.client("kms")
    blob = kms.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"]
    account = server.cloud.identities.root(aws.account)
    service = server.cloud.context(account, "s3").as_service("s3.amazonaws.com")
    with pytest.raises(Exception, match="AccessDenied"):
        service.call("kms", "Decrypt", CiphertextBlob=blob)
    grant = kms.create_grant(KeyId=key, GranteePrincipal="s3.amazonaws.com", Operations=["Decrypt"])["GrantId"]
    assert service.call("kms", "Decrypt", CiphertextBlob=blob)["Plaintext"] == b"x"
    kms.revoke_grant(KeyId=key, GrantId=grant)
    with pytest.raises(Exception, match="AccessDenied"):
        service.call("kms", "Decrypt", CiphertextBlob=blob)


@pytest.mark.parametrize(
    ("constraint", "fits", "fails"),
    [
        ({"EncryptionContextEquals": {"a": "1"}}, {"a": "1"}, {"a": "1", "b": "2"}),
        ({"EncryptionContextSubset": {"a": "1"}}, {"a": "1", "b": "2"}, {"b": "2"}),
    ],
)
def test_constraints_bind(
    aws: Account, key: str, error_of: Earn, constraint: Any, fits: dict[str, str], fails: dict[str, str]
) -> None:
    kms = aws.client("kms")
    user = aws.user("worker").client("kms")
    kms.create_grant(
        KeyId=key, GranteePrincipal=arn_of(aws, "worker"), Operations=["Encrypt", "DescribeKey"], Constraints=constraint
    )
    user.encrypt(KeyId=key, Plaintext=b"x", EncryptionContext=fits)
    assert error_of(user.encrypt, KeyId=key, Plaintext=b"x", EncryptionContext=fails)[0] == "AccessDeniedException"
    assert error_of(user.encrypt, KeyId=key, Plaintext=b"x")[0] == "AccessDeniedException"
    user.describe_key(KeyId=key)


def test_a_deny_outweighs_a_grant(aws: Account, key: str, error_of: Earn) -> None:
    kms = aws.client("kms")
    deny = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "kms:Encrypt", "Resource": "*"}]}
    user = aws.user("worker", deny).client("kms")
    kms.create_grant(KeyId=key, GranteePrincipal=arn_of(aws, "worker"), Operations=["Encrypt"])
    code, message = error_of(user.encrypt, KeyId=key, Plaintext=b"x")
    assert (code, message.endswith("with an explicit deny in an identity-based policy")) == ("AccessDeniedException", True)


def test_create_grant_under_a_name_is_made_once(aws: Account, key: str, error_of: Earn) -> None:
    kms = aws.client("kms")
    request = {"KeyId": key, "GranteePrincipal": arn_of(aws, "worker"), "Operations": ["Encrypt"], "Name": "work"}
    one, two = kms.create_grant(**request), kms.create_grant(**request)
    assert one["GrantId"] == two["GrantId"]
    assert one["GrantToken"] != two["GrantToken"]
    other = kms.create_grant(**{**request, "Operations": ["Decrypt"]})
    assert other["GrantId"] != one["GrantId"]
    assert [grant["GrantId"] for grant in kms.list_grants(KeyId=key, GrantId=one["GrantId"])["Grants"]] == [one["GrantId"]]
    assert len(kms.list_grants(KeyId=key, GranteePrincipal=arn_of(aws, "worker"))["Grants"]) == 2
    pages = list(kms.get_paginator("list_grants").paginate(KeyId=key, PaginationConfig={"PageSize": 1}))
    assert [len(page["Grants"]) for page in pages] == [1, 1]
    assert error_of(kms.list_grants, KeyId=key, GrantId="f" * 64)[0] == "InvalidGrantIdException"


def test_create_grant_refuses(aws: Account, key: str, error_of: Earn) -> None:
    kms = aws.client("kms")
    mac = kms.create_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")["KeyMetadata"]["KeyId"]
    grantee = {"GranteePrincipal": arn_of(aws, "worker")}
    assert error_of(kms.create_grant, KeyId=mac, Operations=["Encrypt"], **grantee)[0] == "ValidationException"
    assert error_of(kms.create_grant, KeyId=key, Operations=["Sign"], **grantee)[0] == "ValidationException"
    assert error_of(kms.create_grant, KeyId=key, Operations=["Encrypt"])[0] == "ValidationException"
    assert error_of(kms.create_grant, KeyId=key, Operations=["Encrypt"], GranteePrincipal="me")[0] == "InvalidArnException"
    assert error_of(kms.create_grant, KeyId=key, Operations=["Encrypt"], DryRun=True, **grantee)[0] == "DryRunOperationException"
    kms.disable_key(KeyId=key)
    assert error_of(kms.create_grant, KeyId=key, Operations=["Encrypt"], **grantee)[0] == "DisabledException"
    assert kms.list_grants(KeyId=key)["Grants"] == []


def test_grants_are_retired_by_whom_they_name(aws: Account, other_aws: Account, key: str, error_of: Earn) -> None:
    kms = aws.client("kms")
    retirer, worker = aws.user("retirer").client("kms"), aws.user("worker").client("kms")
    request = {"KeyId": key, "GranteePrincipal": arn_of(aws, "worker"), "RetiringPrincipal": arn_of(aws, "retirer")}
    made = kms.create_grant(Operations=["Encrypt"], **request)
    listed = kms.list_retirable_grants(RetiringPrincipal=arn_of(aws, "retirer"))["Grants"]
    assert [grant["GrantId"] for grant in listed] == [made["GrantId"]]
    assert error_of(worker.retire_grant, GrantToken=made["GrantToken"])[0] == "AccessDeniedException"
    assert error_of(other_aws.client("kms").retire_grant, GrantToken=made["GrantToken"])[0] == "AccessDeniedException"
    assert error_of(other_aws.client("kms").list_retirable_grants, RetiringPrincipal=arn_of(aws, "retirer"))[0] == (
        "AccessDeniedException"
    )
    retirer.retire_grant(GrantToken=made["GrantToken"])
    assert error_of(retirer.retire_grant, KeyId=key, GrantId=made["GrantId"])[0] in (
        "InvalidGrantIdException",
        "AccessDeniedException",
    )
    made = kms.create_grant(Operations=["Encrypt", "RetireGrant"], **request)
    worker.retire_grant(KeyId=key, GrantId=made["GrantId"])
    made = kms.create_grant(Operations=["Encrypt"], **request)
    kms.retire_grant(KeyId=key, GrantId=made["GrantId"])
    assert kms.list_grants(KeyId=key)["Grants"] == []
    assert error_of(kms.retire_grant, GrantToken="bm90aGluZw==")[0] == "InvalidGrantTokenException"
    assert error_of(kms.retire_grant)[0] == "ValidationException"


def test_a_grantee_hands_on_no_more_than_it_has(aws: Account, key: str, error_of: Earn) -> None:
    kms = aws.client("kms")
    lender, user = aws.user("lender").client("kms"), aws.user("borrower").client("kms")
    subset = {"EncryptionContextSubset": {"a": "1"}}
    kms.create_grant(KeyId=key, GranteePrincipal=arn_of(aws, "lender"), Operations=["Encrypt", "CreateGrant"], Constraints=subset)
    request = {"KeyId": key, "GranteePrincipal": arn_of(aws, "borrower")}
    assert error_of(lender.create_grant, Operations=["Decrypt"], Constraints=subset, **request)[0] == "AccessDeniedException"
    assert error_of(lender.create_grant, Operations=["Encrypt"], **request)[0] == "AccessDeniedException"
    lender.create_grant(Operations=["Encrypt"], Constraints=subset, **request)
    user.encrypt(KeyId=key, Plaintext=b"x", EncryptionContext={"a": "1"})
    assert error_of(user.encrypt, KeyId=key, Plaintext=b"x")[0] == "AccessDeniedException"


def test_a_grantee_hands_on_the_resource_it_was_given_for(aws: Account, key: str, error_of: Earn, server: TestServer) -> None:
    trail = {"SourceArn": "arn:aws:cloudtrail:us-east-1:123456789012:trail/t"}
    operations = ["Encrypt", "CreateGrant"]
    aws.client("kms").create_grant(KeyId=key, GranteePrincipal="cloudtrail.amazonaws.com", Operations=operations, Constraints=trail)
    root = server.cloud.identities.root(aws.account)
    service = server.cloud.context(root, "cloudtrail").as_service("cloudtrail.amazonaws.com", source_arn=trail["SourceArn"])
    request = {"KeyId": key, "GranteePrincipal": "s3.amazonaws.com", "Operations": ["Encrypt"]}
    with pytest.raises(Exception, match="A grant cannot give more"):
        service.call("kms", "CreateGrant", **request)
    service.call("kms", "CreateGrant", Constraints=trail, **request)


def test_another_account_works_by_grant(aws: Account, other_aws: Account, key: str, error_of: Earn) -> None:
    kms = aws.client("kms")
    blob = kms.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"]
    guest = other_aws.user("guest").client("kms")
    assert error_of(guest.decrypt, CiphertextBlob=blob)[0] == "AccessDeniedException"
    kms.create_grant(KeyId=key, GranteePrincipal=arn_of(other_aws, "guest"), Operations=["Decrypt"])
    assert guest.decrypt(CiphertextBlob=blob)["Plaintext"] == b"x"


def test_a_role_session_works_by_its_roles_grant(aws: Account, key: str) -> None:
    kms = aws.client("kms")
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{aws.account}:root"}, "Action": "sts:AssumeRole"}],
    }
    role = aws.client("iam").create_role(RoleName="worker", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    user = aws.user("u", {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}]})
    found = user.client("sts").assume_role(RoleArn=role, RoleSessionName="session")["Credentials"]
    session = aws.with_keys(found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"]).client("kms")
    kms.create_grant(KeyId=key, GranteePrincipal=role, Operations=["GenerateDataKey"])
    session.generate_data_key(KeyId=key, KeySpec="AES_256")
