"""What CloudWatch does by the clock (pilvi.schedules)."""

from __future__ import annotations

from pilvi.schedules import Periodic
from pilvi.services.cloudwatch.alarm_history import forget_old
from pilvi.services.cloudwatch.alarm_run import look

TASKS = (Periodic("alarm history", 86_400.0, forget_old),)
TIMERS = {"alarm": look}
