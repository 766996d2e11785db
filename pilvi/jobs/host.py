"""One host of a job: a folder that holds its files, the program in it, its log.

<data>/jobs/<job>/<host name>/root     what the program sees at the job's root (/opt/ml)
                             /tmp      its /tmp
                             /other    paths of the job outside both, by their own path
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path, PurePosixPath

from pilvi.compute import Bind, Exit, Process
from pilvi.core.trees import first_bytes
from pilvi.jobs.logs import JobLog
from pilvi.jobs.spec import Input, JobSpec, Member
from pilvi.jobs.transfer import TransferFailed

FAILURE_CHARACTERS = 1024
CACHE = "sagemaker/warmpoolcache"
"""Below the job's root. Source: SageMaker Developer Guide, "Train Using SageMaker AI Managed Warm Pools", persistent cache."""


class Host:
    def __init__(self, folder: Path, spec: JobSpec, member: Member) -> None:
        self.member = member
        self.name = member.hostname
        self.folder = folder / member.hostname
        self.log: JobLog | None = None
        self.stream = ""
        self.process: Process | None = None
        self._spec = spec

    # -- files --------------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Folders and files as the spec wants them."""
        for path in (self.outside(""), self.folder / "tmp" / "packages"):
            path.mkdir(parents=True, exist_ok=True)
        for folder in (*self._spec.folders, *(target.path for target in self._spec.outputs)):
            self.outside(folder).mkdir(parents=True, exist_ok=True)
        for name, text in {**self._spec.files, **self.member.files}.items():
            path = self.outside(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def binds(self) -> list[Bind]:
        """How its files appear inside."""
        found = [Bind(self.outside(""), self._spec.root, writable=True), Bind(self.folder / "tmp", "/tmp", writable=True)]
        named = [source.path for source in self._spec.inputs] + [target.path for target in self._spec.outputs]
        others = {path for path in (*named, *self._spec.folders) if self._is_elsewhere(path)}
        return found + [Bind(self.outside(path), path, writable=True) for path in sorted(others)]

    def outside(self, path: str) -> Path:
        """Where a path inside the host really is. A relative one is below the job's root. TransferFailed for one that leads up."""
        if ".." in PurePosixPath(path).parts:
            raise TransferFailed(f"{path} leads out of {self._spec.root}.")
        if self._is_elsewhere(path):
            return self.folder / "other" / path.strip("/")
        if _is_below(path, "/tmp") and not _is_below(path, self._spec.root):
            return self.folder / "tmp" / path.removeprefix("/tmp").lstrip("/")
        return self.folder / "root" / path.removeprefix(self._spec.root).lstrip("/")

    def own(self, path: str) -> Path:
        """The same for what the program left. It may have put links there, which must not make us read what is not its own."""
        place, base = self.outside(path), self.folder.resolve()
        if not place.resolve().is_relative_to(base):
            raise TransferFailed(f"{path} leads out of {self._spec.root}.")
        return place

    def inherit(self, place: Path) -> None:
        """Take over what an earlier job of the same warm pool left, if it left anything and this one brings nothing of its own."""
        target = self.outside(CACHE)
        if place.is_dir() and not (target.is_dir() and any(target.iterdir())):
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir():
                target.rmdir()
            place.rename(target)

    def leave(self, place: Path) -> None:
        """Put what the program kept for the next job of its warm pool into a place of the server's."""
        with contextlib.suppress(OSError, TransferFailed):
            source = self.own(CACHE)
            if source.is_dir() and not source.is_symlink():
                place.parent.mkdir(parents=True, exist_ok=True)
                source.rename(place)

    def gets(self, source: Input) -> bool:
        return not source.members or self.name in source.members

    def _is_elsewhere(self, path: str) -> bool:
        return path.startswith("/") and not _is_below(path, self._spec.root) and not _is_below(path, "/tmp")

    # -- the program --------------------------------------------------------------------------------------------------

    def failure_text(self) -> str:
        """The first characters of what the program left about its failure."""
        if not self._spec.failure_file:
            return ""
        try:
            data = first_bytes(self.own(self._spec.failure_file).resolve(), FAILURE_CHARACTERS * 4)
            return data.decode(errors="replace")[:FAILURE_CHARACTERS]
        except (OSError, TransferFailed):
            return ""

    def ended(self) -> Exit | None:
        return None if self.process is None else self.process.poll()

    def has_failed(self) -> bool:
        return (ended := self.ended()) is not None and is_bad(ended)


def remove_folder(folder: Path) -> None:
    """All of it: the kernel leaves a folder that nobody may enter where files were laid over one another."""
    with contextlib.suppress(OSError):
        for work in folder.glob("*/changes/work/work"):
            work.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def is_bad(ended: Exit) -> bool:
    return ended.code != 0 or ended.reason == "memory"


def _is_below(path: str, folder: str) -> bool:
    return PurePosixPath(path).is_relative_to(folder)
