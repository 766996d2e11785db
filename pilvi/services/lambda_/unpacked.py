"""Working copies: packages unpacked into folders that workers see read-only as /var/task and /opt.

The copies are plain files below the data directory. They are made when a worker first needs them, removed some time after
the last worker that used them has ended, and all of them when a server starts or stops.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pilvi.services.lambda_.package import is_link, open_blob, path_of

if TYPE_CHECKING:
    from pilvi.core.clock import Clock
    from pilvi.storage.blobs import Blobs

KEPT_S = 900.0
"""How long a copy outlives its last worker."""


class _Copy:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.Lock()
        self.holders = 0
        self.is_ready = False
        self.is_compiled = False
        self.released_s = 0.0


class Unpacked:
    def __init__(self, root: Path, blobs: Blobs, clock: Clock) -> None:
        self._root = root
        self._blobs = blobs
        self._clock = clock
        self._copies: dict[str, _Copy] = {}
        self._lock = threading.Lock()
        shutil.rmtree(root, ignore_errors=True)

    def hold(self, packages: Sequence[str]) -> Path:
        """A folder with the content of these blobs, later ones over earlier ones. Give it back with `release`. For threads."""
        name = name_of(packages)
        with self._lock:
            copy = self._copies.setdefault(name, _Copy(self._root / name))
            copy.holders += 1
        try:
            with copy.lock:
                if not copy.is_ready:
                    self._unpack(packages, copy.path)
                    copy.is_ready = True
        except BaseException:
            self.release(packages)
            raise
        return copy.path

    def release(self, packages: Sequence[str]) -> None:
        with self._lock:
            copy = self._copies[name_of(packages)]
            copy.holders -= 1
            copy.released_s = self._clock.time_s()

    def is_compiled(self, packages: Sequence[str]) -> bool:
        return self._copies[name_of(packages)].is_compiled

    def claim_compiling(self, packages: Sequence[str]) -> bool:
        """True for the one who shall compile a held copy."""
        with self._lock:
            copy = self._copies[name_of(packages)]
            is_mine, copy.is_compiled = not copy.is_compiled, True
            return is_mine

    def sweep(self) -> None:
        """Remove copies nobody has used for a while. For threads."""
        limit = self._clock.time_s() - KEPT_S
        with self._lock:
            cold = [name for name, copy in self._copies.items() if copy.holders == 0 and copy.released_s < limit]
            gone = [self._copies.pop(name).path for name in cold]
            for number, path in enumerate(gone):
                if path.exists():
                    gone[number] = path.rename(path.with_name(f".{path.name}"))
        for path in gone:
            shutil.rmtree(path, ignore_errors=True)

    def is_empty(self) -> bool:
        return not self._copies

    def close(self) -> None:
        shutil.rmtree(self._root, ignore_errors=True)

    def _unpack(self, packages: Sequence[str], path: Path) -> None:
        fresh = path.with_name(f".{path.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True, mode=0o755)
        self._root.chmod(0o755)
        for name in packages:
            with open_blob(self._blobs, name) as file:
                unpack(file, fresh)
        fresh.rename(path)


def name_of(packages: Sequence[str]) -> str:
    return hashlib.sha256("/".join(packages).encode()).hexdigest()[:32]


def unpack(file: IO[bytes], root: Path) -> None:
    """The files of a checked zip below `root`; links last, so that nothing is ever written through one.

    A link that leaves `root` is left out. Everything is readable by everyone, as Lambda demands; executable bits stay.
    """
    links: list[tuple[Path, str]] = []
    safe: set[Path] = set()
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            path = path_of(entry)
            if path is None:
                continue
            target = root / path
            folder = target if entry.is_dir() else target.parent
            if folder not in safe:
                make_folder(root, folder)
                safe.add(folder)
            if is_link(entry):
                links.append((target, archive.read(entry).decode(errors="surrogateescape")))
            elif not entry.is_dir():
                if target.is_symlink() or target.exists():
                    target.unlink()
                with archive.open(entry) as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
                target.chmod(0o755 if (entry.external_attr >> 16) & 0o111 else 0o644)
    for target, points_to in links:
        if is_inside(root, target, points_to) and not os.path.lexists(target):
            target.symlink_to(points_to)


def make_folder(root: Path, folder: Path) -> None:
    """Make a folder below the root; a link (or file) of an earlier package that stands in the way gives way to it."""
    path = root
    for part in folder.relative_to(root).parts:
        path = path / part
        if os.path.lexists(path) and (path.is_symlink() or not path.is_dir()):
            path.unlink()
        path.mkdir(exist_ok=True)


def is_inside(root: Path, link: Path, points_to: str) -> bool:
    """Whether a link stays below the root, judged by its text."""
    end = os.path.normpath(os.path.join(link.parent, points_to))
    return not os.path.isabs(points_to) and end.startswith(f"{root}{os.sep}")
