"""Tags of queues."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.service import Context, Operations
from pilvi.services.sqs.queue import check_tags, revise
from pilvi.services.sqs.queues import find

ops = Operations(on_loop=True)


@ops
async def tag_queue(ctx: Context, req: Mapping[str, Any]) -> None:
    """Set tags; up to 50. Errors: QueueDoesNotExist, InvalidParameterValue."""
    queue = find(ctx, req["QueueUrl"])

    def change(value: dict[str, Any]) -> None:
        value["tags"] = {**value["tags"], **req["Tags"]}
        check_tags(value["tags"])

    await revise(ctx, queue, change)


@ops
async def untag_queue(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove tags; those that are not there are no error. Errors: QueueDoesNotExist."""
    queue = find(ctx, req["QueueUrl"])

    def change(value: dict[str, Any]) -> None:
        value["tags"] = {key: text for key, text in value["tags"].items() if key not in set(req["TagKeys"])}

    await revise(ctx, queue, change)


@ops
async def list_queue_tags(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """All tags of a queue. Errors: QueueDoesNotExist."""
    return {"Tags": find(ctx, req["QueueUrl"]).row["tags"] or None}
