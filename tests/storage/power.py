"""Power cuts, as near as a program comes to them: a recording of all that a server did to its directory, and what a disk may hold
of it that lost whatever was not synced.

    record(...)     environment for a process whose writes below a folder are recorded (power.c, preloaded)
    Disk(...)       the recording up to some moment, rebuilt: what was synced is there; of the rest, each page, length and
                    entry of a folder by chance, in any combination (pages of 4 KiB; a torn page is new up to a sector, then old)

What was synced: the data and size of a file by fsync or fdatasync of it, the entries of a folder by fsync of that. fsync of a
file also keeps its own entry, as ext4, XFS and btrfs do; whether it does is the `keeps_entry` of the disk, by chance.
"""

from __future__ import annotations

import mmap
import os
import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

HEAD = struct.Struct("<4scQQQII")
PAGE = 4096
SECTOR = 512
SOURCE = Path(__file__).with_name("power.c")


def build(folder: Path) -> Path | None:
    """The library to preload; None when there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    library = folder / "power.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl", "-lpthread"], check=True)
    return library


def record(library: Path, root: Path, log: Path) -> dict[str, str]:
    """Environment of a process that is to be recorded."""
    return {"LD_PRELOAD": str(library), "POWER_ROOT": str(root), "POWER_LOG": str(log)}


class Step(NamedTuple):
    kind: str
    inode: int
    number: int
    path: bytes
    data: tuple[int, int]
    """From where to where in the log."""


def steps_of(log: mmap.mmap, end: int) -> Iterator[Step]:
    at = 0
    while at + HEAD.size <= end:
        magic, kind, inode, number, _, path_bytes, size = HEAD.unpack_from(log, at)
        assert magic == b"PWRC", at
        start = at + HEAD.size
        if start + path_bytes + size > end:
            return
        yield Step(kind.decode(), inode, number, log[start : start + path_bytes], (start + path_bytes, start + path_bytes + size))
        at = start + path_bytes + size


@dataclass
class File:
    """One inode: what is certain of it, and what may be."""

    synced: bytearray = field(default_factory=bytearray)
    loose: list[tuple[str, int, bytes]] = field(default_factory=list)
    """('w', offset, data) and ('t', size, b'') since the last sync, in order."""

    def sync(self) -> None:
        for step in self.loose:
            apply(self.synced, step)
        self.loose = []

    def after_cut(self, chance: random.Random) -> bytes:
        """The content as a disk may have it."""
        newest = bytearray(self.synced)
        for step in self.loose:
            apply(newest, step)
        if not self.loose or chance.random() < 0.3:
            return bytes(self.synced)
        if chance.random() < 0.3:
            return bytes(newest)
        size = chance.choice((len(self.synced), len(newest)))
        found = bytearray(size)
        found[: len(self.synced)] = self.synced[:size]
        share = chance.random()
        for at in range(0, size, PAGE):
            if chance.random() < share:
                end = min(size, at + (chance.randrange(1, PAGE // SECTOR) * SECTOR if chance.random() < 0.05 else PAGE))
                page = newest[at:end]
                found[at : at + len(page)] = page
        return bytes(found)


def apply(content: bytearray, step: tuple[str, int, bytes]) -> None:
    kind, at, data = step
    if kind == "t":
        del content[at:]
        content.extend(bytes(at - len(content)))
    else:
        if len(content) < at:
            content.extend(bytes(at - len(content)))
        content[at : at + len(data)] = data


class Disk:
    """A directory as it may be after the power went at a moment of its recording."""

    def __init__(self, log_path: Path, end: int, root: Path, chance: random.Random) -> None:
        self._chance = chance
        self._root = os.fsencode(root)
        self._files: dict[int, File] = {}
        self._entries: dict[bytes, int] = {}
        """As the process saw them: path -> inode."""
        self._certain: dict[bytes, int] = {}
        self._loose: dict[bytes, list[tuple[bytes, int | None]]] = {}
        """By folder: changes of entries (path, inode or None) since that folder was synced."""
        self._folders: dict[int, bytes] = {}
        self.keeps_entry = chance.random() < 0.5
        with open(log_path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as log:
            for step in steps_of(log, end):
                self._take(step, log)

    def write(self, target: Path) -> None:
        """The directory, made anew."""
        entries = dict(self._certain)
        for changes in self._loose.values():
            kept = self._chance.randrange(len(changes) + 1) if self._chance.random() < 0.7 else len(changes)
            for path, inode in changes[:kept]:  # a journal keeps the order of what it keeps
                if inode is None:
                    entries.pop(path, None)
                else:
                    entries[path] = inode
        target.mkdir(parents=True)
        for path, inode in entries.items():
            place = target / os.fsdecode(path[len(self._root) + 1 :])
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if inode in self._files:
                place.write_bytes(self._files[inode].after_cut(self._chance))
                place.chmod(0o600)

    def _take(self, step: Step, log: mmap.mmap) -> None:
        if step.kind == "w":
            self._file(step.inode).loose.append(("w", step.number, log[step.data[0] : step.data[1]]))
        elif step.kind == "t":
            self._file(step.inode).loose.append(("t", step.number, b""))
        elif step.kind == "f":
            self._file(step.inode).sync()
            if self.keeps_entry:
                self._sync_entries_of(step.inode)
        elif step.kind == "d":
            self._sync_folder(step.path)
        elif step.kind == "c":
            self._change(step.path, step.inode)
        elif step.kind == "u":
            self._change(step.path, None)
        elif step.kind == "r":
            old, new = step.path.split(b"\0")
            self._change(new, step.inode)
            self._change(old, None)

    def _file(self, inode: int) -> File:
        return self._files.setdefault(inode, File())

    def _change(self, path: bytes, inode: int | None) -> None:
        if inode is not None and path not in self._entries and inode not in self._entries.values():
            self._files[inode] = File()  # the number of a file that is gone may be given again
        if inode is None:
            self._entries.pop(path, None)
        else:
            self._entries[path] = inode
        self._loose.setdefault(os.path.dirname(path), []).append((path, inode))

    def _sync_folder(self, folder: bytes) -> None:
        for path, inode in self._loose.pop(folder, ()):
            if inode is None:
                self._certain.pop(path, None)
            else:
                self._certain[path] = inode

    def _sync_entries_of(self, inode: int) -> None:
        for path, other in list(self._entries.items()):
            if other == inode:
                self._sync_folder(os.path.dirname(path))
