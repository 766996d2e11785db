"""Where secrets are kept, how they are found, and how their values are sealed.

    (account, region, "secretsmanager", "Secret")   name -> a secret: what DescribeSecret shows, its policy, rotation, replicas, versions

    a version   {stages, created, sealed, key, wrapped, is_text}     sealed: AES-256-GCM under a data key; wrapped: that key, by KMS

Each value is sealed under a data key of the secret's KMS key, made and opened as the caller: who may not use the key cannot read the
secret. Without KMS's material the rows are worth nothing. A secret whose recovery window is over is not there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pilvi.core.arn import Arn
from pilvi.core.errors import Conflict, ServiceError
from pilvi.core.service import Context
from pilvi.services.secretsmanager.errors import marked_for_deletion, no_secret
from pilvi.storage.records import Change, Rows, Update

Secret = dict[str, Any]
CURRENT: Final = "AWSCURRENT"
PREVIOUS: Final = "AWSPREVIOUS"
PENDING: Final = "AWSPENDING"
DEFAULT_KEY: Final = "alias/aws/secretsmanager"
SUFFIX: Final = 7
"""A hyphen and six characters end every secret's ARN."""


# -- finding ----------------------------------------------------------------------------------------------------------------


def table_of(ctx: Context, account: str = "", region: str = "") -> Rows:
    return ctx.records("Secret", account=account or ctx.account, region=region or ctx.region)


def owner_of(ctx: Context, secret_id: str) -> str:
    """The account a secret's id points to: an ARN names it, a name is of the caller's."""
    arn = Arn.parse(secret_id)
    return arn.account if arn is not None else ctx.account


def look(ctx: Context, secret_id: str) -> Secret | None:
    """A secret by name, ARN, or ARN without its last seven characters; None when it is not (or no longer) there."""
    arn = Arn.parse(secret_id)
    names = [secret_id]
    if arn is not None:
        if arn.service != "secretsmanager" or arn.region != ctx.region:
            return None
        name = arn.resource.removeprefix("secret:")
        names = [name[:-SUFFIX], name] if name[-SUFFIX : -SUFFIX + 1] == "-" else [name]
    for name in names:
        secret = table_of(ctx, owner_of(ctx, secret_id)).find(name)
        if secret is not None and (arn is None or secret_id in (secret["ARN"], secret["ARN"][:-SUFFIX])):
            return None if is_gone(ctx, secret) else secret
    return None


def find(ctx: Context, secret_id: str, *, even_deleted: bool = False) -> Secret:
    """A secret. ResourceNotFoundException; InvalidRequestException for one that waits for its deletion."""
    secret = look(ctx, secret_id)
    if secret is None:
        raise no_secret()
    if "DeletedDate" in secret and not even_deleted:
        raise marked_for_deletion()
    return secret


def is_gone(ctx: Context, secret: Secret) -> bool:
    return "DeletedDate" in secret and bool(secret["DeletedDate"] <= ctx.clock.now())


def change(
    ctx: Context, secret: Secret, changed: Callable[[Secret], Secret], also: Callable[[Secret], list[Change]] | None = None
) -> Secret:
    """Read, change, write a secret; `also` gives what is written with it."""
    rows = table_of(ctx, owner_of(ctx, secret["ARN"]))
    while True:
        row = rows.row(secret["Name"])
        if row is None or row.value["ARN"] != secret["ARN"]:
            raise no_secret()
        value = changed(row.value)
        try:
            ctx.write(Update(rows.table, row.id, value, row.version), *(also(value) if also is not None else ()))
        except Conflict:
            continue
        return value


# -- sealing ----------------------------------------------------------------------------------------------------------------


def sealed_value(ctx: Context, secret: Secret, version_id: str, value: str | bytes) -> dict[str, Any]:
    """A value as its version keeps it. EncryptionFailure, or AccessDeniedException, when KMS does not let the caller seal."""
    try:
        made = ctx.call(
            "kms",
            "GenerateDataKey",
            KeyId=secret.get("KmsKeyId") or DEFAULT_KEY,
            KeySpec="AES_256",
            EncryptionContext=_context(secret, version_id),
        )
    except ServiceError as error:
        raise _kms_error(error, "EncryptionFailure") from None
    nonce = os.urandom(12)
    data = value.encode() if isinstance(value, str) else value
    return {
        "sealed": nonce + AESGCM(made["Plaintext"]).encrypt(nonce, data, version_id.encode()),
        "wrapped": made["CiphertextBlob"],
        "key": made["KeyId"] if secret.get("KmsKeyId") else DEFAULT_KEY,
        "is_text": isinstance(value, str),
    }


def open_value(ctx: Context, secret: Secret, version_id: str) -> str | bytes:
    """A version's value. DecryptionFailure, or AccessDeniedException, when KMS does not let the caller open it."""
    version = secret["_versions"][version_id]
    try:
        key = ctx.call("kms", "Decrypt", CiphertextBlob=version["wrapped"], EncryptionContext=_context(secret, version_id))
        sealed = version["sealed"]
        data = AESGCM(key["Plaintext"]).decrypt(sealed[:12], sealed[12:], version_id.encode())
    except ServiceError as error:
        raise _kms_error(error, "DecryptionFailure") from None
    except InvalidTag:
        raise ServiceError("DecryptionFailure", "The secret value was altered.") from None
    return data.decode() if version["is_text"] else data


def _context(secret: Mapping[str, Any], version_id: str) -> dict[str, str]:
    return {"SecretARN": secret["ARN"], "SecretVersionId": version_id}


def _kms_error(error: ServiceError, code: str) -> ServiceError:
    if error.code == "AccessDeniedException":
        return ServiceError("AccessDeniedException", "Access to KMS is not allowed")
    return ServiceError(code, f"{error.message} (Service: AWS KMS; Error Code: {error.code})")


# -- versions ---------------------------------------------------------------------------------------------------------------


def version_with(secret: Mapping[str, Any], stage: str) -> str | None:
    """The id of the version that has a staging label."""
    return next((id for id, version in secret["_versions"].items() if stage in version["stages"]), None)


def with_stage(versions: Mapping[str, Any], stage: str, version_id: str) -> dict[str, Any]:
    """Versions after a label moved; what AWSCURRENT leaves becomes AWSPREVIOUS."""
    found: dict[str, Any] = {}
    before = next((id for id, version in versions.items() if stage in version["stages"]), None)
    for id, version in versions.items():
        stages = [label for label in version["stages"] if label != stage]
        if stage == CURRENT and before is not None and before != version_id:
            stages = [label for label in stages if label != PREVIOUS] + ([PREVIOUS] if id == before else [])
        found[id] = version | {"stages": stages + ([stage] if id == version_id else [])}
    return found


def only_kept(versions: Mapping[str, Any], most: int = 100) -> dict[str, Any]:
    """Versions without labels go, the oldest first, when there are more than AWS keeps."""
    bare = [id for id, version in versions.items() if not version["stages"]]
    dropped = set(bare[: max(0, len(bare) - most)])
    return {id: version for id, version in versions.items() if id not in dropped}
