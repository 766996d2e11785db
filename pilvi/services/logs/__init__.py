"""CloudWatch Logs: groups of streams of timed lines, kept sealed, read by time, searched by pattern."""

from __future__ import annotations

from pilvi.core.errors import AlreadyExists, Invalid, LimitExceeded, NotFound, Unavailable
from pilvi.core.service import Service
from pilvi.services.logs import log_event, log_group, log_stream, resource_policy, tag
from pilvi.services.logs.access import needed

service = Service(
    "logs",
    log_group.ops,
    log_stream.ops,
    log_event.ops,
    tag.ops,
    resource_policy.ops,
    errors={
        NotFound: "ResourceNotFoundException",
        AlreadyExists: "ResourceAlreadyExistsException",
        Invalid: "InvalidParameterException",
        LimitExceeded: "LimitExceededException",
        Unavailable: "ServiceUnavailableException",
    },
    access=needed,
)
