"""One trial of a tuning job: the values it tries, and what became of its training job. Pure: records in, views and counts out.

A trial is written in the transaction that starts its training job, and once more when that has ended. From then on it says
everything itself; until then its job is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pilvi.services.sagemaker.job_kind import Record

NOUN = "HyperParameterTuningTrial"
LIVE = ("InProgress", "Stopping")


@dataclass(frozen=True, slots=True)
class Objective:
    """What is measured, and which way is better."""

    metric: str
    is_maximized: bool

    def is_better(self, value: float, than: float) -> bool:
        return value > than if self.is_maximized else value < than

    @property
    def kind(self) -> str:
        return "Maximize" if self.is_maximized else "Minimize"


@dataclass(frozen=True, slots=True)
class Trial:
    number: int
    """From 1."""
    definition: int
    """Which of the tuning job's training job definitions."""
    values: Mapping[str, str]
    """What it tries, as strings."""
    job_name: str
    job_arn: str
    created: datetime
    status: str
    """InProgress, Stopping, Completed, Failed or Stopped, as the training job says it."""
    started: datetime | None = None
    ended: datetime | None = None
    reason: str | None = None
    points: Sequence[float] = field(default=())
    """The objective, each time it was told."""
    is_stopped_early: bool = False

    @property
    def is_live(self) -> bool:
        return self.status in LIVE

    @property
    def objective(self) -> float | None:
        """The latest value, which is the one that counts."""
        return self.points[-1] if self.points else None

    @property
    def objective_status(self) -> str:
        if self.is_live:
            return "Pending"
        return "Succeeded" if self.status != "Failed" and self.points else "Failed"

    @property
    def result(self) -> float | None:
        """The value the search learns from: none of a failed or a running trial."""
        return self.objective if self.objective_status == "Succeeded" else None

    @property
    def is_retryable(self) -> bool:
        return self.status == "Failed" and (self.reason or "").startswith("InternalServerError")


def key(tuning_job: str, number: int) -> str:
    """The id of a trial's row."""
    return f"{prefix(tuning_job)}{number:05d}"


def prefix(tuning_job: str) -> str:
    return f"{tuning_job.lower()}/"


def to_record(trial: Trial) -> Record:
    return {
        "number": trial.number,
        "definition": trial.definition,
        "values": dict(trial.values),
        "job_name": trial.job_name,
        "job_arn": trial.job_arn,
        "created": trial.created,
        "status": trial.status,
        "started": trial.started,
        "ended": trial.ended,
        "reason": trial.reason,
        "points": list(trial.points),
        "is_stopped_early": trial.is_stopped_early,
    }


def from_record(record: Mapping[str, Any]) -> Trial:
    return Trial(**record)


def best_of(trials: Sequence[Trial], objectives: Sequence[Objective]) -> Trial | None:
    """The trial with the best objective; the earlier of equals."""
    found: Trial | None = None
    best: float | None = None
    for trial in trials:
        value = trial.result
        if value is not None and (best is None or objectives[trial.definition].is_better(value, best)):
            found, best = trial, value
    return found


def counters(trials: Sequence[Trial]) -> dict[str, dict[str, int]]:
    """TrainingJobStatusCounters and ObjectiveStatusCounters."""
    statuses = dict.fromkeys(("Completed", "InProgress", "RetryableError", "NonRetryableError", "Stopped"), 0)
    found = dict.fromkeys(("Succeeded", "Pending", "Failed"), 0)
    for trial in trials:
        found[trial.objective_status] += 1
        if trial.is_live:
            statuses["InProgress"] += 1
        elif trial.status == "Failed":
            statuses["RetryableError" if trial.is_retryable else "NonRetryableError"] += 1
        else:
            statuses[trial.status] += 1
    return {"TrainingJobStatusCounters": statuses, "ObjectiveStatusCounters": found}


def summary(trial: Trial, objective: Objective, definition: str | None, tuning_job: str | None = None) -> Record:
    """HyperParameterTrainingJobSummary. tuning_job: named where the trial may be another tuning job's."""
    found: Record = {
        "TrainingJobDefinitionName": definition,
        "TrainingJobName": trial.job_name,
        "TrainingJobArn": trial.job_arn,
        "TuningJobName": tuning_job,
        "CreationTime": trial.created,
        "TrainingStartTime": trial.started,
        "TrainingEndTime": trial.ended,
        "TrainingJobStatus": trial.status,
        "TunedHyperParameters": dict(trial.values),
        "FailureReason": trial.reason,
        "ObjectiveStatus": trial.objective_status,
    }
    if trial.objective is not None:
        metric = {"MetricName": objective.metric, "Value": trial.objective}
        # With several definitions each has an objective of its own.
        found["FinalHyperParameterTuningJobObjectiveMetric"] = {"Type": objective.kind, **metric} if definition else metric
    return found
