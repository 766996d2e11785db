"""EventBridge Scheduler: calls to this cloud's services at the times that users set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilvi.core.errors import AlreadyExists, Conflict, Invalid, LimitExceeded, NotFound
from pilvi.core.service import Service
from pilvi.services.scheduler import schedule, schedule_group, tag, usage
from pilvi.services.scheduler.access import needed

if TYPE_CHECKING:
    from pilvi.core.service import Cloud


def close(cloud: Cloud) -> None:
    """The server stops: what was counted is written down."""
    usage.COUNTED.write_down(cloud)


service = Service(
    "scheduler",
    schedule_group.ops,
    schedule.ops,
    tag.ops,
    errors={
        NotFound: "ResourceNotFoundException",
        AlreadyExists: "ConflictException",
        Conflict: "ConflictException",
        Invalid: "ValidationException",
        LimitExceeded: "ServiceQuotaExceededException",
    },
    access=needed,
    close=close,
)
