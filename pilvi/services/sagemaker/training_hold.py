"""Answering a client's first question a moment later, so that it need not ask again.

The SageMaker SDK (major version 2) asks five seconds after starting a job and then sleeps: the next question comes 30 seconds later, so
a job of six seconds takes 35. Only that client's question about a job made a moment ago waits, and only while the job has its place.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pilvi.core.service import Context
from pilvi.jobs import LIVE, Status
from pilvi.services.sagemaker.job_kind import Job

HOLD_S = 5.0
_FRESH = timedelta(seconds=8)
_SDK = re.compile(r"AWS-SageMaker-Python-SDK[#/]2\.")
_places = threading.BoundedSemaphore(4)
"""More do not wait at the same time: handlers' threads are for everybody."""


def settled(ctx: Context, record: Mapping[str, Any], job: Job) -> Job:
    """The job as it is, or, for a client that would not ask again soon, as it is when it has ended or five seconds later."""
    if not _SDK.search(ctx.user_agent) or ctx.clock.now() - record["CreationTime"] > _FRESH or not _is_coming(job):
        return job
    if not _places.acquire(blocking=False):
        return job
    try:
        until, seen = ctx.clock.real_s() + HOLD_S, 0
        while _is_coming(job) and not ctx.jobs.is_closed and (left := until - ctx.clock.real_s()) > 0:
            seen = ctx.jobs.wait_changes((record["_job"],), left, seen)
            job = ctx.jobs.get(record["_job"])
        return job
    finally:
        _places.release()


def _is_coming(job: Job) -> bool:
    """Whether an end may be near."""
    return Status(job["status"]) in LIVE and not job.get("waiting_reason")
