"""Bucket policies: who else may use a bucket, as a document of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pilvi.auth.policy import MalformedPolicy, parse
from pilvi.core.errors import ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.s3.bucket import change_bucket
from pilvi.services.s3.catalog import Bucket, get_bucket
from pilvi.services.s3.errors import access_denied
from pilvi.services.s3.public import as_list, is_public_policy

ops = Operations()

POLICY_BYTES = 20 << 10


@ops
def put_bucket_policy(ctx: Context, req: Mapping[str, Any]) -> None:
    """Set the bucket's policy.

    req: Bucket, Policy (JSON, up to 20 KiB), ExpectedBucketOwner.
    Errors: MalformedPolicy - no JSON, no policy, or about something outside the bucket; AccessDenied - public, and
    BlockPublicPolicy is on; MethodNotAllowed - another account asks.
    Source: S3 API Reference, PutBucketPolicy; S3 User Guide, "Blocking public access".
    """
    name = req["Bucket"]
    bucket = get_bucket(ctx, name)
    check_owner(ctx, bucket)
    text = req["Policy"]
    document = checked_policy(bucket, text)
    switches = bucket.value.get("PublicAccessBlock") or {}
    if switches.get("BlockPublicPolicy") and is_public_policy(document):
        raise access_denied(
            f"User: {ctx.principal.arn or ctx.principal.name} is not authorized to perform: s3:PutBucketPolicy on resource: "
            f'"{bucket.arn}" because public policies are prevented by the BlockPublicPolicy setting in S3 Block Public Access.'
        )
    change_bucket(ctx, name, Policy=text, _policy=document)


def check_owner(ctx: Context, bucket: Bucket) -> None:
    """A policy may let other accounts do many things, but not touch the policy."""
    if ctx.account != bucket.account:
        raise ServiceError("MethodNotAllowed", "The specified method is not allowed against this resource.", 405)


def checked_policy(bucket: Bucket, text: str) -> dict[str, Any]:
    """The document, once it is a policy about this bucket."""
    if len(text.encode()) > POLICY_BYTES:
        raise malformed("Policy exceeds the maximum allowed document size.")
    try:
        parse(text, "resource")
    except MalformedPolicy as error:
        raise malformed(error.message) from None
    document: dict[str, Any] = json.loads(text)
    for statement in as_list(document["Statement"]):
        for resource in as_list(statement.get("Resource", statement.get("NotResource"))):
            if not is_about(bucket, resource):
                raise malformed("Policy has invalid resource")
        if not all(action == "*" or action.lower().startswith("s3:") for action in actions_of(statement)):
            raise malformed("Policy has invalid action")
    return document


def is_about(bucket: Bucket, resource: Any) -> bool:
    return resource == "*" or resource == bucket.arn or str(resource).startswith((f"{bucket.arn}/", f"{bucket.arn}*"))


def actions_of(statement: Mapping[str, Any]) -> list[str]:
    return [str(action) for action in as_list(statement.get("Action", statement.get("NotAction", ())))]


def malformed(message: str) -> ServiceError:
    return ServiceError("MalformedPolicy", message, 400)


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
