"""AWS's own managed policies, one JSON file each. README.md says where they come from and which are shortened."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import msgspec

FOLDER = Path(__file__).parent
PREFIX = "arn:aws:iam::aws:policy/"


@dataclass(frozen=True, slots=True)
class ManagedPolicy:
    name: str
    id: str
    path: str
    arn: str
    version: str
    description: str
    created: datetime
    updated: datetime
    document: str


class _File(msgspec.Struct, rename="pascal"):
    policy_id: str
    path: str
    version: str
    description: str
    created: datetime
    updated: datetime
    document: msgspec.Raw


def find(arn: str) -> ManagedPolicy | None:
    """One of AWS's policies by its ARN, None when it is none that is here."""
    if not arn.startswith(PREFIX):
        return None
    policy = _load(arn.rpartition("/")[2])
    return policy if policy is not None and policy.arn == arn else None


def every() -> Iterable[ManagedPolicy]:
    """All of them, by name."""
    return [policy for name in _names() if (policy := _load(name)) is not None]


@cache
def _names() -> tuple[str, ...]:
    return tuple(sorted(file.stem for file in FOLDER.glob("*.json")))


def _load(name: str) -> ManagedPolicy | None:
    return _read(name) if name in _names() else None


@cache
def _read(name: str) -> ManagedPolicy:
    file = msgspec.json.decode((FOLDER / f"{name}.json").read_bytes(), type=_File)
    return ManagedPolicy(
        name,
        file.policy_id,
        file.path,
        f"{PREFIX.removesuffix('/')}{file.path}{name}",
        file.version,
        file.description,
        file.created.astimezone(UTC),
        file.updated.astimezone(UTC),
        bytes(file.document).decode(),
    )
