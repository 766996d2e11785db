"""Versioning of a bucket: off until first enabled, from then on Enabled or Suspended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.s3.bucket import change_bucket
from pilvi.services.s3.catalog import get_bucket
from pilvi.services.s3.errors import malformed_xml

ops = Operations()


@ops
def put_bucket_versioning(ctx: Context, req: Mapping[str, Any]) -> None:
    """Enable or suspend versioning.

    req: Bucket, VersioningConfiguration {Status (Enabled, Suspended)}.
    Errors: MalformedXML - another status or none; NotImplemented - MFA delete.
    Source: S3 API Reference, PutBucketVersioning.
    Differs: MFA delete is refused.
    """
    configuration = req["VersioningConfiguration"]
    if configuration.get("MFADelete") == "Enabled":
        raise ServiceError("NotImplemented", "MFA delete is not implemented.", 501)
    status = configuration.get("Status")
    if status not in ("Enabled", "Suspended"):
        raise malformed_xml()
    change_bucket(ctx, req["Bucket"], Versioning=status)


@ops
def get_bucket_versioning(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The versioning status; nothing while it was never enabled.

    Source: S3 API Reference, GetBucketVersioning.
    """
    return {"Status": get_bucket(ctx, req["Bucket"]).versioning or None}
