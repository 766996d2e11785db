"""`x-amz-copy-source`: which object, or which version of it, is copied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

from pilvi.services.s3.errors import invalid_argument


class CopySource(NamedTuple):
    bucket: str
    key: str
    version_id: str | None


def copy_source_of(req: Mapping[str, Any]) -> CopySource:
    """`/bucket/key?versionId=...` with the key percent-encoded; in-process callers may give boto3's dict.

    Errors: InvalidArgument - it names no bucket and key.
    """
    given = req["CopySource"]
    if isinstance(given, Mapping):
        return CopySource(given["Bucket"], given["Key"], given.get("VersionId"))
    path, _, version_id = given.partition("?versionId=")
    path = unquote(path)
    if path.startswith("arn:"):
        resource = path.split(":", 5)[-1]
        if resource.startswith("accesspoint/"):
            return of_access_point(path, version_id, given)
        path = resource
    bucket, _, key = path.lstrip("/").partition("/")
    if not bucket or not key:
        raise invalid_argument("Invalid copy source object key", "x-amz-copy-source", given)
    return CopySource(bucket, key, version_id or None)


def of_access_point(arn: str, version_id: str, given: str) -> CopySource:
    """`arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME/object/KEY`"""
    point, mark, key = arn.partition("/object/")
    if not mark or not key:
        raise invalid_argument("Invalid copy source object key", "x-amz-copy-source", given)
    return CopySource(point, key, version_id or None)
