"""The runner: takes jobs, durably, and carries out what the state machine says when the queue has a place for them.

    submit -> records (durable) -> queue (placement) -> a thread for each running job -> states.step -> records -> action

Every transition is written down before it is acted upon. No thread exists before the first job.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pilvi.core.errors import Conflict, NotFound
from pilvi.jobs.changes import Changes
from pilvi.jobs.host import remove_folder
from pilvi.jobs.meter import metering
from pilvi.jobs.placement import Grant, Wishes
from pilvi.jobs.pools import Pools
from pilvi.jobs.queue import Queue
from pilvi.jobs.record import JOBS, OPEN, advanced, new_record
from pilvi.jobs.spec import JobSpec, spec_from_record
from pilvi.jobs.states import SERVER_LOST, WAITING, Do, Event, Status
from pilvi.jobs.work import INTERNAL, Work, last_seen
from pilvi.storage.records import Change, Delete, Insert, Update

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

log = logging.getLogger("pilvi.jobs")

T = TypeVar("T")

_CLOSE_S = 10.0
RETRY_S = 5.0
"""How soon what the store refused is tried again."""


class Jobs:
    """All jobs of a server."""

    def __init__(self, cloud: Cloud, parallel: int | None = None) -> None:
        """parallel: how many of no particular wish run at the same time (default: as many as there are cores, at least two)."""
        self._cloud = cloud
        self._working: dict[str, Work] = {}
        self._changes = Changes()
        self._queue = Queue(
            cloud.job_compute.nodes, self._drive, self._refuse, self._give_up_waiting, cloud.clock.real_s, parallel, self._end_pool
        )
        self._pools = Pools(cloud.config.data_dir / "pools", cloud.clock, self._note_pool, self._queue.let_go)
        self._inherited: dict[str, str] = {}
        """Job -> the job whose warm pool it took over."""
        self._is_closed = False
        self._closing = threading.Event()

    # -- for services -------------------------------------------------------------------------------------------------

    def submit(self, spec: JobSpec, *changes: Change) -> None:
        """Take a job, durably, together with the service's own changes (all or none), and run it when its turn comes."""
        record = new_record(spec, self._cloud.clock.now())
        self._cloud.store.write(*changes, Insert(JOBS, spec.id, record), Insert(OPEN, spec.id, {}), *self._telling(record, ""))
        self._wake(record)
        pool = self._pools.claim(spec.pool_key, spec.name) if spec.pool_key else None
        if pool is not None:
            self._inherited[spec.id] = pool
            if self._queue.take_over(pool, spec.id, wishes_of(spec), _until(spec, record)):
                return
        self._enqueue(spec, record)

    def get(self, id: str) -> dict[str, Any]:
        """The job's record as it stands (pilvi.jobs.record); NotFound when there is none."""
        is_held = self._pools.holds(id)  # asked first: the end of a pool is written down before it is no longer held
        row = self._cloud.store.get(JOBS, id)
        if row is None:
            raise NotFound(f"Job {id} does not exist.")
        value = row.value
        if "pool" in value:
            value["pool"]["is_held"] = is_held
        if (work := self._working.get(id)) is not None:
            return {**value, "metrics": work.latest_metrics()}
        reason = self._queue.reason(id) if Status(value["status"]) in WAITING else ""
        return {**value, "waiting_reason": reason} if reason else value

    def waiting_reason(self, id: str) -> str:
        """Why a job waits for its turn; '' when it does not wait."""
        return self._queue.reason(id)

    def queue_facts(self) -> dict[str, Any]:
        """How many jobs are `running` and `waiting`, and the `reason` why the first of these waits."""
        return self._queue.facts()

    def stop(self, id: str, *changes: Change) -> None:
        """Ask a job to end; nothing happens when it has ended already. NotFound when there is none."""
        self._perform(id, self.apply(id, Event.STOP, changes=changes))
        self._queue.remove(id)

    def interrupt(self, id: str) -> None:
        """Take away what a job runs on (a spot instance's reclaim): SIGTERM, its grace, and back into the queue.

        Conflict when the job may not be interrupted or is not on an instance; NotFound when there is none.
        """
        instructions = self.apply(id, Event.INTERRUPT)
        if not instructions:
            raise Conflict(f"Job {id} cannot be interrupted: it is no interruptible job, or it has no instance now.")
        self._perform(id, instructions)

    def keep_alive(self, id: str, seconds: int) -> None:
        """Change how long the job's place is kept; 0 ends its pool. Conflict when it has none any more, NotFound for no job."""
        row = self._cloud.store.get(JOBS, id)
        if row is None:
            raise NotFound(f"Job {id} does not exist.")
        if self._pools.change(id, seconds):
            return
        if "ended" in row.value:
            raise Conflict(f"Job {id} has no warm pool.")
        self._note(id, lambda record: {**record, "keep_alive_s": seconds})

    def points(self, id: str) -> list[dict[str, Any]]:
        """The metric points so far, by time: MetricName, Value, Timestamp; the last 500 of each metric (of an ended
        job the last 2,000 in all). NotFound for no job."""
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
            waiting += [row.id for row in rows if Do.QUEUE in self._lose(row.id)]
        folders = [folder for name in ("jobs", "pools") if (folder := self._cloud.config.data_dir / name).is_dir()]
        if left := [_set_aside(path) for folder in folders for path in folder.iterdir()]:
            # Beside the start: a killed job may have left many files.
            threading.Thread(target=_remove_all, args=(left,), daemon=True).start()
        found = [row for id in waiting if (row := self._cloud.store.get(JOBS, id)) is not None]
        for row in sorted(found, key=lambda row: (row.value["created"], row.id)):
            self._enqueue(spec_from_record(row.value["spec"]), row.value)

    def reset(self) -> None:
        """End every job and forget it."""
        self._end_all()
        for work in list(self._working.values()):
            work.give_up()
        self._changes.reopen()
        self._is_closed = False
        self._closing.clear()
        self._queue.open()

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
        self,
        id: str,
        event: Event,
        reason: str = "",
        facts: dict[str, Any] | None = None,
        changes: tuple[Change, ...] = (),
        at: datetime | None = None,
    ) -> tuple[Do, ...]:
        """Write down what an event does to a job; gives what is to be done. at: when it was, if that is over."""
        while True:
            row = self._cloud.store.get(JOBS, id)
            if row is None:
                raise NotFound(f"Job {id} does not exist.")
            now = self._cloud.clock.now()
            then = now if at is None else min(now, max(at, row.value["modified"]))
            record, instructions = advanced(row.value, event, then, reason, facts)
            if record is row.value and not changes:
                return instructions
            is_end = "ended" in record and "ended" not in row.value
            done: tuple[Change, ...] = (Delete(OPEN, id), *metering(self._cloud.store, record)) if is_end else ()
            told = self._telling(record, row.value["status"])
            try:
                self._cloud.store.write(Update(JOBS, id, record, row.version), *done, *changes, *told)
            except Conflict:
                continue
            self._changes.tell(id, is_end=is_end)
            if told:
                self._wake(record)
            return instructions

    # -- private ------------------------------------------------------------------------------------------------------

    def _telling(self, record: dict[str, Any], before: str) -> tuple[Change, ...]:
        """What must be written for its service to hear of a new state."""
        spec = record["spec"]
        if not spec.get("told_to") or record["status"] == before:
            return ()
        job = {name: value for name, value in record.items() if name != "points"}
        return (self._cloud.events.recording(spec["told_to"], f"{spec['account']}:{spec['region']}", spec["id"], {"job": job}),)

    def _wake(self, record: dict[str, Any]) -> None:
        spec = record["spec"]
        if spec.get("told_to"):
            self._cloud.events.wake(spec["told_to"], f"{spec['account']}:{spec['region']}")

    def _lose(self, id: str) -> tuple[Do, ...]:
        """Tell what became of a job when its server died: nobody pays for the time until the next start."""
        return self.apply(id, Event.SERVER_LOST, SERVER_LOST, at=last_seen(self._cloud.config.data_dir, id))

    def _enqueue(self, spec: JobSpec, record: dict[str, Any]) -> None:
        self._queue.add(spec.id, wishes_of(spec), _until(spec, record))

    def _refuse(self, id: str, trouble: str) -> None:
        """There will never be a place for it."""
        self._surely(lambda: self.apply(id, Event.BEGIN))
        self._surely(lambda: self.apply(id, Event.BROKE, trouble))

    def _give_up_waiting(self, id: str) -> None:
        record = self.get(id)
        most, waited = record["spec"].get("max_wait_s"), self._cloud.clock.time_s() - record["created"].timestamp()
        self._perform(id, self.apply(id, Event.STOP if most is None or waited < most else Event.WAITED))
        self._queue.remove(id)

    def _drive(self, id: str, grants: tuple[Grant, ...]) -> bool:
        """Carry out a job from its beginning to its end; whether it is to run again."""
        try:
            return self._carry_out(id, grants)
        except NotFound:
            return False  # it was forgotten meanwhile
        except Exception:  # the job must end, and honestly
            if self._is_closed:
                raise
            log.exception("job %s was lost by its runner", id)
            return Do.QUEUE in self._surely(lambda: self.apply(id, Event.FAULT, INTERNAL, {"is_internal": True}))

    def _carry_out(self, id: str, grants: tuple[Grant, ...]) -> bool:
        row = self._surely(lambda: self._cloud.store.get(JOBS, id))
        if row is None:
            return False
        spec = spec_from_record(row.value["spec"])
        pool = self._inherited.pop(id, None)
        work = Work(self._cloud, self, spec, row.value, grants, cache=self._pools.folder(pool) if pool else None)
        runs_again = is_kept = False
        self._working[id] = work
        try:
            instructions = deque(self._surely(lambda: self.apply(id, Event.BEGIN)))
            while instructions:
                instruction = instructions.popleft()
                runs_again = instruction is Do.QUEUE
                event, reason, facts = work.perform(instruction)
                if event is Event.UPLOADED and spec.keep_alive_s and not self._is_closed:
                    is_kept = self._keep_warm(spec)
                if event is not None:
                    instructions += self._surely(partial(self.apply, id, event, reason, facts))
        finally:
            work.clean(self._pools.folder(id) if is_kept else None)
            del self._working[id]
            if pool is not None:
                remove_folder(self._pools.folder(pool))
            if is_kept and not self._pools.holds(id) and id not in self._inherited.values():
                remove_folder(self._pools.folder(id))
        return runs_again

    def _surely(self, act: Callable[[], T]) -> T:
        """Do it as soon as the store can. While it cannot, a job stands still: left alone it would never end before the next start."""
        while True:
            try:
                return act()
            except NotFound:
                raise
            except Exception:
                if self._is_closed:
                    raise
                log.exception("the state of a job could not be written down; it is tried again")
                self._closing.wait(RETRY_S)

    def _keep_warm(self, spec: JobSpec) -> bool:
        """Its end is next: whoever sees it ended finds its pool. Whether it has one."""
        record = self.get(spec.id)
        seconds = record.get("keep_alive_s", spec.keep_alive_s)
        if record["outcome"] not in (Status.COMPLETED, Status.STOPPED) or not seconds:
            return False
        self._queue.hold(spec.id)
        self._pools.keep(spec.id, spec.pool_key, seconds)
        return True

    def _end_pool(self, id: str) -> None:
        self._pools.end(id)

    def _note_pool(self, id: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._note(id, lambda record: {**record, "pool": change(record.get("pool", {}))})

    def _note(self, id: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Write something down about a job that is no event of its life."""
        while (row := self._cloud.store.get(JOBS, id)) is not None:
            try:
                self._cloud.store.write(Update(JOBS, id, change(row.value), row.version))
            except Conflict:
                continue
            self._changes.tell(id)
            return

    def _perform(self, id: str, instructions: tuple[Do, ...]) -> None:
        """What somebody other than the job's own thread has to do."""
        work = self._working.get(id)
        if Do.TERMINATE in instructions and work is not None:
            work.terminate()

    def _end_all(self) -> None:
        self._is_closed = True
        self._closing.set()
        self._queue.close()
        self._pools.end_all()
        self._changes.close()
        for work in list(self._working.values()):
            work.give_up()
        # Whoever cannot end in time goes with the process, and the next start tells its job lost.
        self._queue.join(_CLOSE_S)


def _until(spec: JobSpec, record: dict[str, Any]) -> float | None:
    """When it is not worth waiting any more."""
    limits = [spec.max_wait_s, None if "started" in record else spec.max_pending_s]
    found = [limit for limit in limits if limit is not None]
    return float(record["created"].timestamp() + min(found)) if found else None


def wishes_of(spec: JobSpec) -> Wishes:
    """What each member needs. A limit that stands by itself is a wish for that much memory."""
    found = tuple(member.resources or spec.resources for member in spec.all_members)
    if spec.memory_mib is None:
        return found
    return tuple(wish if wish.memory_mib else replace(wish, memory_mib=spec.memory_mib) for wish in found)


def _set_aside(folder: Path) -> Path:
    """Out of the way of the same job, which may run again, and of what an earlier start set aside and had no time to remove."""
    if folder.name.startswith("left-"):
        return folder
    return folder.rename(folder.with_name(f"left-{folder.name}-{os.urandom(4).hex()}"))


def _remove_all(folders: list[Path]) -> None:
    for folder in folders:
        remove_folder(folder)
