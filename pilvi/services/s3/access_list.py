"""Access control lists of buckets and objects, put and got. What they say and whom they let in stands in acl.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.s3.access import denial_or
from pilvi.services.s3.acl import (
    Grants,
    acl_not_supported,
    answer,
    check_not_public,
    grants_of_document,
    requested,
    speaks_of_acl,
)
from pilvi.services.s3.bucket import change_bucket
from pilvi.services.s3.catalog import Bucket, account_of, get_bucket
from pilvi.services.s3.facts import happened
from pilvi.services.s3.history import Found, Plan, carry_out_now, find_object, version_of
from pilvi.storage.records import Update

ops = Operations()


@ops
def put_bucket_acl(ctx: Context, req: Mapping[str, Any]) -> None:
    """Replace a bucket's list, by a canned one, by grant headers, or by a document.

    req: Bucket, one of ACL, Grant*, AccessControlPolicy {Owner, Grants (100)}.
    Errors: AccessControlListNotSupported - lists are off; MalformedACLError; MissingSecurityHeader; UnexpectedContent;
    InvalidArgument - no such canned list, account or group; MethodNotAllowed - e-mail address; AccessDenied - public, and
    BlockPublicAcls is on, or another owner is named.
    Source: S3 API Reference, PutBucketAcl; S3 User Guide, "Access control list (ACL) overview".
    """
    bucket = get_bucket(ctx, req["Bucket"])
    check_lists_count(bucket)
    grants = wanted(ctx, bucket, req, bucket.account)
    check_not_public(ctx, bucket, grants or (), "s3:PutBucketAcl", bucket.arn)
    change_bucket(ctx, bucket.name, Acl=None if grants is None else [list(grant) for grant in grants])


@ops
def get_bucket_acl(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """A bucket's list: full control for the owner alone while lists are off.

    Source: S3 API Reference, GetBucketAcl; S3 User Guide, "Controlling ownership of objects".
    """
    bucket = get_bucket(ctx, req["Bucket"])
    return answer(bucket.account, bucket.value.get("Acl") if bucket.has_acls else None)


@ops
def put_object_acl(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Replace the list of an object, or of one version of it.

    req: Bucket, Key, VersionId; the rest as put_bucket_acl.
    Errors: NoSuchKey, NoSuchVersion, MethodNotAllowed - a delete marker; as put_bucket_acl for the rest.
    Source: S3 API Reference, PutObjectAcl.
    """
    check_lists_count(get_bucket(ctx, req["Bucket"]))
    answered: dict[str, Any] = {}

    def make(bucket: Bucket) -> Plan:
        check_lists_count(bucket)
        found = find_listed(ctx, bucket, req)
        grants = wanted(ctx, bucket, req, account_of(bucket, found.value))
        check_not_public(ctx, bucket, grants or (), "s3:PutObjectAcl", bucket.object_arn(req["Key"]))
        value = {name: member for name, member in found.value.items() if name != "acl"}
        if grants is not None:
            value["acl"] = [list(grant) for grant in grants]
        if bucket.versioning:
            answered["VersionId"] = version_of(value)
        plan = Plan([Update(found.table, found.row.id, value, found.row.version)])
        if bucket.listeners:
            happened(bucket, plan.facts, "ObjectAcl:Put", req["Key"], value)
        return plan

    carry_out_now(ctx, req["Bucket"], make)
    return answered


@ops
def get_object_acl(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The owner and the list of an object, or of one version of it.

    Errors: NoSuchKey, NoSuchVersion, MethodNotAllowed.
    Source: S3 API Reference, GetObjectAcl.
    """
    bucket = get_bucket(ctx, req["Bucket"])
    value = find_listed(ctx, bucket, req).value
    return answer(account_of(bucket, value), value.get("acl") if bucket.has_acls else None)


def find_listed(ctx: Context, bucket: Bucket, req: Mapping[str, Any]) -> Found:
    try:
        return find_object(ctx, bucket, req["Key"], req.get("VersionId"))
    except ServiceError as error:
        raise denial_or(ctx, bucket, error) from None


def check_lists_count(bucket: Bucket) -> None:
    if not bucket.has_acls:
        raise acl_not_supported()


def wanted(ctx: Context, bucket: Bucket, req: Mapping[str, Any], owner: str) -> Grants | None:
    """The list a request asks for, in one of three ways; None for what holds without a list."""
    document = req.get("AccessControlPolicy")
    if document and speaks_of_acl(req):
        raise ServiceError("UnexpectedContent", "This request does not support content", 400)
    if document:
        return grants_of_document(ctx, document, owner)
    if not speaks_of_acl(req):
        raise ServiceError(
            "MissingSecurityHeader", "Your request was missing a required header", 400, MissingHeaderName="x-amz-acl"
        )
    return requested(ctx, req, owner, bucket.account)
