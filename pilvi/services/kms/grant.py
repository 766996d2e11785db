"""Grants: a key's use given to a principal beside all policies, until it is retired or revoked. They count from the next call on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pilvi.core.arn import Arn, partition_of
from pilvi.core.errors import NotFound, ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.kms import spec as kinds
from pilvi.services.kms.access import on_key
from pilvi.services.kms.errors import dry_run, invalid_arn, invalid_grant_id, limit_exceeded, validation
from pilvi.services.kms.grants import (
    SYMMETRIC_ONLY,
    check_tokens,
    find_grant,
    is_grantee,
    key_arn_of_token,
    token_of,
)
from pilvi.services.kms.keys import SERVICE, Key, check_state, find
from pilvi.services.kms.listing import page_of
from pilvi.storage.records import Rows

ops = Operations()

PER_KEY: Final = 50_000
_ALWAYS: Final = frozenset({"CreateGrant", "RetireGrant", "DescribeKey"})
_BY_USAGE: Final = {
    kinds.SIGN: frozenset({"Sign", "Verify", "GetPublicKey"}),
    kinds.MAC: frozenset({"GenerateMac", "VerifyMac"}),
    kinds.AGREE: frozenset({"DeriveSharedSecret", "GetPublicKey"}),
}
_SHOWN: Final = (
    "KeyId",
    "GrantId",
    "Name",
    "CreationDate",
    "GranteePrincipal",
    "GranteeServicePrincipal",
    "RetiringPrincipal",
    "RetiringServicePrincipal",
    "IssuingAccount",
    "Operations",
    "Constraints",
)


@ops
def create_grant(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Let a principal use a key for these operations.

    req: KeyId, GranteePrincipal or GranteeServicePrincipal, Operations, Constraints (encryption context equal to, or holding, these
    pairs; SourceArn), RetiringPrincipal or RetiringServicePrincipal, Name (the same request under the same name is the same grant).
    Errors: NotFoundException. DisabledException. KMSInvalidStateException. ValidationException - operations the key does not have, or
    constraints on what carries no encryption context. InvalidArnException. LimitExceededException. AccessDeniedException - a
    grantee may hand on no more than it was given.
    """
    check_tokens(ctx, req.get("GrantTokens"))
    key = find(ctx, req["KeyId"], aliases=False)
    check_state(ctx, key)
    grant = _grant_from(ctx, key, req)
    _check_handing_on(ctx, key, grant)
    if req.get("DryRun"):
        raise dry_run()
    same = next((there for there in key.grants if req.get("Name") and _terms(there) == _terms(grant)), None)
    if same is None:
        if len(key.grants) >= PER_KEY:
            raise limit_exceeded(f"The number of grants of {key.arn} exceeds the limit of {PER_KEY}.")
        grant |= {"GrantId": ctx.ids.hex(64), "CreationDate": ctx.clock.now()}
        _table(ctx, key).insert(f"{key.id}/{grant['GrantId']}", grant)
        same = grant
    return {"GrantToken": token_of(ctx, key.arn, same["GrantId"]), "GrantId": same["GrantId"]}


