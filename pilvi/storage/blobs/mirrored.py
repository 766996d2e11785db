"""Blobs in several folders, at best on several disks: each blob is in all of them before it is acknowledged.

    create          a writer into every folder, synced in all of them side by side
    read, stream    from the first folder; what is missing or damaged there comes from the next one, and is mended
    check           every copy of a blob from end to end, mended from a good one (storage.scrub does it for all)

What a good copy is, the dressing around each folder says (storage.sealed): a flipped bit does not open. A folder that fails a
write is out from then on: the others go on, `lost` says so, and the next start brings it up to date. What `single()` writes
lies in the first folder alone (who asks for one zone gets one); its stored name says so.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from pathlib import Path
from typing import NamedTuple, TypeVar

from pilvi.core.errors import NotFound, Unavailable
from pilvi.core.streams import Piece
from pilvi.storage.blobs import PIECE_BYTES, Blobs, BlobWriter, new_name, nobody
from pilvi.storage.blobs.files import FileBlobs, FileBlobWriter
from pilvi.storage.layers import Keys
from pilvi.storage.plain import stored_name
from pilvi.storage.sealed import AtRest

T = TypeVar("T")
log = logging.getLogger("pilvi.storage")

ONE_COPY = "z"
"""Ends the stored names of blobs that are meant to have one copy; a hexadecimal name never does."""
AT_ONCE_BYTES = 64 << 20
"""Blobs up to this size are mended before the reader goes on, larger ones beside it."""


class Checked(NamedTuple):
    """What became of one blob's copies."""

    damaged: tuple[str, ...]
    """Folders whose copy was missing or damaged."""
    is_whole: bool
    """Whether a good copy is in every folder now."""
    is_lost: bool
    """Whether there is no good copy at all."""


class Copies:
    """The folders as one adapter under the dressing; only what is written goes into all of them."""

    def __init__(self, folders: Sequence[FileBlobs], titles: Sequence[str], on_lost: Callable[[int], None]) -> None:
        """titles: how people call the folders. on_lost: told the number of a folder that failed."""
        self.folders = folders
        self.titles = titles
        self.lost: dict[int, str] = {}
        """Folders that failed, and why."""
        self.threads = ThreadPoolExecutor(8 * len(folders), "mirror")
        self.on_lost = on_lost
        self._losing = threading.Lock()
        self._mark = ""

    def single(self) -> Copies:
        """The same folders for what is to have one copy."""
        one = copy(self)
        one._mark = ONE_COPY
        return one

    def create(self) -> BlobWriter:
        return MirrorWriter(self, new_name() + self._mark)

    def homes(self, name: str) -> list[int]:
        """The numbers of the folders that are to have a blob and still work."""
        numbers = range(1 if name.endswith(ONE_COPY) else len(self.folders))
        return [number for number in numbers if number not in self.lost]

    def lose(self, number: int, reason: str) -> None:
        with self._losing:
            if number in self.lost or len(self.lost) == len(self.folders) - 1:
                return
            self.lost[number] = reason
        log.error("mirror: %s is out until the next start: %s", self.titles[number], reason)
        self.on_lost(number)

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        return self._first(name, lambda folder: folder.read(name, start, end))

    def stream(self, name: str, start: int = 0, end: int | None = None, piece_bytes: int = PIECE_BYTES) -> Iterator[Piece]:
        return self._first(name, lambda folder: folder.stream(name, start, end, piece_bytes))

    def path(self, name: str) -> Path | None:  # noqa: ARG002 - the port's signature
        return None

    def size(self, name: str) -> int:
        return self._first(name, lambda folder: folder.size(name))

    def delete(self, name: str) -> None:
        for folder in self.folders:
            try:
                folder.delete(name)
            except OSError as error:
                log.warning("mirror: a copy of blob %s stays: %s", name, error)

    def names(self) -> Iterator[str]:
        seen: set[str] = set()
        for folder in self.folders:
            fresh = set(folder.names()) - seen
            seen |= fresh
            yield from fresh

    def sweep(self, keep: Iterable[str], spare: Callable[[str], bool] = nobody) -> int:
        """The greatest number removed from one folder."""
        kept = set(keep)
        return max(folder.sweep(kept, spare) for folder in self.folders)

    def clear(self) -> None:
        for folder in self.folders:
            folder.clear()

    def _first(self, name: str, read: Callable[[FileBlobs], T]) -> T:
        for folder in self.folders:
            with contextlib.suppress(NotFound):
                return read(folder)
        raise NotFound(f"Blob {name} does not exist.")


