"""What is kept about a job: its spec, where it is, and how it got there. Pure functions from record to record."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from math import ceil
from typing import Any

from pilvi.core.principal import Principal
from pilvi.core.service import Context
from pilvi.jobs.spec import JobSpec, spec_to_record
from pilvi.jobs.states import TERMINAL, Do, Event, Progress, Status, step
from pilvi.storage.records import Table

JOBS = Table("", "", "jobs", "Job")
"""Every job by id; which account and Region it belongs to stands in its spec."""
OPEN = Table("", "", "jobs", "Open")
"""The ids of jobs that have not ended, so that a start need not look at all that ever were."""

ON_INSTANCES = (Status.DOWNLOADING, Status.RUNNING, Status.STOPPING, Status.UPLOADING)
"""The states in which a job is paid for."""

_OF_A_RUN = frozenset({"exit_code", "exit_reason", "failure_text", "texts", "broke_at", "is_internal", "peak_memory_mib"})
"""Facts of one run, which the next one must not find."""


def new_record(spec: JobSpec, now: datetime) -> dict[str, Any]:
    return {
        "spec": spec_to_record(spec),
        "status": str(Status.QUEUED),
        "outcome": None,
        "has_run": False,
        "reason": "",
        "restarts_left": spec.restarts,
        "created": now,
        "modified": now,
        "transitions": [{"status": str(Status.QUEUED), "start": now}],
    }


def progress_of(record: dict[str, Any]) -> Progress:
    outcome = record["outcome"]
    return Progress(
        Status(record["status"]),
        outcome and Status(outcome),
        record["has_run"],
        record["reason"],
        is_interruptible=record["spec"].get("is_interruptible", False),
        restarts_left=record.get("restarts_left", 0),
    )


def advanced(
    record: dict[str, Any], event: Event, now: datetime, reason: str = "", facts: dict[str, Any] | None = None
) -> tuple[dict[str, Any], tuple[Do, ...]]:
    """The record after an event, and what to do."""
    before = progress_of(record)
    after, instructions = step(before, event, reason)
    if after == before and not facts:
        return record, instructions
    earlier = {key: value for key, value in record.items() if key not in _OF_A_RUN} if event is Event.BEGIN else record
    new = {
        **earlier,
        **(facts or {}),
        "status": str(after.status),
        "outcome": after.outcome and str(after.outcome),
        "has_run": after.has_run,
        "reason": after.reason,
        "restarts_left": after.restarts_left,
        "modified": now,
    }
    if after.status is not before.status:
        *before_last, last = record["transitions"]
        new["transitions"] = [*before_last, {**last, "end": now}, {"status": str(after.status), "start": now}]
        if after.status is Status.DOWNLOADING:
            new.setdefault("started", now)
        if event in (Event.BROKE, Event.FAULT):
            new["broke_at"] = str(before.status)
        if after.status in TERMINAL:
            new["transitions"][-1]["end"] = now
            new["ended"] = now
    return new, instructions


def seconds_in(record: Mapping[str, Any], statuses: Collection[Status], now: datetime) -> float:
    """How long a job has been in these states so far, all its runs together."""
    spans = [(entry["start"], entry.get("end") or now) for entry in record["transitions"] if entry["status"] in statuses]
    return float(sum((end - start).total_seconds() for start, end in spans))


def billable_s(record: Mapping[str, Any], share: float, now: datetime) -> int:
    """The whole seconds of each instance that are paid for so far; 0 when the job never had one."""
    return 0 if "started" not in record else max(1, ceil(seconds_in(record, ON_INSTANCES, now) * share))


def service_context(cloud: Any, spec: JobSpec) -> Context:
    """The job's service as the caller, acting for the job's resource."""
    principal = Principal("service", spec.account, "", spec.principal, spec.principal, source_arn=spec.arn)
    return Context(cloud, principal=principal, account=spec.account, region=spec.region, service=spec.service)
