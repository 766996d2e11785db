"""Data as a stream: named pipes that the program reads while objects come from S3.

    input/data/<channel>_0, <channel>_1, ...      one pipe an epoch, each with all the data; the next one is there before
                                                  the present one ends; who closes early goes on with the next

Source: SageMaker Developer Guide, "How Amazon SageMaker AI Provides Training Information" (Pipe mode) and "Augmented manifest files".
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import stat
import struct
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from pilvi.core.errors import PilviError
from pilvi.core.service import Context
from pilvi.core.streams import CHUNK_BYTES, ByteStream, Piece
from pilvi.jobs.spec import Input
from pilvi.jobs.transfer import TransferFailed, nothing_found, objects, shuffled, split_uri, told, unpacked

_LOOK_S = 0.02
_FULL_S = 0.25
_MAGIC = 0xCED7230A
_MOST_IN_A_RECORD = (1 << 29) - 1
"""A record's length has 29 bits; longer ones come in parts, told by the upper three. Source: MXNet's recordio.h."""
_WHOLE, _FIRST, _MIDDLE, _LAST = 0, 1, 2, 3


class Ended(Exception):
    """Nobody reads any more, or nobody shall."""


class Feed:
    """The pipes of one channel on one host, fed by a thread of its own."""

    def __init__(self, source: Input, folder: Path, share: tuple[int, int], as_role: Callable[[], Context], scratch: Path) -> None:
        """folder: where the channel's pipes go. share: (which, of how many) hosts, where the input is sharded.
        scratch: a place for data whose length must be known first."""
        self._source = source
        self._name = PurePosixPath(source.path).name
        self._share = share
        self._as_role = as_role
        self._scratch = scratch
        self._is_over = threading.Event()
        self.trouble = ""
        """Why the data could not be brought, in words for the job's owner."""
        # The program may do with its folders what it likes: what is opened later is opened from here, and never by a link.
        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        self._make(0)
        self._thread = threading.Thread(target=self._feed, name="pilvi-job-pipe", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """The program has ended."""
        self._is_over.set()
        self._thread.join()
        os.close(self._folder)

    # -- on the thread ------------------------------------------------------------------------------------------------

    def _feed(self) -> None:
        epoch = 0
        try:
            while True:
                pipe = self._open(epoch)
                self._make(epoch + 1)
                try:
                    for chunk in self._content(epoch):
                        self._write(pipe, chunk)
                except BrokenPipeError:
                    pass  # it has seen enough of this epoch
                finally:
                    os.close(pipe)
                epoch += 1
        except Ended:
            pass
        except TransferFailed as error:
            self.trouble = str(error)
        except PilviError as error:
            self.trouble = f"Failed to download data from S3 bucket {split_uri(self._source.uri)[0]}. {told(error)}"
        except (OSError, zlib.error) as error:
            self.trouble = f"Failed to stream the data of {self._source.uri}: {error}"

    def _make(self, epoch: int) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkfifo(f"{self._name}_{epoch}", 0o600, dir_fd=self._folder)

    def _open(self, epoch: int) -> int:
        """The writing end, once somebody reads."""
        while not self._is_over.is_set():
            try:
                pipe = os.open(
                    f"{self._name}_{epoch}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._folder
                )
            except OSError as error:
                if error.errno not in (errno.ENXIO, errno.ENOENT):
                    raise
                self._is_over.wait(_LOOK_S)
                continue
            if not stat.S_ISFIFO(os.fstat(pipe).st_mode):
                os.close(pipe)
                raise TransferFailed(f"{self._name}_{epoch} is no pipe any more.")
            return pipe
        raise Ended

    def _write(self, pipe: int, data: Piece) -> None:
        view = memoryview(data)
        while view:
            if self._is_over.is_set():
                raise Ended
            try:
                view = view[os.write(pipe, view) :]
            except BlockingIOError:
                select.select([], [pipe], [], _FULL_S)

    # -- what goes in -------------------------------------------------------------------------------------------------

    def _content(self, epoch: int) -> Iterator[Piece]:
        ctx, source = self._as_role(), self._source
        found = self._parts(ctx)
        if source.is_sharded:
            found = (part for position, part in enumerate(found) if position % self._share[1] == self._share[0])
        if source.shuffle_seed is not None:
            found = iter(shuffled(list(found), source.shuffle_seed + epoch))
        is_empty = True
        for part in found:
            is_empty = False
            for body, length in self._bodies(ctx, part):
                yield from body if not source.record_wrapper else self._wrapped(body, length)
        if is_empty and not source.is_sharded:
            raise nothing_found(ctx, source)

    def _parts(self, ctx: Context) -> Iterator[Any]:
        """What is dealt out and shuffled: objects, or lines of an augmented manifest."""
        if self._source.kind != "augmented":
            return objects(ctx, self._source)
        return augmented_lines(ctx, self._source.uri)

    def _bodies(self, ctx: Context, part: Any) -> Iterator[tuple[Iterator[Piece], int | None]]:
        """Chunks of each record of a part, with their length where it is known."""
        if self._source.kind != "augmented":
            yield self._object(ctx, part[0], part[1])
            return
        for name in self._source.attributes:
            if name not in part:
                raise TransferFailed(f"A line of the manifest {self._source.uri} has no attribute {name}.")
            value = part[name]
            if name.endswith("-ref"):
                yield self._object(ctx, *split_uri(str(value)))
            else:
                text = (value if isinstance(value, str) else json.dumps(value)).encode()
                yield iter((text,)), len(text)

    def _object(self, ctx: Context, bucket: str, key: str) -> tuple[Iterator[Piece], int | None]:
        answer = ctx.call("s3", "GetObject", Bucket=bucket, Key=key)
        body = iter(ByteStream.of(answer["Body"]))
        if self._source.is_gzipped:
            return unpacked(body), None
        return body, answer.get("ContentLength")

    def _wrapped(self, body: Iterator[Piece], length: int | None) -> Iterator[Piece]:
        if length is not None:
            yield from recordio(body, length)
            return
        with tempfile.TemporaryFile(dir=self._scratch) as file:
            for chunk in body:
                file.write(chunk)
            length = file.tell()
            file.seek(0)
            yield from recordio(iter(lambda: file.read(CHUNK_BYTES), b""), length)


def recordio(body: Iterator[Piece], length: int) -> Iterator[Piece]:
    """One record in MXNet's RecordIO frame: magic number, length, content, zeros up to a multiple of four."""
    if length <= _MOST_IN_A_RECORD:
        yield _head(_WHOLE, length)
        yield from body
        yield bytes(-length % 4)
        return
    left = length
    rest: Piece = b""
    while left:
        size = min(left, _MOST_IN_A_RECORD - 3)
        flag = _FIRST if left == length else _LAST if size == left else _MIDDLE
        yield _head(flag, size)
        missing = size
        while missing:
            chunk = rest or next(body)
            piece, rest = chunk[:missing], chunk[missing:]
            missing -= len(piece)
            yield piece
        left -= size
    yield bytes(-length % 4)


def _head(flag: int, length: int) -> bytes:
    return struct.pack("<II", _MAGIC, flag << 29 | length)


def augmented_lines(ctx: Context, uri: str) -> Iterator[dict[str, Any]]:
    """The lines of an augmented manifest: JSON objects."""
    bucket, key = split_uri(uri)
    rest = b""
    for chunk in ByteStream.of(ctx.call("s3", "GetObject", Bucket=bucket, Key=key)["Body"]):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (_line(uri, line) for line in lines if line.strip())
    if rest.strip():
        yield _line(uri, rest)


def _line(uri: str, line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise TransferFailed(f"The augmented manifest {uri} has a line that is not a JSON object.")
    return found
