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
    """Where programs of jobs run: local, podman (images of one's own by podman, the rest as local), ray[:ADDRESS], kubernetes[:NAMESPACE] or slurm[:PARTITION]."""

    records: str = ""
    """Where metadata is kept: '' for a file in the data directory, or postgresql://... for several servers."""
    blobs: str = ""
    """Where large bytes are kept: '' for the data directory, a shared folder, or s3://BUCKET/PREFIX of any S3-compatible store."""
    blobs_endpoint: str = ""
    """The endpoint of that store; '' for AWS."""
    root_key: str = ""
    """The file of the master keys; '' for one in the data directory. Servers on one store share it."""
    events: str = ""
    """Where facts wait on their way from service to service: '' for the metadata store, or nats://... (JetStream)."""
    dead_letter_days: int = 14
    """How long what could not be delivered between services is kept for people to look at."""
    mirrors: str = ""
    """Further directories, joined by ':', that hold everything as well."""

    @property
    def mirror_dirs(self) -> tuple[Path, ...]:
        return tuple(Path(folder) for folder in self.mirrors.split(os.pathsep) if folder)

    @property
    def is_shared(self) -> bool:
        """Whether other servers may stand on the same store."""
        return bool(self.records)

    @classmethod
    def from_text(cls, values: Mapping[str, str]) -> Config:
        """A configuration as one process hands it to another."""
        kinds: dict[str, Callable[[str], Any]] = {
            "data_dir": Path,
            "runtimes_dir": Path,
            "port": int,
            "workers": int,
            "dead_letter_days": int,
        }
        return cls(**{name: kinds.get(name, str)(text) for name, text in values.items()})

    @staticmethod
    def runtimes_dir_default(environ: Mapping[str, str] = os.environ) -> Path:
        """PILVI_RUNTIMES_DIR, else beside the packages of this installation."""
        chosen = environ.get("PILVI_RUNTIMES_DIR")
        return Path(chosen) if chosen else Path(sys.prefix) / "pilvi-runtimes"


def blobs_credentials(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What the store behind `--blobs s3://...` asks for, from variables of its own: those of AWS clients are the users'."""
    names = {
        "aws_access_key_id": "ACCESS_KEY_ID",
        "aws_secret_access_key": "SECRET_ACCESS_KEY",
        "aws_session_token": "SESSION_TOKEN",
    }
    found = {name: environ[f"PILVI_BLOBS_{variable}"] for name, variable in names.items() if f"PILVI_BLOBS_{variable}" in environ}
    return {**found, "region_name": environ.get("PILVI_BLOBS_REGION", "us-east-1")}


def default_data_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """PILVI_DATA_DIR, else the user's data folder."""
    if chosen := environ.get("PILVI_DATA_DIR"):
        return Path(chosen)
    base = environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "pilvi"
