"""What becomes of messages that were received: deleted, or hidden for longer or shorter. By their receipt handles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pilvi.core.errors import NotFound, ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.sqs.drafts import check_batch, failed
from pilvi.services.sqs.engine import engine_of
from pilvi.services.sqs.entry import Entry, deletion
from pilvi.services.sqs.errors import bad_handle, bad_value, missing, not_in_flight
from pilvi.services.sqs.live import Live
from pilvi.services.sqs.queues import Queue, find
from pilvi.services.sqs.receipt import Receipt, read_handle
from pilvi.services.sqs.usage import count
from pilvi.storage.records import Change

ops = Operations(on_loop=True)

MOST_HIDDEN_S: Final = 43_200
_EXPIRED: Final = "The receipt handle has expired."


@ops
async def delete_message(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove a message for good; durable when answered. One that is gone already, or was received again since, is left alone.

    Errors: QueueDoesNotExist. ReceiptHandleIsInvalid. InvalidParameterValue - of a FIFO queue, when its visibility timeout is over.
    """
    queue = find(ctx, req["QueueUrl"])
    live = engine_of(ctx.cloud).live(queue)
    entry = _judged(ctx, queue, live, req["ReceiptHandle"])
    if entry is not None:
        await _delete(ctx, queue, live, [entry])
    count(ctx, queue)


@ops
async def delete_message_batch(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Remove up to ten messages, each by itself.

    Errors: EmptyBatchRequest, TooManyEntriesInBatchRequest, InvalidBatchEntryId, BatchEntryIdsNotDistinct. QueueDoesNotExist.
    """
    queue = find(ctx, req["QueueUrl"])
    check_batch(req["Entries"])
    entries: list[Entry] = []
    refused: list[dict[str, Any]] = []
    done: list[dict[str, Any]] = []
    live = engine_of(ctx.cloud).live(queue)
    for asked in req["Entries"]:
        try:
            entry = _judged(ctx, queue, live, asked["ReceiptHandle"])
        except ServiceError as error:
            refused.append(failed(asked["Id"], error))
            continue
        done.append({"Id": asked["Id"]})
        if entry is not None and all(entry.seq != other.seq for other in entries):
            entries.append(entry)
    await _delete(ctx, queue, live, entries)
    count(ctx, queue)
    return {"Successful": done, "Failed": refused}


@ops
async def change_message_visibility(ctx: Context, req: Mapping[str, Any]) -> None:
    """Hide a message that is in flight for so many seconds from now on; 0 gives it to the next who asks.

    req: ReceiptHandle, VisibilityTimeout (0-43200, and no later than 12 hours after it was received).
    Errors: QueueDoesNotExist, ReceiptHandleIsInvalid, MessageNotInflight, InvalidParameterValue.
    """
    queue = find(ctx, req["QueueUrl"])
    _hide(ctx, queue, req["ReceiptHandle"], req["VisibilityTimeout"])
    count(ctx, queue)


@ops
async def change_message_visibility_batch(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same for up to ten messages, each by itself.

    Errors: EmptyBatchRequest, TooManyEntriesInBatchRequest, InvalidBatchEntryId, BatchEntryIdsNotDistinct. QueueDoesNotExist.
    """
    queue = find(ctx, req["QueueUrl"])
    check_batch(req["Entries"])
    done: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    for entry in req["Entries"]:
        try:
            if entry.get("VisibilityTimeout") is None:
                raise missing("VisibilityTimeout")
            _hide(ctx, queue, entry["ReceiptHandle"], entry["VisibilityTimeout"])
            done.append({"Id": entry["Id"]})
        except ServiceError as error:
            refused.append(failed(entry["Id"], error))
    count(ctx, queue)
    return {"Successful": done, "Failed": refused}


# -- deleting -----------------------------------------------------------------------------------------------------------------


def _judged(ctx: Context, queue: Queue, live: Live, handle: str) -> Entry | None:
    """The message that a handle may delete; None when it is gone, or was received again since."""
    receipt = read_handle(ctx.keyring, queue, handle)
    live.tick(engine_of(ctx.cloud).now())
    entry = live.entries.get(receipt.seq)
    if entry is None:
        return _stored(ctx, queue, receipt)
    if receipt.received < entry.last:
        if queue.is_fifo:
            raise bad_handle(handle, _EXPIRED)
        return None
    if queue.is_fifo and receipt.received == entry.last and entry.seq not in live.flying:
        raise bad_handle(handle, _EXPIRED)
    return entry


async def _delete(ctx: Context, queue: Queue, live: Live, entries: Sequence[Entry]) -> None:
    """In one transaction; where somebody else has deleted one of them meanwhile, each by itself."""
    changes: list[Change] = []
    for entry in entries:
        live.dirty.discard(entry.seq)
        changes += deletion(queue, entry)
    is_gone = False
    try:
        if changes:
            await ctx.store.commit(changes)
    except NotFound:
        is_gone = True
    if is_gone and len(entries) > 1:
        for entry in entries:
            await _delete(ctx, queue, live, [entry])
        return
    for entry in entries:
        if not is_gone or entry.seq in live.entries:
            live.removed(entry.seq)
        if not is_gone:
            live.figures.deletes += 1


def _stored(ctx: Context, queue: Queue, receipt: Receipt) -> Entry | None:
    """A message that was received from an earlier server, and that the queue's window has not reached again."""
    row_id = f"{receipt.seq:016x}"
    row = ctx.store.get(queue.messages, row_id)
    if row is None:
        return None
    entry = Entry(receipt.seq, row.value, None)
    state = ctx.store.get(queue.states, row_id)
    if state is not None:
        entry.take_state(state.value)
    return entry


# -- hiding -------------------------------------------------------------------------------------------------------------------


def _hide(ctx: Context, queue: Queue, handle: str, seconds: int) -> None:
    if not 0 <= seconds <= MOST_HIDDEN_S:
        raise bad_value(seconds, "VisibilityTimeout", "Must be between 0 and 43200, if provided.")
    receipt = read_handle(ctx.keyring, queue, handle)
    engine = engine_of(ctx.cloud)
    live, now = engine.live(queue), engine.now()
    live.tick(now)
    entry = live.entries.get(receipt.seq)
    if entry is None and _stored(ctx, queue, receipt) is not None:
        while live.is_behind and live.loaded_to < receipt.seq:
            live.load(now)
        entry = live.entries.get(receipt.seq)
    if entry is None:
        raise bad_value(handle, "ReceiptHandle", "Message does not exist or is not available for visibility timeout change.")
    if entry.seq not in live.flying:
        raise bad_handle(handle, _EXPIRED) if queue.is_fifo else not_in_flight(handle)
    if receipt.received < entry.last:
        raise bad_handle(handle, _EXPIRED)
    if now + seconds * 1000 > entry.last + MOST_HIDDEN_S * 1000:
        raise bad_value(
            seconds, "VisibilityTimeout", "Total VisibilityTimeout for the message is beyond the limit [43200 seconds]."
        )
    live.hide(entry, now + seconds * 1000, now)
    engine.write_soon()
