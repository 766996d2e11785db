"""Folders that go to S3 while the program runs: checkpoints, continuous outputs.

A file goes when it is new or changed and has kept still from one look to the next, or when it never keeps still for some looks; at the
end whatever has changed goes. Files that the program removes stay in S3. The program is at work in these folders, so nothing in them is opened by following a link.
"""

from __future__ import annotations

import logging
import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pilvi.core.errors import PilviError
from pilvi.core.service import Context
from pilvi.jobs.transfer import TransferFailed, send, told

log = logging.getLogger("pilvi.jobs")

LOOK_S = 1.0
_PATIENCE = 3
"""Looks after which a file goes that changes all the time."""


class State(NamedTuple):
    """What tells that a file has changed."""

    inode: int
    size: int
    modified_ns: int


class Sync:
    """One folder of one host, brought below one address."""

    def __init__(self, base: Path, folder: Path, uri: str, kms_key: str = "") -> None:
        """base: a folder that the program cannot replace, above `folder`."""
        self._base = base
        self._parts = folder.relative_to(base).parts
        self._uri = uri.rstrip("/")
        self._kms_key = kms_key
        self._sent = dict(self._states())
        """What is there now came from S3."""
        self._seen: dict[str, State] = {}
        self._restless: dict[str, int] = {}

    def bring(self, ctx: Context, *, is_last: bool) -> None:
        """Send what is new. TransferFailed when something could not be sent; the rest was tried."""
        now, trouble = dict(self._states()), ""
        for name, state in now.items():
            if self._sent.get(name) != state and (is_last or self._is_ready(name, state)):
                try:
                    if (sent := self._send(ctx, name)) is not None:
                        self._sent[name] = sent
                except PilviError as error:
                    trouble = trouble or f"Failed to upload data to {self._uri}. {told(error)}"
                except (OSError, UnicodeError) as error:  # a name may be no text, and then no key
                    trouble = trouble or f"Failed to read the data for {self._uri}: {error}"
        self._seen = now
        if trouble:
            raise TransferFailed(trouble)

    def _is_ready(self, name: str, state: State) -> bool:
        looks = self._restless[name] = self._restless.get(name, 0) + 1
        if self._seen.get(name) != state and looks < _PATIENCE:
            return False
        del self._restless[name]
        return True

    def _send(self, ctx: Context, name: str) -> State | None:
        """Send one file; gives what it was, or None when it is gone."""
        *parents, last = PurePosixPath(name).parts
        try:
            place = _open_folder(self._base, (*self._parts, *parents))
            try:
                # Not blocking: it may be a pipe by now.
                descriptor = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
            finally:
                os.close(place)
        except (FileNotFoundError, NotADirectoryError):
            return None
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                return None
            send(ctx, f"{self._uri}/{name}", file, found.st_size, self._kms_key)
            return _state(found)

    def _states(self) -> Iterator[tuple[str, State]]:
        try:
            top = _open_folder(self._base, self._parts)
        except OSError:
            return
        try:
            for place, _, names, descriptor in os.fwalk(".", dir_fd=top, follow_symlinks=False):
                for name in names:
                    try:
                        found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                    except OSError:
                        continue
                    if stat.S_ISREG(found.st_mode):
                        yield PurePosixPath(place, name).as_posix(), _state(found)
        except OSError:
            return  # a folder went while it was looked at; the next look finds what there is
        finally:
            os.close(top)


class Syncing:
    """All continuous outputs of a job, by a thread of its own while the programs run."""

    def __init__(self, syncs: Sequence[Sync], as_role: Callable[[], Context], say: Callable[[str], None]) -> None:
        """say: gets words for the job's log when something cannot be sent, once."""
        self._syncs = syncs
        self._as_role = as_role
        self._say = say
        self._is_over = threading.Event()
        self._has_said = False
        self._thread = threading.Thread(target=self._run, name="pilvi-job-sync", daemon=True)
        if syncs:
            self._thread.start()

    def stop(self) -> None:
        """The programs have ended. `finish` comes next."""
        self._is_over.set()
        if self._syncs:
            self._thread.join()

    def finish(self) -> None:
        """Send all that has changed. TransferFailed when that cannot be."""
        if self._syncs:
            self._bring(is_last=True)

    def _run(self) -> None:
        while not self._is_over.wait(LOOK_S):
            try:
                self._bring(is_last=False)
            except (TransferFailed, PilviError) as error:
                if not self._has_said:
                    self._has_said = True
                    self._say(f"Checkpoints and outputs cannot be brought to S3 while the job runs: {error}")
            except Exception:  # the end of the job tries again, and tells
                log.exception("continuous outputs could not be looked at")

    def _bring(self, *, is_last: bool) -> None:
        ctx = self._as_role()
        for sync in self._syncs:
            sync.bring(ctx, is_last=is_last)


def _open_folder(base: Path, parts: Sequence[str]) -> int:
    """A folder below another one, no step of the way being a link."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(base, flags)
    for part in parts:
        try:
            below = os.open(part, flags, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = below
    return descriptor


def _state(found: os.stat_result) -> State:
    return State(found.st_ino, found.st_size, found.st_mtime_ns)