class MirrorWriter:
    """One blob into several folders."""

    def __init__(self, copies: Copies, name: str) -> None:
        self.name = name
        self._copies = copies
        self._writers: dict[int, FileBlobWriter] = {}
        self._size = 0
        self._reason = "no folder is left"
        for number in copies.homes(name):
            self._try(number, lambda number=number: self._open(number))  # type: ignore[misc]
        self._require_one()

    def write(self, data: Piece | memoryview) -> None:
        for number, writer in list(self._writers.items()):
            self._try(number, lambda writer=writer: writer.write(data))  # type: ignore[misc]
        self._require_one()
        self._size += len(data)

    def finish(self) -> int:
        (first, writer), *others = self._writers.items()
        syncing = [(number, self._copies.threads.submit(other.finish)) for number, other in others]
        self._try(first, writer.finish)
        for number, done in syncing:
            self._try(number, done.result)
        self._require_one()
        return self._size

    def abort(self) -> None:
        for writer in self._writers.values():
            writer.abort()

    def _open(self, number: int) -> None:
        self._writers[number] = self._copies.folders[number].create(self.name)

    def _try(self, number: int, step: Callable[[], object]) -> None:
        try:
            step()
        except (Unavailable, OSError) as error:
            self._reason = str(error)
            writer = self._writers.pop(number, None)
            if writer is not None:
                with contextlib.suppress(OSError):
                    writer.abort()
            if self._writers or len(self._copies.homes(self.name)) > 1:
                self._copies.lose(number, self._reason)

    def _require_one(self) -> None:
        if not self._writers:
            raise Unavailable(self._reason)


class View:
    """Reading with fail-over: one dressed folder after the other, and what was found bad is mended."""

    def __init__(self, mirror: MirroredBlobs, views: Sequence[Blobs], writing: Blobs) -> None:
        self._mirror = mirror
        self._views = views
        self._writing = writing

    def create(self) -> BlobWriter:
        return self._writing.create()

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        return self._first(name, lambda view: view.read(name, start, end))[0]

    def read_now(self, name: str, start: int, end: int) -> bytes | None:  # noqa: ARG002 - a damaged copy is mended in a thread
        return None

    def stream(self, name: str, start: int = 0, end: int | None = None, piece_bytes: int = PIECE_BYTES) -> Iterator[Piece]:
        source, number = self._first(name, lambda view: view.stream(name, start, end, piece_bytes))
        return MirrorStream(self, name, source, number, start, end, piece_bytes)

    def path(self, name: str) -> Path | None:  # noqa: ARG002 - the kernel sends without looking for damage
        return None

    def size(self, name: str) -> int:
        return self._first(name, lambda view: view.size(name))[0]

    def delete(self, name: str) -> None:
        self._mirror.copies.delete(stored_name(name))

    def names(self) -> Iterator[str]:
        return self._writing.names()

    def sweep(self, keep: Iterable[str], spare: Callable[[str], bool] = nobody) -> int:
        return self._mirror.copies.sweep((stored_name(name) for name in keep), spare)

    def clear(self) -> None:
        for view in self._views:
            view.clear()

    def _first(self, name: str, read: Callable[[Blobs], T], bad: Iterable[int] = ()) -> tuple[T, int]:
        """What the first good copy gives, and its number. `bad` are those that are known to be none."""
        damaged = list(bad)
        failure: Exception = NotFound(f"Blob {name} does not exist.")
        sizes = self._mirror.sizes(name)
        for number, view in enumerate(self._views):
            if number in damaged:
                continue
            if sizes.get(number, -1) < max(sizes.values(), default=0):
                damaged.append(number)
                continue
            try:
                found = read(view)
            except (NotFound, Unavailable, OSError) as error:
                failure = failure if isinstance(error, NotFound) else error
                damaged.append(number)
                continue
            if damaged:
                self._mirror.mend(name, number, damaged)
            return found, number
        if isinstance(failure, OSError):
            raise Unavailable(f"Blob {name} cannot be read: {failure.strerror}.") from failure
        raise failure


class MirrorStream:
    """A range from one copy, and from the next one where that ends in damage."""

    def __init__(
        self, view: View, name: str, source: Iterator[Piece], number: int, start: int, end: int | None, piece_bytes: int
    ) -> None:
        self._view = view
        self._name = name
        self._source = source
        self._at = start
        self._end = end
        self._piece_bytes = piece_bytes
        self._number = number
        self._bad: set[int] = set()

    def __iter__(self) -> MirrorStream:
        return self

    def __next__(self) -> Piece:
        while True:
            try:
                piece = next(self._source)
            except (Unavailable, OSError):
                self.close()
                self._bad.add(self._number)
                self._source, self._number = self._view._first(self._name, self._open, self._bad)
                continue
            self._at += len(piece)
            return piece

    def close(self) -> None:
        close = getattr(self._source, "close", None)
        if close is not None:
            close()

    def _open(self, view: Blobs) -> Iterator[Piece]:
        return view.stream(self._name, self._at, self._end, self._piece_bytes)


