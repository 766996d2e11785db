"""Which permission each Secrets Manager operation needs: on which secret, with its resource policy and condition keys.

Source: Service Authorization Reference, "Actions, resources, and condition keys for AWS Secrets Manager".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pilvi.core.service import Access, Context
from pilvi.services.secretsmanager.secrets import DEFAULT_KEY, Secret, look, owner_of

_FROM_REQUEST: Mapping[str, str] = {
    "Name": "secretsmanager:Name",
    "Description": "secretsmanager:Description",
    "KmsKeyId": "secretsmanager:KmsKeyId",
    "ForceDeleteWithoutRecovery": "secretsmanager:ForceDeleteWithoutRecovery",
    "RecoveryWindowInDays": "secretsmanager:RecoveryWindowInDays",
    "RotationLambdaARN": "secretsmanager:RotationLambdaARN",
    "RotateImmediately": "secretsmanager:RotateImmediately",
    "BlockPublicPolicy": "secretsmanager:BlockPublicPolicy",
    "ForceOverwriteReplicaSecret": "secretsmanager:ForceOverwriteReplicaSecret",
    "VersionId": "secretsmanager:VersionId",
    "VersionStage": "secretsmanager:VersionStage",
}
_ON_NOTHING = frozenset({"ListSecrets", "GetRandomPassword", "BatchGetSecretValue"})


def needed(ctx: Context, operation: str, req: Mapping[str, Any]) -> Sequence[Access]:
    """The permissions of one call."""
    context = _request_context(req)
    if operation in _ON_NOTHING or (operation == "ValidateResourcePolicy" and not req.get("SecretId")):
        return (Access(f"secretsmanager:{operation}", context=context),)
    if operation == "CreateSecret":
        return _create(ctx, req, context)
    return (on_secret(ctx, operation, req["SecretId"], context),)


def on_secret(ctx: Context, operation: str, secret_id: str, context: Mapping[str, Any]) -> Access:
    """One action on a secret, whether it is there or not."""
    owner, secret = owner_of(ctx, secret_id), look(ctx, secret_id)
    asked = {**context, "secretsmanager:SecretId": secret_id}
    if secret is None:
        arn = secret_id if secret_id.startswith("arn:") else f"{_arn(ctx, secret_id)}-??????"
        return Access(f"secretsmanager:{operation}", arn, None, owner, asked)
    policy = json.loads(secret["_policy"]) if secret.get("_policy") else None
    return Access(f"secretsmanager:{operation}", secret["ARN"], policy, owner, {**_secret_context(secret), **asked})


def _create(ctx: Context, req: Mapping[str, Any], context: Mapping[str, Any]) -> Sequence[Access]:
    arn = f"{_arn(ctx, req['Name'])}-??????"
    found = [Access("secretsmanager:CreateSecret", arn, context=context)]
    if req.get("Tags"):
        found.append(Access("secretsmanager:TagResource", arn, context=context))
    if req.get("AddReplicaRegions"):
        found.append(Access("secretsmanager:ReplicateSecretToRegions", arn, context=context))
    return found


def _arn(ctx: Context, name: str) -> str:
    return ctx.arn(f"secret:{name}", service="secretsmanager")


def _secret_context(secret: Secret) -> dict[str, Any]:
    found: dict[str, Any] = {"secretsmanager:SecretPrimaryRegion": secret["PrimaryRegion"]}
    for tag in secret["Tags"]:
        found[f"aws:ResourceTag/{tag['Key']}"] = found[f"secretsmanager:ResourceTag/{tag['Key']}"] = tag.get("Value", "")
    if lambda_arn := secret.get("RotationLambdaARN"):
        found["secretsmanager:resource/AllowRotationLambdaArn"] = lambda_arn
    found["secretsmanager:KmsKeyId"] = secret.get("KmsKeyId") or DEFAULT_KEY
    return found


def _request_context(req: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {name: req[member] for member, name in _FROM_REQUEST.items() if req.get(member) is not None}
    if regions := req.get("AddReplicaRegions"):
        found["secretsmanager:AddReplicaRegions"] = [entry["Region"] for entry in regions]
    if tags := req.get("Tags"):
        found |= {f"aws:RequestTag/{tag['Key']}": tag.get("Value", "") for tag in tags}
        found["aws:TagKeys"] = [tag["Key"] for tag in tags]
    elif keys := req.get("TagKeys"):
        found["aws:TagKeys"] = list(keys)
    return found
