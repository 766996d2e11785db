"""File trees that somebody else made: links in them lead wherever they like, but never out; a file may be a pipe nobody writes to."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path, PurePosixPath

from pilvi.core.errors import Invalid

_MOST_LINKS = 40


def inside(tree: Path, path: str) -> str:
    """Where a path leads inside a tree, its links followed there and nowhere else."""
    place = PurePosixPath("/")
    waiting = list(reversed(PurePosixPath(path).parts))
    links = 0
    while waiting:
        part = waiting.pop()
        if part in ("/", ".", ""):
            continue
        if part == "..":
            place = place.parent
            continue
        here = Path(tree, *place.parts[1:], part)
        if not here.is_symlink():
            place /= part
            continue
        links += 1
        if links > _MOST_LINKS:
            raise Invalid(f"{path} is a ring of links.")
        target = PurePosixPath(os.readlink(here))
        if target.is_absolute():
            place = PurePosixPath("/")
        waiting += reversed(target.parts)
    return str(place)


def first_bytes(place: Path, most: int) -> bytes:
    """What a plain file begins with. OSError for everything else, at once."""
    descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "It is no plain file", str(place))
        return file.read(most)
