"""Who takes Scheduler's facts (pilvi.events)."""

from __future__ import annotations

from pilvi.events import Consumer, Patience
from pilvi.services.scheduler.invocation import CONSUMER, failed, take

CONSUMERS = (Consumer(CONSUMER, take, failed=failed, patience=Patience(attempts=1), timeout_s=900.0),)
