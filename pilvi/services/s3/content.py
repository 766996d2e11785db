"""Object bytes: taking them in while hashing, giving ranges of them out, and letting go of what was replaced.

    body --take--> Stored(name, size, md5, sum)        small: sealed bytes beside the rows, in the object's own transaction
                                                       large: a blob file, synced before the transaction that claims it
    [Segment(name, size), ...] --open_range--> ByteStream

An object is a list of segments; a plain PUT has one (none when empty), a multipart object one a part. A name is written once
and never again, so a reader holds its names (`hold`) and whoever replaces them lets go (`release`): the last one deletes.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from threading import Lock, RLock
from typing import TYPE_CHECKING, Any, NamedTuple

from pilvi.core.errors import Invalid, PilviError, ServiceError, Unavailable
from pilvi.core.service import Context
from pilvi.core.streams import ByteStream, Piece
from pilvi.services.s3.digest import Buffer, Declared, Sums, sums_of
from pilvi.services.s3.flow import Block, ahead, blocks_of
from pilvi.storage.layers import Keys, seal_body, unseal_body
from pilvi.storage.records import BodyNames, Change, DeleteBody, PutBody, new_body_name

if TYPE_CHECKING:
    from pilvi.storage.blobs import Blobs, BlobWriter

log = logging.getLogger("pilvi.s3")

INLINE_BYTES = 64 << 10
"""Up to here bytes live beside the records; beyond, in a file of their own."""

GATHER_BYTES = 256 << 10

READ_BYTES = 512 << 10
"""Large objects are opened in pieces of this size: memory of larger ones is handed back to the system each time."""

NOW_BYTES = 128 << 10
"""Ranges up to here are read on the event loop, where the file lies in the system's memory: a thread costs more than the work."""

INLINE_MARK = BodyNames.MARK
"""How names of inline bytes begin; blob files are never called so."""

OPEN_FILES = 256
"""Segments opened at once where other processes may delete them; where none can, they are opened one after the other."""


class Segment(NamedTuple):
    name: str
    size: int


class Stored(NamedTuple):
    """Bytes that are on the disk or on their way there with the transaction that names them."""

    name: str
    """'' when there are no bytes."""
    size: int
    md5: str
    """Hexadecimal; under keys of its own a random number, as the ETag of such an object tells nothing of its bytes."""
    algorithm: str
    sum: str
    """The sum to keep."""
    verified: tuple[str, str]
    """(algorithm, sum) of what the client declared; mostly the same."""
    changes: tuple[Change, ...]
    """What the claiming transaction must contain."""


class Holds:
    """Which bytes are being read, and which of them are to be deleted afterwards."""

    def __init__(self) -> None:
        self.lock = RLock()
        """Re-entrant: a reader may be dropped by the garbage collector in the middle of anything."""
        self.readers: Counter[str] = Counter()
        self.doomed: set[str] = set()


# -- in -------------------------------------------------------------------------------------------------------------------


async def take(ctx: Context, body: ByteStream, declared: Declared, sealing: Keys | None = None, one_zone: bool = False) -> Stored:
    """Read a body to its end, verified against what was declared, and seal it: with the server's keyring, or with keys of its own.

    Small bodies never leave the event loop; large ones are hashed and written in worker threads. Whatever fails, nothing stays.
    one_zone: in one directory only, even when it is small (`is_one_zone`).
    """
    data = body.data
    if data is not None and len(data) <= INLINE_BYTES and not one_zone:
        return take_small(ctx, data, body, declared, sealing)
    promise = body.promise
    blocks = blocks_of(body if promise is None else promise.stream)
    first: Block = await anext(blocks, [])
    if size_of(first) > INLINE_BYTES or (one_zone and size_of(first)):
        return await take_large(ctx, first, blocks, body, declared, sealing, one_zone)
    data = b"".join(first)
    if promise is not None:
        promise.update(data)
        promise.keep()
    return take_small(ctx, data, body, declared, sealing)


