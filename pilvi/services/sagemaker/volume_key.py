"""KMS keys of volumes: who may use one, and what is sealed under it here.

A job's volume is a folder that lives as long as the job: its key is checked as AWS checks it, and seals nothing. A notebook instance's
volume is sealed under its key while the instance is stopped: a grant lets SageMaker open the data key, and nobody else's permissions
count for that.

Source: SageMaker Developer Guide, "SageMaker AI API Permissions: Actions, Permissions, and Resources Reference" (kms:CreateGrant of
the caller, or of the job's role) and "Protect Data at Rest Using Encryption".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import Invalid, PilviError
from pilvi.core.service import Context
from pilvi.services.sagemaker.access import PRINCIPAL

Sealed = Mapping[str, Any]
"""What a record keeps of its volume's key: the key's ARN, the grant, the data key as KMS wrapped it."""

_CONTEXT = "aws:sagemaker:arn"
_OPERATIONS = ["Decrypt", "GenerateDataKeyWithoutPlaintext", "RetireGrant"]


def check_volume_key(ctx: Context, own: Context, key: str | None) -> None:
    """A job's VolumeKmsKeyId: there, enabled, and the caller or the job's role (`own`) may grant its use. Invalid otherwise."""
    if not key or ctx.principal.kind == "service":  # a tuning job's own training jobs: whoever made that was asked
        return
    trouble = _denial(ctx, key)
    if trouble is not None and _denial(own, key) is not None:
        raise _unusable(key, trouble)


def volume_notes(key: str | None) -> tuple[str, ...]:
    """What a job's log says of its volume."""
    if not key:
        return ()
    return (f"The volume of this job is a folder on the server's own disk, gone with the job; it is not encrypted under {key}.",)


def grant_key(ctx: Context, arn: str, key: str) -> Sealed:
    """A data key for the volume of this resource, which SageMaker alone can open, by a grant that the caller gives. Invalid when they may not."""
    try:
        grant = ctx.call("kms", "CreateGrant", **_grant(key, arn))
        made = _as_sagemaker(ctx, arn).call(
            "kms", "GenerateDataKeyWithoutPlaintext", KeyId=_arn_of(ctx, key), KeySpec="AES_256", EncryptionContext={_CONTEXT: arn}
        )
    except PilviError as error:
        raise _unusable(key, error) from error
    return {"key": made["KeyId"], "grant": grant["GrantId"], "wrapped": made["CiphertextBlob"]}


def open_key(ctx: Context, arn: str, sealed: Sealed) -> bytes:
    """The data key. Invalid when KMS does not open it: the key is disabled, or the grant was revoked."""
    try:
        found = _as_sagemaker(ctx, arn).call(
            "kms", "Decrypt", KeyId=sealed["key"], CiphertextBlob=sealed["wrapped"], EncryptionContext={_CONTEXT: arn}
        )
    except PilviError as error:
        raise _unusable(sealed["key"], error) from error
    return bytes(found["Plaintext"])


def retire_key(ctx: Context, arn: str, sealed: Sealed) -> None:
    """The volume is gone: nobody opens its data key any more. A grant that somebody has revoked is gone already."""
    try:
        _as_sagemaker(ctx, arn).call("kms", "RetireGrant", KeyId=sealed["key"], GrantId=sealed["grant"])
    except PilviError:
        return


def _denial(ctx: Context, key: str) -> PilviError | None:
    """Why a grant on a key cannot be created; None when it can."""
    try:
        ctx.call("kms", "CreateGrant", **_grant(key), DryRun=True)
    except PilviError as error:
        return None if getattr(error, "code", "") == "DryRunOperationException" else error
    return None


def _grant(key: str, arn: str = "") -> dict[str, Any]:
    bound = {"Constraints": {"EncryptionContextEquals": {_CONTEXT: arn}}} if arn else {}
    return {"KeyId": key, "GranteeServicePrincipal": PRINCIPAL, "Operations": _OPERATIONS, **bound}


def _arn_of(ctx: Context, key: str) -> str:
    return key if key.startswith("arn:") else ctx.arn(f"key/{key}", service="kms")


def _as_sagemaker(ctx: Context, arn: str) -> Context:
    return ctx.as_service(PRINCIPAL, source_arn=arn)


def _unusable(key: str, error: PilviError) -> Invalid:
    code = getattr(error, "code", "") or type(error).__name__
    return Invalid(f"The KMS key {key} cannot be used for the volume. {code}: {error.message}")
