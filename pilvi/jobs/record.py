"""What is kept about a job: its spec, where it is, and how it got there. Pure functions from record to record."""

from __future__ import annotations

from datetime import datetime
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


def new_record(spec: JobSpec, now: datetime) -> dict[str, Any]:
    return {
        "spec": spec_to_record(spec),
        "status": str(Status.QUEUED),
        "outcome": None,
        "has_run": False,
        "reason": "",
        "created": now,
        "modified": now,
        "transitions": [{"status": str(Status.QUEUED), "start": now}],
    }


def progress_of(record: dict[str, Any]) -> Progress:
    outcome = record["outcome"]
    return Progress(Status(record["status"]), outcome and Status(outcome), record["has_run"], record["reason"])


def advanced(
    record: dict[str, Any], event: Event, now: datetime, reason: str = "", facts: dict[str, Any] | None = None
) -> tuple[dict[str, Any], tuple[Do, ...]]:
    """The record after an event, and what to do."""
    before = progress_of(record)
    after, instructions = step(before, event, reason)
    if after == before and not facts:
        return record, instructions
    new = {
        **record,
        **(facts or {}),
        "status": str(after.status),
        "outcome": after.outcome and str(after.outcome),
        "has_run": after.has_run,
        "reason": after.reason,
        "modified": now,
    }
    if after.status is not before.status:
        *earlier, last = record["transitions"]
        new["transitions"] = [*earlier, {**last, "end": now}, {"status": str(after.status), "start": now}]
        if after.status is Status.DOWNLOADING:
            new["started"] = now
        if event is Event.BROKE:
            new["broke_at"] = str(before.status)
        if after.status in TERMINAL:
            new["transitions"][-1]["end"] = now
            new["ended"] = now
    return new, instructions


def service_context(cloud: Any, spec: JobSpec) -> Context:
    """The job's service as the caller, acting for the job's resource."""
    principal = Principal("service", spec.account, "", spec.principal, spec.principal, source_arn=spec.arn)
    return Context(cloud, principal=principal, account=spec.account, region=spec.region, service=spec.service)
