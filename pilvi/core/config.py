"""Every setting of a server, in one place. The command line and the environment fill it; nobody else reads either."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Config:
    data_dir: Path
    """Everything the server keeps: metadata, objects, keys, audit."""
    host: str = "127.0.0.1"
    port: int = 4566
    """0 picks a free port."""
    workers: int = 1
    auth: Literal["strict", "open"] = "strict"
    """open: unknown access keys act as root (for drop-in tests), and POST /_pilvi/reset empties everything."""
    account: str = "123456789012"
    """The account made at the first start."""
    region: str = "us-east-1"
    """For callers and resources that name none."""
    runtimes_dir: Path = field(default_factory=lambda: Config.runtimes_dir_default())
    """Isolated environments that jobs and functions run in."""
    at_rest: Literal["encrypted", "disk"] = "encrypted"
    """disk: the disk is encrypted already, so store objects as they are."""
    isolation: Literal["auto", "bwrap", "unshare", "none"] = "auto"
    """How programs of users are kept apart; auto takes the strongest that works here."""
    compute: str = "local"
    """Where programs of jobs run: local, ray[:ADDRESS], kubernetes[:NAMESPACE] or slurm[:PARTITION]."""

    @classmethod
    def from_text(cls, values: Mapping[str, str]) -> Config:
        """A configuration as one process hands it to another."""
        kinds: dict[str, Callable[[str], Any]] = {"data_dir": Path, "runtimes_dir": Path, "port": int, "workers": int}
        return cls(**{name: kinds.get(name, str)(text) for name, text in values.items()})

    @staticmethod
    def runtimes_dir_default(environ: Mapping[str, str] = os.environ) -> Path:
        """PILVI_RUNTIMES_DIR, else beside the packages of this installation."""
        chosen = environ.get("PILVI_RUNTIMES_DIR")
        return Path(chosen) if chosen else Path(sys.prefix) / "pilvi-runtimes"


def default_data_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """PILVI_DATA_DIR, else the user's data folder."""
    if chosen := environ.get("PILVI_DATA_DIR"):
        return Path(chosen)
    base = environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "pilvi"
