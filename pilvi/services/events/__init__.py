"""EventBridge: events on buses, rules that give them to targets, schedules, archives, replays, API destinations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilvi.core.errors import AlreadyExists, Conflict, Denied, Invalid, LimitExceeded, NotFound
from pilvi.core.service import Service
from pilvi.services.events import api_destination, archive, bus, connection, event, permission, replay, rule, tag, target, usage
from pilvi.services.events.access import needed
from pilvi.services.events.call_out import invoke_api_destination

if TYPE_CHECKING:
    from pilvi.core.service import Cloud


def close(cloud: Cloud) -> None:
    """The server stops: what was counted is written down."""
    usage.COUNTED.write_down(cloud)


service = Service(
    "events",
    bus.ops,
    permission.ops,
    rule.ops,
    target.ops,
    event.ops,
    archive.ops,
    replay.ops,
    connection.ops,
    api_destination.ops,
    tag.ops,
    errors={
        NotFound: "ResourceNotFoundException",
        AlreadyExists: "ResourceAlreadyExistsException",
        Conflict: "ConcurrentModificationException",
        Invalid: "ValidationException",
        LimitExceeded: "LimitExceededException",
        Denied: "AccessDeniedException",
    },
    access=needed,
    close=close,
    inside={"InvokeApiDestination": invoke_api_destination},
)
