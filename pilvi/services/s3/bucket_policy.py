"""Bucket policies: who else may use a bucket, as a document of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.auth.public import is_public_policy
from pilvi.auth.s3_policy import checked_policy
from pilvi.core.errors import ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.s3.bucket import change_bucket
from pilvi.services.s3.catalog import Bucket, get_bucket
from pilvi.services.s3.errors import access_denied

ops = Operations()


@ops
def put_bucket_policy(ctx: Context, req: Mapping[str, Any]) -> None:
    """Set the bucket's policy.

    req: Bucket, Policy (JSON, up to 20 KiB), ExpectedBucketOwner.
    Errors: MalformedPolicy - no JSON, no policy, unknown actions or condition keys, or about something outside the bucket
    (pilvi.auth.s3_policy); AccessDenied - public, and BlockPublicPolicy is on for the bucket or its account; MethodNotAllowed - another
    account asks.
    Source: S3 API Reference, PutBucketPolicy; S3 User Guide, "Blocking public access".
    """
    name = req["Bucket"]
    bucket = get_bucket(ctx, name)
    check_owner(ctx, bucket)
    text = req["Policy"]
    document = checked_policy(bucket.arn, text)
    if bucket.block.block_policy and is_public_policy(document):
        raise access_denied(
            f"User: {ctx.principal.arn or ctx.principal.name} is not authorized to perform: s3:PutBucketPolicy on resource: "
            f'"{bucket.arn}" because public policies are prevented by the BlockPublicPolicy setting in S3 Block Public Access.'
        )
    change_bucket(ctx, name, Policy=text, _policy=document)


def check_owner(ctx: Context, bucket: Bucket) -> None:
    """A policy may let other accounts do many things, but not touch the policy."""
    if ctx.account != bucket.account:
        raise ServiceError("MethodNotAllowed", "The specified method is not allowed against this resource.", 405)


@ops
def get_bucket_policy(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The policy as it was put.

    Errors: NoSuchBucketPolicy.
    Source: S3 API Reference, GetBucketPolicy.
    """
    bucket = get_bucket(ctx, req["Bucket"])
    check_owner(ctx, bucket)
    return {"Policy": policy_text(bucket)}


@ops
def get_bucket_policy_status(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Whether the policy makes the bucket public.

    Errors: NoSuchBucketPolicy.
    Source: S3 API Reference, GetBucketPolicyStatus.
    """
    bucket = get_bucket(ctx, req["Bucket"])
    policy_text(bucket)
    return {"PolicyStatus": {"IsPublic": bucket.is_public}}


@ops
def delete_bucket_policy(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove the policy; there need not be one.

    Source: S3 API Reference, DeleteBucketPolicy.
    """
    bucket = get_bucket(ctx, req["Bucket"])
    check_owner(ctx, bucket)
    change_bucket(ctx, req["Bucket"], Policy=None, _policy=None)


def policy_text(bucket: Bucket) -> str:
    text = bucket.value.get("Policy")
    if text is None:
        raise ServiceError("NoSuchBucketPolicy", "The bucket policy does not exist", 404, BucketName=bucket.name)
    return str(text)
