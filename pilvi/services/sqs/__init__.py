"""SQS: queues that lose nothing, standard and FIFO."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilvi.core.errors import AlreadyExists, Conflict, Invalid, LimitExceeded, NotFound
from pilvi.core.service import Service
from pilvi.services.sqs import engine, handled, message, message_move_task, permission, queue, receive, tag, usage
from pilvi.services.sqs.access import needed

if TYPE_CHECKING:
    from pilvi.core.service import Cloud


def close(cloud: Cloud) -> None:
    """The server stops: what is written behind is written now."""
    engine.write_down(cloud)
    usage.COUNTED.write_down(cloud)


service = Service(
    "sqs",
    queue.ops,
    message.ops,
    receive.ops,
    handled.ops,
    message_move_task.ops,
    permission.ops,
    tag.ops,
    errors={
        NotFound: "QueueDoesNotExist",
        AlreadyExists: "QueueNameExists",
        Conflict: "InvalidParameterValue",
        Invalid: "InvalidParameterValue",
        LimitExceeded: "OverLimit",
    },
    access=needed,
    close=close,
)
