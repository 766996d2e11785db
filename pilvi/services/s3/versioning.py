"""Versioning of a bucket: off until first enabled, from then on Enabled or Suspended; with MFA delete if its owner wants it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.s3 import lifecycle_rules, lock_rules, mfa
from pilvi.services.s3.bucket import change_bucket
from pilvi.services.s3.catalog import get_bucket
from pilvi.services.s3.errors import malformed_xml

ops = Operations()

SWITCH = ("Enabled", "Disabled")


@ops
def put_bucket_versioning(ctx: Context, req: Mapping[str, Any]) -> None:
    """Enable or suspend versioning, and MFA delete with it.

    req: Bucket, VersioningConfiguration {Status (Enabled, Suspended), MFADelete (Enabled, Disabled)}, MFA (`serial code`).
    Errors: MalformedXML - another status or none; AccessDenied - MFA delete without the root user's code; InvalidBucketState - the
    bucket has object lock or replication, and versioning would be suspended; or lifecycle rules, and MFA delete would be enabled.
    Source: S3 API Reference, PutBucketVersioning.
    """
    configuration = req["VersioningConfiguration"]
    status, mfa_delete = configuration.get("Status"), configuration.get("MFADelete")
    bucket = get_bucket(ctx, req["Bucket"])
    if status not in ("Enabled", "Suspended") or mfa_delete not in (None, *SWITCH):
        raise malformed_xml()
    check_state(bucket.value, status)
    members = {"Versioning": status}
    if mfa.is_needed(bucket) or mfa_delete == "Enabled":
        mfa.prove_now(ctx, bucket, req)
    if mfa_delete == "Enabled" and lifecycle_rules.MEMBER in bucket.value:
        raise mfa.not_together()
    if mfa_delete is not None:
        members[mfa.SETTING] = mfa_delete
    change_bucket(ctx, req["Bucket"], lambda row: check_state(row, status), **members)


def check_state(row: Mapping[str, Any], status: str) -> None:
    """Object lock and replication stand on versioning."""
    if status == "Enabled":
        return
    if lock_rules.SETTING in row:
        raise ServiceError(
            "InvalidBucketState",
            "An Object Lock configuration is present on this bucket, so the versioning state cannot be changed.",
            409,
        )
    if "Replication" in row:
        raise ServiceError(
            "InvalidBucketState",
            "A replication configuration is present on this bucket, so you cannot change the versioning state. To change the "
            "versioning state, first delete the replication configuration.",
            409,
        )


@ops
def get_bucket_versioning(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The versioning status, and that of MFA delete; nothing while it was never enabled.

    Source: S3 API Reference, GetBucketVersioning.
    """
    bucket = get_bucket(ctx, req["Bucket"])
    return {"Status": bucket.versioning or None, "MFADelete": bucket.value.get(mfa.SETTING)}
