"""The life of a job: a pure machine, events in, instructions out.

    Queued -> Starting -> Downloading -> Running -> Uploading -> Completed | Failed | Stopped | TimedOut
                  |            |            |           ^
                  +------------+-----> Stopping --------+   (straight to Stopped when the program never ran)

Nothing here waits, writes or calls: the runner writes the new state down and then does what the instruction says.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Status(StrEnum):
    QUEUED = "Queued"
    STARTING = "Starting"
    DOWNLOADING = "Downloading"
    RUNNING = "Running"
    STOPPING = "Stopping"
    UPLOADING = "Uploading"
    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPED = "Stopped"
    TIMED_OUT = "TimedOut"


TERMINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.STOPPED, Status.TIMED_OUT})
SERVER_LOST = "the server stopped while the job was running"
"""The reason of jobs that were running then."""
LIVE = frozenset(Status) - TERMINAL


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a job is."""

    status: Status = Status.QUEUED
    outcome: Status | None = None
    """How it will end, as far as that is known before the end."""
    has_run: bool = False
    """Whether the program was started: only then is there anything to upload."""
    reason: str = ""
    """Why it failed, in the words of who knows."""


class Event(StrEnum):
    BEGIN = "Begin"
    """A place is free."""
    PREPARED = "Prepared"
    DOWNLOADED = "Downloaded"
    EXITED_WELL = "ExitedWell"
    EXITED_BADLY = "ExitedBadly"
    UPLOADED = "Uploaded"
    STOP = "Stop"
    """Somebody asked."""
    DEADLINE = "Deadline"
    """The longest allowed run time is over."""
    BROKE = "Broke"
    """A step could not be done."""
    SERVER_LOST = "ServerLost"
    """The server ended while the job was there."""


class Do(StrEnum):
    """What the runner has to do next."""

    QUEUE = "Queue"
    PREPARE = "Prepare"
    DOWNLOAD = "Download"
    RUN = "Run"
    TERMINATE = "Terminate"
    """Ask the program to end; give up a download."""
    UPLOAD = "Upload"
    CLEAN = "Clean"
    """Let go of everything the job had."""


_S, _E = Status, Event
_FORWARD: dict[tuple[Status, Event], tuple[Status, Do]] = {
    (_S.QUEUED, _E.BEGIN): (_S.STARTING, Do.PREPARE),
    (_S.STARTING, _E.PREPARED): (_S.DOWNLOADING, Do.DOWNLOAD),
    (_S.DOWNLOADING, _E.DOWNLOADED): (_S.RUNNING, Do.RUN),
}


def step(progress: Progress, event: Event, reason: str = "") -> tuple[Progress, tuple[Do, ...]]:
    """The next state and what to do. An event that comes too late, or has no meaning now, changes nothing."""
    status = progress.status
    if status in TERMINAL:
        return progress, ()
    if (forward := _FORWARD.get((status, event))) is not None:
        return replace(progress, status=forward[0], has_run=forward[1] is Do.RUN), (forward[1],)
    if event is _E.SERVER_LOST:
        return (progress, (Do.QUEUE,)) if status is _S.QUEUED else _end(progress, _S.FAILED, reason)
    if event is _E.BROKE:
        # Somebody who asked for the end gets it, even when a step broke on the way there.
        return _end(progress, progress.outcome if status is _S.STOPPING and progress.outcome else _S.FAILED, reason)
    if event is _E.STOP:
        return _stop(progress)
    if event is _E.DEADLINE and status is _S.RUNNING:
        return replace(progress, status=_S.STOPPING, outcome=_S.TIMED_OUT), (Do.TERMINATE,)
    if status is _S.STOPPING and event in (_E.PREPARED, _E.DOWNLOADED):
        return _end(progress, _S.STOPPED)
    if status in (_S.RUNNING, _S.STOPPING) and event in (_E.EXITED_WELL, _E.EXITED_BADLY) and progress.has_run:
        outcome = progress.outcome or (_S.COMPLETED if event is _E.EXITED_WELL else _S.FAILED)
        return replace(progress, status=_S.UPLOADING, outcome=outcome, reason=reason), (Do.UPLOAD,)
    if status is _S.UPLOADING and event is _E.UPLOADED:
        return _end(progress, progress.outcome or _S.FAILED, progress.reason)
    return progress, ()


def _stop(progress: Progress) -> tuple[Progress, tuple[Do, ...]]:
    if progress.status is Status.QUEUED:
        return _end(progress, Status.STOPPED)
    if progress.status in (Status.STARTING, Status.DOWNLOADING, Status.RUNNING):
        return replace(progress, status=Status.STOPPING, outcome=Status.STOPPED), (Do.TERMINATE,)
    if progress.status is Status.UPLOADING and progress.outcome is Status.COMPLETED:
        return replace(progress, outcome=Status.STOPPED), ()
    return progress, ()


def _end(progress: Progress, status: Status, reason: str = "") -> tuple[Progress, tuple[Do, ...]]:
    return replace(progress, status=status, outcome=status, reason=reason), (Do.CLEAN,)