@ops
def list_grants(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """A key's grants, all or those of one id or grantee.

    req: KeyId, GrantId, GranteePrincipal, GranteeServicePrincipal, Limit (1-100, default 50), Marker.
    Errors: NotFoundException. InvalidGrantIdException. InvalidMarkerException.
    """
    key = find(ctx, req["KeyId"], aliases=False)
    if (wanted := req.get("GrantId")) and find_grant(key, wanted) is None:
        raise invalid_grant_id()
    found = [
        grant
        for grant in key.grants
        if (not wanted or grant["GrantId"] == wanted)
        and req.get("GranteePrincipal") in (None, grant.get("GranteePrincipal"))
        and req.get("GranteeServicePrincipal") in (None, grant.get("GranteeServicePrincipal"))
    ]
    items, more = page_of(found, req, default=50)
    return {"Grants": [_shown(grant) for grant in items], **more}


@ops
def list_retirable_grants(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The grants in this Region that a principal of this account may retire, whosever the keys are.

    req: RetiringPrincipal or RetiringServicePrincipal, Limit (1-100, default 50), Marker.
    Errors: InvalidArnException - no principal. AccessDeniedException - one of another account.
    """
    name, service = req.get("RetiringPrincipal"), req.get("RetiringServicePrincipal")
    if bool(name) == bool(service):
        raise validation("Specify either RetiringPrincipal or RetiringServicePrincipal.")
    if name:
        arn = Arn.parse(name)
        if arn is None or arn.service not in ("iam", "sts"):
            raise invalid_arn(name)
        if arn.account != ctx.account:
            raise ServiceError("AccessDeniedException", f"{name} is not a principal of this account.")
    found = [
        grant
        for table in ctx.store.tables(service=SERVICE, noun="Grant")
        if table.region == ctx.region
        for grant in Rows(ctx.store, table).all()
        if (name and grant.get("RetiringPrincipal") == name) or (service and grant.get("RetiringServicePrincipal") == service)
    ]
    items, more = page_of(found, req, default=50)
    return {"Grants": [_shown(grant) for grant in items], **more}


@ops
def revoke_grant(ctx: Context, req: Mapping[str, Any]) -> None:
    """End a grant, as one who manages the key.

    Errors: NotFoundException. InvalidGrantIdException.
    """
    _end(ctx, find(ctx, req["KeyId"], aliases=False), req["GrantId"], is_dry=bool(req.get("DryRun")))


@ops
def retire_grant(ctx: Context, req: Mapping[str, Any]) -> None:
    """End a grant, as one whom the grant names.

    req: GrantToken, or KeyId (ARN) and GrantId.
    Errors: InvalidGrantTokenException. NotFoundException. InvalidGrantIdException. ValidationException - neither.
    """
    arn, grant_id = req.get("KeyId"), req.get("GrantId")
    if req.get("GrantToken"):
        if arn or grant_id:
            raise validation("Specify either a grant token, or a key ARN and a grant ID.")
        arn, grant_id = key_arn_of_token(ctx, req["GrantToken"])
    if not arn or not grant_id:
        raise validation("Specify either a grant token, or a key ARN and a grant ID.")
    _end(ctx, find(ctx, arn, aliases=False), grant_id, is_dry=bool(req.get("DryRun")))


# -- the grant ----------------------------------------------------------------------------------------------------------------


def _grant_from(ctx: Context, key: Key, req: Mapping[str, Any]) -> dict[str, Any]:
    if bool(req.get("GranteePrincipal")) == bool(req.get("GranteeServicePrincipal")):
        raise validation("Specify either GranteePrincipal or GranteeServicePrincipal.")
    if req.get("RetiringPrincipal") and req.get("RetiringServicePrincipal"):
        raise validation("Specify either RetiringPrincipal or RetiringServicePrincipal.")
    for member in ("GranteePrincipal", "RetiringPrincipal"):
        _check_principal(req.get(member))
    operations = list(dict.fromkeys(req["Operations"]))
    if not operations:
        raise validation(
            "1 validation error detected: Value '[]' at 'operations' failed to satisfy constraint: Member must not be empty"
        )
    _check_operations(key, operations, req.get("Constraints") or {})
    grant = {name: req[name] for name in _SHOWN if req.get(name)}
    account = ctx.principal.account
    return grant | {
        "KeyId": key.arn,
        "Operations": operations,
        "IssuingAccount": f"arn:{partition_of(ctx.region)}:iam::{account}:root",
        "_account": account,
    }


def _check_principal(text: str | None) -> None:
    if not text or (text.endswith((".amazonaws.com", ".amazonaws.com.cn")) and ":" not in text):
        return
    arn = Arn.parse(text)
    if arn is None or arn.service not in ("iam", "sts"):
        raise invalid_arn(text)


def _check_operations(key: Key, operations: list[str], constraints: Mapping[str, Any]) -> None:
    if key.spec == kinds.SYMMETRIC:
        allowed = SYMMETRIC_ONLY | _ALWAYS
    elif key.usage == kinds.ENCRYPT:
        allowed = frozenset({"Encrypt", "Decrypt", "ReEncryptFrom", "ReEncryptTo", "GetPublicKey"}) | _ALWAYS
    else:
        allowed = _BY_USAGE[key.usage] | _ALWAYS
    wrong = [operation for operation in operations if operation not in allowed]
    if wrong:
        raise validation(f"Operations {wrong} are not valid for a key of KeyUsage {key.usage} and KeySpec {key.spec}.")
    pairs = constraints.get("EncryptionContextEquals") or constraints.get("EncryptionContextSubset")
    if pairs and key.spec != kinds.SYMMETRIC:
        raise validation("Encryption context constraints are valid for symmetric encryption keys only.")


def _check_handing_on(ctx: Context, key: Key, grant: Mapping[str, Any]) -> None:
    """Who may create grants only by a grant hands on no more than that grant gave."""
    asked = on_key(ctx, "CreateGrant", key, {})
    asked.granted = False
    if ctx.allows(asked):
        return
    for parent in key.grants:
        is_heir = "CreateGrant" in parent["Operations"] and is_grantee(ctx.principal, parent)
        if is_heir and set(grant["Operations"]) <= set(parent["Operations"]) and _is_as_strict(grant, parent):
            return
    raise ServiceError("AccessDeniedException", "A grant cannot give more than the grant that allows its creation.")


def _is_as_strict(grant: Mapping[str, Any], parent: Mapping[str, Any]) -> bool:
    outer, inner = parent.get("Constraints") or {}, grant.get("Constraints") or {}
    if outer.get("EncryptionContextEquals") and inner.get("EncryptionContextEquals") != outer["EncryptionContextEquals"]:
        return False
    if outer.get("SourceArn") not in (None, inner.get("SourceArn")):
        return False
    pairs = {**(inner.get("EncryptionContextSubset") or {}), **(inner.get("EncryptionContextEquals") or {})}
    subset = outer.get("EncryptionContextSubset") or {}
    return all(pairs.get(name) == value for name, value in subset.items())


def _terms(grant: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in grant.items() if name not in ("GrantId", "CreationDate")}


def _end(ctx: Context, key: Key, grant_id: str, *, is_dry: bool) -> None:
    if find_grant(key, grant_id) is None:
        raise invalid_grant_id()
    if is_dry:
        raise dry_run()
    try:
        _table(ctx, key).delete(f"{key.id}/{grant_id}")
    except NotFound:
        raise invalid_grant_id() from None


def _shown(grant: Mapping[str, Any]) -> dict[str, Any]:
    return {name: grant[name] for name in _SHOWN if name in grant}


def _table(ctx: Context, key: Key) -> Rows:
    return ctx.records("Grant", account=key.account, region=key.region)
