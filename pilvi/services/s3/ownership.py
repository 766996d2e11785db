"""Ownership and ACLs: the bucket's owner owns every object (BucketOwnerEnforced), so ACLs are off and say only that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.s3.access import denial_or
from pilvi.services.s3.attributes import acl_not_supported
from pilvi.services.s3.catalog import Bucket, get_bucket, owner_of
from pilvi.services.s3.errors import malformed_xml, not_implemented
from pilvi.services.s3.history import find_object

ops = Operations()


@ops
def put_bucket_ownership_controls(ctx: Context, req: Mapping[str, Any]) -> None:
    """Confirm BucketOwnerEnforced.

    Errors: MalformedXML - not exactly one rule; NotImplemented - a setting under which ACLs would count.
    Source: S3 API Reference, PutBucketOwnershipControls.
    Differs: BucketOwnerPreferred and ObjectWriter are refused.
    """
    rules = req["OwnershipControls"].get("Rules") or []
    if len(rules) != 1:
        raise malformed_xml()
    if rules[0].get("ObjectOwnership") != "BucketOwnerEnforced":
        raise not_implemented("ObjectOwnership")
    get_bucket(ctx, req["Bucket"])


@ops
def get_bucket_ownership_controls(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """BucketOwnerEnforced, as every new bucket has it.

    Source: S3 API Reference, GetBucketOwnershipControls.
    """
    get_bucket(ctx, req["Bucket"])
    return {"OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}}


@ops
def get_bucket_acl(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Full control for the owner, and nothing else: what AWS answers while ACLs are off.

    Source: S3 API Reference, GetBucketAcl; S3 User Guide, "Controlling ownership of objects".
    """
    return owner_only(get_bucket(ctx, req["Bucket"]))


@ops
def get_object_acl(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same for an object.

    Errors: NoSuchKey, NoSuchVersion, MethodNotAllowed.
    Source: S3 API Reference, GetObjectAcl.
    """
    bucket = get_bucket(ctx, req["Bucket"])
    try:
        find_object(ctx, bucket, req["Key"], req.get("VersionId"))
    except ServiceError as error:
        raise denial_or(ctx, bucket, error) from None
    return owner_only(bucket)


@ops
def put_bucket_acl(ctx: Context, req: Mapping[str, Any]) -> None:
    """Refused, as AWS does while ACLs are off.

    Errors: AccessControlListNotSupported.
    Source: S3 User Guide, "Controlling ownership of objects".
    """
    get_bucket(ctx, req["Bucket"])
    raise acl_not_supported()


@ops
def put_object_acl(ctx: Context, req: Mapping[str, Any]) -> None:
    """Refused, as AWS does while ACLs are off.

    Errors: AccessControlListNotSupported.
    Source: S3 User Guide, "Controlling ownership of objects".
    """
    get_bucket(ctx, req["Bucket"])
    raise acl_not_supported()


def owner_only(bucket: Bucket) -> Mapping[str, Any]:
    owner = owner_of(bucket)
    return {"Owner": owner, "Grants": [{"Grantee": {"Type": "CanonicalUser", **owner}, "Permission": "FULL_CONTROL"}]}
