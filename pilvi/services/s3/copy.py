"""Copying: CopyObject, and the reading side that UploadPartCopy shares. Bytes are read, hashed and sealed anew."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import NotFound, PilviError, ServiceError
from pilvi.core.service import Context, Operations
from pilvi.core.streams import ByteStream
from pilvi.services.s3.access import denial_or, source_access
from pilvi.services.s3.acl import mark_owner
from pilvi.services.s3.attributes import HEADERS, check_key, check_storage_class, checksum_of, encryption_of, row_of
from pilvi.services.s3.catalog import get_bucket, writable_bucket
from pilvi.services.s3.class_answers import LIFECYCLE, announced, check_readable
from pilvi.services.s3.condition import check_read, copy_range_of, instant_of
from pilvi.services.s3.content import is_one_zone, open_range, take, undo
from pilvi.services.s3.copy_source import CopySource, copy_source_of
from pilvi.services.s3.digest import ALGORITHMS, Declared, algorithm_of
from pilvi.services.s3.errors import aborted, invalid_argument, invalid_request
from pilvi.services.s3.history import Found, Value, find_object, segments_of, version_of
from pilvi.services.s3.lock_rules import check_asked
from pilvi.services.s3.object import OPENINGS, PAUSE_S, SINGLE_PUT_BYTES, is_still_there, store
from pilvi.services.s3.sealing import ASKING, check_customer_key, is_asked, open_row, seal_row

ops = Operations()


@ops
async def copy_object(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Copy an object of up to 5 GiB, with its metadata and tags or with new ones.

    req: Bucket, Key, CopySource, MetadataDirective and TaggingDirective (COPY, REPLACE), CopySourceIf*, IfMatch, IfNoneMatch.
    Errors: NoSuchKey; PreconditionFailed; InvalidRequest - onto itself without a change, or larger than 5 GiB.
    Source: S3 API Reference, CopyObject.
    """
    source = copy_source_of(req)
    name, key = req["Bucket"], req["Key"]
    check_key(key)
    check_directives(req)
    bucket = writable_bucket(ctx, name)
    found = find_source(ctx, source)
    if found.value["size"] > SINGLE_PUT_BYTES:
        raise too_large_source()
    if is_same_place(source, name, key) and not changes_something(req):
        raise invalid_request(
            "This copy request is illegal because it is trying to copy an object to itself without changing the object's "
            "metadata, storage class, website redirect location or encryption attributes."
        )
    found, body = await open_source(ctx, source, found, None, req)
    value = copied_row(req, found.value)
    if "lock" in value or "hold" in value:
        check_asked(bucket.value, value, ctx.clock.now())
    if bucket.has_acls or "acl" in value:
        mark_owner(ctx, bucket, req, value)
    keys = await seal_row(ctx, bucket, key, req, value) if is_asked(bucket, req) else None
    algorithm = algorithm_of(req) or ALGORITHMS[found.value["sum"][0]]
    stored = await take(ctx, body, Declared(algorithm, "", "", ""), keys, is_one_zone(ctx, req.get("StorageClass")))
    conditional = "IfMatch" in req or "IfNoneMatch" in req
    try:
        await store(ctx, bucket, key, value, stored, req if conditional else None)
    except PilviError:
        await undo(ctx, stored)
        raise
    result = {"ETag": f'"{value["etag"]}"', "LastModified": instant_of(value["mtime"]), **checksum_of(value)}
    answer = {"CopyObjectResult": result, **encryption_of(value, req), **source_version(ctx, source, found)}
    if "ver" in value:
        answer["VersionId"] = value["ver"]
    if LIFECYCLE in bucket.value:
        announced(ctx, bucket, key, value, answer)
    return answer


def check_directives(req: Mapping[str, Any]) -> None:
    for member in ("MetadataDirective", "TaggingDirective"):
        if req.get(member) not in (None, "COPY", "REPLACE"):
            raise invalid_argument(f"Unknown {member}.", member, req[member])


def is_same_place(source: CopySource, name: str, key: str) -> bool:
    return source == CopySource(name, key, None)


def changes_something(req: Mapping[str, Any]) -> bool:
    return req.get("MetadataDirective") == "REPLACE" or any(
        member in req for member in ("StorageClass", "WebsiteRedirectLocation", "ChecksumAlgorithm", *ASKING)
    )


def copied_row(req: Mapping[str, Any], origin: Value) -> Value:
    """The new object's row: what was asked for, and what is taken over."""
    if req.get("MetadataDirective") == "REPLACE":
        row = row_of(req)
    else:
        own = {name: req[name] for name in req if name not in HEADERS and name != "Metadata"}
        row = row_of(own)
        head = {name: value for name, value in (origin.get("head") or {}).items() if name not in NOT_COPIED}
        head |= {name: req[name] for name in PLACED if name in req}
        if "StorageClass" in head:
            check_storage_class(head)
        if head:
            row["head"] = head
        if "meta" in origin:
            row["meta"] = origin["meta"]
    if req.get("TaggingDirective") != "REPLACE":
        row.pop("tags", None)
        if "tags" in origin:
            row["tags"] = origin["tags"]
    return row


PLACED = ("StorageClass", "WebsiteRedirectLocation")
NOT_COPIED = (*PLACED, "ServerSideEncryption", "SSEKMSKeyId", "BucketKeyEnabled")
"""What belongs to the place an object lies in, not to the object."""


def find_source(ctx: Context, source: CopySource) -> Found:
    """Errors: NoSuchKey, NoSuchVersion, InvalidRequest - it is a delete marker."""
    bucket = get_bucket(ctx, source.bucket)
    try:
        return find_object(ctx, bucket, source.key, source.version_id)
    except ServiceError as error:
        if error.code == "MethodNotAllowed":
            raise invalid_request(
                "The source of a copy request may not specifically refer to a delete marker by version id."
            ) from None
        raise denial_or(ctx, bucket, error) from None


async def open_source(
    ctx: Context, source: CopySource, found: Found, chosen: str | None, req: Mapping[str, Any]
) -> tuple[Found, ByteStream]:
    """The source's bytes, or a range of them (`bytes=0-99`), once the conditions hold."""
    for _ in range(OPENINGS):
        bucket = get_bucket(ctx, source.bucket)
        check_customer_key(ctx, req, found.value.get("enc"), "CopySource")
        check_read(req, found.value["etag"], found.value["mtime"], prefix="CopySource")
        if "head" in found.value:
            check_readable(ctx, found.value)
        size = found.value["size"]
        start, end = (0, size) if chosen is None else copy_range_of(chosen, size)
        keys = await open_row(ctx, bucket, source.key, req, found.value, "CopySource")
        try:
            body = open_range(ctx, segments_of(ctx, found.value), start, end, keys)
            if body.data is not None or is_still_there(ctx, found):
                return found, body
            await body.close()
        except NotFound:
            pass
        await asyncio.sleep(PAUSE_S)
        for needed in source_access(ctx, source, req):  # another object lies there now
            ctx.authorize(needed)
        found = find_source(ctx, source)
    raise aborted()


def source_version(ctx: Context, source: CopySource, found: Found) -> dict[str, str]:
    return {"CopySourceVersionId": version_of(found.value)} if get_bucket(ctx, source.bucket).versioning else {}


def too_large_source() -> ServiceError:
    return invalid_request(
        f"The specified copy source is larger than the maximum allowable size for a copy source: {SINGLE_PUT_BYTES}"
    )
