"""Which packages an image holds: Debian's, Alpine's and Python's, from the lists that they leave in its layers."""

from __future__ import annotations

import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pilvi.core.streams import Piece
from pilvi.images.headers import BoundedInfo, members_of
from pilvi.images.unpack import Plain

UNREADABLE = (tarfile.TarError, zlib.error, EOFError, RecursionError)
"""What reading a layer that is no archive raises."""
_METADATA = re.compile(r".+\.(?:dist-info/METADATA|egg-info/PKG-INFO|egg-info)")
_MOST_BYTES = 64 << 20
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"


class Package(NamedTuple):
    ecosystem: str
    """As OSV names it: Debian, Alpine, PyPI."""
    name: str
    version: str


def packages_of(layers: Iterable[Iterable[Piece]]) -> list[Package]:
    """Every package, in order. layers: their bytes, lowest first; a file of a higher one stands for the lower ones'."""
    lists: dict[str, bytes] = {}
    for pieces in layers:
        _read_layer(pieces, lists)
    found = {package for path, data in lists.items() for package in _packages_in(path, data.decode(errors="replace"))}
    return sorted(found)


def _read_layer(pieces: Iterable[Piece], lists: dict[str, bytes]) -> None:
    with tarfile.open(fileobj=Plain(iter(pieces)), mode="r|", tarinfo=BoundedInfo) as archive:  # type: ignore[call-overload]
        for member in members_of(archive):
            path = member.name.removeprefix("./").lstrip("/")
            folder, _, name = path.rpartition("/")
            if name == _OPAQUE:
                _forget(lists, folder)
            elif name.startswith(_WHITEOUT):
                _forget(lists, f"{folder}/{name.removeprefix(_WHITEOUT)}".lstrip("/"))
            elif member.isreg() and _is_list(path) and member.size <= _MOST_BYTES:
                file = archive.extractfile(member)
                lists[path] = file.read() if file is not None else b""


def _forget(lists: dict[str, bytes], gone: str) -> None:
    for path in [path for path in lists if path == gone or path.startswith(f"{gone}/")]:
        del lists[path]


def _is_list(path: str) -> bool:
    if path in ("var/lib/dpkg/status", "lib/apk/db/installed") or path.startswith("var/lib/dpkg/status.d/"):
        return True
    return _METADATA.fullmatch(path) is not None


def _packages_in(path: str, text: str) -> Iterator[Package]:
    if path.startswith("var/lib/dpkg/"):
        for block in text.split("\n\n"):
            fields = _fields(block, ": ")
            if "installed" in fields.get("Status", "installed").split() and {"Package", "Version"} <= fields.keys():
                # Advisories name the source that a package was built from.
                yield Package("Debian", fields.get("Source", fields["Package"]).partition(" ")[0], fields["Version"])
    elif path.startswith("lib/apk/"):
        for block in text.split("\n\n"):
            fields = _fields(block, ":")
            if {"P", "V"} <= fields.keys():
                yield Package("Alpine", fields.get("o", fields["P"]), fields["V"])
    else:
        fields = _fields(text.split("\n\n", 1)[0], ": ")
        if {"Name", "Version"} <= fields.keys():
            yield Package("PyPI", normal_name(fields["Name"]), fields["Version"].strip())


def normal_name(name: str) -> str:
    """A Python project's name as all its spellings compare. Source: PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _fields(block: str, mark: str) -> dict[str, str]:
    pairs = (line.partition(mark) for line in block.splitlines() if not line.startswith(" "))
    return {name: value for name, found, value in pairs if found}
