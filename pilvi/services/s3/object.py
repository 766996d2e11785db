"""S3 objects: put, get, head, attributes, delete. The data plane: everything here runs on the event loop and never blocks it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import NotFound, PilviError, ServiceError
from pilvi.core.service import Access, Context, Operations
from pilvi.core.streams import ByteStream
from pilvi.services.s3.access import LENS, denial_or, read_access
from pilvi.services.s3.acl import mark_owner
from pilvi.services.s3.attributes import answer_of, check_key, checksum_of, customer_answer, encryption_of, row_of
from pilvi.services.s3.catalog import Bucket, get_bucket, writable_bucket
from pilvi.services.s3.class_answers import LIFECYCLE, announced, check_readable, describe_class, note_class_read
from pilvi.services.s3.condition import (
    check_read,
    check_write,
    instant_of,
    invalid_part_number,
    names_etag,
    range_of,
    seconds,
)
from pilvi.services.s3.content import Segment, Stored, is_one_zone, open_range, take, undo
from pilvi.services.s3.digest import declared_by
from pilvi.services.s3.errors import (
    aborted,
    invalid_argument,
    invalid_request,
    malformed_xml,
    no_such_bucket,
    precondition_failed,
)
from pilvi.services.s3.history import (
    Found,
    Plan,
    Value,
    carry_out,
    find_current,
    find_object,
    find_version,
    is_marker,
    manifest_of,
    plan_delete,
    plan_delete_version,
    plan_succession,
    segments_of,
)
from pilvi.services.s3.lock_rules import check_asked
from pilvi.services.s3.mfa import is_needed, not_proved, prove_if_needed
from pilvi.services.s3.object_lambda import rewritten_get, rewritten_head
from pilvi.services.s3.permission import permission
from pilvi.services.s3.sealing import check_customer_key, is_asked, open_row, seal_row
from pilvi.storage.layers import Keys

ops = Operations(on_loop=True)

SINGLE_PUT_BYTES = 5 << 30
DELETE_KEYS = 1000
OPENINGS = 50
"""How often a read begins again because the object was replaced under its hands."""
PAUSE_S = 0.001
"""Between two of them: whoever replaces it is about to finish."""


@ops
async def put_object(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Store an object; durable when answered.

    req: Bucket, Key (up to 1,024 bytes), Body (up to 5 GiB), content headers, Metadata (2 KiB), Tagging (10), one checksum or
    Content-MD5, IfNoneMatch '*', IfMatch.
    Errors: NoSuchBucket; KeyTooLongError; EntityTooLarge; BadDigest, InvalidDigest - the bytes are not those declared;
    PreconditionFailed; MetadataTooLarge; InvalidTag; those of sealing.seal_row, acl.mark_owner.
    Source: S3 API Reference, PutObject; default checksum CRC64NVME as since December 2024.
    Differs: x-amz-sdk-checksum-algorithm without a checksum makes the server compute that checksum instead of refusing the
    request. A body of unknown length is taken, where S3 wants a Content-Length.
    """
    name, key = req["Bucket"], req["Key"]
    body: ByteStream = req.get("Body") or ByteStream(b"")
    check_key(key)
    check_size(body.length)
    bucket = writable_bucket(ctx, name)
    value = row_of(req)
    if value and ("lock" in value or "hold" in value):
        check_lock(ctx, bucket, req, body, value)
    if bucket.has_acls or "acl" in value:
        mark_owner(ctx, bucket, req, value)
    keys = await seal_row(ctx, bucket, key, req, value) if is_asked(bucket, req) else None
    stored = await take(ctx, body, declared_by(req, body), keys, is_one_zone(ctx, req.get("StorageClass")))
    conditional = "IfMatch" in req or "IfNoneMatch" in req
    try:
        check_size(stored.size)
        await store(ctx, bucket, key, value, stored, req if conditional else None)
    except PilviError as error:
        refusal = error
    else:
        return announced(ctx, bucket, key, value, written(value, req)) if LIFECYCLE in bucket.value else written(value, req)
    # Not in the `except`: compiled code that waits there loses the error it handles (decisions/0006).
    await undo(ctx, stored)
    raise refusal


def check_lock(ctx: Context, bucket: Bucket, req: Mapping[str, Any], body: ByteStream, value: Value) -> None:
    """Errors: InvalidRequest - no object lock in this bucket, or nothing to tell that the bytes are those that were meant."""
    check_asked(bucket.value, value, ctx.clock.now())
    if "ContentMD5" not in req and not body.trailer_names and not any(name.startswith("Checksum") for name in req):
        raise invalid_request(
            "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters"
        )