def take_small(ctx: Context, data: bytes, body: ByteStream, declared: Declared, sealing: Keys | None) -> Stored:
    md5 = hashlib.md5(data, usedforsecurity=False)
    kept, verified = sums_of(data, md5.digest(), body, declared)
    etag = md5.hexdigest() if sealing is None else ctx.ids.hex(32)
    if not data:
        return Stored("", 0, etag, *kept, verified, ())
    name = new_body_name()
    sealed = ctx.keyring.seal(data, name.encode()) if sealing is None else seal_body(sealing, data, name)
    return Stored(name, len(data), etag, *kept, verified, (PutBody(name, sealed),))


async def take_large(
    ctx: Context,
    first: Block,
    rest: AsyncIterator[Block],
    body: ByteStream,
    declared: Declared,
    sealing: Keys | None,
    one_zone: bool,
) -> Stored:
    blobs = ctx.blobs.single() if one_zone else ctx.blobs
    intake = Intake(blobs if sealing is None else blobs.under(sealing), declared, body)
    working = intake.work(first)
    try:
        async for block in rest:
            await working
            working = intake.work(block)
        await working
        kept, verified = intake.verify(declared)
        if not intake.is_finished:
            await asyncio.get_running_loop().run_in_executor(None, intake.finish)
    except BaseException as error:  # noqa: BLE001 - raised again below: compiled code must not wait in an `except` (decisions/0006)
        failure = error
    else:
        etag = intake.md5.hexdigest() if sealing is None else ctx.ids.hex(32)
        name = intake.name
        return Stored(name, intake.size, etag, *kept, verified, (PutBody(name, None),))
    await asyncio.wait([working])
    await asyncio.get_running_loop().run_in_executor(None, intake.abandon)
    raise failure


class Intake:
    """A large body on its way to the disk: MD5 in one thread, what its caller has signed in a second, the declared sum and the
    sealed write in a third; all of them let go of the interpreter.
    """

    def __init__(self, blobs: Blobs, declared: Declared, body: ByteStream) -> None:
        self.md5: Any = hashlib.md5(usedforsecurity=False)
        self.size = 0
        self.name = ""
        self.is_finished = False
        """Synced and closed."""
        self._blobs = blobs
        self._body = body
        self._sums = Sums(declared)
        self._writer: BlobWriter | None = None
        self._lock = Lock()
        """A caller that is cancelled abandons while a thread still writes."""
        self._is_abandoned = False

    def work(self, block: Block) -> asyncio.Future[Any]:
        """Begin with the next block, when the one before is done."""
        loop = asyncio.get_running_loop()
        self.size += size_of(block)
        jobs = [
            loop.run_in_executor(None, hash_block, self.md5.update, block),
            loop.run_in_executor(None, self._write, block, self.size == self._body.length),
        ]
        if self._body.promise is not None:
            jobs.append(loop.run_in_executor(None, hash_block, self._body.promise.update, block))
        return asyncio.gather(*jobs)

    def _write(self, block: Block, is_last: bool) -> None:
        with self._lock:
            if self._is_abandoned:
                return
            if self._writer is None:
                self._writer = self._blobs.create()
                self.name = self._writer.name
            for piece in gathered(block):
                self._sums.update(piece)
                self._writer.write(piece)
            if is_last:
                self._finish()

    def finish(self) -> None:
        with self._lock:
            if not self._is_abandoned:
                self._finish()

    def _finish(self) -> None:
        assert self._writer is not None
        self._writer.finish()
        self.is_finished = True

    def verify(self, declared: Declared) -> tuple[tuple[str, str], tuple[str, str]]:
        """What `Sums.close` gives, once everything was worked on."""
        if self._body.promise is not None:
            self._body.promise.keep()
        return self._sums.close(declared, self.md5.digest(), self._body)

    def abandon(self) -> None:
        with self._lock:
            self._is_abandoned = True
            if self._writer is not None:
                self._writer.abort()
                self._blobs.delete(self.name)


def hash_block(update: Callable[[Buffer], None], block: Block) -> None:
    for piece in block:
        update(piece)


