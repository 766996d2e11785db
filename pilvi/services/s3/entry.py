"""What some buckets ask of a request before its permissions count: that its sender pays, that the accelerated host is open.

Source: S3 User Guide, "Using Requester Pays buckets" and "Using Transfer Acceleration".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.service import Context
from pilvi.services.s3.catalog import Bucket
from pilvi.services.s3.errors import access_denied, invalid_request

REQUESTER_PAYS = "RequestPayment"
"""The member of a bucket's row that is there while requesters pay."""
ACCELERATED = "_accelerated"
"""The member of a request that came by the accelerated host."""

PAID = frozenset(
    {
        "AbortMultipartUpload",
        "CompleteMultipartUpload",
        "CopyObject",
        "CreateMultipartUpload",
        "DeleteObject",
        "DeleteObjects",
        "GetObject",
        "GetObjectAcl",
        "GetObjectAttributes",
        "GetObjectLegalHold",
        "GetObjectRetention",
        "GetObjectTagging",
        "GetObjectTorrent",
        "HeadObject",
        "ListMultipartUploads",
        "ListObjectVersions",
        "ListObjects",
        "ListObjectsV2",
        "ListParts",
        "PutObject",
        "PutObjectAcl",
        "PutObjectLegalHold",
        "PutObjectLockConfiguration",
        "PutObjectRetention",
        "PutObjectTagging",
        "RestoreObject",
        "UpdateObjectEncryption",
        "UploadPart",
        "UploadPartCopy",
    }
)
"""Operations that can say who pays."""


def check_entry(ctx: Context, operation: str, bucket: Bucket, req: Mapping[str, Any]) -> None:
    """Errors: AccessDenied - somebody else's request that does not say its sender pays; InvalidRequest - not accelerated."""
    if ACCELERATED in req:
        check_accelerated(bucket)
    if REQUESTER_PAYS in bucket.value and operation in PAID:
        check_payer(ctx, bucket, req)


def check_accelerated(bucket: Bucket) -> None:
    status = bucket.value.get("Accelerate")
    if status is None:
        raise invalid_request("S3 Transfer Acceleration is not configured on this bucket")
    if status != "Enabled":
        raise invalid_request("S3 Transfer Acceleration is disabled on this bucket")


def check_payer(ctx: Context, bucket: Bucket, req: Mapping[str, Any]) -> None:
    """Anonymous requests have nobody who pays."""
    if ctx.principal.kind == "anonymous" or (charged_account(ctx, bucket) and req.get("RequestPayer") != "requester"):
        raise access_denied()


def charged_account(ctx: Context, bucket: Bucket) -> str:
    """The account that pays for a call instead of the owner; '' when the owner does."""
    principal = ctx.principal
    if REQUESTER_PAYS not in bucket.value or principal.kind in ("anonymous", "service") or principal.account == bucket.account:
        return ""
    return principal.account
