"""Key policies decide: without them no IAM policy counts; with them another account may, when its own policies say so too."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from pilvi.core.errors import ServiceError
from pilvi.testing.server import Account, TestServer

Earn = Callable[..., tuple[str, str]]


def statement(principal: Any, action: Any = "kms:*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Principal": principal, "Action": action, "Resource": "*", **more}


def policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def iam(*actions: str, resource: str = "*") -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": resource}]}


def root(account: Account) -> dict[str, str]:
    return {"AWS": f"arn:aws:iam::{account.account}:root"}


def test_the_default_policy_lets_iam_decide(aws: Account, error_of: Earn) -> None:
    kms = aws.client("kms")
    key = kms.create_key()["KeyMetadata"]
    document = json.loads(kms.get_key_policy(KeyId=key["KeyId"], PolicyName="default")["Policy"])
    assert document["Id"] == "key-default-1"
    assert document["Statement"] == [statement(root(aws), Sid="Enable IAM User Permissions")]
    assert kms.list_key_policies(KeyId=key["KeyId"])["PolicyNames"] == ["default"]
    may = aws.user("may", iam("kms:Encrypt", resource=key["Arn"])).client("kms")
    may_not = aws.user("maynot").client("kms")
    may.encrypt(KeyId=key["KeyId"], Plaintext=b"x")
    assert error_of(may.describe_key, KeyId=key["KeyId"])[0] == "AccessDeniedException"
    code, message = error_of(may_not.encrypt, KeyId=key["KeyId"], Plaintext=b"x")
    assert code == "AccessDeniedException"
    assert message == (
        f"User: arn:aws:iam::{aws.account}:user/maynot is not authorized to perform: kms:Encrypt on resource: {key['Arn']} "
        "because no identity-based policy allows the kms:Encrypt action"
    )


def test_a_policy_without_root_blocks_iam(aws: Account, error_of: Earn) -> None:
    kms = aws.client("kms")
    user = aws.user("admin", iam("kms:*"))
    arn = f"arn:aws:iam::{aws.account}:user/admin"
    key = user.client("kms").create_key(Policy=policy(statement({"AWS": arn})))["KeyMetadata"]["KeyId"]
    user.client("kms").encrypt(KeyId=key, Plaintext=b"x")
    other = aws.user("other", iam("kms:*")).client("kms")
    for client in (other, kms):
        code, message = error_of(client.encrypt, KeyId=key, Plaintext=b"x")
        assert code == "AccessDeniedException"
        assert message.endswith("because no resource-based policy allows the kms:Encrypt action")
    user.client("kms").put_key_policy(KeyId=key, PolicyName="default", Policy=policy(statement(root(aws))))
    other.encrypt(KeyId=key, Plaintext=b"x")


def test_a_named_user_needs_no_iam_policy(aws: Account) -> None:
    kms = aws.client("kms")
    user = aws.user("bare")
    named = statement({"AWS": f"arn:aws:iam::{aws.account}:user/bare"}, "kms:Encrypt")
    key = kms.create_key(Policy=policy(statement(root(aws)), named))["KeyMetadata"]["KeyId"]
    user.client("kms").encrypt(KeyId=key, Plaintext=b"x")


def test_put_key_policy_does_not_lock_its_caller_out(aws: Account, error_of: Earn) -> None:
    kms = aws.client("kms")
    aws.user("someone")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    only = policy(statement({"AWS": f"arn:aws:iam::{aws.account}:user/someone"}))
    refused = ("MalformedPolicyDocumentException", "The new key policy will not allow you to update the key policy in the future.")
    assert error_of(kms.put_key_policy, KeyId=key, Policy=only) == refused
    assert error_of(kms.create_key, Policy=only) == refused
    kms.encrypt(KeyId=key, Plaintext=b"x")
    kms.put_key_policy(KeyId=key, Policy=only, BypassPolicyLockoutSafetyCheck=True)
    assert error_of(kms.encrypt, KeyId=key, Plaintext=b"x")[0] == "AccessDeniedException"


@pytest.mark.parametrize(
    "text", ["nonsense", "[]", "{}", policy({"Effect": "Allow", "Action": "kms:*", "Resource": "*"}), policy(statement("someone"))]
)
def test_put_key_policy_refuses_what_is_none(aws: Account, error_of: Earn, text: str) -> None:
    kms = aws.client("kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    before = kms.get_key_policy(KeyId=key)["Policy"]
    assert error_of(kms.put_key_policy, KeyId=key, Policy=text)[0] == "MalformedPolicyDocumentException"
    nobody = policy(statement(root(aws)), statement({"AWS": f"arn:aws:iam::{aws.account}:role/none"}))
    _, message = error_of(kms.put_key_policy, KeyId=key, Policy=nobody)
    assert message == "Policy contains a statement with one or more invalid principals."
    long = policy(statement(root(aws), Sid="x" * 33000))
    assert error_of(kms.put_key_policy, KeyId=key, Policy=long)[0] == "LimitExceededException"
    assert error_of(kms.get_key_policy, KeyId=key, PolicyName="other")[0] == "NotFoundException"
    assert kms.get_key_policy(KeyId=key)["Policy"] == before


def test_another_account_decrypts_after_both_policies(aws: Account, other_aws: Account, error_of: Earn) -> None:
    kms = aws.client("kms")
    key = kms.create_key()["KeyMetadata"]
    blob = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"x")["CiphertextBlob"]
    without, stranger = other_aws.user("without"), other_aws.user("stranger", iam("kms:Decrypt", resource=key["Arn"]))
    assert error_of(stranger.client("kms").decrypt, CiphertextBlob=blob)[0] == "AccessDeniedException"
    shared = policy(statement(root(aws)), statement(root(other_aws), ["kms:Decrypt", "kms:DisableKey"]))
    kms.put_key_policy(KeyId=key["KeyId"], Policy=shared)
    assert stranger.client("kms").decrypt(CiphertextBlob=blob)["Plaintext"] == b"x"
    assert error_of(without.client("kms").decrypt, CiphertextBlob=blob)[0] == "AccessDeniedException"
    assert other_aws.client("kms").decrypt(CiphertextBlob=blob)["KeyId"] == key["Arn"]
    # Managing is for the key's own account, whatever its policy says.
    assert error_of(other_aws.client("kms").disable_key, KeyId=key["Arn"])[0] == "AccessDeniedException"


@pytest.mark.parametrize(
    ("condition", "fits", "fails"),
    [
        ({"StringEquals": {"kms:EncryptionContext:team": "ml"}}, {"team": "ml", "a": "1"}, {"team": "hr"}),
        ({"ForAllValues:StringEquals": {"kms:EncryptionContextKeys": ["team"]}}, {"team": "ml"}, {"team": "ml", "a": "1"}),
        ({"StringEquals": {"kms:KeySpec": "SYMMETRIC_DEFAULT", "kms:KeyOrigin": "AWS_KMS"}}, {}, None),
        ({"StringEquals": {"kms:KeyUsage": "SIGN_VERIFY"}}, None, {}),
        ({"StringEquals": {"kms:ViaService": "s3.us-east-1.amazonaws.com"}}, None, {}),
        ({"StringEquals": {"kms:RequestAlias": "alias/app"}}, None, {}),
        ({"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/app"}}, {}, None),
        ({"StringEquals": {"aws:ResourceTag/team": "ml"}}, {}, None),
        ({"StringEquals": {"kms:EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}, "Bool": {"kms:MultiRegion": "false"}}, {}, None),
    ],
)
def test_condition_keys_decide(
    aws: Account, error_of: Earn, condition: Any, fits: dict[str, str] | None, fails: dict[str, str] | None
) -> None:
    kms = aws.client("kms")
    key = kms.create_key(Tags=[{"TagKey": "team", "TagValue": "ml"}])["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName="alias/app", TargetKeyId=key)
    document = iam("kms:Encrypt")
    document["Statement"][0]["Condition"] = condition
    user = aws.user("bound", document).client("kms")
    if fits is not None:
        user.encrypt(KeyId=key, Plaintext=b"x", EncryptionContext=fits)
    if fails is not None:
        assert error_of(user.encrypt, KeyId=key, Plaintext=b"x", EncryptionContext=fails)[0] == "AccessDeniedException"
    if "kms:RequestAlias" in str(condition):
        user.encrypt(KeyId="alias/app", Plaintext=b"x")


def test_a_service_comes_as_via_service(aws: Account, server: TestServer, error_of: Earn) -> None:
    """What S3 asks in a user's name may be allowed where the user's own asking is not."""
    kms = aws.client("kms")
    key = kms.create_key()["KeyMetadata"]
    document = iam("kms:GenerateDataKey", "kms:Decrypt")
    document["Statement"][0]["Condition"] = {"StringEquals": {"kms:ViaService": "s3.us-east-1.amazonaws.com"}}
    user = aws.user("through", document)
    assert error_of(user.client("kms").generate_data_key, KeyId=key["KeyId"], KeySpec="AES_256")[0] == "AccessDeniedException"
    identity = server.cloud.identities.find(user.access_key_id)
    assert identity is not None
    ctx = server.cloud.context(identity.principal, "s3")
    made = ctx.call("kms", "GenerateDataKey", KeyId=key["KeyId"], KeySpec="AES_256")
    assert ctx.call("kms", "Decrypt", CiphertextBlob=made["CiphertextBlob"])["Plaintext"] == made["Plaintext"]
    with pytest.raises(ServiceError, match="AccessDenied"):
        server.cloud.context(identity.principal, "sqs").call("kms", "GenerateDataKey", KeyId=key["KeyId"], KeySpec="AES_256")


def test_aws_s3_works_through_s3_without_iam(aws: Account, server: TestServer, error_of: Earn) -> None:
    user = aws.user("bare")
    identity = server.cloud.identities.find(user.access_key_id)
    assert identity is not None
    ctx = server.cloud.context(identity.principal, "s3")
    made = ctx.call("kms", "GenerateDataKey", KeyId="alias/aws/s3", KeySpec="AES_256")
    assert ctx.call("kms", "Decrypt", CiphertextBlob=made["CiphertextBlob"])["Plaintext"] == made["Plaintext"]
    assert made["KeyId"] == aws.client("kms").describe_key(KeyId="alias/aws/s3")["KeyMetadata"]["Arn"]
    with pytest.raises(ServiceError, match="AccessDenied"):
        ctx.call("kms", "GenerateDataKey", KeyId="alias/aws/sns", KeySpec="AES_256")
    assert error_of(user.client("kms").decrypt, CiphertextBlob=made["CiphertextBlob"])[0] == "AccessDeniedException"