class MirroredBlobs(View):
    """What the services see."""

    def __init__(self, copies: Copies, dress: Callable[[Blobs], AtRest], is_claimed: Callable[[str], bool]) -> None:
        """dress: sealing, or the sums of plain blobs. is_claimed: whether a blob is in use, so that no deleted one comes back."""
        self.copies = copies
        self._dressed = [dress(folder) for folder in copies.folders]
        self._all = dress(copies)
        self._one = dress(copies.single())
        self._is_claimed = is_claimed
        self._mending: set[str] = set()
        self._lock = threading.Lock()
        super().__init__(self, self._dressed, self._all)

    def under(self, keys: Keys) -> Blobs:
        return View(self, [view.under(keys) for view in self._dressed], self._all.under(keys))

    def single(self) -> AtRest:
        return _SingleView(self, self._one)

    def sizes(self, name: str) -> dict[int, int]:
        """The stored size of every copy that is to be there; -1 where it is not."""
        stored = stored_name(name)
        found: dict[int, int] = {}
        for number in self.copies.homes(stored):
            try:
                found[number] = self.copies.folders[number].size(stored)
            except (NotFound, OSError):
                found[number] = -1
        return found

    def check(self, name: str) -> None:
        """Unavailable when a copy is missing or damaged and stays so."""
        result = self.check_copies(name)
        if not result.is_whole:
            raise Unavailable(f"Blob {name} is damaged in {', '.join(result.damaged)}.")

    def check_copies(self, name: str) -> Checked:
        """Read every copy of a blob from end to end; put the damaged ones right."""
        good, bad = [], []
        for number in self.copies.homes(stored_name(name)):
            try:
                self._dressed[number].check(name)
                good.append(number)
            except (NotFound, Unavailable, OSError):
                bad.append(number)
        titles = tuple(self.copies.titles[number] for number in bad)
        if bad and good:
            bad = [number for number in bad if not self._copy(name, good[0], number)]
        return Checked(titles, not bad, not good)

    def mend(self, name: str, good: int, bad: Sequence[int]) -> None:
        """Put a good copy in the place of bad ones: at once where it is small, else beside the reader."""
        homes = self.copies.homes(stored_name(name))
        wanted = [number for number in bad if number in homes]
        with self._lock:
            if not wanted or name in self._mending:
                return
            self._mending.add(name)
        try:
            size = self.copies.folders[good].size(stored_name(name))
        except (NotFound, OSError):
            size = 0
        if size > AT_ONCE_BYTES:
            self.copies.threads.submit(self._mend, name, good, wanted)
        else:
            self._mend(name, good, wanted)

    def _mend(self, name: str, good: int, bad: Sequence[int]) -> None:
        try:
            if not self._is_claimed(name):
                return
            self._dressed[good].check(name)
            for number in bad:
                self._copy(name, good, number)
        except (NotFound, Unavailable, OSError) as error:
            log.warning("mirror: blob %s could not be mended: %s", name, error)
        finally:
            with self._lock:
                self._mending.discard(name)

    def _copy(self, name: str, good: int, bad: int) -> bool:
        stored, folders = stored_name(name), self.copies.folders
        try:
            folders[bad].replace(stored, folders[good].stream(stored))
        except (NotFound, Unavailable, OSError) as error:
            log.error("mirror: blob %s stays damaged in %s: %s", name, self.copies.titles[bad], error)
            return False
        if not self._is_claimed(name):
            folders[bad].delete(stored)
            return False
        log.warning("mirror: blob %s was missing or damaged in %s; mended", name, self.copies.titles[bad])
        return True


class _SingleView(View):
    """The same for what is to have one copy."""

    def __init__(self, mirror: MirroredBlobs, one: AtRest) -> None:
        super().__init__(mirror, mirror._dressed, one)
        self._one = one

    def under(self, keys: Keys) -> Blobs:
        return View(self._mirror, [view.under(keys) for view in self._mirror._dressed], self._one.under(keys))

    def single(self) -> AtRest:
        return self

    def check(self, name: str) -> None:
        self._mirror.check(name)
