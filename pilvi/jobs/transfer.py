"""Between S3 and a job's folder, through the S3 API and under the job's role. Streams: memory does not grow with sizes."""

from __future__ import annotations

import gzip
import json
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from pilvi.core.errors import PilviError
from pilvi.core.service import Context
from pilvi.core.streams import CHUNK_BYTES, ByteStream
from pilvi.jobs.spec import Input, Output

_PART_BYTES = 512 << 20
_SINGLE_BYTES = 5 << 30
"""Source: S3 User Guide: one PutObject takes at most 5 GiB."""

_UNPACKING = 16 + zlib.MAX_WBITS


class TransferFailed(Exception):
    """It could not be done; the words are for the job's owner."""


class Cancelled(Exception):
    """Somebody asked for the end meanwhile."""


def split_uri(uri: str) -> tuple[str, str]:
    """(bucket, key) of s3://bucket/key."""
    bucket, _, key = uri.split("://", 1)[-1].partition("/")
    return bucket, key


# -- in -------------------------------------------------------------------------------------------------------------------


def download(ctx: Context, source: Input, folder: Path, check: Callable[[], None]) -> int:
    """Put the objects of an input into a folder; gives their number. `check` may raise Cancelled at any time."""
    folder.mkdir(parents=True, exist_ok=True)
    bucket = split_uri(source.uri)[0]
    try:
        found = _named_in_manifest(ctx, source.uri) if source.kind == "manifest" else _below_prefix(ctx, source.uri)
        number = 0
        for position, (bucket, key, name) in enumerate(found):
            check()
            if source.shard is not None and position % source.shard[1] != source.shard[0]:
                continue
            _fetch(ctx, bucket, key, _place(folder, name, source.is_gzipped), source.is_gzipped, check)
            number += 1
    except PilviError as error:
        raise TransferFailed(f"Failed to download data from S3 bucket {bucket}. {_told(error)}") from error
    except (OSError, zlib.error) as error:
        raise TransferFailed(f"Failed to write the data of {source.uri}: {error}") from error
    if number == 0 and not source.is_optional and source.shard is None:
        raise TransferFailed(
            f'No S3 objects found under S3 URL "{source.uri}" given in input data source. Please ensure that the bucket exists in the '
            f'selected region ({ctx.region}), that objects exist under that S3 prefix, and that the role "{ctx.principal.issuer_arn}" has '
            f'"s3:ListBucket" permissions on bucket "{bucket}".'
        )
    return number


def _below_prefix(ctx: Context, uri: str) -> Iterator[tuple[str, str, str]]:
    """(bucket, key, name below the folder) of every object whose key starts with the prefix."""
    bucket, prefix = split_uri(uri)
    token: dict[str, str] = {}
    while True:
        page = ctx.call("s3", "ListObjectsV2", Bucket=bucket, Prefix=prefix, **token)
        for entry in page.get("Contents", ()):
            if not entry["Key"].endswith("/"):
                yield bucket, entry["Key"], name_below(prefix, entry["Key"])
        if not page.get("NextContinuationToken"):
            return
        token = {"ContinuationToken": page["NextContinuationToken"]}


def name_below(prefix: str, key: str) -> str:
    """Where an object goes: below a folder-like prefix its rest, else what stands after the prefix's last slash."""
    if key.startswith(prefix + "/"):
        return key[len(prefix) + 1 :]
    return key[prefix.rfind("/") + 1 :]


def _named_in_manifest(ctx: Context, uri: str) -> Iterator[tuple[str, str, str]]:
    """The same for [{"prefix": "s3://b/p/"}, "name", ...]. Source: SageMaker API reference, S3DataSource."""
    bucket, key = split_uri(uri)
    text = ctx.call("s3", "GetObject", Bucket=bucket, Key=key)["Body"]
    try:
        head, *names = json.loads(ByteStream.of(text).read_now())
        base = head["prefix"]
    except (ValueError, TypeError, KeyError) as error:
        raise TransferFailed(f"The manifest {uri} is not a list that starts with a prefix.") from error
    for name in names:
        bucket, key = split_uri(base + name)
        yield bucket, key, name