async def store(ctx: Context, asked: Bucket, key: str, value: Value, stored: Stored, conditions: Mapping[str, Any] | None) -> None:
    """Make stored bytes the current version of a key.

    asked: the bucket that the request was allowed to write into. NoSuchBucket when that is gone: while the bytes came its name may
    have become somebody else's.
    """
    value["size"] = stored.size
    value["etag"] = stored.md5
    value["sum"] = (stored.algorithm, stored.sum)
    if stored.name:
        value["at"] = stored.name

    def make(bucket: Bucket) -> Plan:
        if bucket.account != asked.account or bucket.value.get("CreationDate") != asked.value.get("CreationDate"):
            raise no_such_bucket(asked.name)
        current = find_current(ctx, bucket, key)
        if conditions is not None:
            there = current is not None and not is_marker(current.value)
            check_write(conditions, key, current.value["etag"] if current is not None and there else None)
        value.pop("ver", None)
        value["mtime"] = int(ctx.clock.time_s())
        plan = plan_succession(ctx, bucket, key, current, value, bucket.tables.objects)
        plan.changes += stored.changes
        return plan

    await carry_out(ctx, asked.name, key, make)


def written(value: Value, req: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to whatever stores an object whole."""
    algorithm, sum_ = value["sum"]
    answer = {
        "ETag": f'"{value["etag"]}"',
        f"Checksum{algorithm}": sum_,
        "ChecksumType": "FULL_OBJECT",
        **encryption_of(value, req),
    }
    if "ver" in value:
        answer["VersionId"] = value["ver"]
    return answer


def check_size(size: int | None) -> None:
    if size is not None and size > SINGLE_PUT_BYTES:
        raise ServiceError(
            "EntityTooLarge",
            "Your proposed upload exceeds the maximum allowed size",
            400,
            ProposedSize=str(size),
            MaxSizeAllowed=str(SINGLE_PUT_BYTES),
        )


# -- reading --------------------------------------------------------------------------------------------------------------


@ops.anywhere
async def get_object(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give an object's bytes, whole, a range or a part of them.

    req: Bucket, Key, VersionId, Range (one; several give the whole), PartNumber, the four conditions, ChecksumMode, Response*.
    Errors: NoSuchKey, NoSuchVersion, AccessDenied - missing, and the caller may not list; NotModified (304);
    PreconditionFailed (412); InvalidRange, InvalidPartNumber (416); MethodNotAllowed - the version is a delete marker; InvalidObjectState - archived, and not restored.
    Source: S3 API Reference, GetObject.
    """
    if LENS in req:
        return await rewritten_get(ctx, req)
    for _ in range(OPENINGS):
        found = find_read(ctx, req)
        answer, start, end = describe(ctx, req, found)
        if "StorageClass" in answer:
            check_readable(ctx, found.value)
        try:
            segments = (Segment(found.value["at"], end),) if "at" in found.value else segments_of(ctx, found.value)
            keys = await open_keys(ctx, req, found.value) if "enc" in found.value else None
            body = open_range(ctx, segments, start, end, keys)
            if body.data is not None or is_still_there(ctx, found):
                if "StorageClass" in answer:
                    note_class_read(ctx, get_bucket(ctx, req["Bucket"]), found, end - start)
                answer["Body"] = body
                return answer
            await body.close()
        except NotFound:
            pass
        forget_found(req)
        await asyncio.sleep(PAUSE_S)
        authorize_again(ctx, req)
    raise aborted()


def authorize_again(ctx: Context, req: Mapping[str, Any]) -> None:
    """Another object lies there now: its tags, its list or its owner may keep the caller out."""
    bucket = get_bucket(ctx, req["Bucket"])
    if not bucket.zone:
        for needed in read_access(ctx, bucket, req):
            ctx.authorize(needed)


@ops.anywhere
async def head_object(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """What get_object says, without the bytes.

    Errors: as get_object; without a body, so clients see the status alone.
    Source: S3 API Reference, HeadObject; its checksums of objects under KMS keys need kms:Decrypt.
    """
    if LENS in req:
        return await rewritten_head(ctx, req)
    found = find_read(ctx, req)
    if "enc" in found.value and "ChecksumMode" in req:
        await open_keys(ctx, req, found.value)
    return describe(ctx, req, found)[0]


async def open_keys(ctx: Context, req: Mapping[str, Any], value: Value) -> Keys | None:
    """The keys of an object that has its own."""
    return await open_row(ctx, get_bucket(ctx, req["Bucket"]), req["Key"], req, value)


def find_read(ctx: Context, req: Mapping[str, Any]) -> Found:
    """The version a read means: the one its permission was decided on, where that look-up found one."""
    found: Found | None = req.get("_found")
    if found is not None:
        return found
    bucket = get_bucket(ctx, req["Bucket"])
    try:
        return find_object(ctx, bucket, req["Key"], req.get("VersionId"))
    except ServiceError as error:
        raise denial_or(ctx, bucket, error) from None


def forget_found(req: Mapping[str, Any]) -> None:
    if isinstance(req, dict):
        req.pop("_found", None)


def is_still_there(ctx: Context, found: Found) -> bool:
    """Whether a row is as it was read; then whoever replaces it from now on sees that its bytes are being read."""
    row = ctx.store.get(found.table, found.row.id)
    if row is None or row.version != found.row.version:
        return False
    # Versions begin anew with a row that was deleted and made again: then its bytes are others.
    value, seen = row.value, found.value
    return value.get("at") == seen.get("at") and value.get("parts") == seen.get("parts")


def describe(ctx: Context, req: Mapping[str, Any], found: Found) -> tuple[dict[str, Any], int, int]:
    """The answer but for the body, and which bytes belong into it."""
    value = found.value
    size = value["size"]
    if "IfMatch" in req or "IfNoneMatch" in req or "IfModifiedSince" in req or "IfUnmodifiedSince" in req:
        check_read(req, value["etag"], value["mtime"])
    bucket = get_bucket(ctx, req["Bucket"])
    answer = answer_of(value, "seq" in value or "VersionId" in req or bool(bucket.versioning))
    if "StorageClass" in answer:
        describe_class(ctx, value, answer)
    if LIFECYCLE in bucket.value and "VersionId" not in req:
        announced(ctx, bucket, req["Key"], value, answer)
    is_particular = "enc" in value or "SSECustomerAlgorithm" in req
    if is_particular and check_customer_key(ctx, req, value.get("enc")) is not None:
        del answer["ServerSideEncryption"]
        answer |= customer_answer(req)
    if "seq" in value and ("repl" in value or "lock" in value or "hold" in value):
        answer |= protection_of(ctx, req, value)
    start, end = 0, size
    part = req.get("PartNumber")
    if part is not None:
        start, end = part_range(ctx, req, value, part)
        if "parts" in value:
            answer["PartsCount"] = value["n"]
        if size:
            answer["ContentRange"] = f"bytes {start}-{end - 1}/{size}"
    elif "Range" in req and (chosen := range_of(req["Range"], size)) is not None:
        start, end = chosen
        answer["ContentRange"] = f"bytes {start}-{end - 1}/{size}"
    elif "ChecksumMode" in req:
        answer |= checksum_of(value)
    answer["ContentLength"] = end - start
    override(ctx, req, answer)
    return answer, start, end


def protection_of(ctx: Context, req: Mapping[str, Any], value: Value) -> dict[str, Any]:
    """Whether the version was replicated, and how it is locked, as far as the caller may know."""
    answer: dict[str, Any] = {}
    if "repl" in value:
        answer["ReplicationStatus"] = value["repl"]
    bucket = get_bucket(ctx, req["Bucket"])
    arn = bucket.object_arn(req["Key"])
    if "lock" in value and ctx.allows(permission(ctx, bucket, "s3:GetObjectRetention", arn)):
        answer["ObjectLockMode"] = value["lock"]["mode"]
        answer["ObjectLockRetainUntilDate"] = value["lock"]["until"]
    if "hold" in value and ctx.allows(permission(ctx, bucket, "s3:GetObjectLegalHold", arn)):
        answer["ObjectLockLegalHoldStatus"] = "ON" if value["hold"] else "OFF"
    return answer


def is_versioned(ctx: Context, req: Mapping[str, Any]) -> bool:
    return bool(get_bucket(ctx, req["Bucket"]).versioning)


def part_range(ctx: Context, req: Mapping[str, Any], value: Value, part: int) -> tuple[int, int]:
    """Where a part lies. An object that was put whole has one."""
    if "Range" in req:
        raise invalid_request("Cannot specify both Range header and partNumber query parameter")
    if not 1 <= part <= 10_000:
        raise invalid_argument("Part number must be an integer between 1 and 10000, inclusive", "partNumber", part)
    if "parts" not in value:
        if part > 1:
            raise invalid_part_number(part, 1)
        return 0, value["size"]
    if part > value["n"]:
        raise invalid_part_number(part, value["n"])
    sizes = [size for _, _, size, _ in manifest_of(ctx, value)]
    start = sum(sizes[: part - 1])
    return start, start + sizes[part - 1]


OVERRIDES = {
    "ResponseCacheControl": "CacheControl",
    "ResponseContentDisposition": "ContentDisposition",
    "ResponseContentEncoding": "ContentEncoding",
    "ResponseContentLanguage": "ContentLanguage",
    "ResponseContentType": "ContentType",
    "ResponseExpires": "Expires",
}


def override(ctx: Context, req: Mapping[str, Any], answer: dict[str, Any]) -> None:
    """`response-content-type=...` and its kin: what the caller wants the headers to be."""
    for name, target in OVERRIDES.items():
        if name in req:
            if ctx.principal.kind == "anonymous":
                raise invalid_request("Request specific response headers cannot be used for anonymous GET requests.")
            answer[target] = req[name]


@ops
async def get_object_attributes(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is known of an object beside its headers: checksum, parts, size.

    req: Bucket, Key, VersionId, ObjectAttributes, MaxParts (1,000), PartNumberMarker.
    Errors: NoSuchKey, NoSuchVersion, MethodNotAllowed.
    Source: S3 API Reference, GetObjectAttributes. Parts are listed for uploads made with a checksum.
    """
    found = find_read(ctx, req)
    value = found.value
    check_customer_key(ctx, req, value.get("enc"))
    wanted = set(req["ObjectAttributes"])
    answer: dict[str, Any] = {"LastModified": instant_of(value["mtime"])}
    if is_versioned(ctx, req):
        answer["VersionId"] = value.get("ver", "null")
    if "ETag" in wanted:
        answer["ETag"] = value["etag"]
    if "Checksum" in wanted:
        answer["Checksum"] = whole_checksum(value)
    if "ObjectSize" in wanted:
        answer["ObjectSize"] = value["size"]
    if "StorageClass" in wanted:
        answer["StorageClass"] = (value.get("head") or {}).get("StorageClass", "STANDARD")
    if "ObjectParts" in wanted and "parts" in value:
        answer["ObjectParts"] = parts_page(ctx, value, req.get("MaxParts"), req.get("PartNumberMarker") or 0)
    return answer


def whole_checksum(value: Value) -> dict[str, str]:
    """A composite sum stands here without the number of its parts."""
    return {name: text.partition("-")[0] if name != "ChecksumType" else text for name, text in checksum_of(value).items()}


def parts_page(ctx: Context, value: Value, limit: int | None, marker: int) -> dict[str, Any]:
    limit = 1000 if limit is None else min(limit, 1000)
    algorithm = value["sum"][0]
    rest = [(number, size, sum_) for number, _, size, sum_ in manifest_of(ctx, value) if number > marker]
    page = {
        "TotalPartsCount": value["n"],
        "PartNumberMarker": marker,
        "MaxParts": limit,
        "IsTruncated": len(rest) > limit,
        "NextPartNumberMarker": rest[: limit or 1][-1][0] if rest and limit else 0,
    }
    if all(sum_ for _, _, sum_ in rest):
        page["Parts"] = [{"PartNumber": number, "Size": size, f"Checksum{algorithm}": sum_} for number, size, sum_ in rest[:limit]]
    return page


# -- deleting -------------------------------------------------------------------------------------------------------------


@ops
async def delete_object(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Delete an object, put a delete marker on it, or delete one version for good. Deleting what is not there succeeds.

    req: Bucket, Key, VersionId, IfMatch.
    Errors: NoSuchBucket; PreconditionFailed - the current object is not the one named by IfMatch.
    Source: S3 API Reference, DeleteObject.
    """
    name, key, version_id = req["Bucket"], req["Key"], req.get("VersionId")
    check_key(key)
    is_proved = version_id is not None and await prove_if_needed(ctx, name, req)
    plan = await carry_out(ctx, name, key, lambda bucket: deletion(ctx, bucket, key, version_id, req, is_proved))
    return plan.answer


def deletion(
    ctx: Context, bucket: Bucket, key: str, version_id: str | None, conditions: Mapping[str, Any], is_proved: bool
) -> Plan:
    """is_proved: the caller has shown a code of their MFA device."""
    if conditions:
        check_delete(ctx, bucket, key, conditions)
    if version_id is None:
        return plan_delete(ctx, bucket, key)
    if not is_proved and is_needed(bucket):
        raise not_proved()
    return plan_delete_version(ctx, bucket, key, version_id, bucket.has_lock and may_bypass(ctx, bucket, key, conditions))


def may_bypass(ctx: Context, bucket: Bucket, key: str, req: Mapping[str, Any]) -> bool:
    """Whether the caller asks to bypass a governance lock, and may."""
    if not req.get("BypassGovernanceRetention"):
        return False
    return ctx.allows(permission(ctx, bucket, "s3:BypassGovernanceRetention", bucket.object_arn(key)))


def check_delete(ctx: Context, bucket: Bucket, key: str, conditions: Mapping[str, Any]) -> None:
    """Conditions look at the current object; IfMatch and its companions name one."""
    etag, time, size = (conditions.get(name) for name in ("IfMatch", "IfMatchLastModifiedTime", "IfMatchSize"))
    if etag is None and time is None and size is None:
        return
    current = find_current(ctx, bucket, key)
    if current is None or is_marker(current.value):
        raise precondition_failed("If-Match")
    value = current.value
    if etag is not None and not names_etag(etag, value["etag"]):
        raise precondition_failed("If-Match")
    if time is not None and seconds(time) != value["mtime"]:
        raise precondition_failed("x-amz-if-match-last-modified-time")
    if size is not None and size != value["size"]:
        raise precondition_failed("x-amz-if-match-size")


@ops
async def delete_objects(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Delete up to 1,000 keys or versions; each stands for itself and is permitted for itself.

    req: Bucket, Delete {Objects [{Key, VersionId, ETag, LastModifiedTime, Size}], Quiet}.
    Errors: MalformedXML - no key, or more than 1,000; per key in the answer: AccessDenied, PreconditionFailed, ...
    Source: S3 API Reference, DeleteObjects.
    """
    wanted = req["Delete"].get("Objects") or []
    if not 0 < len(wanted) <= DELETE_KEYS:
        raise malformed_xml()
    name = req["Bucket"]
    is_proved = any("VersionId" in item for item in wanted) and await prove_if_needed(ctx, name, req)
    get_bucket(ctx, name)
    turns: dict[str, list[Mapping[str, Any]]] = {}
    for item in wanted:
        turns.setdefault(item["Key"], []).append(item)
    done = await asyncio.gather(*(delete_in_turn(ctx, req, items, is_proved) for items in turns.values()))
    quiet = req["Delete"].get("Quiet")
    deleted = [entry for group in done for entry, failed in group if not failed and not quiet]
    errors = [entry for group in done for entry, failed in group if failed]
    return {"Deleted": deleted, "Errors": errors}


async def delete_in_turn(
    ctx: Context, req: Mapping[str, Any], items: list[Mapping[str, Any]], is_proved: bool
) -> list[tuple[dict[str, Any], bool]]:
    """What came of each deletion of one key, in the order asked for; (entry, whether it failed)."""
    return [await delete_one(ctx, req, item, is_proved) for item in items]


async def delete_one(ctx: Context, req: Mapping[str, Any], item: Mapping[str, Any], is_proved: bool) -> tuple[dict[str, Any], bool]:
    name, key, version_id = req["Bucket"], item["Key"], item.get("VersionId")
    entry: dict[str, Any] = {"Key": key}
    if version_id is not None:
        entry["VersionId"] = version_id
    conditions = {
        target: item[source]
        for source, target in (("ETag", "IfMatch"), ("LastModifiedTime", "IfMatchLastModifiedTime"), ("Size", "IfMatchSize"))
        if source in item
    }
    if "BypassGovernanceRetention" in req:
        conditions["BypassGovernanceRetention"] = req["BypassGovernanceRetention"]
    try:
        check_key(key)
        if not get_bucket(ctx, name).zone:  # whose sessions were asked already
            ctx.authorize(delete_permission(ctx, name, key, version_id))
        plan = await carry_out(ctx, name, key, lambda bucket: deletion(ctx, bucket, key, version_id, conditions, is_proved))
    except ServiceError as error:
        return entry | {"Code": error.code, "Message": error.message}, True
    except PilviError as error:
        return entry | {"Code": "AccessDenied", "Message": error.message}, True
    if plan.answer.get("DeleteMarker"):
        entry |= {"DeleteMarker": True, "DeleteMarkerVersionId": plan.answer["VersionId"]}
    return entry, False


def delete_permission(ctx: Context, name: str, key: str, version_id: str | None) -> Access:
    bucket = get_bucket(ctx, name)
    action = "s3:DeleteObject" if version_id is None else "s3:DeleteObjectVersion"
    if not bucket.has_acls:
        return permission(ctx, bucket, action, bucket.object_arn(key))
    found = find_current(ctx, bucket, key) if version_id is None else find_version(ctx, bucket, key, version_id)
    return permission(ctx, bucket, action, bucket.object_arn(key), None, None if found is None else found.value)
