"""How much disk a job uses, and that it stays within its volume."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

_LOOK_S = 1.0
_SHARE = 20
"""Looking may take a twentieth of the time at most."""


_FREE_BYTES = 256 << 20
"""So much of the machine's disk is left to everybody else."""


class DiskWatch:
    """Looks at folders every now and then. `reason` is "disk" once one of them was found too large, "machine-disk" once there is hardly
    any room left on the machine and the folder is what takes it."""

    def __init__(self, most_mib: int | None) -> None:
        self._most_bytes = None if most_mib is None else most_mib << 20
        self._next = 0.0
        self.reason = ""

    def is_over(self, folders: Sequence[Path], now_s: float) -> bool:
        """Whether a folder holds more than it may; looks only when it is time to."""
        if self._most_bytes is None or self.reason or now_s < self._next:
            return False
        files = 0
        for folder in folders:
            used, seen = used_bytes(folder)
            files += seen
            if used > self._most_bytes:
                self.reason = "disk"
            elif used > _FREE_BYTES > free_bytes(folder):
                self.reason = "machine-disk"
        # Some 200,000 files a second can be looked at.
        self._next = now_s + max(_LOOK_S, files / 200_000 * _SHARE)
        return bool(self.reason)


def free_bytes(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def used_bytes(folder: Path) -> tuple[int, int]:
    """(bytes on the disk, number of entries) below a folder. Links are not followed; what goes meanwhile counts for nothing."""
    total = seen = 0
    waiting = [str(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    seen += 1
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
        except OSError:
            continue
    return total, seen
