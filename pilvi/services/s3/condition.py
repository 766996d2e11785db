"""Conditions on reads, copies and writes, ranges and part numbers: pure functions over what a row says.

Source: S3 API reference, GetObject, PutObject and CopyObject; RFC 9110, sections 13 and 14.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from pilvi.core.errors import ServiceError
from pilvi.services.s3.errors import no_such_key, not_implemented, not_modified, precondition_failed

_RANGE = re.compile(r"bytes=(\d*)-(\d*)\Z", re.ASCII)
_COPY_RANGE = re.compile(r"bytes=(\d+)-(\d+)\Z", re.ASCII)


def check_read(req: Mapping[str, Any], etag: str, mtime: int, *, prefix: str = "") -> None:
    """Errors: PreconditionFailed (412), NotModified (304; 412 for copies, whose members carry `prefix` CopySource)."""
    if_match = req.get(f"{prefix}IfMatch") if prefix else req.get("IfMatch")
    if_none_match = req.get(f"{prefix}IfNoneMatch") if prefix else req.get("IfNoneMatch")
    modified = req.get(f"{prefix}IfModifiedSince") if prefix else req.get("IfModifiedSince")
    unmodified = req.get(f"{prefix}IfUnmodifiedSince") if prefix else req.get("IfUnmodifiedSince")
    header = "x-amz-copy-source-" if prefix else ""
    if if_match is not None:
        if not names_etag(if_match, etag):
            raise precondition_failed(f"{header}If-Match")
    elif unmodified is not None and mtime > seconds(unmodified):
        raise precondition_failed(f"{header}If-Unmodified-Since")
    if if_none_match is not None:
        if names_etag(if_none_match, etag):
            raise precondition_failed(f"{header}If-None-Match") if prefix else not_modified(etag)
    elif modified is not None and mtime <= seconds(modified):
        raise precondition_failed(f"{header}If-Modified-Since") if prefix else not_modified(etag)


def check_write(req: Mapping[str, Any], key: str, etag: str | None) -> None:
    """Whether a conditional write may go on; `etag` is the current object's, None when there is none.

    Errors: PreconditionFailed; NoSuchKey - If-Match on nothing; NotImplemented - If-None-Match other than '*'.
    """
    if (none_match := req.get("IfNoneMatch")) is not None:
        if none_match.strip() != "*":
            raise not_implemented("If-None-Match")
        if etag is not None:
            raise precondition_failed("If-None-Match")
    if (match := req.get("IfMatch")) is not None:
        if etag is None:
            raise no_such_key(key)
        if not names_etag(match, etag):
            raise precondition_failed("If-Match")


def names_etag(header: str, etag: str) -> bool:
    """Whether a list of entity tags names this one."""
    return any(tag.strip().removeprefix("W/").strip('"') in ("*", etag) for tag in header.split(","))


def seconds(instant: datetime) -> int:
    return int(instant.timestamp())


@lru_cache(maxsize=4096)
def instant_of(mtime: int) -> datetime:
    return datetime.fromtimestamp(mtime, UTC)


def range_of(header: str | None, size: int) -> tuple[int, int] | None:
    """(start, end) of a single range, None when the whole is meant: no range, one that makes no sense, or several.

    Errors: InvalidRange - nothing of the object lies in it.
    """
    if not header or (match := _RANGE.match(header.strip())) is None:
        return None
    first, last = match.groups()
    if not first and not last:
        return None
    if not first:
        start, end = max(size - int(last), 0), size
        if int(last) == 0:
            raise invalid_range(header, size)
    else:
        start = int(first)
        end = min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    if start >= size:
        raise invalid_range(header, size)
    return start, end


def copy_range_of(header: str, size: int) -> tuple[int, int]:
    """(start, end) of an UploadPartCopy's source. Both ends are needed and must lie in the object."""
    match = _COPY_RANGE.match(header)
    if match is None:
        raise ServiceError(
            "InvalidArgument",
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the "
            "zero-based offsets of the first and last bytes to copy",
            400,
            ArgumentName="x-amz-copy-source-range",
            ArgumentValue=header,
        )
    start, end = int(match[1]), int(match[2]) + 1
    if start >= end or end > size:
        raise ServiceError(
            "InvalidArgument",
            f"Range specified is not valid for source object of size: {size}",
            400,
            ArgumentName="x-amz-copy-source-range",
            ArgumentValue=header,
        )
    return start, end


def invalid_range(header: str, size: int) -> ServiceError:
    return ServiceError(
        "InvalidRange", "The requested range is not satisfiable", 416, RangeRequested=header, ActualObjectSize=str(size)
    )


def invalid_part_number(requested: int, count: int) -> ServiceError:
    return ServiceError(
        "InvalidPartNumber",
        "The requested partnumber is not satisfiable",
        416,
        PartNumberRequested=str(requested),
        ActualPartCount=str(count),
    )
