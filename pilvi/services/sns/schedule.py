"""What SNS does again and again (pilvi.schedules)."""

from __future__ import annotations

from pilvi.schedules import Periodic
from pilvi.services.sns import figures, sweep, usage

TASKS = (
    Periodic("metrics", 60.0, figures.FIGURES.publish, figures.FIGURES.has_work),
    Periodic("usage", 300.0, usage.COUNTED.write_down),
    Periodic("sweep", 3600.0, sweep.run_sweep),
)
