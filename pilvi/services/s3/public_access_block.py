"""Block public access, per bucket. All four settings are on for a new bucket; those of its account (S3 Control) count beside them.

BlockPublicAcls          new public lists are refused (acl.py)
IgnorePublicAcls         public lists that are there count for nothing (permission.py)
BlockPublicPolicy        public policies are refused (bucket_policy.py)
RestrictPublicBuckets    a public policy counts for the own account and AWS services only (permission.py)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.s3.bucket import EVERYTHING_BLOCKED, change_bucket
from pilvi.services.s3.catalog import get_bucket

ops = Operations()


@ops
def put_public_access_block(ctx: Context, req: Mapping[str, Any]) -> None:
    """Set the four switches; those left out are off.

    Source: S3 API Reference, PutPublicAccessBlock.
    """
    given = req["PublicAccessBlockConfiguration"]
    change_bucket(ctx, req["Bucket"], PublicAccessBlock={name: bool(given.get(name)) for name in EVERYTHING_BLOCKED})


@ops
def get_public_access_block(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The four switches.

    Errors: NoSuchPublicAccessBlockConfiguration - they were deleted.
    Source: S3 API Reference, GetPublicAccessBlock.
    """
    switches = get_bucket(ctx, req["Bucket"]).value.get("PublicAccessBlock")
    if switches is None:
        raise ServiceError(
            "NoSuchPublicAccessBlockConfiguration",
            "The public access block configuration was not found",
            404,
            BucketName=req["Bucket"],
        )
    return {"PublicAccessBlockConfiguration": switches}


@ops
def delete_public_access_block(ctx: Context, req: Mapping[str, Any]) -> None:
    """Take all four switches away: policies may open the bucket to the public.

    Source: S3 API Reference, DeletePublicAccessBlock.
    """
    change_bucket(ctx, req["Bucket"], PublicAccessBlock=None)
