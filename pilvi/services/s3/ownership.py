"""Who owns what is put into a bucket, and with that whether access control lists count.

BucketOwnerEnforced     the bucket's owner owns everything; lists are off (every new bucket)
BucketOwnerPreferred    the bucket's owner owns what is put with bucket-owner-full-control
ObjectWriter            whoever puts an object owns it; so too when the controls are deleted
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.auth.principals import canonical_id
from pilvi.core.errors import ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.s3.acl import Grants
from pilvi.services.s3.bucket import change_bucket
from pilvi.services.s3.catalog import ENFORCED, get_bucket
from pilvi.services.s3.errors import malformed_xml

ops = Operations()

CHOICES = (ENFORCED, "BucketOwnerPreferred", "ObjectWriter")


@ops
def put_bucket_ownership_controls(ctx: Context, req: Mapping[str, Any]) -> None:
    """Choose who owns new objects. It counts from the next request on; lists that are off are kept and count again later.

    req: Bucket, OwnershipControls {Rules [{ObjectOwnership}]}, one rule.
    Errors: MalformedXML - not exactly one rule, or no such choice; InvalidBucketAclWithObjectOwnership - the bucket's list
    grants something to others, which must be taken back first.
    Source: S3 API Reference, PutBucketOwnershipControls; S3 User Guide, "Controlling ownership of objects".
    """
    rules = req["OwnershipControls"].get("Rules") or []
    if len(rules) != 1 or rules[0].get("ObjectOwnership") not in CHOICES:
        raise malformed_xml()
    bucket = get_bucket(ctx, req["Bucket"])
    chosen = rules[0]["ObjectOwnership"]
    if chosen == ENFORCED and grants_to_others(bucket.account, bucket.value.get("Acl")):
        raise acl_in_the_way()
    change_bucket(ctx, req["Bucket"], ObjectOwnership=chosen)


@ops
def get_bucket_ownership_controls(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The choice; BucketOwnerEnforced for every new bucket.

    Errors: OwnershipControlsNotFoundError - they were deleted.
    Source: S3 API Reference, GetBucketOwnershipControls.
    """
    ownership = get_bucket(ctx, req["Bucket"]).ownership
    if not ownership:
        raise ServiceError(
            "OwnershipControlsNotFoundError",
            "The bucket ownership controls were not found",
            404,
            BucketName=req["Bucket"],
        )
    return {"OwnershipControls": {"Rules": [{"ObjectOwnership": ownership}]}}


@ops
def delete_bucket_ownership_controls(ctx: Context, req: Mapping[str, Any]) -> None:
    """Take the controls away; the bucket then is as ObjectWriter.

    Source: S3 API Reference, DeleteBucketOwnershipControls.
    """
    change_bucket(ctx, req["Bucket"], ObjectOwnership="")


def grants_to_others(account: str, grants: Grants | None) -> bool:
    mine = canonical_id(account)
    return any(grantee != mine for grantee, _ in grants or ())


def acl_in_the_way() -> ServiceError:
    return ServiceError(
        "InvalidBucketAclWithObjectOwnership",
        "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting",
        400,
    )
