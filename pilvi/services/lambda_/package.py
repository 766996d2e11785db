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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from pilvi.core.errors import Denied, NotFound, PilviError, ServiceError
from pilvi.core.service import Context
from pilvi.services.lambda_.names import invalid

if TYPE_CHECKING:
    from pilvi.storage.blobs import Blobs

ZIP_BYTES = 50 * 1024 * 1024
"""Largest zip in a request. Source: Lambda quotas, "Deployment package (.zip file archive) size"."""
UNZIPPED_BYTES = 262144000
"""Largest content of a function with its layers. Source: the same table, 250 MB."""
_REQUEST_BYTES = 70167211
"""What AWS names in the error: 50 MB in base64 with room for the rest of the request."""

_BUFFER_BYTES = 256 << 10

_BROKEN = "Could not unzip uploaded file. Please check your file, then try to upload again."


class Package(NamedTuple):
    blob: str
    """Name of the blob, not yet claimed."""
    size: int
    sha256: str
    """Base64 of the digest of the zip, as CodeSha256 is."""
    unzipped: int


def keep_package(ctx: Context, source: Mapping[str, Any], operation: str) -> Package:
    """Write `ZipFile`, or the S3 object the caller names (read with the caller's own permission), to a new blob and check it.

    The bytes pass through in pieces, so memory does not grow with the package. Whoever does not claim the blob drops it.
    """
    writer = ctx.blobs.create()
    digest, size = hashlib.sha256(), 0
    try:
        for chunk in _pieces(ctx, source, operation):
            size += len(chunk)
            if size > UNZIPPED_BYTES:
                raise invalid(f"Unzipped size must be smaller than {UNZIPPED_BYTES} bytes")
            digest.update(chunk)
            writer.write(chunk)
        writer.finish()
    except BaseException:
        writer.abort()
        raise
    try:
        unzipped = check_zip(open_blob(ctx.blobs, writer.name))
    except BaseException:
        ctx.blobs.delete(writer.name)
        raise
    return Package(writer.name, size, base64.b64encode(digest.digest()).decode(), unzipped)


@contextmanager
def kept_package(ctx: Context, source: Mapping[str, Any], operation: str) -> Iterator[Package]:
    """`keep_package`, dropped again when the block fails before it has claimed it."""
    package = keep_package(ctx, source, operation)
    try:
        yield package
    except PilviError:
        try:
            ctx.store.body(package.blob)
        except NotFound:
            ctx.blobs.delete(package.blob)
        raise


class BlobFile(io.RawIOBase):
    """A blob as a file that can be read and sought in."""

    def __init__(self, blobs: Blobs, name: str) -> None:
        self._blobs = blobs
        self._name = name
        self._size = blobs.size(name)
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = (0, self._position, self._size)[whence]
        self._position = max(0, start + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        data = self._blobs.read(self._name, self._position, min(self._position + len(buffer), self._size))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def open_blob(blobs: Blobs, name: str) -> io.BufferedReader:
    """A blob as a buffered file."""
    return io.BufferedReader(BlobFile(blobs, name), _BUFFER_BYTES)


def check_zip(file: IO[bytes]) -> int:
    """The size of the content; the errors AWS has for what is no zip, is empty, too large, or reaches outside itself."""
    try:
        with zipfile.ZipFile(file) as archive:
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


def _pieces(ctx: Context, source: Mapping[str, Any], operation: str) -> Iterator[bytes]:
    """The zip in pieces. Errors: what AWS says of a missing source, a too large request, or what S3 refuses."""
    data = source.get("ZipFile")
    if data is not None:
        if len(data) > ZIP_BYTES:
            raise ServiceError(
                "RequestEntityTooLargeException",
                f"Request must be smaller than {_REQUEST_BYTES} bytes for the {operation} operation",
                413,
            )
        yield bytes(data)
        return
    bucket, key, version = source.get("S3Bucket"), source.get("S3Key"), source.get("S3ObjectVersion")
    if not bucket or not key:
        raise invalid("Please provide a source for function code.")
    try:
        extra = {"VersionId": version} if version else {}
        yield from ctx.call("s3", "GetObject", Bucket=bucket, Key=key, **extra)["Body"]
    except ServiceError as error:
        raise _object_error(bucket, key, error.code, error.message) from error
    except PilviError as error:
        raise _object_error(
            bucket, key, "AccessDenied" if isinstance(error, Denied) else type(error).__name__, error.message
        ) from error


def _object_error(bucket: str, key: str, code: str, message: str) -> ServiceError:
    if code in ("AccessDenied", "AccessDeniedException"):
        return ServiceError(
            "AccessDeniedException",
            f"Your access has been denied by S3, please make sure your request credentials have permission to GetObject for {bucket}/{key}. "
            f"S3 Error Code: AccessDenied. S3 Error Message: {message}",
            403,
        )
    return invalid(f"Error occurred while GetObject. S3 Error Code: {code}. S3 Error Message: {message}")
