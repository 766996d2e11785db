"""One server for one data directory: a lock that the kernel lets go of, however the holder ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from pilvi.core.errors import Unavailable


class DataDirLock:
    """Held from `lock_data_dir` until `release` or the end of the process."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def note(self, note: str) -> None:
        """Say who holds it, for whoever comes second."""
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()} {note}\n".encode(), 0)

    def release(self) -> None:
        """Harmless when called twice. The file stays: removing it would let two servers lock two files of one name."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.ftruncate(fd, 0)
            os.close(fd)


def lock_data_dir(path: Path, note: str = "") -> DataDirLock:
    """Take the directory (made if need be) for this process. Unavailable, naming the holder, when another has it."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(fd, 1000, 0).decode(errors="replace").strip()
        os.close(fd)
        raise Unavailable(f"{path} is in use by another server{_named(holder)}. Stop it, or choose another --data-dir.") from None
    lock = DataDirLock(fd)
    lock.note(note)
    return lock


def _named(holder: str) -> str:
    pid, _, note = holder.partition(" ")
    if not pid:
        return ""
    return f" (process {pid}{', ' + note if note else ''})"
