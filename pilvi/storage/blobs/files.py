"""Blobs as files: `<folder>/<last two digits of the name>/<name>`, written once, never renamed, never truncated.

Why so: replacing or truncating a file makes ext4 flush the old one first, which costs from a millisecond to tens of them; a new
name costs nothing. What makes a new file durable is in `finish`: its data and size (fdatasync), then its entry in the folder
(fsync of the folder: POSIX promises no less; on ext4 and XFS the first already wrote the journal that holds the entry, so the
second finds nothing left to do and costs microseconds). The 256 folders are made as they are needed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pilvi.core.errors import NotFound, Unavailable
from pilvi.core.streams import Piece
from pilvi.storage.blobs import PIECE_BYTES, new_name, nobody
from pilvi.storage.durable import begin_sync, sync_folder
from pilvi.storage.malloc import keep_large_pieces

BEHIND_BYTES = 8 << 20
"""The disk is told of what was written each time so much has gathered: the last wait is then short (64 MiB: 4-15 ms, not 40)."""


class FileBlobWriter:
    def __init__(self, blobs: FileBlobs, name: str = "") -> None:
        self.name = name or new_name()
        self._path = blobs.place(self.name)
        self._fd = blobs.open_new(self._path)
        self._size = 0
        self._begun = 0
        """How much of it the disk was told of."""

    def write(self, data: Piece | memoryview) -> None:
        try:
            written = os.write(self._fd, data)
            left = memoryview(data)[written:]
            while left:
                left = left[os.write(self._fd, left) :]
        except OSError as error:
            raise Unavailable(f"The disk does not take the data: {error.strerror}.") from error
        self._size += len(data)
        if self._size - self._begun >= BEHIND_BYTES:
            begin_sync(self._fd, self._begun, self._size - self._begun)
            self._begun = self._size

    def finish(self) -> int:
        try:
            os.fdatasync(self._fd)
            sync_folder(os.path.dirname(self._path))
        except OSError as error:
            raise Unavailable(f"The disk does not keep the data: {error.strerror}.") from error
        self._close()
        return self._size

    def abort(self) -> None:
        if self._fd >= 0:
            self._close()
            _remove(self._path)

    def _close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self._close()


class FileStream:
    """A range of an open file, piece by piece."""

    def __init__(self, fd: int, start: int, end: int, piece_bytes: int) -> None:
        self._fd = fd
        self._at = start
        self._end = end
        self._piece_bytes = piece_bytes

    def __iter__(self) -> FileStream:
        return self

    def __next__(self) -> bytes:
        count = min(self._piece_bytes, self._end - self._at)
        piece = os.pread(self._fd, count, self._at) if count > 0 and self._fd >= 0 else b""
        if not piece:
            self.close()
            raise StopIteration
        self._at += len(piece)
        return piece

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def __del__(self) -> None:
        self.close()


class FileBlobs:
    """The default store of object bytes."""

    def __init__(self, folder: Path | str) -> None:
        keep_large_pieces()
        self._folder = os.fspath(folder)
        if not os.path.isdir(self._folder):
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            sync_folder(os.path.dirname(self._folder) or ".")

    def create(self, name: str = "") -> FileBlobWriter:
        """name: one from `new_name` that this folder does not have, for copies of one blob in several folders."""
        return FileBlobWriter(self, name)

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        fd = self.open(name)
        try:
            if end is None:
                end = os.fstat(fd).st_size
            return read_range(fd, start, end)
        finally:
            os.close(fd)

    def read_now(self, name: str, start: int, end: int) -> bytearray | None:
        """The same if all of it lies in the system's memory, else None: for callers that must not wait for a disk."""
        data = bytearray(end - start)
        fd = self.open(name)
        try:
            is_whole = os.preadv(fd, (data,), start, os.RWF_NOWAIT) == len(data)
        except OSError:  # not in memory, or a file system that cannot tell
            return None
        finally:
            os.close(fd)
        return data if is_whole else None

    def stream(self, name: str, start: int = 0, end: int | None = None, piece_bytes: int = PIECE_BYTES) -> Iterator[Piece]:
        fd = self.open(name)
        size = os.fstat(fd).st_size
        return FileStream(fd, start, size if end is None else min(end, size), piece_bytes)

    def path(self, name: str) -> Path | None:
        return Path(self.place(name))

    def size(self, name: str) -> int:
        try:
            return os.stat(self.place(name)).st_size
        except FileNotFoundError:
            raise NotFound(f"Blob {name} does not exist.") from None

    def delete(self, name: str) -> None:
        _remove(self.place(name))

    def names(self) -> Iterator[str]:
        for shard in sorted(os.listdir(self._folder)):
            yield from os.listdir(os.path.join(self._folder, shard))

    def sweep(self, keep: Iterable[str], spare: Callable[[str], bool] = nobody) -> int:
        loose = set(self.names())
        loose.difference_update(keep)
        gone = [name for name in loose if not spare(name)]
        for name in gone:
            self.delete(name)
        return len(gone)

    def clear(self) -> None:
        for shard in os.listdir(self._folder):
            shutil.rmtree(os.path.join(self._folder, shard))

    def replace(self, name: str, pieces: Iterable[Piece]) -> None:
        """Put other bytes in the place of a damaged or missing file, whole or not at all, and synced."""
        path = self.place(name)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        draft = f"{self._folder}.{name}.{os.urandom(4).hex()}"
        try:
            fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(fd, "wb") as file:
                for piece in pieces:
                    file.write(piece)
                file.flush()
                os.fsync(fd)
            os.rename(draft, path)
            sync_folder(os.path.dirname(path))
            sync_folder(self._folder)
        except OSError as error:
            raise Unavailable(f"The disk does not take the data: {error.strerror}.") from error
        finally:
            _remove(draft)

    def clear_drafts(self) -> None:
        """What `replace` left when it was cut off. Only at start."""
        folder, own = os.path.split(self._folder)
        for entry in os.listdir(folder or "."):
            if entry.startswith(f"{own}.") and entry[len(own) + 1 :].partition(".")[0].isalnum() and entry.count(".") == 2:
                _remove(os.path.join(folder, entry))

    # -- for the files' own readers and writers, and for the sealing around them ----------------------------------------

    def place(self, name: str) -> str:
        """Where a blob lies. Names are ours, hexadecimal; anything else names nothing."""
        if not name.isalnum():
            raise NotFound(f"Blob {name} does not exist.")
        return f"{self._folder}/{name[-2:]}/{name}"

    def open(self, name: str) -> int:
        """A descriptor for reading; the caller closes it."""
        try:
            return os.open(self.place(name), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound(f"Blob {name} does not exist.") from None

    def open_new(self, path: str) -> int:
        """A descriptor for a file that did not exist, its folder made if need be."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            try:
                return os.open(path, flags, 0o600)
            except FileNotFoundError:
                os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
                sync_folder(self._folder)
                return os.open(path, flags, 0o600)
        except OSError as error:
            raise Unavailable(f"The disk takes no new file: {error.strerror}.") from error


def read_range(fd: int, start: int, end: int) -> bytes:
    """The bytes of a file from start to end, fewer where it is shorter."""
    if end <= start:
        return b""
    data = os.pread(fd, end - start, start)
    while data and len(data) < end - start and (more := os.pread(fd, end - start - len(data), start + len(data))):
        data += more
    return data


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