def gathered(block: Block) -> Iterator[Buffer]:
    """The pieces of a block, small ones joined: a megabyte joined at once would cost more than its hashes."""
    waiting: list[Buffer] = []
    size = 0
    for piece in block:
        waiting.append(piece)
        size += len(piece)
        if size >= GATHER_BYTES:
            yield waiting[0] if len(waiting) == 1 else b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


def size_of(block: Block) -> int:
    return sum(map(len, block))


def is_one_zone(ctx: Context, storage_class: str | None) -> bool:
    """Whether bytes are to lie in one directory where others lie in several: who pays for one zone gets one."""
    return storage_class == "ONEZONE_IA" and ctx.config.mirrors != ""


async def undo(ctx: Context, stored: Stored) -> None:
    """Remove bytes whose transaction was refused."""
    if is_file(stored.name):
        await asyncio.get_running_loop().run_in_executor(None, ctx.blobs.delete, stored.name)


# -- out ------------------------------------------------------------------------------------------------------------------


def open_range(ctx: Context, segments: Sequence[Segment], start: int, end: int, opening: Keys | None = None) -> ByteStream:
    """The bytes from start up to (not including) end, opened by keys of their own where they were sealed so.

    NotFound when the object was replaced in this very moment; InternalError when what was stored is damaged.

    Inline bytes are in memory at once; files are read as the stream is read. A stream of files is good once the row that names
    them is seen to be still there: whoever replaces it from then on finds the names held.
    """
    pieces = list(overlaps(segments, start, end))
    if not pieces:
        return ByteStream(b"")
    if len(pieces) == 1 and pieces[0][0].startswith(INLINE_MARK):
        return ByteStream(read_inline(ctx, *pieces[0], opening))
    if len(pieces) == 1 and opening is None and end - start <= NOW_BYTES:
        data = ctx.blobs.read_now(*pieces[0])
        if data is not None:
            return ByteStream(data)
    reader = Reader(ctx, pieces, opening)
    return ByteStream(sync=reader, source=ahead(reader), length=end - start)


def overlaps(segments: Sequence[Segment], start: int, end: int) -> Iterator[tuple[str, int, int]]:
    """(name, from, to) of every segment that a range touches."""
    position = 0
    for name, size in segments:
        if position >= end:
            return
        low, high = max(start - position, 0), min(end - position, size)
        if low < high:
            yield name, low, high
        position += size


def read_inline(ctx: Context, name: str, start: int, end: int, opening: Keys | None) -> bytes:
    sealed = ctx.store.body(name)
    assert sealed is not None
    data = unsealed(ctx, sealed, name, opening)
    return data if start == 0 and end == len(data) else data[start:end]


def unsealed(ctx: Context, sealed: bytes, name: str, opening: Keys | None = None) -> bytes:
    """A small body. InternalError when the disk gives other bytes than it was given."""
    try:
        return ctx.keyring.unseal(sealed, name.encode()) if opening is None else unseal_body(opening, sealed, name)
    except Invalid as error:
        mended = mend_small(ctx, name, opening)
        if mended is not None:
            return mended
        log.error("Body %s is damaged: its bytes are not those that were written.", name)
        raise ServiceError("InternalError", "We encountered an internal error. Please try again.", 500) from error


def mend_small(ctx: Context, name: str, opening: Keys | None) -> bytes | None:
    """A small body from another copy of the metadata (`--mirror`), which then replaces the damaged one; None when none is good."""
    others = getattr(ctx.store, "other_bodies", None)
    if others is None:
        return None
    for sealed in others(name):
        try:
            data = ctx.keyring.unseal(sealed, name.encode()) if opening is None else unseal_body(opening, sealed, name)
        except Invalid:
            continue
        log.warning("Body %s was damaged; mended from another copy.", name)
        ctx.store.submit([PutBody(name, sealed)])
        return data
    return None


