"""MFA delete: a bucket whose versions only go for good, and whose versioning only changes, with a code of its owner's MFA device.

    x-amz-mfa: SERIAL CODE

Source: S3 User Guide, "Configuring MFA delete"; S3 API Reference, PutBucketVersioning, DeleteObject.
Differs: the header is taken over plain HTTP too, where AWS wants HTTPS.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import ServiceError
from pilvi.core.service import Context
from pilvi.services.s3.catalog import Bucket, get_bucket
from pilvi.services.s3.errors import access_denied

SETTING = "MfaDelete"
"""Enabled or Disabled; absent where it was never spoken of."""


def is_needed(bucket: Bucket) -> bool:
    return bool(bucket.value.get(SETTING) == "Enabled")


def prove_now(ctx: Context, bucket: Bucket, req: Mapping[str, Any]) -> None:
    """From a thread. Errors: AccessDenied - not the owning account's root user, no code, or one that is not right."""
    if "MFA" not in req:
        raise not_proved()
    serial, _, code = str(req["MFA"]).strip().rpartition(" ")
    principal = ctx.principal
    if principal.kind != "root" or principal.account != bucket.account:
        raise access_denied("This operation may only be performed by the bucket owner")
    if not ctx.cloud.identities.is_mfa_code(principal, serial.strip(), code):
        raise access_denied()


async def prove_if_needed(ctx: Context, name: str, req: Mapping[str, Any]) -> bool:
    """Whether the caller has proved what a deletion for good in this bucket needs; False where nothing is needed."""
    bucket = get_bucket(ctx, name)
    if not is_needed(bucket):
        return False
    await asyncio.get_running_loop().run_in_executor(None, prove_now, ctx, bucket, req)
    return True


def not_together() -> ServiceError:
    return ServiceError("InvalidBucketState", "Lifecycle configurations and MFA delete cannot be used together on a bucket.", 409)


def not_proved() -> ServiceError:
    return access_denied("Mfa Authentication must be used for this request")
