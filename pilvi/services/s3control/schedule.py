"""What S3 Control does again and again (pilvi.schedules)."""

from __future__ import annotations

from pilvi.schedules import Periodic
from pilvi.services.s3control import job_run

DAY_S = 86_400.0

TASKS = (Periodic("jobs", DAY_S, job_run.sweep),)
