"""What S3 Control does again and again (pilvi.schedules)."""

from __future__ import annotations

from pilvi.schedules import Periodic
from pilvi.services.s3control import job_run, storage_lens_export

DAY_S = 86_400.0

TASKS = (
    Periodic("jobs", DAY_S, job_run.sweep),
    Periodic("storage lens", DAY_S, storage_lens_export.run_exports, storage_lens_export.has_work),
)
