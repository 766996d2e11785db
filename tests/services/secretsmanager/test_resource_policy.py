"""Resource policies share secrets between accounts, when the key's policy does too."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pilvi.testing.server import Account

Earn = Callable[..., tuple[str, str]]


def policy(principal: Any, action: str = "secretsmanager:GetSecretValue") -> str:
    statement = {"Effect": "Allow", "Principal": principal, "Action": action, "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def test_another_account_reads_after_policy_and_key_policy(aws: Account, other_aws: Account, error_of: Earn) -> None:
    sm, kms, other = aws.client("secretsmanager"), aws.client("kms"), other_aws.client("secretsmanager")
    key = kms.create_key()["KeyMetadata"]["Arn"]
    arn = sm.create_secret(Name="shared", SecretString="x", KmsKeyId=key)["ARN"]
    assert error_of(other.get_secret_value, SecretId=arn)[0] == "AccessDeniedException"
    root = {"AWS": f"arn:aws:iam::{other_aws.account}:root"}
    sm.put_resource_policy(SecretId="shared", ResourcePolicy=policy(root), BlockPublicPolicy=True)
    assert error_of(other.get_secret_value, SecretId=arn) == ("AccessDeniedException", "Access to KMS is not allowed")
    both = json.loads(kms.get_key_policy(KeyId=key)["Policy"])
    both["Statement"].append({"Effect": "Allow", "Principal": root, "Action": "kms:Decrypt", "Resource": "*"})
    kms.put_key_policy(KeyId=key, Policy=json.dumps(both))
    assert other.get_secret_value(SecretId=arn)["SecretString"] == "x"
    assert error_of(other.describe_secret, SecretId=arn)[0] == "AccessDeniedException"
    assert json.loads(sm.get_resource_policy(SecretId="shared")["ResourcePolicy"]) == json.loads(policy(root))
    sm.delete_resource_policy(SecretId="shared")
    assert "ResourcePolicy" not in sm.get_resource_policy(SecretId="shared")
    assert error_of(other.get_secret_value, SecretId=arn)[0] == "AccessDeniedException"


def test_public_and_broken_policies_are_refused(aws: Account, error_of: Earn) -> None:
    sm = aws.client("secretsmanager")
    sm.create_secret(Name="s")
    request = {"SecretId": "s", "ResourcePolicy": policy("*")}
    assert error_of(sm.put_resource_policy, BlockPublicPolicy=True, **request)[0] == "PublicPolicyException"
    assert error_of(sm.put_resource_policy, SecretId="s", ResourcePolicy="{}")[0] == "MalformedPolicyDocumentException"
    found = sm.validate_resource_policy(**request)
    assert (found["PolicyValidationPassed"], len(found["ValidationErrors"])) == (False, 1)
    fine = policy({"AWS": f"arn:aws:iam::{aws.account}:root"})
    assert sm.validate_resource_policy(ResourcePolicy=fine)["PolicyValidationPassed"] is True
    sm.put_resource_policy(**request)