def _place(folder: Path, name: str, is_gzipped: bool) -> Path:
    """A path below the folder; a key may not lead out of it."""
    parts = [part for part in PurePosixPath("/" + name).parts[1:] if part != "."]
    if not parts or ".." in parts:
        raise TransferFailed(f"The object key {name} cannot be a file name.")
    place = folder.joinpath(*parts)
    place.parent.mkdir(parents=True, exist_ok=True)
    return place.with_suffix("") if is_gzipped and place.suffix == ".gz" else place


def _fetch(ctx: Context, bucket: str, key: str, place: Path, is_gzipped: bool, check: Callable[[], None]) -> None:
    body = ByteStream.of(ctx.call("s3", "GetObject", Bucket=bucket, Key=key)["Body"])
    unpack = zlib.decompressobj(_UNPACKING) if is_gzipped else None
    with place.open("wb") as file:
        for chunk in body:
            check()
            file.write(unpack.decompress(chunk) if unpack else chunk)
            while unpack and unpack.eof and unpack.unused_data:
                rest, unpack = unpack.unused_data, zlib.decompressobj(_UNPACKING)
                file.write(unpack.decompress(rest))


# -- out ------------------------------------------------------------------------------------------------------------------


def upload(ctx: Context, target: Output, folder: Path, scratch: Path) -> int:
    """Bring a folder to S3; gives the number of files in it. `scratch` is a free place for the archive."""
    try:
        names = sorted(_files_below(folder))
        if target.archive == "tar.gz":
            if names or target.if_empty:
                _pack(folder, scratch)
                _send(ctx, target.uri, scratch)
                scratch.unlink()
        else:
            for name in names:
                _send(ctx, f"{target.uri.rstrip('/')}/{name}", folder / name)
    except PilviError as error:
        raise TransferFailed(f"Failed to upload data to {target.uri}. {_told(error)}") from error
    except OSError as error:
        raise TransferFailed(f"Failed to read the data for {target.uri}: {error}") from error
    return len(names)


def _files_below(folder: Path) -> Iterator[str]:
    """Plain files, by their path below the folder. Links are not followed: they could lead anywhere."""
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            if path.is_file() and not path.is_symlink():
                yield path.relative_to(folder).as_posix()


def _pack(folder: Path, archive: Path) -> None:
    """A tar of the folder's content, without a top folder, owned by nobody in particular."""

    def neutral(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        member.uid = member.gid = 0
        member.uname = member.gname = "root"
        return member if member.isfile() or member.isdir() or member.issym() else None

    with gzip.open(archive, "wb", compresslevel=6) as packed, tarfile.open(fileobj=packed, mode="w|") as tar:
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            tar.add(path, path.name, filter=neutral)


def _send(ctx: Context, uri: str, path: Path) -> None:
    bucket, key = split_uri(uri)
    size = path.stat().st_size
    if size <= _SINGLE_BYTES:
        with path.open("rb") as file:
            ctx.call("s3", "PutObject", Bucket=bucket, Key=key, Body=_body(file, size), ContentLength=size)
        return
    upload = ctx.call("s3", "CreateMultipartUpload", Bucket=bucket, Key=key)["UploadId"]
    parts = []
    with path.open("rb") as file:
        for number, start in enumerate(range(0, size, _PART_BYTES), 1):
            length = min(_PART_BYTES, size - start)
            part = {"Bucket": bucket, "Key": key, "UploadId": upload, "PartNumber": number, "ContentLength": length}
            parts.append({"PartNumber": number, "ETag": ctx.call("s3", "UploadPart", Body=_body(file, length), **part)["ETag"]})
    ctx.call("s3", "CompleteMultipartUpload", Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts})


def _body(file: Any, length: int) -> ByteStream:
    """The next bytes of an open file as a stream."""

    def chunks() -> Iterator[bytes]:
        left = length
        while left > 0 and (chunk := file.read(min(CHUNK_BYTES, left))):
            left -= len(chunk)
            yield chunk

    return ByteStream(sync=chunks(), length=length)


def _told(error: PilviError) -> str:
    """An error as AWS's own words in a failure reason."""
    code = getattr(error, "code", "") or type(error).__name__
    return f"{'AccessDenied' if code == 'Denied' else code}: {error.message}"
