"""Layers and other blobs of images: taken in piece by piece, kept once an account under their digest, given out in ranges.

    start -> append ... append -> complete(digest)      an upload, durable after each piece: it goes on after a crash
    Layer  digest -> segments, size, and the repositories that hold it ("us-east-1/app")

A layer is a list of segments, as an upload brought them: nothing is copied when it is completed. It goes when the last
repository lets go of it. The rows of a registry change under one lock (`changing`): only one process of a server writes.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pilvi.core.errors import AlreadyExists, Conflict, Invalid, NotFound
from pilvi.core.service import Context
from pilvi.core.streams import ByteStream, ClientGone, Piece
from pilvi.images.manifest import is_digest
from pilvi.storage.records import Change, Delete, DeleteBody, Insert, PutBody, Rows, Update

if TYPE_CHECKING:
    from pilvi.storage.blobs import BlobWriter

Record = dict[str, Any]

SEGMENT_BYTES = 64 << 20
"""A stream is made durable in steps of this size."""
BLOCK_BYTES = 1 << 20
UPLOAD_AGE = timedelta(days=1)
"""An upload that nothing came for in so long is given up, and so is a layer that no image came to use."""


class DigestMismatch(Invalid):
    """The bytes are not those that the digest promised."""


def changing(ctx: Context) -> AbstractContextManager[Any]:
    """The lock under which rows of this registry change."""
    lock: threading.RLock = ctx.cloud.memory.setdefault(f"{ctx.service}:images", threading.RLock())
    return lock


def holder(ctx: Context, repository: str) -> str:
    """A repository's name among those that hold a layer of the account."""
    return f"{ctx.region}/{repository}"


def layer_rows(ctx: Context) -> Rows:
    return ctx.records("Layer", region="")


def find_layer(ctx: Context, repository: str, digest: str) -> Record | None:
    """The layer, if this repository holds it."""
    layer = layer_rows(ctx).find(digest)
    return layer if layer is not None and holder(ctx, repository) in layer["holders"] else None


# -- uploads --------------------------------------------------------------------------------------------------------------


def start_upload(ctx: Context, repository: str) -> str:
    """A new upload's id."""
    id, now = ctx.ids.uuid(), ctx.clock.now()
    ctx.records("Upload").insert(id, {"repository": repository, "segments": [], "size": 0, "created": now, "modified": now})
    return id


def find_upload(ctx: Context, repository: str, id: str) -> Record:
    """NotFound when this repository has none of this id."""
    upload = ctx.records("Upload").find(id)
    if upload is None or upload["repository"] != repository:
        raise NotFound(f"The upload '{id}' does not exist.")
    return upload


def append(ctx: Context, repository: str, id: str, pieces: Iterable[Piece]) -> int:
    """Add bytes, durably; gives the upload's size. Conflict when somebody else adds some meanwhile. For threads."""
    segment = _Segment(ctx, repository, id)
    try:
        for piece in pieces:
            segment.write((piece,))
    except BaseException:
        segment.abort()
        raise
    return segment.close()


async def append_stream(ctx: Context, repository: str, id: str, body: ByteStream) -> int:
    """Add a body of any size; what came before the client went away stays. Gives the upload's size."""
    segment = _Segment(ctx, repository, id)
    block, size = [], 0
    try:
        async for piece in body:
            block.append(bytes(piece))
            size += len(piece)
            if size >= BLOCK_BYTES:
                await asyncio.to_thread(segment.write, block)
                block, size = [], 0
        await asyncio.to_thread(segment.write, block)
    except ClientGone:
        await asyncio.to_thread(segment.close)
        raise
    except BaseException:
        await asyncio.to_thread(segment.abort)
        raise
    return await asyncio.to_thread(segment.close)


