"""Tags of objects (10) and of buckets (50)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.s3.access import denial_or
from pilvi.services.s3.attributes import checked_tags
from pilvi.services.s3.bucket import TOO_MANY_TAGS, change_bucket
from pilvi.services.s3.catalog import Bucket, get_bucket
from pilvi.services.s3.facts import happened
from pilvi.services.s3.history import Found, Plan, carry_out_now, find_object, version_of
from pilvi.storage.records import Update

ops = Operations()


@ops
def put_object_tagging(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Replace all tags of an object or of one of its versions.

    req: Bucket, Key, VersionId, Tagging {TagSet} (10 tags, keys of 128, values of 256 characters).
    Errors: NoSuchKey, NoSuchVersion, MethodNotAllowed; InvalidTag; BadRequest - more than 10.
    Source: S3 API Reference, PutObjectTagging.
    """
    return set_tags(ctx, req, checked_tags(pairs_of(req), 10, "Object tags cannot be greater than 10"))


@ops
def delete_object_tagging(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Remove all tags of an object.

    Errors: NoSuchKey, NoSuchVersion, MethodNotAllowed.
    Source: S3 API Reference, DeleteObjectTagging.
    """
    return set_tags(ctx, req, {})


@ops
def get_object_tagging(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The tags of an object, in the order they were given.

    Errors: NoSuchKey, NoSuchVersion, MethodNotAllowed.
    Source: S3 API Reference, GetObjectTagging.
    """
    bucket = get_bucket(ctx, req["Bucket"])
    found = find_tagged(ctx, bucket, req)
    return {"TagSet": tag_set(found.value.get("tags") or {}), **version_answer(bucket, found)}


def set_tags(ctx: Context, req: Mapping[str, Any], tags: Mapping[str, str]) -> Mapping[str, Any]:
    answer: dict[str, Any] = {}

    def make(bucket: Bucket) -> Plan:
        found = find_tagged(ctx, bucket, req)
        answer.update(version_answer(bucket, found))
        value = {name: member for name, member in found.value.items() if name != "tags"}
        if tags:
            value["tags"] = dict(tags)
        plan = Plan([Update(found.table, found.row.id, value, found.row.version)])
        if bucket.listeners:
            happened(bucket, plan.facts, "ObjectTagging:Put" if tags else "ObjectTagging:Delete", req["Key"], value)
        return plan

    carry_out_now(ctx, req["Bucket"], make)
    return answer


def find_tagged(ctx: Context, bucket: Bucket, req: Mapping[str, Any]) -> Found:
    try:
        return find_object(ctx, bucket, req["Key"], req.get("VersionId"))
    except ServiceError as error:
        raise denial_or(ctx, bucket, error) from None


def version_answer(bucket: Bucket, found: Found) -> dict[str, str]:
    return {"VersionId": version_of(found.value)} if bucket.versioning else {}


# -- buckets --------------------------------------------------------------------------------------------------------------


@ops
def put_bucket_tagging(ctx: Context, req: Mapping[str, Any]) -> None:
    """Replace all tags of a bucket.

    req: Bucket, Tagging {TagSet} (50 tags).
    Errors: InvalidTag; BadRequest - more than 50.
    Source: S3 API Reference, PutBucketTagging.
    """
    change_bucket(ctx, req["Bucket"], Tags=checked_tags(pairs_of(req), 50, TOO_MANY_TAGS))


@ops
def get_bucket_tagging(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The tags of a bucket.

    Errors: NoSuchTagSet - it has none.
    Source: S3 API Reference, GetBucketTagging.
    """
    tags = get_bucket(ctx, req["Bucket"]).value.get("Tags")
    if tags is None:
        raise ServiceError("NoSuchTagSet", "The TagSet does not exist", 404, BucketName=req["Bucket"])
    return {"TagSet": tag_set(tags)}


@ops
def delete_bucket_tagging(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove all tags of a bucket.

    Source: S3 API Reference, DeleteBucketTagging.
    """
    change_bucket(ctx, req["Bucket"], Tags=None)


def pairs_of(req: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(tag["Key"], tag.get("Value") or "") for tag in req["Tagging"].get("TagSet") or ()]


def tag_set(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]
