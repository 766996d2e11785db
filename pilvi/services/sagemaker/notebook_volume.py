"""The volume of a notebook instance or a space: a folder while it runs, one sealed archive while it does not.

    DATA/notebooks/<id>/volume/     shown inside as /home/ec2-user/SageMaker; kept over stop and start, and over the server's end
    DATA/notebooks/<id>/run/        home, /tmp and metadata of one run; gone with it

The archive is claimed by the instance's record before the folder goes, and the folder is there before the archive goes: a crash
at any moment leaves one of them whole.
"""

from __future__ import annotations

import logging
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from pilvi.core.streams import Piece
from pilvi.storage.records import Change, DeleteBody, PutBody

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
    from pilvi.storage.blobs import Blobs

log = logging.getLogger("pilvi.sagemaker")

NOTEBOOKS = "notebooks"
STUDIO = "studio"
"""Whose volumes lie where: those of notebook instances, and those of Studio's spaces."""


class Volume:
    def __init__(self, cloud: Cloud, id: str, kind: str = NOTEBOOKS, key: bytes | None = None) -> None:
        """key: the archive's own; None seals it with the server's."""
        self._blobs: Blobs = cloud.blobs if key is None else cloud.blobs.under((key,))
        self._is_sealed = cloud.config.at_rest == "encrypted" or key is not None
        self.folder = folder_of(cloud, kind) / id
        self.files = self.folder / "volume"
        self.run = self.folder / "run"

    def open(self, archive: str | None) -> None:
        """Make the folder ready, from the archive where there is one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        shutil.rmtree(self.run, ignore_errors=True)
        if archive is None:
            self.files.mkdir(exist_ok=True)
            return
        # Files without the archive's claim gone are the rest of an opening that was cut off.
        shutil.rmtree(self.files, ignore_errors=True)
        self.files.mkdir()
        with tarfile.open(fileobj=_reader(self._blobs.stream(archive)), mode="r|") as tar:
            tar.extractall(self.files, filter="tar")

    def pack(self) -> str | None:
        """Seal the files into an archive of a new name; None when they stay a folder: nothing seals here, or a file is unreadable."""
        shutil.rmtree(self.run, ignore_errors=True)
        if not self._is_sealed or not self.files.is_dir():
            return None
        writer = self._blobs.create()
        try:
            with tarfile.open(fileobj=cast(IO[bytes], writer), mode="w|") as tar:
                tar.add(self.files, ".")
            writer.finish()
        except OSError as error:
            writer.abort()
            log.warning("the volume %s stays unsealed: %s", self.folder.name, error)
            return None
        except BaseException:
            writer.abort()
            raise
        return writer.name

    def drop_files(self) -> None:
        """The archive holds them."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def drop_archive(self, archive: str | None) -> None:
        """The files are there, or nobody wants them any more."""
        if archive is not None:
            self._blobs.delete(archive)


def claiming(archive: str | None) -> tuple[Change, ...]:
    """The change that keeps an archive, for the transaction that names it."""
    return (PutBody(archive, None),) if archive is not None else ()


def releasing(archive: str | None) -> tuple[Change, ...]:
    """The change that lets go of an archive, for the transaction that forgets it."""
    return (DeleteBody(archive),) if archive is not None else ()


def folder_of(cloud: Cloud, kind: str = NOTEBOOKS) -> Path:
    """Where the volumes are."""
    return cloud.config.data_dir / kind


class _Pieces:
    """Pieces of bytes as a file to read."""

    def __init__(self, pieces: Iterator[Piece]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int) -> bytes:
        found: list[Piece] = [self._rest]
        missing = size - len(self._rest)
        while missing > 0 and (piece := next(self._pieces, b"")):
            found.append(piece)
            missing -= len(piece)
        data = b"".join(found)
        self._rest = data[size:]
        return data[:size]


def _reader(pieces: Iterator[Piece]) -> IO[bytes]:
    return cast(IO[bytes], _Pieces(pieces))
