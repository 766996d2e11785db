"""The state machine of jobs: paths by example, promises by property."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilvi.jobs.states import TERMINAL, Do, Event, Progress, Status, step

S, E = Status, Event


def walk(*events: Event, progress: Progress = Progress()) -> tuple[list[Status], list[Do]]:  # noqa: B008 - it is frozen
    """The states an event sequence leads through, and all instructions."""
    path, done = [S.QUEUED], []
    for event in events:
        progress, instructions = step(progress, event, "why")
        done += instructions
        if progress.status is not path[-1]:
            path.append(progress.status)
    return path, done


TO_RUN = (E.BEGIN, E.PREPARED, E.DOWNLOADED)
WAY = [S.QUEUED, S.STARTING, S.DOWNLOADING, S.RUNNING]
WORK = [Do.PREPARE, Do.DOWNLOAD, Do.RUN]


@pytest.mark.parametrize(
    ("events", "path", "instructions"),
    [
        ((*TO_RUN, E.EXITED_WELL, E.UPLOADED), [*WAY, S.UPLOADING, S.COMPLETED], [*WORK, Do.UPLOAD, Do.CLEAN]),
        ((*TO_RUN, E.EXITED_BADLY, E.UPLOADED), [*WAY, S.UPLOADING, S.FAILED], [*WORK, Do.UPLOAD, Do.CLEAN]),
        (
            (*TO_RUN, E.STOP, E.EXITED_BADLY, E.UPLOADED),
            [*WAY, S.STOPPING, S.UPLOADING, S.STOPPED],
            [*WORK, Do.TERMINATE, Do.UPLOAD, Do.CLEAN],
        ),
        (
            (*TO_RUN, E.DEADLINE, E.STOP, E.EXITED_WELL, E.UPLOADED),
            [*WAY, S.STOPPING, S.UPLOADING, S.TIMED_OUT],
            [*WORK, Do.TERMINATE, Do.UPLOAD, Do.CLEAN],
        ),
        ((E.STOP, E.BEGIN), [S.QUEUED, S.STOPPED], [Do.CLEAN]),
        ((E.BEGIN, E.STOP, E.PREPARED), [S.QUEUED, S.STARTING, S.STOPPING, S.STOPPED], [Do.PREPARE, Do.TERMINATE, Do.CLEAN]),
        ((*TO_RUN[:2], E.BROKE), [*WAY[:3], S.FAILED], [*WORK[:2], Do.CLEAN]),
        ((*TO_RUN[:2], E.STOP, E.BROKE), [*WAY[:3], S.STOPPING, S.STOPPED], [*WORK[:2], Do.TERMINATE, Do.CLEAN]),
        ((*TO_RUN, E.EXITED_WELL, E.STOP, E.UPLOADED), [*WAY, S.UPLOADING, S.STOPPED], [*WORK, Do.UPLOAD, Do.CLEAN]),
        ((*TO_RUN, E.SERVER_LOST), [*WAY, S.FAILED], [*WORK, Do.CLEAN]),
        ((E.SERVER_LOST,), [S.QUEUED], [Do.QUEUE]),
    ],
)
def test_step_follows_the_life_of_a_job(events: tuple[Event, ...], path: list[Status], instructions: list[Do]) -> None:
    assert walk(*events) == (path, instructions)


SPOT = Progress(is_interruptible=True)
RETRY = Progress(restarts_left=1)


@pytest.mark.parametrize(
    ("progress", "events", "path", "instructions"),
    [
        (
            SPOT,
            (*TO_RUN, E.INTERRUPT, E.BEGIN, E.EXITED_WELL, E.BEGIN, *TO_RUN[1:], E.EXITED_WELL, E.UPLOADED),
            [*WAY, S.INTERRUPTED, *WAY[1:], S.UPLOADING, S.COMPLETED],
            [*WORK, Do.TERMINATE, Do.QUEUE, *WORK, Do.UPLOAD, Do.CLEAN],
        ),
        (
            SPOT,
            (E.BEGIN, E.INTERRUPT, E.PREPARED, E.STOP),
            [*WAY[:2], S.INTERRUPTED, S.STOPPED],
            [Do.PREPARE, Do.TERMINATE, Do.QUEUE, Do.CLEAN],
        ),
        (
            SPOT,
            (*TO_RUN, E.INTERRUPT, E.STOP, E.EXITED_BADLY, E.UPLOADED),
            [*WAY, S.INTERRUPTED, S.STOPPING, S.UPLOADING, S.STOPPED],
            [*WORK, Do.TERMINATE, Do.TERMINATE, Do.UPLOAD, Do.CLEAN],
        ),
        (
            SPOT,
            (*TO_RUN, E.SERVER_LOST, E.SERVER_LOST, E.BEGIN),
            [*WAY, S.INTERRUPTED, S.STARTING],
            [*WORK, Do.QUEUE, Do.QUEUE, Do.PREPARE],
        ),
        (SPOT, (*TO_RUN, E.STOP, E.SERVER_LOST), [*WAY, S.STOPPING, S.STOPPED], [*WORK, Do.TERMINATE, Do.CLEAN]),
        (RETRY, (*TO_RUN, E.STOP, E.FAULT), [*WAY, S.STOPPING, S.STOPPED], [*WORK, Do.TERMINATE, Do.CLEAN]),
        (Progress(), (*TO_RUN, E.DEADLINE, E.SERVER_LOST), [*WAY, S.STOPPING, S.TIMED_OUT], [*WORK, Do.TERMINATE, Do.CLEAN]),
        (SPOT, (*TO_RUN, E.EXITED_WELL, E.INTERRUPT, E.UPLOADED), [*WAY, S.UPLOADING, S.COMPLETED], [*WORK, Do.UPLOAD, Do.CLEAN]),
        (Progress(), (*TO_RUN, E.INTERRUPT), WAY, WORK),
        (SPOT, (E.WAITED,), [S.QUEUED, S.WAITED_OUT], [Do.CLEAN]),
        (
            SPOT,
            (*TO_RUN, E.WAITED, E.EXITED_BADLY, E.UPLOADED),
            [*WAY, S.STOPPING, S.UPLOADING, S.WAITED_OUT],
            [*WORK, Do.TERMINATE, Do.UPLOAD, Do.CLEAN],
        ),
        (
            RETRY,
            (*TO_RUN[:2], E.FAULT, *TO_RUN, E.SERVER_LOST),
            [*WAY[:3], S.RESTARTING, *WAY[1:], S.FAILED],
            [*WORK[:2], Do.QUEUE, *WORK, Do.CLEAN],
        ),
        (RETRY, (*TO_RUN, E.EXITED_BADLY, E.FAULT), [*WAY, S.UPLOADING, S.FAILED], [*WORK, Do.UPLOAD, Do.CLEAN]),
        (RETRY, (*TO_RUN[:2], E.BROKE), [*WAY[:3], S.FAILED], [*WORK[:2], Do.CLEAN]),
    ],
)
def test_step_runs_again_what_may(
    progress: Progress, events: tuple[Event, ...], path: list[Status], instructions: list[Do]
) -> None:
    assert walk(*events, progress=progress) == (path, instructions)


@given(st.lists(st.sampled_from(Event), max_size=30))
def test_step_keeps_its_promises(events: list[Event]) -> None:
    progress, launches, cleanings, uploads = Progress(), 0, 0, 0
    for event in events:
        before = progress
        progress, instructions = step(progress, event, "why")
        launches += instructions.count(Do.RUN)
        cleanings += instructions.count(Do.CLEAN)
        uploads += instructions.count(Do.UPLOAD)
        if before.status in TERMINAL:
            assert (progress, instructions) == (before, ()), "an ended job stays as it is"
        assert before.outcome in (None, progress.outcome) or progress.status in (S.FAILED, S.UPLOADING, S.STOPPED)
        assert progress.status is not S.COMPLETED or progress.has_run
        assert len(instructions) <= 1
    assert launches <= 1, "a program is started once"
    assert uploads <= launches, "only what ran is uploaded"
    assert cleanings == (progress.status in TERMINAL), "whoever ends is cleaned up after, once"


@given(st.lists(st.sampled_from(Event), max_size=12))
def test_every_job_can_be_brought_to_its_end(events: list[Event]) -> None:
    progress = Progress()
    for event in [*events, E.STOP, E.PREPARED, E.DOWNLOADED, E.EXITED_BADLY, E.UPLOADED]:
        progress, _ = step(progress, event)
    assert progress.status in TERMINAL
