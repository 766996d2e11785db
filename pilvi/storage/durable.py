"""What makes a new file survive a power cut beyond its own bytes: its entry in the folder."""

from __future__ import annotations

import os


def sync_folder(path: str | os.PathLike[str]) -> None:
    """Make the entries of a folder durable."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
