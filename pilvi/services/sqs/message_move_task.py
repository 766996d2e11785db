"""Message move tasks: dead letters go back to where they came from, or elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pilvi.core.errors import Conflict, ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.sqs.engine import engine_of
from pilvi.services.sqs.errors import bad_value, invalid, unsupported
from pilvi.services.sqs.move_tasks import handle_of, read_handle, start, task_table
from pilvi.services.sqs.queues import Address, Queue, find_by_arn, look, queue_table
from pilvi.storage.records import Change, Delete, Insert, Row, Update

ops = Operations(on_loop=True)

KEPT: Final = 10
MOST_A_SECOND: Final = 500
_RUNNING: Final = ("RUNNING", "CANCELLING")


@ops
async def start_message_move_task(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Begin to move the messages of a dead-letter queue.

    req: SourceArn, DestinationArn (else each message's own source queue), MaxNumberOfMessagesPerSecond (1-500).
    Errors: ResourceNotFoundException - a queue is not there. InvalidParameterValue - the source is no queue's dead-letter queue, kinds
    differ. UnsupportedOperation - a task is running.
    Needs sqs:ReceiveMessage, DeleteMessage and GetQueueAttributes on the source, sqs:SendMessage on the destination.
    """
    source = _queue(ctx, req["SourceArn"])
    rate = req.get("MaxNumberOfMessagesPerSecond")
    if rate is not None and not 1 <= rate <= MOST_A_SECOND:
        raise bad_value(rate, "MaxNumberOfMessagesPerSecond", f"Must be between 1 and {MOST_A_SECOND}, if provided.")
    sources = _sources(ctx, source)
    if not sources:
        raise invalid("Source queue must be configured as a Dead Letter Queue.")
    targets = [_queue(ctx, req["DestinationArn"])] if req.get("DestinationArn") else sources
    if targets[0].arn == source.arn:
        raise invalid("Source queue arn and destination queue arn cannot be the same.")
    if targets[0].is_fifo != source.is_fifo:
        raise invalid("Source and destination queues must be of the same type.")
    _authorize(ctx, source, targets)
    table = task_table(source.account, source.region)
    earlier = _tasks(ctx, source)
    if any(row.value["Status"] in _RUNNING for row in earlier):
        raise unsupported(
            "There is already a task running. Only one active task is allowed for a source queue arn at a given time."
        )
    engine = engine_of(ctx.cloud)
    now = engine.now()
    task_id = f"{source.name}/{now:013d}-{ctx.ids.uuid()}"
    value: dict[str, Any] = {
        "SourceArn": source.arn,
        "Status": "RUNNING",
        "Moved": 0,
        "ToMove": engine.live(source).visible,
        "StartedTimestamp": now,
    }
    value |= {name: req[name] for name in ("DestinationArn", "MaxNumberOfMessagesPerSecond") if req.get(name)}
    old: list[Change] = [Delete(table, row.id) for row in earlier[KEPT - 1 :]]
    await ctx.store.commit([Insert(table, task_id, value), *old])
    start(ctx.cloud, table, task_id)
    return {"TaskHandle": handle_of(task_id, source.arn)}


@ops
async def list_message_move_tasks(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The last tasks of a queue, newest first; up to ten are kept.

    req: SourceArn, MaxResults (1-10, else 1). Errors: ResourceNotFoundException, InvalidParameterValue.
    """
    source = _queue(ctx, req["SourceArn"])
    limit = req.get("MaxResults")
    if limit is not None and not 1 <= limit <= KEPT:
        raise bad_value(limit, "MaxResults", f"Must be between 1 and {KEPT}, if provided.")
    return {"Results": [_shown(row) for row in _tasks(ctx, source)[: limit or 1]]}


@ops
async def cancel_message_move_task(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Stop a task; what was moved stays moved.

    Errors: ResourceNotFoundException - no such task, or it runs no more. InvalidParameterValue - not a handle.
    """
    task_id, source_arn = read_handle(req["TaskHandle"])
    source = find_by_arn(ctx.cloud, source_arn)
    if not task_id:
        raise bad_value(req["TaskHandle"], "TaskHandle", "It is not a task handle.")
    if source is None or not task_id.startswith(f"{source.name}/"):
        raise _no_task()
    table = task_table(source.account, source.region)
    while True:
        row = ctx.store.get(table, task_id)
        if row is None or row.value["Status"] != "RUNNING":
            raise _no_task()
        try:
            await ctx.store.commit([Update(table, task_id, {**row.value, "Status": "CANCELLING"}, row.version)])
        except Conflict:
            continue
        return {"ApproximateNumberOfMessagesMoved": row.value["Moved"]}


# -- what they share --------------------------------------------------------------------------------------------------------


def _queue(ctx: Context, arn: str) -> Queue:
    queue = find_by_arn(ctx.cloud, arn)
    if queue is None or (queue.account, queue.region) != (ctx.account, ctx.region):
        raise ServiceError(
            "ResourceNotFoundException", "The resource that you specified for the SourceArn parameter doesn't exist.", 404
        )
    return queue


def _no_task() -> ServiceError:
    return ServiceError("ResourceNotFoundException", "Task does not exist.", 404)


def _sources(ctx: Context, queue: Queue) -> list[Queue]:
    """The queues whose dead letters come here."""
    found: list[Queue] = []
    after = ""
    table = queue_table(queue.account, queue.region)
    while rows := ctx.store.scan(table, after=after):
        for row in rows:
            other = look(ctx.cloud, queue.account, queue.region, row.id)
            if other is not None and other.dead_letters == queue.arn:
                found.append(other)
        after = rows[-1].id
    return found


def _authorize(ctx: Context, source: Queue, targets: list[Queue]) -> None:
    from pilvi.services.sqs.access import on_queue

    here = Address(source.account, source.region, source.name)
    for action in ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes"):
        ctx.authorize(on_queue(ctx, f"sqs:{action}", here))
    for target in targets:
        ctx.authorize(on_queue(ctx, "sqs:SendMessage", Address(target.account, target.region, target.name)))


def _tasks(ctx: Context, source: Queue) -> list[Row]:
    return ctx.store.scan(task_table(source.account, source.region), prefix=f"{source.name}/", reverse=True, limit=100)


def _shown(row: Row) -> dict[str, Any]:
    task = row.value
    is_running = task["Status"] == "RUNNING"
    return {
        "TaskHandle": handle_of(row.id, task["SourceArn"]) if is_running else None,
        "Status": task["Status"],
        "SourceArn": task["SourceArn"],
        "DestinationArn": task.get("DestinationArn"),
        "MaxNumberOfMessagesPerSecond": task.get("MaxNumberOfMessagesPerSecond"),
        "ApproximateNumberOfMessagesMoved": task["Moved"],
        "ApproximateNumberOfMessagesToMove": task["ToMove"],
        "FailureReason": task.get("FailureReason"),
        "StartedTimestamp": task["StartedTimestamp"],
    }
