"""What an image says of its programs: entry point, command, environment, folder, user. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilvi.core.errors import Invalid
from pilvi.core.trees import first_bytes, inside
from pilvi.images.manifest import is_digest

_LIST_BYTES = 4 << 20

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class ImageConfig:
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: Mapping[str, str] | None = None
    working_dir: str = "/"
    user: str = ""
    diff_ids: tuple[str, ...] = ()
    """Digests of the layers as they are unpacked, lowest first."""

    def command(self, arguments: tuple[str, ...], *, replaces_entry: bool = False) -> tuple[str, ...]:
        """What runs when these arguments are given: behind the entry point, or instead of it."""
        found = arguments if replaces_entry else (*self.entrypoint, *(arguments or self.cmd))
        if not found:
            raise Invalid("The image has no entry point and no command, and none is given.")
        return found

    def environment(self, home: str) -> dict[str, str]:
        return {"PATH": PATH, "HOME": home, **(self.env or {})}


def read_config(data: bytes) -> ImageConfig:
    """Invalid when it is none."""
    try:
        content = json.loads(data)
        inner: Mapping[str, Any] = content.get("config") or {}
        diff_ids = tuple(str(id) for id in content["rootfs"]["diff_ids"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Invalid("the image's configuration is not understood") from None
    if not all(map(is_digest, diff_ids)):
        raise Invalid("the image's configuration names layers by what is no digest")
    pairs = (entry.partition("=") for entry in inner.get("Env") or ())
    return ImageConfig(
        entrypoint=_words(inner.get("Entrypoint")),
        cmd=_words(inner.get("Cmd")),
        env={name: value for name, _, value in pairs if name},
        working_dir=str(inner.get("WorkingDir") or "/"),
        user=str(inner.get("User") or ""),
        diff_ids=diff_ids,
    )


@dataclass(frozen=True, slots=True)
class User:
    uid: int
    gid: int
    home: str


def find_user(tree: Path, user: str) -> User:
    """Who a program is, by the image's own lists of users. Invalid when there is nobody of that name."""
    name, _, group = user.partition(":")
    rows = _rows(tree, "/etc/passwd", 7)
    key = name or "0"
    found = next((row for row in rows if key in (row[0], row[2])), None)
    if found is None and not key.isdigit():
        raise Invalid(f"unable to find user {name}: no matching entries in passwd file")
    uid, gid, home = (
        (int(found[2]), int(found[3]), found[5]) if found is not None else (int(key), 0, "/root" if key == "0" else "/")
    )
    if group:
        groups = _rows(tree, "/etc/group", 4)
        entry = next((row for row in groups if group in (row[0], row[2])), None)
        if entry is None and not group.isdigit():
            raise Invalid(f"unable to find group {group}: no matching entries in group file")
        gid = int(entry[2]) if entry is not None else int(group)
    return User(uid, gid, home or "/")


def _rows(tree: Path, path: str, columns: int) -> list[list[str]]:
    place = Path(f"{tree}{inside(tree, path)}")
    try:
        lines = first_bytes(place, _LIST_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return []
    rows = [line.split(":") for line in lines]
    return [row for row in rows if len(row) >= columns and row[2].isdigit()]


def _words(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return ("/bin/sh", "-c", value)
    return tuple(str(word) for word in value or ())
