"""Carries tuning jobs out: one thread for each that runs, none when none does.

    look at the training jobs --> end the hopeless ones --> end the tuning job, or start new trials --> wait for news

Everything a decision needs is in records: the tuning job's, with its seed, and one for each trial, written in the transaction
that starts the trial's training job. So a server that was killed goes on where it stopped: no trial is started twice, and never
more run than the limit allows. What the thread remembers are copies of those records.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from pilvi.core.errors import AlreadyExists, Conflict, NotFound, PilviError
from pilvi.core.principal import Principal
from pilvi.core.service import Context
from pilvi.services.sagemaker import state_note, training_job
from pilvi.services.sagemaker.access import PRINCIPAL
from pilvi.services.sagemaker.job_kind import Record, failure_reason
from pilvi.services.sagemaker.tag import tags_of
from pilvi.services.sagemaker.tuning_check import most_jobs
from pilvi.services.sagemaker.tuning_child import definitions_of, searches_of, training_request
from pilvi.services.sagemaker.tuning_choice import choose, definition_of
from pilvi.services.sagemaker.tuning_rule import hyperband_of, is_satisfied, is_worse_than_median, why_hopeless
from pilvi.services.sagemaker.tuning_trial import NOUN, Objective, Trial, best_of, counters, from_record, key, prefix, to_record
from pilvi.services.sagemaker.tuning_warm_start import TUNING_JOB, prior_of
from pilvi.storage.records import Expect

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
    from pilvi.storage.records import Row

log = logging.getLogger("pilvi.sagemaker")

STATUS = f"{TUNING_JOB}Status"
RUNNING = ("InProgress", "Stopping")
_KEY = "sagemaker-tuning"
_PATIENCE_S = 2.0
"""The longest time without a look: limits of time are kept to within it."""
_CLOSE_S = 10.0
_NOTHING = "No training job of the hyperparameter tuning job reported the objective metric."

Told = tuple[datetime, float]
"""A value of the objective, and when."""

_making = threading.Lock()


class Place(NamedTuple):
    account: str
    region: str
    name: str
    """In lower case, as the records have it."""


class Control:
    """All tuning jobs of a cloud that run."""

    def __init__(self, cloud: Cloud) -> None:
        self.is_closed = False
        self._cloud = cloud
        self._tuners: dict[Place, Tuner] = {}
        self._threads: dict[Place, threading.Thread] = {}
        self._again: set[Place] = set()
        """Asked for while the thread of an earlier bearer of the name was about to end."""
        self._lock = threading.Lock()

    def run(self, place: Place) -> None:
        """Drive a tuning job whose record says InProgress or Stopping."""
        with self._lock:
            if self.is_closed:
                return
            if place in self._threads:
                self._again.add(place)
                return
            thread = threading.Thread(target=self._drive, args=(place,), name="pilvi-tuning", daemon=True)
            self._threads[place] = thread
        thread.start()

    def recover(self) -> None:
        """Go on with what ran when an earlier server stopped."""
        for table in self._cloud.store.tables(service="sagemaker", noun=TUNING_JOB):
            for record in self._cloud.rows(*table).all():
                if record[STATUS] in RUNNING:
                    self.run(Place(table.account, table.region, record[f"{TUNING_JOB}Name"].lower()))

    def close(self) -> None:
        """Let go of every tuning job; their records stay as they are."""
        with self._lock:
            self.is_closed = True
            threads = list(self._threads.values())
        for tuner in list(self._tuners.values()):
            tuner.wake()
        deadline = self._cloud.clock.real_s() + _CLOSE_S
        for thread in threads:
            thread.join(max(0.0, deadline - self._cloud.clock.real_s()))

    def _drive(self, place: Place) -> None:
        try:
            if self._cloud.rows(place.account, place.region, "sagemaker", TUNING_JOB).find(place.name) is not None:
                self._tuners[place] = tuner = Tuner(self._cloud, self, place)
                tuner.drive()
        except Exception:  # its record stays InProgress, and the next start takes it up again
            if not self.is_closed:
                log.exception("the tuning job %s was lost by its thread", place.name)
        finally:
            with self._lock:
                self._tuners.pop(place, None)
                self._threads.pop(place, None)
                is_wanted_again = place in self._again
                self._again.discard(place)
            if is_wanted_again:
                self.run(place)


class Tuner:
    """One tuning job being carried out."""

    def __init__(self, cloud: Cloud, control: Control, place: Place) -> None:
        self._control = control
        self._name = place.name
        record = cloud.rows(place.account, place.region, "sagemaker", TUNING_JOB).get(place.name)
        arn = record[f"{TUNING_JOB}Arn"]
        principal = Principal("service", place.account, "", PRINCIPAL, PRINCIPAL, source_arn=arn)
        self._ctx = Context(cloud, principal=principal, account=place.account, region=place.region, service="sagemaker")
        self._rows = self._ctx.records(TUNING_JOB)
        self._config = record[f"{TUNING_JOB}Config"]
        self._definitions = definitions_of(record)
        self._searches = searches_of(record)
        self._objectives = [search.objective for search in self._searches]
        self._prior = prior_of(self._ctx, record)
        self._is_history_needed = self._config["Strategy"] == "Hyperband" or self._config["TrainingJobEarlyStoppingType"] == "Auto"
        self._trials = {
            trial.number: trial for row in self._ctx.records(NOUN).all(prefix=prefix(self._name)) for trial in (from_record(row),)
        }
        self._jobs: dict[int, str] = {}
        """Of trials that run: the job's id."""
        self._told: dict[int, list[Told]] = {}
        """Of trials that run: their whole objective, longer than a job's record keeps."""
        self._ending: set[int] = set()
        """Trials that were told to end before their time."""

    def drive(self) -> None:
        seen = 0
        while not self._is_closed():
            row = self._rows.row(self._name)
            if row is None or row.value[STATUS] not in RUNNING:
                return
            self._look()
            try:
                if self._decide(row):
                    return
            except Conflict:
                continue  # somebody asked for the end in between
            seen = self._ctx.jobs.wait_changes(list(self._jobs.values()), self._pause_s(row.value), seen)

    def wake(self) -> None:
        """Have it look whether the server stops."""
        for id in list(self._jobs.values())[:1]:
            self._ctx.jobs.tell(id)

    # -- looking ------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Bring what is known of running trials up to date; write down those that have ended."""
        ended = []
        for trial in self._live():
            self._trials[trial.number] = now = self._seen(trial)
            if not now.is_live:
                ended.append(self._ctx.records(NOUN).replacement(key(self._name, now.number), to_record(self._kept(now))))
                self._jobs.pop(now.number, None)
                self._told.pop(now.number, None)
        if ended:
            self._ctx.write(*ended)

    def _seen(self, trial: Trial) -> Trial:
        now = seen(self._ctx, trial, self._objectives[trial.definition], self._jobs, trial.number in self._ending)
        if not self._is_history_needed or (id := self._jobs.get(trial.number)) is None:
            return now
        self._told[trial.number] = told = joined(
            self._told.get(trial.number, []), told_by(self._ctx, id, self._objectives[trial.definition].metric)
        )
        return _with(now, points=[value for _, value in told])

    def _kept(self, trial: Trial) -> Trial:
        """As it is written down: without the history where nobody will ask for it."""
        return trial if self._is_history_needed else shortened(trial)

    def _live(self) -> list[Trial]:
        return [trial for trial in self._trials.values() if trial.is_live]

    # -- deciding -----------------------------------------------------------------------------------------------------

    def _decide(self, row: Row) -> bool:
        """Take the next steps; whether the tuning job has ended."""
        record = row.value
        closing = record.get("_closing") or self._why_close(record)
        if closing is not None:
            if record.get("_closing") != closing and self._live():
                self._rows.update(self._name, lambda value: value | {"_closing": closing})
            self._stop(self._live())
            if self._live():
                return False
            self._finish(closing)
            return True
        self._stop([trial for trial in self._live() if self._is_over(trial)])
        limits = self._config["ResourceLimits"]
        most = self._most()
        while len(self._live()) < limits["MaxParallelTrainingJobs"] and len(self._trials) < most and not self._is_closed():
            if (reason := self._start(row)) is not None:
                self._rows.update(self._name, lambda value: value | {"_closing": {"status": "Failed", "reason": reason}})
                raise Conflict(reason)
        return False

    def _why_close(self, record: Record) -> Record | None:
        """How the tuning job ends from here; None when it goes on."""
        trials = list(self._trials.values())
        if record[STATUS] == "Stopping":
            return {"status": "Stopped", "reason": None}
        if (reason := why_hopeless(trials, self._most())) is not None:
            return {"status": "Failed", "reason": reason}
        criteria = self._config.get("TuningJobCompletionCriteria") or {}
        if is_satisfied(criteria, trials, self._objectives, best_of(trials, self._objectives)):
            return {"status": "Completed", "reason": None}
        if self._left_s(record) <= 0 or (len(trials) >= self._most() and not self._live()):
            return {"status": "Completed", "reason": None}
        return None

    def _is_over(self, trial: Trial) -> bool:
        """Whether a running trial is to end before its time."""
        others, objective = list(self._trials.values()), self._objectives[trial.definition]
        if self._config["Strategy"] == "Hyperband":
            return hyperband_of(self._config).is_over(trial, others, objective)
        return self._config["TrainingJobEarlyStoppingType"] == "Auto" and is_worse_than_median(trial, others, objective)

    def _most(self) -> int:
        return most_jobs(self._config)

    def _left_s(self, record: Record) -> float:
        longest = self._config["ResourceLimits"].get("MaxRuntimeInSeconds")
        return math.inf if longest is None else record["CreationTime"].timestamp() + longest - self._ctx.clock.time_s()

    def _pause_s(self, record: Record) -> float:
        return max(0.0, min(_PATIENCE_S, self._left_s(record)))

    # -- doing --------------------------------------------------------------------------------------------------------

    def _start(self, row: Row) -> str | None:
        """Start the next trial, unless the tuning job's record has changed since it was read (Conflict). Gives why it could not be."""
        number, trials, strategy = len(self._trials) + 1, list(self._trials.values()), self._config["Strategy"]
        try:
            values = choose(strategy, self._searches, number, row.value["_seed"], trials, self._prior)
        except PilviError as error:
            return error.message
        index = definition_of(strategy, self._searches, number)
        name = f"{row.value[f'{TUNING_JOB}Name']}-{number:03d}-{self._ctx.ids.hex(8)}"
        arn = self._ctx.arn(f"training-job/{name.lower()}")
        request = training_request(name, self._definitions[index], self._searches[index], values)
        request["Tags"] = tags_of(self._ctx, row.value[f"{TUNING_JOB}Arn"])
        trial = Trial(number, index, values, name, arn, self._ctx.clock.now(), "InProgress")
        changes = (
            self._ctx.records(NOUN).insertion(key(self._name, number), to_record(trial)),
            Expect(self._rows.table, row.id, row.version),
        )
        try:
            training_job.start(self._ctx, request, *changes, TuningJobArn=row.value[f"{TUNING_JOB}Arn"])
        except (Conflict, AlreadyExists):
            raise Conflict(name) from None
        except PilviError as error:
            return error.message
        self._trials[number] = self._seen(trial)
        return None

    def _stop(self, trials: Sequence[Trial]) -> None:
        for trial in trials:
            self._ending.add(trial.number)
            if trial.number in self._jobs and trial.status != "Stopping":
                with contextlib.suppress(NotFound):  # it ended, and was deleted, since it was looked at
                    self._ctx.jobs.stop(self._jobs[trial.number])
                self._trials[trial.number] = self._seen(trial)

    def _finish(self, closing: Record) -> None:
        now = self._ctx.clock.now()
        trials = list(self._trials.values())
        reason = closing["reason"]
        if closing["status"] == "Completed" and trials and not any(trial.result is not None for trial in trials):
            closing, reason = {"status": "Failed"}, why_hopeless(trials, 1) or _NOTHING
        end = {STATUS: closing["status"], "FailureReason": reason, "HyperParameterTuningEndTime": now, "LastModifiedTime": now}
        ctx = self._ctx
        self._rows.update(
            self._name,
            lambda value: value | end | counters(trials),
            lambda value: [state_note.noting(ctx.cloud, ctx.account, ctx.region, TUNING_JOB, value)],
        )
        state_note.wake(ctx.cloud, ctx.account, ctx.region)

    def _is_closed(self) -> bool:
        return self._control.is_closed or bool(self._ctx.jobs.is_closed)


