"""Resource policies: whom a secret's owner lets in beside those whom IAM does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pilvi.auth.policy import MalformedPolicy, parse
from pilvi.core.errors import ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.secretsmanager.errors import malformed_policy
from pilvi.services.secretsmanager.replication import follow, primary
from pilvi.services.secretsmanager.secrets import find

ops = Operations()

MOST_BYTES = 20_480


@ops
def put_resource_policy(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Attach a policy; it counts from the next call on.

    req: SecretId, ResourcePolicy (JSON, 20 KiB), BlockPublicPolicy.
    Errors: MalformedPolicyDocumentException. PublicPolicyException - it would let everybody in, and that is blocked.
    ResourceNotFoundException.
    """
    secret, text = primary(ctx, req["SecretId"]), req["ResourcePolicy"]
    document = _read(text)
    if req.get("BlockPublicPolicy") and _is_public(document):
        raise ServiceError("PublicPolicyException", "You can't attach a policy that allows broad access to this secret.")
    follow(ctx, secret, lambda there: there | {"_policy": text})
    return {"ARN": secret["ARN"], "Name": secret["Name"]}


@ops
def get_resource_policy(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The policy as it was set; none when there is none.

    Errors: ResourceNotFoundException.
    """
    secret = find(ctx, req["SecretId"])
    return {"ARN": secret["ARN"], "Name": secret["Name"], "ResourcePolicy": secret.get("_policy")}


@ops
def delete_resource_policy(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Remove the policy.

    Errors: ResourceNotFoundException.
    """
    secret = primary(ctx, req["SecretId"])
    follow(ctx, secret, lambda there: {name: value for name, value in there.items() if name != "_policy"})
    return {"ARN": secret["ARN"], "Name": secret["Name"]}


@ops
def validate_resource_policy(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Say whether a policy could be attached without letting everybody in.

    Errors: MalformedPolicyDocumentException. ResourceNotFoundException.
    """
    if req.get("SecretId"):
        find(ctx, req["SecretId"])
    if _is_public(_read(req["ResourcePolicy"])):
        problem = {"CheckName": "ZELKOVA_PUBLIC_POLICY_CHECK", "ErrorMessage": "The policy allows broad access to the secret."}
        return {"PolicyValidationPassed": False, "ValidationErrors": [problem]}
    return {"PolicyValidationPassed": True, "ValidationErrors": []}


def _read(text: str) -> dict[str, Any]:
    try:
        parse(text, "resource")
    except MalformedPolicy as error:
        raise malformed_policy(f"This resource policy contains a syntax error: {error.message}") from None
    document = json.loads(text)
    return dict(document)


def _is_public(document: Mapping[str, Any]) -> bool:
    """Whether a statement lets everybody in without a condition."""
    statements = document["Statement"]
    for statement in statements if isinstance(statements, list) else [statements]:
        principal = statement.get("Principal")
        named = principal.get("AWS", ()) if isinstance(principal, Mapping) else principal
        is_anybody = named == "*" or (isinstance(named, list) and "*" in named) or "NotPrincipal" in statement
        if statement["Effect"] == "Allow" and is_anybody and not statement.get("Condition"):
            return True
    return False
