"""The life of a job: a pure machine, events in, instructions out.

    Queued -> Starting -> Downloading -> Running -> Uploading -> Completed | Failed | Stopped | TimedOut
                  |            |            |           ^
                  +------------+-----> Stopping --------+   (straight to Stopped when the program never ran)

    a step or the program interrupted -> Interrupted -+
    a failure that is not the job's   -> Restarting  -+-> Starting again, when its turn comes

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
    INTERRUPTED = "Interrupted"
    """What it ran on was taken away; it waits to run again."""
    RESTARTING = "Restarting"
    """It failed for no reason of its own and waits to run again."""
    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPED = "Stopped"
    TIMED_OUT = "TimedOut"
    WAITED_OUT = "WaitedOut"
    """It took longer than its owner is willing to wait."""


TERMINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.STOPPED, Status.TIMED_OUT, Status.WAITED_OUT})
WAITING = frozenset({Status.QUEUED, Status.INTERRUPTED, Status.RESTARTING})
"""In the queue (an interrupted job only after its program has ended)."""
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
    is_interruptible: bool = False
    """Runs again after an interruption, and after a lost server."""
    restarts_left: int = 0
    """How many more times it runs again after a failure that is not its own."""


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
    WAITED = "Waited"
    """The longest allowed time since its creation is over."""
    INTERRUPT = "Interrupt"
    """What it runs on is wanted back."""
    BROKE = "Broke"
    """A step could not be done."""
    FAULT = "Fault"
    """A step could not be done, and the job has no part in that."""
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
    (_S.RESTARTING, _E.BEGIN): (_S.STARTING, Do.PREPARE),
    (_S.INTERRUPTED, _E.BEGIN): (_S.STARTING, Do.PREPARE),
    (_S.STARTING, _E.PREPARED): (_S.DOWNLOADING, Do.DOWNLOAD),
    (_S.DOWNLOADING, _E.DOWNLOADED): (_S.RUNNING, Do.RUN),
}
_BEFORE_END = frozenset({_S.STARTING, _S.DOWNLOADING, _S.RUNNING})


def step(progress: Progress, event: Event, reason: str = "") -> tuple[Progress, tuple[Do, ...]]:
    """The next state and what to do. An event that comes too late, or has no meaning now, changes nothing."""
    status = progress.status
    if status in TERMINAL:
        return progress, ()
    if (forward := _FORWARD.get((status, event))) is not None and not (status is _S.INTERRUPTED and progress.has_run):
        return replace(progress, status=forward[0], has_run=forward[1] is Do.RUN), (forward[1],)
    if event in (_E.SERVER_LOST, _E.FAULT):
        return _lose(progress, event, reason)
    if event is _E.BROKE:
        # Somebody who asked for the end gets it, even when a step broke on the way there.
        return _end(progress, progress.outcome if status is _S.STOPPING and progress.outcome else _S.FAILED, reason)
    if event is _E.STOP:
        return _stop(progress, _S.STOPPED)
    if event is _E.WAITED:
        return _stop(progress, _S.WAITED_OUT) if progress.outcome is None else (progress, ())
    if event is _E.DEADLINE and status is _S.RUNNING:
        return replace(progress, status=_S.STOPPING, outcome=_S.TIMED_OUT), (Do.TERMINATE,)
    if event is _E.INTERRUPT and status in _BEFORE_END and progress.is_interruptible:
        return replace(progress, status=_S.INTERRUPTED), (Do.TERMINATE,)
    if event in (_E.PREPARED, _E.DOWNLOADED) and status is _S.STOPPING:
        return _end(progress, progress.outcome or _S.STOPPED)
    if event in (_E.PREPARED, _E.DOWNLOADED) and status is _S.INTERRUPTED and not progress.has_run:
        return progress, (Do.QUEUE,)
    if event in (_E.EXITED_WELL, _E.EXITED_BADLY) and progress.has_run:
        return _exit(progress, event, reason)
    if status is _S.UPLOADING and event is _E.UPLOADED:
        return _end(progress, progress.outcome or _S.FAILED, progress.reason)
    return progress, ()


def _exit(progress: Progress, event: Event, reason: str) -> tuple[Progress, tuple[Do, ...]]:
    """The program has ended."""
    if progress.status is _S.INTERRUPTED:
        return replace(progress, has_run=False), (Do.QUEUE,)
    if progress.status in (_S.RUNNING, _S.STOPPING):
        outcome = progress.outcome or (_S.COMPLETED if event is _E.EXITED_WELL else _S.FAILED)
        return replace(progress, status=_S.UPLOADING, outcome=outcome, reason=reason), (Do.UPLOAD,)
    return progress, ()


def _lose(progress: Progress, event: Event, reason: str) -> tuple[Progress, tuple[Do, ...]]:
    """What it ran on is gone: it runs again where it may, unless somebody asked for its end."""
    status = progress.status
    if status is _S.STOPPING and progress.outcome:
        return _end(progress, progress.outcome)  # it was to end, and it has
    is_wanted = progress.outcome in (None, _S.COMPLETED)
    if status in WAITING and event is _E.SERVER_LOST:
        return replace(progress, has_run=False), (Do.QUEUE,)
    if progress.is_interruptible and event is _E.SERVER_LOST and is_wanted:
        return replace(progress, status=_S.INTERRUPTED, outcome=None, has_run=False), (Do.QUEUE,)
    if progress.restarts_left > 0 and is_wanted:
        left = progress.restarts_left - 1
        return replace(progress, status=_S.RESTARTING, outcome=None, has_run=False, restarts_left=left), (Do.QUEUE,)
    return _end(progress, _S.FAILED, reason)


def _stop(progress: Progress, outcome: Status) -> tuple[Progress, tuple[Do, ...]]:
    if progress.status in WAITING and not progress.has_run:
        return _end(progress, outcome)
    if progress.status in _BEFORE_END or progress.status is _S.INTERRUPTED:
        return replace(progress, status=_S.STOPPING, outcome=outcome), (Do.TERMINATE,)
    if progress.status is _S.UPLOADING and progress.outcome is _S.COMPLETED and outcome is _S.STOPPED:
        return replace(progress, outcome=outcome), ()
    return progress, ()


def _end(progress: Progress, status: Status, reason: str = "") -> tuple[Progress, tuple[Do, ...]]:
    return replace(progress, status=status, outcome=status, reason=reason), (Do.CLEAN,)