def seen(ctx: Context, trial: Trial, objective: Objective, jobs: dict[int, str], is_stopped_early: bool = False) -> Trial:
    """A trial that ran when it was written down, as its training job stands now. jobs: ids by number, filled as they are found."""
    try:
        if trial.number not in jobs:
            jobs[trial.number] = ctx.records("TrainingJob").get(trial.job_name.lower())["_job"]
        job = ctx.jobs.get(jobs[trial.number])
    except NotFound:
        # Its training job was deleted, which only happens to jobs that have ended.
        jobs.pop(trial.number, None)
        return _with(trial, status="Stopped", ended=ctx.clock.now())
    return _with(
        trial,
        status=training_job.KIND.status(job).primary,
        started=job.get("started"),
        ended=job.get("ended"),
        reason=failure_reason(job),
        points=[value for _, value in told_by(ctx, jobs[trial.number], objective.metric)],
        is_stopped_early=is_stopped_early,
    )


def told_by(ctx: Context, id: str, metric: str) -> list[Told]:
    """Every value of the objective that the job has told, as far as its record keeps them."""
    points = ctx.jobs.points(id)
    return [
        (point["Timestamp"], point["Value"]) for point in points if point["MetricName"] == metric and math.isfinite(point["Value"])
    ]


def joined(before: list[Told], now: list[Told]) -> list[Told]:
    """The whole history: what was known, and what is new of a window that moves on along it."""
    if not before or now[:1] == before[:1]:
        return now
    for shared in range(min(len(before), len(now)), 0, -1):
        if before[-shared:] == now[:shared]:
            return before + now[shared:]
    return before + now


def shortened(trial: Trial) -> Trial:
    return _with(trial, points=list(trial.points[-1:]))


def _with(trial: Trial, **changes: Any) -> Trial:
    return Trial(**{**to_record(trial), **changes})


def control_of(cloud: Cloud) -> Control:
    """The control of a cloud; the first to ask makes it, and tuning jobs that ran before a restart go on. For threads."""
    with _making:
        found = cloud.memory.get(_KEY)
        if isinstance(found, Control) and not found.is_closed:
            return found
        cloud.memory[_KEY] = control = Control(cloud)
        control.recover()
        return control


def close_control(cloud: Cloud) -> None:
    """The server stops."""
    with _making:
        found = cloud.memory.get(_KEY)
    if isinstance(found, Control):
        found.close()
