"""What SageMaker does again and again (pilvi.schedules)."""

from __future__ import annotations

from pilvi.schedules import Periodic
from pilvi.services.sagemaker import serving_told

TASKS = (Periodic("endpoints", 60.0, serving_told.tell, serving_told.has_work),)