class _Segment:
    """The segment being written; a new one begins when it is full."""

    def __init__(self, ctx: Context, repository: str, id: str) -> None:
        self._ctx, self._repository, self._id = ctx, repository, id
        self._writer: BlobWriter | None = None
        self._total = int(find_upload(ctx, repository, id)["size"])
        self._digest, self._is_whole = _running_digest(ctx, id, self._total)
        self._size = 0

    def write(self, pieces: Sequence[Piece]) -> None:
        for piece in pieces:
            if self._writer is None:
                self._writer = self._ctx.blobs.create()
            self._writer.write(piece)
            self._digest.update(piece)
            self._size += len(piece)
        if self._size >= SEGMENT_BYTES:
            self.close()

    def close(self) -> int:
        """Make what was written durable; gives the upload's size."""
        writer, self._writer = self._writer, None
        if writer is None:
            return int(find_upload(self._ctx, self._repository, self._id)["size"])
        size, self._size = self._size, 0
        try:
            writer.finish()
            total = self._total = _claim(self._ctx, self._repository, self._id, writer.name, self._total, size)
        except BaseException:
            self._ctx.blobs.delete(writer.name)
            raise
        if self._is_whole:
            _remember_digest(self._ctx, self._id, self._digest, total)
        return total

    def abort(self) -> None:
        if self._writer is not None:
            self._writer.abort()


def _claim(ctx: Context, repository: str, id: str, name: str, start: int, size: int) -> int:
    """Make a segment part of its upload, behind its first `start` bytes. Conflict when somebody else added some meanwhile."""
    row = ctx.records("Upload").row(id)
    if row is None or row.value["repository"] != repository:
        raise NotFound(f"The upload '{id}' does not exist.")
    if row.value["size"] != start:
        raise Conflict("Somebody else adds to the upload, too.")
    segments, total = [*row.value["segments"], [name, size]], start + size
    changed = {**row.value, "segments": segments, "size": total, "modified": ctx.clock.now()}
    ctx.write(PutBody(name, None), Update(ctx.records("Upload").table, id, changed, row.version))
    return total


def _digests(ctx: Context) -> dict[str, tuple[Any, int]]:
    found: dict[str, tuple[Any, int]] = ctx.cloud.memory.setdefault(f"{ctx.service}:digests", {})
    return found


def _running_digest(ctx: Context, id: str, size: int) -> tuple[Any, bool]:
    """The digest over an upload's first bytes, and whether it covers all of them (it does not after a restart)."""
    digest, covered = _digests(ctx).get(id) or (hashlib.sha256(), 0)
    return (digest.copy(), True) if covered == size else (hashlib.sha256(), False)


def _remember_digest(ctx: Context, id: str, digest: Any, size: int) -> None:
    _digests(ctx)[id] = (digest, size)


def complete(ctx: Context, repository: str, id: str, digest: str, *, smallest_part: int = 0) -> Record:
    """Make an upload a layer; gives it. DigestMismatch when its bytes are others; AlreadyExists when the repository holds it.

    smallest_part: what every segment but the last must have (Invalid).
    """
    upload = find_upload(ctx, repository, id)
    if not is_digest(digest):
        raise DigestMismatch(f"'{digest}' is no sha256 digest.")
    if any(size < smallest_part for _, size in upload["segments"][:-1]):
        raise Invalid("Layer parts must be at least 5MiB in size.")
    found, is_whole = _running_digest(ctx, id, upload["size"])
    if not is_whole:
        for piece in _pieces(ctx, upload["segments"], 0, upload["size"]):
            found.update(piece)
    if f"sha256:{found.hexdigest()}" != digest:
        raise DigestMismatch(f"Layer upload digest does not match: received sha256:{found.hexdigest()}, requested {digest}")
    with changing(ctx):
        layer, changes, is_new = _joined(ctx, repository, digest, upload)
        uploads = ctx.records("Upload")
        row = uploads.row(id)
        if row is None or row.value["size"] != upload["size"]:
            raise Conflict("The upload changed while it was completed.")
        ctx.write(*changes, Delete(uploads.table, id, row.version))
    _digests(ctx).pop(id, None)
    if not is_new:
        for name, _ in upload["segments"]:
            ctx.blobs.delete(name)
    if layer is None:
        raise AlreadyExists(f"The image layer '{digest}' already exists in the '{repository}' repository.")
    return layer


def _joined(ctx: Context, repository: str, digest: str, upload: Record) -> tuple[Record | None, list[Change], bool]:
    """The layer (None: the repository holds it already), the changes, and whether it takes the upload's segments."""
    rows = layer_rows(ctx)
    row = rows.row(digest)
    mine = {holder(ctx, repository): ctx.clock.now()}
    if row is None:
        layer = {"digest": digest, "segments": upload["segments"], "size": upload["size"], "holders": mine}
        return layer, [Insert(rows.table, digest, layer)], True
    forgotten: list[Change] = [DeleteBody(name) for name, _ in upload["segments"]]
    if holder(ctx, repository) in row.value["holders"]:
        return None, forgotten, False
    layer = {**row.value, "holders": {**row.value["holders"], **mine}}
    return layer, [*forgotten, Update(rows.table, digest, layer, row.version)], False


