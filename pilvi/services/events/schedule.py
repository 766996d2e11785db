"""What EventBridge does again and again (pilvi.schedules), and what its rules wait for."""

from __future__ import annotations

from pilvi.schedules import Periodic
from pilvi.services.events import archiving, figures, usage
from pilvi.services.events.timers import fire

TASKS = (
    Periodic("metrics", 60.0, figures.FIGURES.publish, figures.FIGURES.has_work),
    Periodic("usage", 300.0, usage.COUNTED.write_down),
    Periodic("retention", 3600.0, archiving.run_retention),
)
TIMERS = {"rule": fire}
