"""What grants allow: whom, which operations, under which encryption context. Pure questions; pilvi.services.kms.grant changes them.

Source: KMS Developer Guide, "Grants in AWS KMS"; KMS API Reference, GrantConstraints.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pilvi.core.errors import Invalid, ServiceError
from pilvi.core.principal import Principal
from pilvi.core.service import Context

if TYPE_CHECKING:
    from pilvi.services.kms.keys import Key

Grant = Mapping[str, Any]

SYMMETRIC_ONLY = frozenset(
    {
        "Decrypt",
        "Encrypt",
        "GenerateDataKey",
        "GenerateDataKeyWithoutPlaintext",
        "GenerateDataKeyPair",
        "GenerateDataKeyPairWithoutPlaintext",
        "ReEncryptFrom",
        "ReEncryptTo",
    }
)
"""Operations that carry an encryption context: only they are bound by a grant's constraints on it."""


def is_granted(principal: Principal, key: Key, operation: str, context: Mapping[str, str] | None) -> bool:
    """Whether one of a key's grants lets this caller perform this operation."""
    return any(
        operation in grant["Operations"] and is_grantee(principal, grant) and fits(principal, grant, operation, context)
        for grant in key.grants
    )


def is_grantee(principal: Principal, grant: Grant) -> bool:
    return is_named(principal, grant.get("GranteePrincipal"), grant.get("GranteeServicePrincipal"))


def may_retire(principal: Principal, grant: Grant) -> bool:
    """The retiring principal may, and the grantee where the grant says so."""
    if is_named(principal, grant.get("RetiringPrincipal"), grant.get("RetiringServicePrincipal")):
        return True
    return "RetireGrant" in grant["Operations"] and is_grantee(principal, grant)


def is_named(principal: Principal, name: str | None, service: str | None) -> bool:
    """Whether a grant's principal is this caller: a user, a role or its session, a whole account, or a service."""
    if principal.kind == "service":
        return principal.name in (name, service)
    if not name or principal.kind == "anonymous":
        return False
    if name in (principal.arn, principal.issuer_arn):
        return True
    return name.endswith(":root") and name.split(":")[4:5] == [principal.account] and principal.kind == "root"


def fits(principal: Principal, grant: Grant, operation: str, context: Mapping[str, str] | None) -> bool:
    """Whether a grant's constraints are met."""
    constraints = grant.get("Constraints") or {}
    if (source := constraints.get("SourceArn")) and principal.source_arn != source:
        return False
    if operation not in SYMMETRIC_ONLY and operation != "CreateGrant":
        return True
    pairs = context or {}
    if (equals := constraints.get("EncryptionContextEquals")) and dict(pairs) != dict(equals):
        return False
    subset = constraints.get("EncryptionContextSubset") or {}
    return all(pairs.get(name) == value for name, value in subset.items())


def find_grant(key: Key, grant_id: str) -> Grant | None:
    return next((grant for grant in key.grants if grant["GrantId"] == grant_id), None)


# -- tokens -----------------------------------------------------------------------------------------------------------------


def token_of(ctx: Context, key_arn: str, grant_id: str) -> str:
    """A grant's token: sealed, so that nobody can make one up. It names key and grant, and holds no secret."""
    body = json.dumps([key_arn, grant_id]).encode()
    return base64.b64encode(ctx.keyring.seal(body, b"kms grant token")).decode()


def key_arn_of_token(ctx: Context, token: str) -> tuple[str, str]:
    """The key and the grant of a token. InvalidGrantTokenException when it is none of ours."""
    try:
        arn, grant_id = json.loads(ctx.keyring.unseal(base64.b64decode(token, validate=True), b"kms grant token"))
    except (ValueError, binascii.Error, Invalid):
        raise ServiceError("InvalidGrantTokenException", "Invalid grant token.") from None
    return arn, grant_id


def check_tokens(ctx: Context, tokens: Sequence[str] | None) -> None:
    """Grants count at once here, so tokens are only looked at: InvalidGrantTokenException for what is none."""
    for token in tokens or ():
        key_arn_of_token(ctx, token)