def cancel(ctx: Context, repository: str, id: str) -> None:
    """Forget an upload. NotFound when there is none."""
    upload = find_upload(ctx, repository, id)
    ctx.write(ctx.records("Upload").deletion(id), *(DeleteBody(name) for name, _ in upload["segments"]))
    _digests(ctx).pop(id, None)
    for name, _ in upload["segments"]:
        ctx.blobs.delete(name)


def put(ctx: Context, repository: str, data: bytes) -> str:
    """Keep a small blob at once; gives its digest."""
    id = start_upload(ctx, repository)
    append(ctx, repository, id, (data,) if data else ())
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    with suppress(AlreadyExists):
        complete(ctx, repository, id, digest)
    return digest


# -- holding and letting go -----------------------------------------------------------------------------------------------


def holding(ctx: Context, repository: str, digests: Sequence[str]) -> list[Change]:
    """The changes by which a repository holds layers of this account too. NotFound when one is not there. Under the lock."""
    changes: list[Change] = []
    for digest in dict.fromkeys(digests):
        row = layer_rows(ctx).row(digest)
        if row is None:
            raise NotFound(f"The layer {digest} does not exist.")
        if holder(ctx, repository) not in row.value["holders"]:
            holders = {**row.value["holders"], holder(ctx, repository): ctx.clock.now()}
            changes.append(Update(layer_rows(ctx).table, digest, {**row.value, "holders": holders}, row.version))
    return changes


def letting_go(ctx: Context, repository: str, digests: Sequence[str]) -> tuple[list[Change], list[str]]:
    """The changes by which a repository lets go of layers, and the files to delete when they are committed. Under the lock."""
    changes: list[Change] = []
    files: list[str] = []
    for digest in dict.fromkeys(digests):
        row = layer_rows(ctx).row(digest)
        if row is None or holder(ctx, repository) not in row.value["holders"]:
            continue
        holders = {name: since for name, since in row.value["holders"].items() if name != holder(ctx, repository)}
        if holders:
            changes.append(Update(layer_rows(ctx).table, digest, {**row.value, "holders": holders}, row.version))
            continue
        names = [name for name, _ in row.value["segments"]]
        changes += [Delete(layer_rows(ctx).table, digest, row.version), *(DeleteBody(name) for name in names)]
        files += names
    return changes, files


def sweep_uploads(ctx: Context) -> int:
    """Give up uploads of this account and Region that nothing came for in a day."""
    old = ctx.clock.now() - UPLOAD_AGE
    stale = [row for row in ctx.records("Upload").scan() if row.value["modified"] < old]
    for row in stale:
        cancel(ctx, row.value["repository"], row.id)
    return len(stale)


def copy_layer(source: Context, target: Context, repository: str, digest: str) -> None:
    """Give a repository elsewhere a layer: within an account it holds the same bytes, another account gets its own."""
    if find_layer(target, repository, digest) is not None:
        return
    with changing(target):
        if layer_rows(target).find(digest) is not None:
            target.write(*holding(target, repository, [digest]))
            return
    upload = start_upload(target, repository)
    append(target, repository, upload, read_layer(source, layer_rows(source).get(digest)))
    with suppress(AlreadyExists):
        complete(target, repository, upload, digest)


# -- out ------------------------------------------------------------------------------------------------------------------


def open_layer(ctx: Context, layer: Record, start: int = 0, end: int | None = None) -> ByteStream:
    """Bytes of a layer, read as they are sent."""
    end = layer["size"] if end is None else min(end, layer["size"])
    return ByteStream(sync=_pieces(ctx, layer["segments"], start, end), length=max(0, end - start))


def read_layer(ctx: Context, layer: Record) -> Iterator[Piece]:
    """All bytes of a layer, for threads."""
    return _pieces(ctx, layer["segments"], 0, layer["size"])


def _pieces(ctx: Context, segments: Sequence[tuple[str, int]], start: int, end: int) -> Iterator[Piece]:
    position = 0
    for name, size in segments:
        low, high = max(start - position, 0), min(end - position, size)
        if low < high:
            yield from ctx.blobs.stream(name, low, high)
        position += size
