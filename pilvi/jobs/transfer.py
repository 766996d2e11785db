"""Between S3 and a job's folder, through the S3 API and under the job's role. Streams: memory does not grow with sizes."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from pilvi.core.errors import PilviError
from pilvi.core.service import Context
from pilvi.core.streams import CHUNK_BYTES, ByteStream, Piece
from pilvi.jobs.spec import Input, Output

_PART_BYTES = 512 << 20
_COPY_BYTES = 1 << 30
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


def download(ctx: Context, source: Input, folders: Sequence[Path], check: Callable[[], None]) -> int:
    """Put the objects of an input into folders, one for each host; gives their number. `check` may raise Cancelled at any time.

    Every host gets all objects (fetched once, then copied), or each its own share of them where the input is sharded.
    """
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    bucket = split_uri(source.uri)[0]
    number = 0
    try:
        for position, (bucket, key, name) in enumerate(objects(ctx, source)):
            check()
            if source.shard is not None and position % source.shard[1] != source.shard[0]:
                continue
            folder = folders[position % len(folders)] if source.is_sharded else folders[0]
            _fetch(ctx, bucket, key, _place(folder, name, source.is_gzipped), source.is_gzipped, check)
            number += 1
        if not source.is_sharded:
            for folder in folders[1:]:
                _copy(folders[0], folder, check)
    except PilviError as error:
        raise TransferFailed(f"Failed to download data from S3 bucket {bucket}. {told(error)}") from error
    except (OSError, zlib.error) as error:
        raise TransferFailed(f"Failed to write the data of {source.uri}: {error}") from error
    if number == 0 and not source.is_optional and source.shard is None:
        raise nothing_found(ctx, source)
    return number


def nothing_found(ctx: Context, source: Input) -> TransferFailed:
    bucket = split_uri(source.uri)[0]
    return TransferFailed(
        f'No S3 objects found under S3 URL "{source.uri}" given in input data source. Please ensure that the bucket exists in the '
        f'selected region ({ctx.region}), that objects exist under that S3 prefix, and that the role "{ctx.principal.issuer_arn}" has '
        f'"s3:ListBucket" permissions on bucket "{bucket}".'
    )


def objects(ctx: Context, source: Input) -> Iterator[tuple[str, str, str]]:
    """(bucket, key, name below the folder) of every object of an input, in the order of keys or of its manifest."""
    found = _named_in_manifest(ctx, source.uri) if source.kind == "manifest" else _below_prefix(ctx, source.uri)
    if source.shuffle_seed is None:
        return found
    return iter(shuffled(list(found), source.shuffle_seed))


def shuffled(items: list[Any], seed: int) -> list[Any]:
    """The same items in the order of chance that the seed fixes."""
    return sorted(items, key=lambda item: hashlib.blake2b(f"{seed}:{item}".encode(), digest_size=8).digest())


def _copy(source: Path, target: Path, check: Callable[[], None]) -> None:
    """All files of a folder into another one. A copy and no link: each host may change its own files. Where the file system
    can share blocks between files (XFS, Btrfs), it does."""
    for name in _files_below(source):
        check()
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        with (source / name).open("rb") as old, place.open("wb") as new:
            left = os.fstat(old.fileno()).st_size
            try:
                while left > 0 and (copied := os.copy_file_range(old.fileno(), new.fileno(), min(left, _COPY_BYTES))):
                    left -= copied
                    check()
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
                    raise
                shutil.copyfileobj(old, new, CHUNK_BYTES)  # from where it stopped; not every file system can do it in the kernel


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
    body = iter(ByteStream.of(ctx.call("s3", "GetObject", Bucket=bucket, Key=key)["Body"]))
    with place.open("wb") as file:
        for chunk in unpacked(body) if is_gzipped else body:
            check()
            file.write(chunk)


def unpacked(body: Iterator[Piece]) -> Iterator[bytes]:
    """The content of gzipped data, of several members one after the other too."""
    unpack, has_begun = zlib.decompressobj(_UNPACKING), False
    for rest in body:
        while rest:
            has_begun = True
            yield unpack.decompress(rest, CHUNK_BYTES)
            rest = unpack.unconsumed_tail
            if unpack.eof:
                rest, unpack, has_begun = unpack.unused_data, zlib.decompressobj(_UNPACKING), False
    if has_begun:
        yield unpack.flush()
        if not unpack.eof:
            raise zlib.error("the gzipped data ends too early")


# -- out ------------------------------------------------------------------------------------------------------------------


def upload(ctx: Context, target: Output, folders: Sequence[Path], scratch: Path) -> int:
    """Bring the folders of all hosts to S3 as one; gives the number of files. `scratch` is a free place for the archive.

    Of files with the same name that of the first host goes: AWS asks programs to avoid such names.
    """
    try:
        found = {name: folder / name for folder in reversed(folders) for name in _files_below(folder)}
        if target.archive == "tar.gz":
            if found or target.if_empty:
                _pack(folders, scratch)
                _send(ctx, target.uri, scratch, target.kms_key)
                scratch.unlink()
        else:
            for name in sorted(found):
                _send(ctx, f"{target.uri.rstrip('/')}/{name}", found[name], target.kms_key)
    except PilviError as error:
        raise TransferFailed(f"Failed to upload data to {target.uri}. {told(error)}") from error
    except (OSError, UnicodeError) as error:  # a name may be no text, and then no key
        raise TransferFailed(f"Failed to read the data for {target.uri}: {error}") from error
    return len(found)


def _files_below(folder: Path) -> Iterator[str]:
    """Plain files, by their path below the folder. Links are not followed: they could lead anywhere."""
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            if path.is_file() and not path.is_symlink():
                yield path.relative_to(folder).as_posix()


def _pack(folders: Sequence[Path], archive: Path) -> None:
    """A tar of the folders' content, without a top folder, owned by nobody in particular. No name comes twice."""
    seen: set[str] = set()

    def neutral(folder: Path, member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if member.name in seen:
            return None if not member.isdir() else member
        if member.islnk():
            # A file of several names is stored under each: what it is linked to may be another host's, or left out.
            member.type, member.linkname, member.size = tarfile.REGTYPE, "", (folder / member.name).lstat().st_size
        seen.add(member.name)
        member.uid = member.gid = 0
        member.uname = member.gname = "root"
        return member if member.isfile() or member.isdir() or member.issym() else None

    with gzip.open(archive, "wb", compresslevel=6) as packed, tarfile.open(fileobj=packed, mode="w|") as tar:
        for folder in folders:
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                tar.add(path, path.name, filter=partial(neutral, folder))


def _send(ctx: Context, uri: str, path: Path, kms_key: str) -> None:
    with path.open("rb") as file:
        send(ctx, uri, file, os.fstat(file.fileno()).st_size, kms_key)


def send(ctx: Context, uri: str, file: BinaryIO, size: int, kms_key: str = "") -> None:
    """Bring an open file's next `size` bytes to an address, sealed under a KMS key that `ctx` may use where one is named."""
    bucket, key = split_uri(uri)
    sealing = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key} if kms_key else {}
    if size <= _SINGLE_BYTES:
        ctx.call("s3", "PutObject", Bucket=bucket, Key=key, Body=_body(file, size), ContentLength=size, **sealing)
        return
    upload = ctx.call("s3", "CreateMultipartUpload", Bucket=bucket, Key=key, **sealing)["UploadId"]
    parts = []
    for number, start in enumerate(range(0, size, _PART_BYTES), 1):
        length = min(_PART_BYTES, size - start)
        part = {"Bucket": bucket, "Key": key, "UploadId": upload, "PartNumber": number, "ContentLength": length}
        parts.append({"PartNumber": number, "ETag": ctx.call("s3", "UploadPart", Body=_body(file, length), **part)["ETag"]})
    ctx.call("s3", "CompleteMultipartUpload", Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts})


def _body(file: BinaryIO, length: int) -> ByteStream:
    """The next bytes of an open file as a stream."""

    def chunks() -> Iterator[bytes]:
        left = length
        while left > 0 and (chunk := file.read(min(CHUNK_BYTES, left))):
            left -= len(chunk)
            yield chunk

    return ByteStream(sync=chunks(), length=length)


def told(error: PilviError) -> str:
    """An error as AWS's own words in a failure reason."""
    code = getattr(error, "code", "") or type(error).__name__
    return f"{'AccessDenied' if code == 'Denied' else code}: {error.message}"
