"""A schedule's input under a customer's KMS key: sealed by whoever makes the schedule, opened by whoever reads it, and by Scheduler when it
invokes the target. A key that is disabled or gone stops all three.

Source: EventBridge Scheduler User Guide, "Data encryption at rest": the encryption context is the schedule's ARN.
"""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pilvi.core.errors import Invalid, ServiceError
from pilvi.core.service import Context

_CONTEXT: Final = "aws:scheduler:schedule:arn"


def sealed(ctx: Context, key_arn: str, schedule_arn: str, text: str) -> dict[str, str]:
    """A text as a record keeps it. ValidationException when KMS does not let the caller use the key."""
    try:
        made = ctx.call("kms", "GenerateDataKey", KeyId=key_arn, KeySpec="AES_256", EncryptionContext={_CONTEXT: schedule_arn})
    except ServiceError as error:
        raise _refused(error) from None
    nonce = os.urandom(12)
    return {
        "text": _text(nonce + AESGCM(made["Plaintext"]).encrypt(nonce, text.encode(), schedule_arn.encode())),
        "wrapped": _text(made["CiphertextBlob"]),
    }


def opened(ctx: Context, kept: Mapping[str, str], schedule_arn: str) -> str:
    """The text again, for this context's caller."""
    try:
        key = ctx.call("kms", "Decrypt", CiphertextBlob=b64decode(kept["wrapped"]), EncryptionContext={_CONTEXT: schedule_arn})
    except ServiceError as error:
        raise _refused(error) from None
    data = b64decode(kept["text"])
    return AESGCM(key["Plaintext"]).decrypt(data[:12], data[12:], schedule_arn.encode()).decode()


def _text(data: bytes) -> str:
    return b64encode(data).decode()


def _refused(error: ServiceError) -> Exception:
    if error.code == "AccessDeniedException":
        return ServiceError("AccessDeniedException", error.message, 403)
    return Invalid(f"The KMS key cannot be used: {error.message}")
