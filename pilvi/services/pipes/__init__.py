"""EventBridge Pipes: what waits in a source goes, filtered, enriched and reshaped, to a target."""

from __future__ import annotations

from pilvi.core.errors import Conflict, Invalid, LimitExceeded, NotFound
from pilvi.core.service import Service
from pilvi.services.pipes import pipe, tag
from pilvi.services.pipes.access import needed
from pilvi.services.pipes.engine import close

service = Service(
    "pipes",
    pipe.ops,
    tag.ops,
    errors={
        NotFound: "NotFoundException",
        Conflict: "ConflictException",
        Invalid: "ValidationException",
        LimitExceeded: "ServiceQuotaExceededException",
    },
    access=needed,
    close=close,
)
