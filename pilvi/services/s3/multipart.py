"""Multipart uploads: create, upload and copy parts, list, complete, abort.

Completing rewrites no byte: the parts' blobs become the object's segments in one transaction that also ends the upload.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any
from urllib.parse import quote

from pilvi.auth.principals import canonical_id
from pilvi.core.errors import PilviError, ServiceError
from pilvi.core.service import Context, Operations
from pilvi.core.streams import ByteStream
from pilvi.services.s3.acl import mark_owner
from pilvi.services.s3.attributes import check_key, encryption_of, row_of
from pilvi.services.s3.catalog import Bucket, get_bucket, object_owner, owner_of, writable_bucket
from pilvi.services.s3.class_answers import LIFECYCLE, announced
from pilvi.services.s3.condition import check_write, instant_of
from pilvi.services.s3.content import Stored, forgetting, is_one_zone, take, undo
from pilvi.services.s3.copy import find_source, open_source, source_version
from pilvi.services.s3.copy_source import copy_source_of
from pilvi.services.s3.digest import (
    ALGORITHMS,
    COMPOSITE,
    DEFAULT,
    FULL_OBJECT,
    Algorithm,
    Declared,
    algorithm_of,
    combined,
    composite,
    declared_by,
    multipart_etag,
)
from pilvi.services.s3.errors import bad_digest, invalid_argument, invalid_request, malformed_xml, no_such_upload
from pilvi.services.s3.history import Plan, Value, carry_out, carry_out_now, find_current, is_marker, plan_succession
from pilvi.services.s3.lock_rules import check_asked
from pilvi.services.s3.object import check_size
from pilvi.services.s3.sealing import CONDITIONS, check_customer_key, is_asked, open_part, seal_row
from pilvi.storage.layers import Keys
from pilvi.storage.records import Change, Delete, Expect, Insert, PutBody, Row, Update, new_body_name

ops = Operations()

MIN_PART_BYTES = 5 << 20
MAX_PARTS = 10_000


@ops
async def create_multipart_upload(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Begin an upload; its headers, metadata and tags become the object's.

    req: Bucket, Key, content headers, Metadata, Tagging, ChecksumAlgorithm, ChecksumType.
    Errors: NoSuchBucket; InvalidRequest - the algorithm has no such type; as put_object for the rest.
    Source: S3 API Reference, CreateMultipartUpload; S3 User Guide, "Checking object integrity", full object and composite.
    """
    name, key = req["Bucket"], req["Key"]
    check_key(key)
    in_bucket = writable_bucket(ctx, name)
    row = row_of(req)
    if "lock" in row or "hold" in row:
        check_asked(in_bucket.value, row, ctx.clock.now())
    if in_bucket.has_acls or "acl" in row:
        mark_owner(ctx, in_bucket, req, row)
    if is_asked(in_bucket, req):
        await seal_row(ctx, in_bucket, key, req, row)
    upload: Value = {"at": int(ctx.clock.time_s()), "row": row, "initiator": ctx.principal.arn}
    if asked := {condition: req[member] for member, condition in CONDITIONS.items() if member in req}:
        upload["asked"] = asked
    answer: dict[str, Any] = {"Bucket": name, "Key": key, **encryption_of(row, req)}
    algorithm = algorithm_of(req)
    if algorithm is not None:
        upload["algorithm"], upload["type"] = algorithm.name, checksum_type(algorithm, req.get("ChecksumType"))
        answer |= {"ChecksumAlgorithm": algorithm.name, "ChecksumType": upload["type"]}
    elif "ChecksumType" in req:
        raise invalid_request("The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.")
    upload_id = f"{int(ctx.clock.time_s() * 1_000_000):014x}{ctx.ids.hex(50)}"

    def make(bucket: Bucket) -> Plan:
        return Plan([Insert(bucket.tables.uploads, upload_row_id(key, upload_id), upload)])

    await carry_out(ctx, name, key, make)
    return answer | {"UploadId": upload_id}


def checksum_type(algorithm: Algorithm, asked: str | None) -> str:
    if asked is None:
        return algorithm.types[0]
    if asked not in algorithm.types:
        raise invalid_request(f"The {asked} checksum type cannot be used with the {algorithm.name.lower()} checksum algorithm.")
    return asked