class Reader:
    """Reads pieces one after the other; holds their names until it is exhausted, closed or dropped.

    The few inline bytes an object may have at its end are read at once: they go with the transaction that replaces them.
    """

    def __init__(self, ctx: Context, pieces: Sequence[tuple[str, int, int]], opening: Keys | None) -> None:
        self._ctx = ctx
        self._opening = opening
        self._blobs: Blobs = ctx.blobs if opening is None else ctx.blobs.under(opening)
        self._lock = Lock()
        self._current: Iterator[Piece] = iter(())
        self._names: tuple[str, ...] = tuple(name for name, _, _ in pieces if not name.startswith(INLINE_MARK))
        hold(ctx, self._names)
        self._rest: Iterator[tuple[str, int, int] | Iterator[Piece]] = iter(())
        ahead = OPEN_FILES if ctx.config.workers > 1 else 0
        self._rest = iter([self._prepared(piece, number < ahead) for number, piece in enumerate(pieces)])

    def __iter__(self) -> Iterator[Piece]:
        return self

    def __next__(self) -> Piece:
        with self._lock:
            while True:
                chunk = next_of(self._current)
                if chunk:
                    return chunk
                piece = next(self._rest, None)
                if piece is None:
                    break
                self._current = self._open(*piece) if isinstance(piece, tuple) else piece
        self.close()
        raise StopIteration

    def _prepared(self, piece: tuple[str, int, int], is_opened: bool) -> tuple[str, int, int] | Iterator[Piece]:
        if piece[0].startswith(INLINE_MARK):
            return iter((read_inline(self._ctx, *piece, self._opening),))
        return self._open(*piece) if is_opened else piece

    def _open(self, name: str, start: int, end: int) -> Iterator[Piece]:
        return self._blobs.stream(name, start, end, READ_BYTES)

    def close(self) -> None:
        with self._lock:
            names, self._names = self._names, ()
            current, self._current, self._rest = self._current, iter(()), iter(())
            if (close := getattr(current, "close", None)) is not None:
                close()
        if names:
            let_go(self._ctx, names)

    def __del__(self) -> None:
        self.close()


def next_of(pieces: Iterator[Piece]) -> Piece:
    try:
        return next(pieces, b"")
    except Unavailable as error:
        log.error("An object cannot be read: %s", error.message)
        raise


# -- holding and letting go -----------------------------------------------------------------------------------------------


def holds_of(ctx: Context) -> Holds:
    holds: Holds = ctx.cloud.memory.get("s3:holds") or ctx.cloud.memory.setdefault("s3:holds", Holds())
    return holds


def hold(ctx: Context, names: Iterable[str]) -> None:
    holds = holds_of(ctx)
    with holds.lock:
        holds.readers.update(names)


def let_go(ctx: Context, names: Iterable[str]) -> None:
    """A reader is done; what was replaced meanwhile goes now."""
    holds = holds_of(ctx)
    gone = []
    with holds.lock:
        for name in names:
            holds.readers[name] -= 1
            if holds.readers[name] <= 0:
                del holds.readers[name]
                if name in holds.doomed:
                    holds.doomed.discard(name)
                    gone.append(name)
    delete_files(ctx, gone)


def forgetting(names: Iterable[str]) -> list[Change]:
    """The changes that unclaim bytes; after the commit comes `release`."""
    return [DeleteBody(name) for name in names if name]


async def release(ctx: Context, names: Sequence[str]) -> None:
    """Delete the files behind names that no row mentions any more, unless somebody still reads them."""
    await asyncio.get_running_loop().run_in_executor(None, release_now, ctx, names)


def is_file(name: str) -> bool:
    return bool(name) and not name.startswith(INLINE_MARK)


def release_now(ctx: Context, names: Iterable[str]) -> None:
    """The same from a thread."""
    holds = holds_of(ctx)
    gone = []
    with holds.lock:
        for name in filter(is_file, names):
            if holds.readers.get(name):
                holds.doomed.add(name)
            else:
                gone.append(name)
    delete_files(ctx, gone)


def delete_files(ctx: Context, names: Iterable[str]) -> None:
    """What no row mentions any more. A store that refuses leaves rubbish for the sweep at the next start: the write that let
    go of these bytes stands, and must not be told as failed.
    """
    for name in names:
        try:
            ctx.blobs.delete(name)
        except (PilviError, OSError) as error:
            log.warning("Blob %s is not needed any more, and stays until the next start: %s", name, error)
