"""Which permission each KMS operation needs: on which key, with that key's policy and grants, and with KMS's condition keys.

A key's policy must itself allow: without a word for the account (or the caller) no IAM policy counts. A grant lets its grantee in
beside the policy. What is not there is asked of IAM as if it were, so nothing is told to those who may not know.

Source: Service Authorization Reference, "Actions, resources, and condition keys for AWS Key Management Service"; KMS Developer
Guide, "Condition keys" and "Permissions reference" (which also says which operations reach other accounts' keys).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pilvi.core.errors import Invalid, ServiceError
from pilvi.core.service import Access, Context
from pilvi.services.kms import ciphertext, managed
from pilvi.services.kms import spec as kinds
from pilvi.services.kms.grants import find_grant, is_granted, key_arn_of_token, may_retire
from pilvi.services.kms.keys import Key, Place, arn_of, find, look, place_of

Request = Mapping[str, Any]

_ANYWHERE = frozenset({"ListKeys", "ListAliases", "GenerateRandom", "ListRetirableGrants"})
"""Actions on no key."""
TAKES_ALIAS = frozenset(
    {
        "DescribeKey",
        "Encrypt",
        "Decrypt",
        "ReEncrypt",
        "GenerateDataKey",
        "GenerateDataKeyWithoutPlaintext",
        "GenerateDataKeyPair",
        "GenerateDataKeyPairWithoutPlaintext",
        "GenerateMac",
        "VerifyMac",
        "Sign",
        "Verify",
        "GetPublicKey",
        "DeriveSharedSecret",
    }
)
CROSS_ACCOUNT = TAKES_ALIAS | {"CreateGrant", "ListGrants", "RevokeGrant", "RetireGrant", "GetKeyRotationStatus"}
"""Operations on keys of other accounts."""

# Condition keys that say what a request asks for.
_FROM_REQUEST: Mapping[str, str] = {
    "BypassPolicyLockoutSafetyCheck": "kms:BypassPolicyLockoutSafetyCheck",
    "ExpirationModel": "kms:ExpirationModel",
    "KeyAgreementAlgorithm": "kms:KeyAgreementAlgorithm",
    "KeyPairSpec": "kms:DataKeyPairSpec",
    "MacAlgorithm": "kms:MacAlgorithm",
    "PendingWindowInDays": "kms:ScheduleKeyDeletionPendingWindowInDays",
    "PrimaryRegion": "kms:PrimaryRegion",
    "ReplicaRegion": "kms:ReplicaRegion",
    "RetiringPrincipal": "kms:RetiringPrincipal",
    "RotationPeriodInDays": "kms:RotationPeriodInDays",
    "SigningAlgorithm": "kms:SigningAlgorithm",
    "ValidTo": "kms:ValidTo",
    "WrappingAlgorithm": "kms:WrappingAlgorithm",
    "WrappingKeySpec": "kms:WrappingKeySpec",
}
_ENCRYPTING = frozenset({"Encrypt", "Decrypt", "ReEncrypt"})
_WITH_CONTEXT = frozenset(
    {
        "GenerateDataKey",
        "GenerateDataKeyWithoutPlaintext",
        "GenerateDataKeyPair",
        "GenerateDataKeyPairWithoutPlaintext",
        "Encrypt",
        "Decrypt",
    }
)
_SIGNING = frozenset({"Sign", "Verify"})
# Services whose name in kms:ViaService is not botocore's.
_VIA_NAMES: Mapping[str, str] = {"efs": "elasticfilesystem", "s3control": "s3", "emr": "elasticmapreduce", "opensearch": "es"}


def needed(ctx: Context, operation: str, req: Request) -> Sequence[Access]:
    """The permissions of one call."""
    rule = _RULES.get(operation)
    if rule is not None:
        return rule(ctx, req)
    if operation in _ANYWHERE:
        return (Access(f"kms:{operation}", context=_caller(ctx)),)
    context = _request_context(operation, req)
    encryption_context = req.get("EncryptionContext") if operation in _WITH_CONTEXT else None
    if encryption_context is not None or operation in _WITH_CONTEXT:
        context |= _encryption_context(encryption_context)
    place = place_of(ctx, req["KeyId"], aliases=operation in TAKES_ALIAS)
    return (on_place(ctx, operation, place, context, encryption_context),)


def on_place(
    ctx: Context, operation: str, place: Place, context: Mapping[str, Any], encryption_context: Mapping[str, str] | None = None
) -> Access:
    """One action on what a KeyId names, whether it is there or not."""
    key = look(ctx.cloud, place.account, place.region, place.key_id)
    asked = {**context, "kms:RequestAlias": place.alias} if place.alias else dict(context)
    if key is not None:
        return on_key(ctx, operation, key, asked, encryption_context)
    policy = None
    if service := managed.service_of(place.alias):
        policy = managed.policy_for(place.account, place.region, service)
    return Access(f"kms:{operation}", place.arn, policy, place.account, asked | _caller(ctx))


def on_key(
    ctx: Context, operation: str, key: Key, context: Mapping[str, Any], encryption_context: Mapping[str, str] | None = None
) -> Access:
    """One action on a key, with its policy and grants."""
    granted = bool(key.grants) and is_granted(ctx.principal, key, operation, encryption_context)
    is_reached = key.account == ctx.principal.account or operation in CROSS_ACCOUNT or operation.startswith("ReEncrypt")
    return Access(
        f"kms:{operation}",
        key.arn,
        key.policy if is_reached else None,
        key.account,
        {**_key_context(key), **context, **_caller(ctx)},
        granted,
    )


# -- condition keys ---------------------------------------------------------------------------------------------------------


def _caller(ctx: Context) -> dict[str, Any]:
    found: dict[str, Any] = {"kms:CallerAccount": ctx.principal.account}
    if ctx.via and ctx.principal.kind != "service":
        found["kms:ViaService"] = f"{_VIA_NAMES.get(ctx.via, ctx.via)}.{ctx.region}.amazonaws.com"
    return found


def _key_context(key: Key) -> dict[str, Any]:
    if key.facts:
        return key.facts
    row = key.row
    found: dict[str, Any] = {
        "kms:KeySpec": key.spec,
        "kms:KeyUsage": key.usage,
        "kms:KeyOrigin": row["Origin"],
        "kms:CustomerMasterKeySpec": key.spec,
        "kms:CustomerMasterKeyUsage": key.usage,
        "kms:MultiRegion": row["MultiRegion"],
    }
    if row["MultiRegion"]:
        found["kms:MultiRegionKeyType"] = "PRIMARY" if key.shared["primary"] == key.region else "REPLICA"
    if row["_aliases"]:
        found["kms:ResourceAliases"] = row["_aliases"]
    for name, value in key.tags.items():
        found[f"aws:ResourceTag/{name}"] = value
    key.facts.update(found)
    return found


def _encryption_context(pairs: Mapping[str, str] | None) -> dict[str, Any]:
    if not pairs:
        return {}
    found: dict[str, Any] = {f"kms:EncryptionContext:{name}": value for name, value in pairs.items()}
    found["kms:EncryptionContextKeys"] = list(pairs)
    return found


def _request_context(operation: str, req: Request) -> dict[str, Any]:
    found: dict[str, Any] = {name: req[member] for member, name in _FROM_REQUEST.items() if req.get(member) is not None}
    if operation in _ENCRYPTING:
        found["kms:EncryptionAlgorithm"] = req.get("EncryptionAlgorithm") or kinds.SYMMETRIC
    elif operation in _SIGNING:
        found["kms:MessageType"] = req.get("MessageType") or "RAW"
    if "Recipient" in req:
        found["kms:RecipientAttestation"] = "true"
    return found | _tag_context(req)


def _tag_context(req: Request) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if tags := req.get("Tags"):
        found = {f"aws:RequestTag/{tag['TagKey']}": tag["TagValue"] for tag in tags}
        found["aws:TagKeys"] = [tag["TagKey"] for tag in tags]
    elif keys := req.get("TagKeys"):
        found["aws:TagKeys"] = list(keys)
    return found


# -- operations with more than one resource -----------------------------------------------------------------------------------


def _create_key(ctx: Context, req: Request) -> Sequence[Access]:
    spec = req.get("KeySpec") or req.get("CustomerMasterKeySpec") or kinds.SYMMETRIC
    context = {
        **_request_context("CreateKey", req),
        **_caller(ctx),
        "kms:KeySpec": spec,
        "kms:CustomerMasterKeySpec": spec,
        "kms:KeyUsage": req.get("KeyUsage") or kinds.ENCRYPT,
        "kms:CustomerMasterKeyUsage": req.get("KeyUsage") or kinds.ENCRYPT,
        "kms:KeyOrigin": req.get("Origin") or "AWS_KMS",
        "kms:MultiRegion": bool(req.get("MultiRegion")),
    }
    if req.get("MultiRegion"):
        context["kms:MultiRegionKeyType"] = "PRIMARY"
    found = [Access("kms:CreateKey", context=context)]
    if req.get("Tags"):
        found.append(Access("kms:TagResource", context=context))
    return found


def _decrypt(ctx: Context, req: Request) -> Sequence[Access]:
    pairs = req.get("EncryptionContext")
    context = _request_context("Decrypt", req) | _encryption_context(pairs)
    place = place_in(ctx, req.get("KeyId"), req.get("CiphertextBlob"))
    if place is None:
        return (Access("kms:Decrypt", context=context | _caller(ctx)),)
    return (on_place(ctx, "Decrypt", place, context, pairs),)


def place_in(ctx: Context, key_id: str | None, blob: bytes | None) -> Place | None:
    """The key that is to open a blob: the one that is named, else the one the blob names; None when it names none."""
    if key_id:
        return place_of(ctx, key_id)
    try:
        head = ciphertext.head_of(blob or b"")
    except ServiceError:
        return None
    return Place(head.account, ctx.region, head.key_id, "")


def _re_encrypt(ctx: Context, req: Request) -> Sequence[Access]:
    source_pairs, pairs = req.get("SourceEncryptionContext"), req.get("DestinationEncryptionContext")
    source = place_in(ctx, req.get("SourceKeyId"), req.get("CiphertextBlob"))
    target = place_of(ctx, req["DestinationKeyId"])
    same = {"kms:ReEncryptOnSameKey": source is not None and source.arn == target.arn}
    from_context = same | {"kms:EncryptionAlgorithm": req.get("SourceEncryptionAlgorithm") or kinds.SYMMETRIC}
    to_context = same | {"kms:EncryptionAlgorithm": req.get("DestinationEncryptionAlgorithm") or kinds.SYMMETRIC}
    found = [on_place(ctx, "ReEncryptTo", target, to_context | _encryption_context(pairs), pairs)]
    if source is None:
        return [Access("kms:ReEncryptFrom", context=from_context | _caller(ctx)), *found]
    return [on_place(ctx, "ReEncryptFrom", source, from_context | _encryption_context(source_pairs), source_pairs), *found]


def _create_alias(ctx: Context, req: Request) -> Sequence[Access]:
    target = place_of(ctx, req["TargetKeyId"], aliases=False)
    return [_on_alias(ctx, "CreateAlias", req), on_place(ctx, "CreateAlias", target, {})]


def _update_alias(ctx: Context, req: Request) -> Sequence[Access]:
    target = place_of(ctx, req["TargetKeyId"], aliases=False)
    return [*_delete_alias(ctx, req, "UpdateAlias"), on_place(ctx, "UpdateAlias", target, {})]


def _delete_alias(ctx: Context, req: Request, operation: str = "DeleteAlias") -> Sequence[Access]:
    found = [_on_alias(ctx, operation, req)]
    row = ctx.records("Alias").find(req["AliasName"])
    if row is not None:
        key = look(ctx.cloud, ctx.account, ctx.region, row["TargetKeyId"])
        if key is not None and not key.is_managed:
            found.append(on_key(ctx, operation, key, {}))
    return found


def _on_alias(ctx: Context, operation: str, req: Request) -> Access:
    return Access(f"kms:{operation}", arn_of(ctx.account, ctx.region, req["AliasName"]), context=_caller(ctx))


def _create_grant(ctx: Context, req: Request) -> Sequence[Access]:
    constraints = req.get("Constraints") or {}
    grantee = req.get("GranteePrincipal") or req.get("GranteeServicePrincipal") or ""
    kind = next((name for name in ("EncryptionContextEquals", "EncryptionContextSubset") if constraints.get(name)), None)
    context = {
        **_request_context("CreateGrant", req),
        "kms:GrantOperations": req["Operations"],
        "kms:GranteePrincipal": grantee,
        "kms:GrantConstraintType": kind,
        "kms:GrantIsForAWSResource": bool(ctx.via) or ctx.principal.kind == "service",
    }
    place = place_of(ctx, req["KeyId"], aliases=False)
    pairs = constraints.get("EncryptionContextEquals") or constraints.get("EncryptionContextSubset")
    return (on_place(ctx, "CreateGrant", place, context, pairs),)


def _retire_grant(ctx: Context, req: Request) -> Sequence[Access]:
    """Whom the grant itself names may, and who may by the policies of the account that made it."""
    try:
        arn, grant_id = (
            key_arn_of_token(ctx, req["GrantToken"]) if req.get("GrantToken") else (req.get("KeyId"), req.get("GrantId"))
        )
        key = find(ctx, arn or "", aliases=False)
    except (ServiceError, Invalid):
        return (Access("kms:RetireGrant", context=_caller(ctx)),)
    grant = find_grant(key, grant_id or "")
    by_grant = grant is not None and may_retire(ctx.principal, grant)
    owner = str(grant["_account"]) if grant is not None else key.account
    return (Access("kms:RetireGrant", key.arn, None, owner, _key_context(key) | _caller(ctx), by_grant),)


def _replicate_key(ctx: Context, req: Request) -> Sequence[Access]:
    place = place_of(ctx, req["KeyId"], aliases=False)
    context = _request_context("ReplicateKey", req)
    found = [on_place(ctx, "ReplicateKey", place, context)]
    there = {**context, **_caller(ctx), "kms:MultiRegion": True, "kms:MultiRegionKeyType": "REPLICA"}
    found.append(Access("kms:CreateKey", context=there))
    if req.get("Tags"):
        found.append(Access("kms:TagResource", context=there))
    return found


def _update_primary_region(ctx: Context, req: Request) -> Sequence[Access]:
    place = place_of(ctx, req["KeyId"], aliases=False)
    context = _request_context("UpdatePrimaryRegion", req)
    replica = place._replace(region=req["PrimaryRegion"])
    return [on_place(ctx, "UpdatePrimaryRegion", place, context), on_place(ctx, "UpdatePrimaryRegion", replica, context)]


_RULES = {
    "CreateKey": _create_key,
    "Decrypt": _decrypt,
    "ReEncrypt": _re_encrypt,
    "CreateAlias": _create_alias,
    "UpdateAlias": _update_alias,
    "DeleteAlias": _delete_alias,
    "CreateGrant": _create_grant,
    "RetireGrant": _retire_grant,
    "ReplicateKey": _replicate_key,
    "UpdatePrimaryRegion": _update_primary_region,
}