def upload_row_id(key: str, upload_id: str) -> str:
    return f"{key}\0{upload_id}"


def part_row_id(upload_id: str, number: int) -> str:
    return f"{upload_id}/{number:05d}"


def find_upload(ctx: Context, bucket: Bucket, key: str, upload_id: str) -> Row:
    row = ctx.store.get(bucket.tables.uploads, upload_row_id(key, upload_id))
    if row is None:
        raise no_such_upload(upload_id)
    return row


# -- parts ----------------------------------------------------------------------------------------------------------------


@ops
async def upload_part(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Store a part, in any order; a part of the same number is replaced.

    req: Bucket, Key, UploadId, PartNumber (1-10,000), Body (up to 5 GiB), one checksum or Content-MD5.
    Errors: NoSuchUpload; InvalidArgument - part number; BadDigest; InvalidRequest - another checksum than the upload's.
    Source: S3 API Reference, UploadPart.
    """
    body: ByteStream = req.get("Body") or ByteStream(b"")
    check_size(body.length)
    upload = begin_part(ctx, req)
    declared = part_digest(upload.value, req, body)
    keys = await part_keys(ctx, req, upload.value["row"])
    stored = await take(ctx, body, declared, keys, has_one_zone(ctx, upload.value["row"]))
    await keep_part(ctx, req, stored)
    algorithm, sum_ = stored.verified
    return {"ETag": f'"{stored.md5}"', f"Checksum{algorithm}": sum_, **part_encryption(upload.value["row"], req)}


@ops
async def upload_part_copy(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Store a part from an object, or from a range of one.

    req: as upload_part, with CopySource, CopySourceRange (`bytes=0-99`, both ends needed), CopySourceIf*.
    Errors: NoSuchUpload; NoSuchKey; InvalidArgument - the range is not in the source; PreconditionFailed.
    Source: S3 API Reference, UploadPartCopy.
    """
    upload = begin_part(ctx, req)
    source = copy_source_of(req)
    keys = await part_keys(ctx, req, upload.value["row"])
    found, body = await open_source(ctx, source, find_source(ctx, source), req.get("CopySourceRange"), req)
    check_size(body.length)
    algorithm = ALGORITHMS[upload.value.get("algorithm", DEFAULT)]
    stored = await take(ctx, body, Declared(algorithm, "", "", ""), keys, has_one_zone(ctx, upload.value["row"]))
    mtime = await keep_part(ctx, req, stored)
    result = {"ETag": f'"{stored.md5}"', "LastModified": instant_of(mtime)}
    if "algorithm" in upload.value:
        result[f"Checksum{stored.algorithm}"] = stored.sum
    return {"CopyPartResult": result, **part_encryption(upload.value["row"], req), **source_version(ctx, source, found)}


def begin_part(ctx: Context, req: Mapping[str, Any]) -> Row:
    number = req["PartNumber"]
    if not 1 <= number <= MAX_PARTS:
        raise invalid_argument("Part number must be an integer between 1 and 10000, inclusive", "partNumber", number)
    return find_upload(ctx, writable_bucket(ctx, req["Bucket"]), req["Key"], req["UploadId"])


async def part_keys(ctx: Context, req: Mapping[str, Any], row: Value) -> Keys | None:
    """The upload's own keys, for one more part."""
    if "enc" not in row and "SSECustomerAlgorithm" not in req:
        return None
    return await open_part(ctx, get_bucket(ctx, req["Bucket"]), req["Key"], req, row)


def part_encryption(row: Value, req: Mapping[str, Any]) -> dict[str, Any]:
    """What answers about parts say; the encryption context is the upload's alone."""
    return encryption_of(row, {name: req[name] for name in ("SSECustomerAlgorithm", "SSECustomerKeyMD5") if name in req})


def part_digest(upload: Value, req: Mapping[str, Any], body: ByteStream) -> Declared:
    """What the part is verified by, and the sum that is kept for the whole: the upload's own algorithm, or the default."""
    algorithm = ALGORITHMS[upload.get("algorithm", DEFAULT)]
    declared = declared_by(req, body, algorithm.name)
    if (declared.value or declared.trailer) and "algorithm" in upload and declared.algorithm is not algorithm:
        raise invalid_request(
            f"Checksum Type mismatch occurred, expected checksum Type: {algorithm.name.lower()}, "
            f"actual checksum Type: {declared.algorithm.name.lower()}"
        )
    return declared._replace(kept=algorithm)


async def keep_part(ctx: Context, req: Mapping[str, Any], stored: Stored) -> int:
    """Make stored bytes a part of an upload that is still there."""
    key, upload_id, number = req["Key"], req["UploadId"], req["PartNumber"]
    mtime = int(ctx.clock.time_s())
    part: Value = {"number": number, "size": stored.size, "etag": stored.md5, "mtime": mtime, "at": stored.name, "sum": stored.sum}
    row_id = part_row_id(upload_id, number)

    def make(bucket: Bucket) -> Plan:
        upload = find_upload(ctx, bucket, key, upload_id)
        old = ctx.store.get(bucket.tables.parts, row_id)
        plan = Plan([Expect(bucket.tables.uploads, upload.id, upload.version), *stored.changes])
        if old is None:
            plan.changes.append(Insert(bucket.tables.parts, row_id, part))
        else:
            plan.garbage.append(old.value["at"])
            plan.changes += (Update(bucket.tables.parts, row_id, part, old.version), *forgetting(plan.garbage))
        return plan

    try:
        await carry_out(ctx, req["Bucket"], row_id, make)
    except PilviError:
        await undo(ctx, stored)
        raise
    return mtime


@ops
def list_parts(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parts uploaded so far, by number.

    req: Bucket, Key, UploadId, MaxParts (1,000), PartNumberMarker.
    Errors: NoSuchUpload.
    Source: S3 API Reference, ListParts.
    """
    bucket = get_bucket(ctx, req["Bucket"])
    upload_id = req["UploadId"]
    upload = find_upload(ctx, bucket, req["Key"], upload_id).value
    limit = min(req.get("MaxParts", 1000), 1000)
    marker = req.get("PartNumberMarker") or 0
    if limit < 0 or marker < 0:
        raise invalid_argument("Argument must be an integer between 0 and 2147483647", "max-parts", limit)
    rows = ctx.store.scan(
        bucket.tables.parts, prefix=f"{upload_id}/", after=part_row_id(upload_id, min(marker, 99_999)), limit=limit + 1
    )
    algorithm = upload.get("algorithm")
    parts = [part_entry(row.value, algorithm) for row in rows[:limit]]
    answer: dict[str, Any] = {
        "Bucket": bucket.name,
        "Key": req["Key"],
        "UploadId": upload_id,
        "PartNumberMarker": marker,
        "NextPartNumberMarker": parts[-1]["PartNumber"] if parts else 0,
        "MaxParts": limit,
        "IsTruncated": limit > 0 and len(rows) > limit,
        "Parts": parts,
        "Owner": object_owner(bucket, upload["row"]),
        "Initiator": initiator_of(bucket, upload),
        "StorageClass": (upload["row"].get("head") or {}).get("StorageClass", "STANDARD"),
    }
    if algorithm is not None:
        answer |= {"ChecksumAlgorithm": algorithm, "ChecksumType": upload["type"]}
    return answer


def part_entry(part: Value, algorithm: str | None) -> dict[str, Any]:
    entry = {
        "PartNumber": part["number"],
        "LastModified": instant_of(part["mtime"]),
        "ETag": f'"{part["etag"]}"',
        "Size": part["size"],
    }
    if algorithm is not None:
        entry[f"Checksum{algorithm}"] = part["sum"]
    return entry


def initiator_of(bucket: Bucket, upload: Value) -> dict[str, str]:
    """Accounts go by their canonical id, users and roles by their ARN."""
    arn: str = upload["initiator"]
    if not arn:
        return owner_of(bucket)
    if arn.endswith(":root"):
        return {"ID": canonical_id(arn.split(":")[4])}
    return {"ID": arn, "DisplayName": arn.rpartition("/")[2]}


# -- the end --------------------------------------------------------------------------------------------------------------


@ops
def complete_multipart_upload(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make the named parts one object. Asked again after it succeeded, it gives the same answer.

    req: Bucket, Key, UploadId, MultipartUpload {Parts [{PartNumber, ETag, Checksum*}]}, Checksum* of the whole, MpuObjectSize,
    IfMatch, IfNoneMatch.
    Errors: NoSuchUpload; InvalidPart, InvalidPartOrder; EntityTooSmall - a part but the last is below 5 MiB; MalformedXML;
    BadDigest; PreconditionFailed.
    Source: S3 API Reference, CompleteMultipartUpload.
    Differs: checksums of the parts may be left out also for composite uploads; the stored ones count.
    """
    name, key = req["Bucket"], req["Key"]
    wanted = (req.get("MultipartUpload") or {}).get("Parts") or []
    if not wanted:
        raise malformed_xml()
    check_order(wanted)
    plan = carry_out_now(ctx, name, lambda bucket: completion(ctx, bucket, req, wanted))
    sweep_parts(ctx, name, req["UploadId"])
    value: Value = plan.answer
    algorithm, sum_ = value["sum"]
    answer = {
        "Bucket": name,
        "Key": key,
        "Location": f"{ctx.cloud.endpoint}/{name}/{quote(key)}",
        "ETag": f'"{value["etag"]}"',
        f"Checksum{algorithm}": sum_,
        "ChecksumType": COMPOSITE if "-" in sum_ else FULL_OBJECT,
        **encryption_of(value, {}),
    }
    if "ver" in value:
        answer["VersionId"] = value["ver"]
    bucket = get_bucket(ctx, name)
    if LIFECYCLE in bucket.value:
        announced(ctx, bucket, key, value, answer)
    return answer


def check_order(wanted: Sequence[Mapping[str, Any]]) -> None:
    numbers = [part["PartNumber"] for part in wanted]
    if any(following <= number for number, following in pairwise(numbers)):
        raise ServiceError(
            "InvalidPartOrder",
            "The list of parts was not in ascending order. The parts list must be specified in order by part number.",
            400,
        )


def completion(ctx: Context, bucket: Bucket, req: Mapping[str, Any], wanted: Sequence[Mapping[str, Any]]) -> Plan:
    """The whole end of an upload as one transaction; `answer` is the object's row."""
    key, upload_id = req["Key"], req["UploadId"]
    current = find_current(ctx, bucket, key)
    row = ctx.store.get(bucket.tables.uploads, upload_row_id(key, upload_id))
    if row is None:
        if current is not None and current.value.get("upload") == upload_id:
            return Plan(answer=current.value)
        raise no_such_upload(upload_id)
    if "IfMatch" in req or "IfNoneMatch" in req:
        there = current is not None and not is_marker(current.value)
        check_write(req, key, current.value["etag"] if current is not None and there else None)
    if "SSECustomerAlgorithm" in req:
        check_customer_key(ctx, req, row.value["row"].get("enc"))
    uploaded = {part.value["number"]: part for part in parts_of(ctx, bucket, upload_id)}
    parts = chosen_parts(upload_id, wanted, uploaded, row.value.get("algorithm"))
    value = completed_row(req, row.value, parts)
    value["upload"] = upload_id
    value["mtime"] = int(ctx.clock.time_s())
    value["parts"] = new_body_name()
    plan = plan_succession(ctx, bucket, key, current, value, bucket.tables.objects)
    manifest = [(part["number"], part["at"], part["size"], part["sum"]) for part in parts]
    used = {part["number"] for part in parts}
    left = [part.value["at"] for number, part in uploaded.items() if number not in used]
    plan.garbage += left
    plan.changes += (
        PutBody(value["parts"], ctx.keyring.seal(json.dumps(manifest, separators=(",", ":")).encode(), value["parts"].encode())),
        *ending(bucket, row, uploaded.values()),
        *forgetting(left),
    )
    plan.answer = value
    return plan


def parts_of(ctx: Context, bucket: Bucket, upload_id: str) -> list[Row]:
    found: list[Row] = []
    after = ""
    while rows := ctx.store.scan(bucket.tables.parts, prefix=f"{upload_id}/", after=after, limit=1000):
        found += rows
        after = rows[-1].id
    return found


def ending(bucket: Bucket, upload: Row, parts: Iterable[Row]) -> list[Change]:
    """The upload and its parts' rows go."""
    return [Delete(bucket.tables.uploads, upload.id, upload.version), *removal(bucket, parts)]


def removal(bucket: Bucket, parts: Iterable[Row]) -> list[Change]:
    return [Delete(bucket.tables.parts, part.id, part.version) for part in parts]


def chosen_parts(
    upload_id: str, wanted: Sequence[Mapping[str, Any]], uploaded: Mapping[int, Row], algorithm: str | None
) -> list[Value]:
    """The rows of the named parts, once number, ETag, checksum and size are right."""
    parts: list[Value] = []
    for item in wanted:
        number, etag = item["PartNumber"], (item.get("ETag") or "").strip('"')
        row = uploaded.get(number)
        declared = item.get(f"Checksum{algorithm}") if algorithm is not None else None
        if row is None or row.value["etag"] != etag or declared not in (None, row.value["sum"]):
            raise ServiceError(
                "InvalidPart",
                "One or more of the specified parts could not be found.  The part may not have been uploaded, or the specified "
                "entity tag may not match the part's entity tag.",
                400,
                UploadId=upload_id,
                PartNumber=str(number),
                ETag=etag,
            )
        parts.append(row.value)
    for part in parts[:-1]:
        if part["size"] < MIN_PART_BYTES:
            raise ServiceError(
                "EntityTooSmall",
                "Your proposed upload is smaller than the minimum allowed size",
                400,
                ETag=part["etag"],
                MinSizeAllowed=str(MIN_PART_BYTES),
                PartNumber=str(part["number"]),
                ProposedSize=str(part["size"]),
            )
    return parts


def completed_row(req: Mapping[str, Any], upload: Value, parts: Sequence[Value]) -> Value:
    """The object that the parts make, verified against what the client says of the whole."""
    size = sum(part["size"] for part in parts)
    if req.get("MpuObjectSize", size) != size:
        raise invalid_request(
            f"The provided 'x-amz-mp-object-size' header value {req['MpuObjectSize']} does not match what was computed: {size}"
        )
    algorithm = upload.get("algorithm", DEFAULT)
    kind = upload.get("type", FULL_OBJECT)
    if req.get("ChecksumType", kind) != kind:
        raise invalid_request(
            f"The upload was created using the {kind} checksum mode. The complete request must use the same checksum mode."
        )
    if kind == FULL_OBJECT:
        sum_ = combined(algorithm, [(part["sum"], part["size"]) for part in parts])
    else:
        sum_ = composite(algorithm, [part["sum"] for part in parts])
    declared = req.get(f"Checksum{algorithm}")
    if declared is not None and declared.partition("-")[0] != sum_.partition("-")[0]:
        raise bad_digest(algorithm.lower())
    etag = multipart_etag([part["etag"] for part in parts])
    return {**upload["row"], "size": size, "etag": etag, "sum": (algorithm, sum_), "n": len(parts)}


@ops
def abort_multipart_upload(ctx: Context, req: Mapping[str, Any]) -> None:
    """End an upload and forget its parts.

    Errors: NoSuchUpload.
    Source: S3 API Reference, AbortMultipartUpload.
    """
    key, upload_id = req["Key"], req["UploadId"]

    def make(bucket: Bucket) -> Plan:
        upload = find_upload(ctx, bucket, key, upload_id)
        parts = parts_of(ctx, bucket, upload_id)
        garbage = [part.value["at"] for part in parts]
        return Plan([*ending(bucket, upload, parts), *forgetting(garbage)], garbage)

    carry_out_now(ctx, req["Bucket"], make)
    sweep_parts(ctx, req["Bucket"], upload_id)


def sweep_parts(ctx: Context, name: str, upload_id: str) -> None:
    """Parts that were stored in the very moment in which their upload ended; none can follow them."""

    def make(bucket: Bucket) -> Plan:
        parts = parts_of(ctx, bucket, upload_id)
        garbage = [part.value["at"] for part in parts]
        return Plan([*removal(bucket, parts), *forgetting(garbage)], garbage)

    carry_out_now(ctx, name, make)


def has_one_zone(ctx: Context, row: Value) -> bool:
    head = row.get("head")
    return head is not None and is_one_zone(ctx, head.get("StorageClass"))
