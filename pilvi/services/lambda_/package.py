"""Deployment packages: the zip files of functions and layers, from the request or from S3, checked and kept sealed.

A package becomes a blob; the caller claims it in the transaction that first names it. Reading it again is `unpacked`'s business.
"""

from __future__ import annotations

import base64
import hashlib
import io
import stat
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from pilvi.core.errors import Denied, PilviError, ServiceError
from pilvi.core.service import Context
from pilvi.services.lambda_.names import invalid

ZIP_BYTES = 50 * 1024 * 1024
"""Largest zip in a request. Source: Lambda quotas, "Deployment package (.zip file archive) size"."""
UNZIPPED_BYTES = 262144000
"""Largest content of a function with its layers. Source: the same table, 250 MB."""
_REQUEST_BYTES = 70167211
"""What AWS names in the error: 50 MB in base64 with room for the rest of the request."""

_BROKEN = "Could not unzip uploaded file. Please check your file, then try to upload again."


class Package(NamedTuple):
    blob: str
    """Name of the blob, not yet claimed."""
    size: int
    sha256: str
    """Base64 of the digest of the zip, as CodeSha256 is."""
    unzipped: int


def read_zip(ctx: Context, source: Mapping[str, Any], operation: str) -> bytes:
    """The bytes of `ZipFile`, or of the S3 object the caller names (read with the caller's own permission)."""
    data = source.get("ZipFile")
    if data is not None:
        if len(data) > ZIP_BYTES:
            raise ServiceError(
                "RequestEntityTooLargeException",
                f"Request must be smaller than {_REQUEST_BYTES} bytes for the {operation} operation",
                413,
            )
        return bytes(data)
    if source.get("S3Bucket") and source.get("S3Key"):
        version = source.get("S3ObjectVersion")
        return _read_object(ctx, source["S3Bucket"], source["S3Key"], version)
    raise invalid("Please provide a source for function code.")


def keep_zip(ctx: Context, data: bytes) -> Package:
    """Check a zip and write it to a new blob."""
    unzipped = check_zip(data)
    writer = ctx.blobs.create()
    try:
        writer.write(data)
        writer.finish()
    except BaseException:
        writer.abort()
        raise
    return Package(writer.name, len(data), sha256_of(data), unzipped)


def sha256_of(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def check_zip(data: bytes) -> int:
    """The size of the content; the errors AWS has for what is no zip, is empty, too large, or reaches outside itself."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if not entries:
                raise invalid("Uploaded file must be a non-empty zip")
            total = sum(entry.file_size for entry in entries)
            if total > UNZIPPED_BYTES:
                raise invalid(f"Unzipped size must be smaller than {UNZIPPED_BYTES} bytes")
            _check_names(entries)
            if archive.testzip() is not None:
                raise invalid(_BROKEN)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError, ValueError) as error:
        raise invalid(_BROKEN) from error
    return total


def _check_names(entries: list[zipfile.ZipInfo]) -> None:
    """No name may leave the folder, and no file may be a folder as well."""
    folders: set[PurePosixPath] = set()
    files: set[PurePosixPath] = set()
    for entry in entries:
        path = path_of(entry)
        if path is None:
            raise invalid(_BROKEN)
        folders.update(path.parents)
        (folders if entry.is_dir() else files).add(path)
    if files & folders:
        raise invalid(_BROKEN)


def path_of(entry: zipfile.ZipInfo) -> PurePosixPath | None:
    """Where an entry goes below the root; None when it would leave it."""
    path = PurePosixPath(entry.filename.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or "\0" in entry.filename or path == PurePosixPath("."):
        return None
    return path


def is_link(entry: zipfile.ZipInfo) -> bool:
    return stat.S_ISLNK(entry.external_attr >> 16)


def _read_object(ctx: Context, bucket: str, key: str, version: str | None) -> bytes:
    extra = {"VersionId": version} if version else {}
    try:
        body = ctx.call("s3", "GetObject", Bucket=bucket, Key=key, **extra)["Body"]
        chunks: list[bytes] = []
        size = 0
        for chunk in body:
            size += len(chunk)
            if size > UNZIPPED_BYTES:
                raise invalid(f"Unzipped size must be smaller than {UNZIPPED_BYTES} bytes")
            chunks.append(chunk)
        return b"".join(chunks)
    except ServiceError as error:
        raise _object_error(bucket, key, error.code, error.message) from error
    except PilviError as error:
        raise _object_error(
            bucket, key, "AccessDenied" if isinstance(error, Denied) else type(error).__name__, error.message
        ) from error


def _object_error(bucket: str, key: str, code: str, message: str) -> ServiceError:
    if code == "InvalidParameterValueException":
        return invalid(message)
    if code in ("AccessDenied", "AccessDeniedException"):
        return ServiceError(
            "AccessDeniedException",
            f"Your access has been denied by S3, please make sure your request credentials have permission to GetObject for {bucket}/{key}. "
            f"S3 Error Code: AccessDenied. S3 Error Message: {message}",
            403,
        )
    return invalid(f"Error occurred while GetObject. S3 Error Code: {code}. S3 Error Message: {message}")
