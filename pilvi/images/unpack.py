"""Layers into a folder: the file tree that an image's programs live in.

Every path is followed inside the folder only. Whiteouts remove what lower layers brought. Devices, set-user bits, owners and
extended attributes are left out: inside, the tree belongs to whoever the program is.
Source: OCI Image Specification 1.1, "layer".
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from pilvi.core.errors import Invalid
from pilvi.core.streams import Piece
from pilvi.core.trees import inside
from pilvi.images.headers import BoundedInfo, members_of

MOST_BYTES = 200 << 30
MOST_FILES = 5_000_000
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_COPY_BYTES = 1 << 20


class Tree:
    """A folder that layers are put into, one after the other."""

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES) -> None:
        self.folder = folder
        self.bytes = 0
        self.files = 0
        self._most_bytes = most_bytes
        folder.mkdir(parents=True, exist_ok=True)

    def add_layer(self, pieces: Iterable[Piece], diff_id: str = "") -> None:
        """Put one layer in. Invalid when it is no archive, or not the one the image's configuration names (diff_id)."""
        plain = Plain(iter(pieces))
        added: set[str] = set()
        try:
            with tarfile.open(  # type: ignore[call-overload]
                fileobj=plain, mode="r|", bufsize=tarfile.BLOCKSIZE * 64, tarinfo=BoundedInfo
            ) as archive:
                for member in members_of(archive):
                    self._add(archive, member, added)
            plain.drain()
        except (tarfile.TarError, zlib.error, EOFError, RecursionError) as error:
            raise Invalid(f"a layer is no archive: {error}") from None
        if diff_id and plain.digest() != diff_id:
            raise Invalid(f"a layer's content is {plain.digest()}, the image's configuration says {diff_id}")

    def _add(self, archive: tarfile.TarFile, member: tarfile.TarInfo, added: set[str]) -> None:
        path = PurePosixPath("/", *(part for part in PurePosixPath(member.name).parts if part not in ("/", ".")))
        if ".." in path.parts:
            raise Invalid(f"a layer's path leads out of the image: {member.name}")
        if path == PurePosixPath("/"):
            return
        parent = self._parent(path)
        if path.name == _OPAQUE:
            self._empty(parent, added)
        elif path.name.startswith(_WHITEOUT):
            gone = path.name.removeprefix(_WHITEOUT)
            if gone in ("", ".", ".."):
                raise Invalid(f"a layer removes what is no file: {member.name}")
            _remove(self._place(parent / gone))
        else:
            self._count(member)
            place = parent / path.name
            self._put(archive, member, place)
            added.add(str(place))

    def _parent(self, path: PurePosixPath) -> PurePosixPath:
        """The folder that a path is in, links of lower layers followed; made when it is not there."""
        parent = PurePosixPath(inside(self.folder, str(path.parent)))
        place = self._place(parent)
        if not place.is_dir():
            if place.exists():
                raise Invalid(f"a layer puts {path} below a file")
            place.mkdir(parents=True)
        return parent

    def _place(self, path: PurePosixPath) -> Path:
        return Path(self.folder, *path.parts[1:])

    def _count(self, member: tarfile.TarInfo) -> None:
        self.files += 1
        self.bytes += max(0, member.size)
        if self.bytes > self._most_bytes or self.files > MOST_FILES:
            raise Invalid(f"the image is too large: more than {self._most_bytes} bytes or {MOST_FILES} files")

    def _put(self, archive: tarfile.TarFile, member: tarfile.TarInfo, path: PurePosixPath) -> None:
        place = self._place(path)
        if member.isdir() and place.is_dir() and not place.is_symlink():
            place.chmod(stat.S_IMODE(member.mode) & 0o1777 | 0o700)
            return
        _remove(place)
        if member.isdir():
            place.mkdir()
            place.chmod(stat.S_IMODE(member.mode) & 0o1777 | 0o700)
        elif member.issym():
            place.symlink_to(member.linkname)
        elif member.islnk():
            self._link(member, place)
        elif member.isfifo():
            os.mkfifo(place, stat.S_IMODE(member.mode) & 0o777 | 0o600)
        elif member.isreg():
            _write(archive, member, place)

    def _link(self, member: tarfile.TarInfo, place: Path) -> None:
        target = PurePosixPath("/", *(part for part in PurePosixPath(member.linkname).parts if part not in ("/", ".")))
        if ".." in target.parts:
            raise Invalid(f"a layer's link leads out of the image: {member.linkname}")
        source = self._place(PurePosixPath(inside(self.folder, str(target.parent))) / target.name)
        try:
            os.link(source, place, follow_symlinks=False)
        except OSError as error:
            raise Invalid(f"a layer links to {member.linkname}, which is not there: {error.strerror}") from None

    def _empty(self, folder: PurePosixPath, added: set[str]) -> None:
        """An opaque folder shows nothing of lower layers."""
        for entry in os.scandir(self._place(folder)):
            name = str(folder / entry.name)
            if not any(path == name or path.startswith(f"{name}/") for path in added):
                _remove(Path(entry.path))


class Plain:
    """A layer's archive, unpacked if it is compressed, as a file that is read once; remembers the digest of what was read."""

    def __init__(self, pieces: Iterator[Piece]) -> None:
        self._pieces = pieces
        self._hash = hashlib.sha256()
        self._ready = bytearray()
        first = next(pieces, b"")
        while len(first) < 6 and (more := next(pieces, b"")):
            first += more
        if first[:4] == b"\x28\xb5\x2f\xfd":
            raise Invalid("layers compressed with zstd are not understood; push the image with gzip layers")
        self._unzip = zlib.decompressobj(31) if first[:2] == b"\x1f\x8b" else None
        self._rest: Piece = first
        """What has come and is not unpacked yet: a little of it may be very much."""

    def read(self, size: int) -> bytes:
        while len(self._ready) < size and (piece := self._rest or next(self._pieces, b"")):
            self._take(piece)
        data = bytes(self._ready[:size])
        del self._ready[:size]
        return data

    def drain(self) -> None:
        """Read what stands behind the archive's end: it counts for the digest."""
        while self.read(_COPY_BYTES):
            pass

    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def _take(self, piece: Piece) -> None:
        """Unpack a part of it at most."""
        self._rest = b""
        if self._unzip is None:
            self._keep(piece)
        elif not self._unzip.eof:
            self._keep(self._unzip.decompress(piece, _COPY_BYTES))
            self._rest = self._unzip.unconsumed_tail or self._unzip.unused_data
        elif bytes(piece[:1]) == b"\x1f":
            self._unzip, self._rest = zlib.decompressobj(31), piece

    def _keep(self, data: Piece) -> None:
        self._hash.update(data)
        self._ready += data


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, place: Path) -> None:
    source = archive.extractfile(member)
    descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:
        if source is not None:
            shutil.copyfileobj(source, file, _COPY_BYTES)
        os.fchmod(file.fileno(), stat.S_IMODE(member.mode) & 0o777 | 0o600)
    os.utime(place, (member.mtime, member.mtime))


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    elif place.is_symlink() or place.exists():
        place.unlink()
