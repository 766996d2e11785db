"""The queue and the runner: takes jobs in order, a bounded number at a time, and carries out what the state machine says.

    submit -> records (durable) -> queue -> a thread of its own for each running job -> states.step -> records -> action

Every transition is written down before it is acted upon. No thread exists before the first job.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections import deque
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilvi.core.errors import Conflict, NotFound
from pilvi.jobs.changes import Changes
from pilvi.jobs.record import JOBS, OPEN, advanced, new_record
from pilvi.jobs.spec import JobSpec, spec_from_record
from pilvi.jobs.states import SERVER_LOST, Do, Event
from pilvi.jobs.work import Work
from pilvi.storage.records import Change, Delete, Insert, Update

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

log = logging.getLogger("pilvi.jobs")

_CLOSE_S = 10.0


class Jobs:
    """All jobs of a server."""

    def __init__(self, cloud: Cloud, parallel: int | None = None) -> None:
        """parallel: how many run at the same time (default: as many as there are cores, at least two)."""
        self._cloud = cloud
        self._parallel = parallel or max(2, os.cpu_count() or 1)
        self._queue: deque[str] = deque()
        self._working: dict[str, Work] = {}
        self._threads: set[threading.Thread] = set()
        self._changes = Changes()
        self._lock = threading.Lock()
        self._is_closed = False

    # -- for services -------------------------------------------------------------------------------------------------

    def submit(self, spec: JobSpec, *changes: Change) -> None:
        """Take a job, durably, together with the service's own changes (all or none), and run it when its turn comes."""
        record = new_record(spec, self._cloud.clock.now())
        self._cloud.store.write(*changes, Insert(JOBS, spec.id, record), Insert(OPEN, spec.id, {}))
        self._enqueue(spec.id)

    def get(self, id: str) -> dict[str, Any]:
        """The job's record as it stands (pilvi.jobs.record); NotFound when there is none."""
        row = self._cloud.store.get(JOBS, id)
        if row is None:
            raise NotFound(f"Job {id} does not exist.")
        work = self._working.get(id)
        return row.value if work is None else {**row.value, "metrics": work.latest_metrics()}

    def stop(self, id: str, *changes: Change) -> None:
        """Ask a job to end; nothing happens when it has ended already. NotFound when there is none."""
        self._perform(id, self.apply(id, Event.STOP, changes=changes))

    def interrupt(self, id: str) -> None:
        """Take away what a job runs on (a spot instance's reclaim): SIGTERM, its grace, and back into the queue.

        Conflict when the job may not be interrupted or is not on an instance; NotFound when there is none.
        """
        instructions = self.apply(id, Event.INTERRUPT)
        if not instructions:
            raise Conflict(f"Job {id} cannot be interrupted: it is no interruptible job, or it has no instance now.")
        self._perform(id, instructions)

    def points(self, id: str) -> list[dict[str, Any]]:
        """The metric points so far, by time: MetricName, Value, Timestamp; the last 500 of each metric. NotFound for no job."""
        row = self._cloud.store.get(JOBS, id)
        if row is None:
            raise NotFound(f"Job {id} does not exist.")
        work = self._working.get(id)
        return list(row.value.get("points", ())) if work is None else work.points()

    def wait_changes(self, ids: Collection[str], timeout_s: float, after: int | None = None) -> int:
        """Block until one of these jobs has a new state or metric points, time is over, or the server stops (see `is_closed`).

        `seen = jobs.wait_changes(ids, 30, seen)` in a loop, starting with 0, looking at the jobs after each return, misses nothing;
        without `after` only what happens during the call counts.
        """
        return self._changes.wait(ids, timeout_s, after)

    def forgetting(self, id: str) -> Change:
        """The change that forgets an ended job, for the service's own transaction."""
        return Delete(JOBS, id)

    # -- for the app --------------------------------------------------------------------------------------------------

    def recover(self) -> None:
        """After a start: what was running when the server went has failed, what was queued runs; folders are swept."""
        waiting: list[str] = []
        after = ""
        while rows := self._cloud.store.scan(OPEN, after=after):
            after = rows[-1].id
            waiting += [row.id for row in rows if Do.QUEUE in self.apply(row.id, Event.SERVER_LOST, SERVER_LOST)]
        folder = self._cloud.config.data_dir / "jobs"
        if left := list(folder.iterdir()) if folder.is_dir() else []:
            # Beside the start: a killed job may have left many files. No new job can have one of these names.
            threading.Thread(target=_remove_all, args=(left,), daemon=True).start()
        found = [row for id in waiting if (row := self._cloud.store.get(JOBS, id)) is not None]
        for row in sorted(found, key=lambda row: (row.value["created"], row.id)):
            self._enqueue(row.id)

    def reset(self) -> None:
        """End every job and forget it."""
        self._end_all()
        for work in list(self._working.values()):
            work.give_up()
        self._changes.reopen()
        self._is_closed = False

    def close(self) -> None:
        """End what runs: those jobs have failed; the queue stays for the next start."""
        self._end_all()

    # -- for the work -------------------------------------------------------------------------------------------------

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def tell(self, id: str) -> None:
        """The job has new metric points."""
        self._changes.tell(id)

    def apply(
        self, id: str, event: Event, reason: str = "", facts: dict[str, Any] | None = None, changes: tuple[Change, ...] = ()
    ) -> tuple[Do, ...]:
        """Write down what an event does to a job; gives what is to be done."""
        while True:
            row = self._cloud.store.get(JOBS, id)
            if row is None:
                raise NotFound(f"Job {id} does not exist.")
            record, instructions = advanced(row.value, event, self._cloud.clock.now(), reason, facts)
            if record is row.value and not changes:
                return instructions
            done: tuple[Change, ...] = (Delete(OPEN, id),) if "ended" in record and "ended" not in row.value else ()
            try:
                self._cloud.store.write(Update(JOBS, id, record, row.version), *done, *changes)
            except Conflict:
                continue
            self._changes.tell(id, is_end=bool(done))
            return instructions

    # -- private ------------------------------------------------------------------------------------------------------

    def _enqueue(self, id: str) -> None:
        with self._lock:
            self._queue.append(id)
            if not self._is_closed and len(self._threads) < self._parallel:
                thread = threading.Thread(target=self._serve, name="pilvi-job", daemon=True)
                self._threads.add(thread)
                thread.start()

    def _serve(self) -> None:
        """Take jobs until there are none, then end."""
        while True:
            with self._lock:
                if self._is_closed or not self._queue:
                    self._threads.discard(threading.current_thread())
                    return
                id = self._queue.popleft()
            try:
                self._drive(id)
            except Exception:  # the job is told as it stands in the records; other jobs must go on
                log.exception("job %s was lost by its runner", id)

    def _drive(self, id: str) -> None:
        row = self._cloud.store.get(JOBS, id)
        if row is None:
            return
        work = Work(self._cloud, self, spec_from_record(row.value["spec"]), row.value)
        runs_again = False
        self._working[id] = work
        try:
            instructions = deque(self.apply(id, Event.BEGIN))
            while instructions:
                instruction = instructions.popleft()
                runs_again = instruction is Do.QUEUE
                event, reason, facts = work.perform(instruction)
                if event is not None:
                    instructions += self.apply(id, event, reason, facts)
        finally:
            work.clean()
            del self._working[id]
        if runs_again:
            self._enqueue(id)

    def _perform(self, id: str, instructions: tuple[Do, ...]) -> None:
        """What somebody other than the job's own thread has to do."""
        work = self._working.get(id)
        if Do.TERMINATE in instructions and work is not None:
            work.terminate()

    def _end_all(self) -> None:
        with self._lock:
            self._is_closed = True
            self._queue.clear()
            threads = list(self._threads)
        self._changes.close()
        for work in list(self._working.values()):
            work.give_up()
        deadline = self._cloud.clock.time_s() + _CLOSE_S
        for thread in threads:
            # Whoever cannot end in time goes with the process, and the next start tells its job lost.
            thread.join(max(0.0, deadline - self._cloud.clock.time_s()))


def _remove_all(folders: list[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
