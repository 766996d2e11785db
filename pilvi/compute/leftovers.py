"""Programs of an earlier server on the same data directory.

A sandbox dies with its server, but for one that was being started in the very moment of a kill -9: bubblewrap asks for that death as
its first act, and its parent may be gone by then. Whoever holds the data directory's lock may end what shows its folders.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path


def end_leftovers(folder: Path) -> int:
    """SIGKILL every bubblewrap that shows something of `folder`; gives how many processes. Only at start, with the folder locked."""
    inside = os.fsencode(folder) + b"/"
    ended = 0
    for pid, words in _programs():
        if os.path.basename(words[0]) == b"bwrap" and any(word.startswith(inside) for word in words):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
                ended += 1
    return ended


def _programs() -> Iterator[tuple[int, list[bytes]]]:
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(OSError):
                yield int(name), Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
