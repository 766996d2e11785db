"""Sending: one message, or up to ten in one transaction. Answered when what was sent is on the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pilvi.core.errors import PilviError, ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.sqs import digests
from pilvi.services.sqs.drafts import MOST_BATCH_BYTES, Draft, check_batch, drafted, failed
from pilvi.services.sqs.duplicates import INTERVAL_MS, Sent, duplicates_of
from pilvi.services.sqs.engine import Engine, engine_of
from pilvi.services.sqs.entry import Content, Entry, insertion, sequence_number
from pilvi.services.sqs.live import Live
from pilvi.services.sqs.queues import Queue, find
from pilvi.services.sqs.sealing import sealed
from pilvi.services.sqs.usage import count

if TYPE_CHECKING:
    from pilvi.storage.records import Change

ops = Operations(on_loop=True)

MOST_TRACE: Final = 512
"""Longer headers are nobody's trace."""


class Posted(NamedTuple):
    """What became of a draft: a new message, or the one it repeats."""

    message_id: str
    seq: int


@ops
async def send_message(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Put a message into a queue. Durable when answered.

    req: MessageBody (to 1 MiB with attributes), DelaySeconds (0-900; of FIFO queues the queue's), MessageAttributes (up to 10),
    MessageSystemAttributes (AWSTraceHeader), MessageGroupId, MessageDeduplicationId.
    Errors: QueueDoesNotExist, InvalidMessageContents, InvalidParameterValue, MissingParameter, UnsupportedOperation; of the queue's key:
    KmsAccessDenied, KmsNotFound, KmsDisabled, KmsInvalidState.
    Differs: MessageGroupId of a standard queue is kept and told, but changes no order (fair queues).
    """
    queue = find(ctx, req["QueueUrl"])
    draft = drafted(queue, req)
    (posted,) = await post(ctx, queue, [draft])
    count(ctx, queue, draft.size)
    return _answer(queue, draft, posted)


@ops
async def send_message_batch(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Put up to ten messages into a queue; each is accepted or refused by itself.

    Errors: EmptyBatchRequest, TooManyEntriesInBatchRequest, InvalidBatchEntryId, BatchEntryIdsNotDistinct; BatchRequestTooLong - over
    1 MiB together. QueueDoesNotExist. Entries fail with what SendMessage answers.
    """
    queue = find(ctx, req["QueueUrl"])
    entries = req["Entries"]
    check_batch(entries)
    drafts: list[tuple[str, Draft]] = []
    refused: list[dict[str, Any]] = []
    for entry in entries:
        try:
            drafts.append((entry["Id"], drafted(queue, entry)))
        except ServiceError as error:
            refused.append(failed(entry["Id"], error))
    size = sum(draft.size for _, draft in drafts)
    if size > MOST_BATCH_BYTES:
        raise ServiceError(
            "BatchRequestTooLong",
            f"Batch requests cannot be longer than {MOST_BATCH_BYTES} bytes. You have sent {size} bytes.",
            400,
        )
    posted = await post(ctx, queue, [draft for _, draft in drafts]) if drafts else []
    count(ctx, queue, size)
    done = [{"Id": name, **_answer(queue, draft, one)} for (name, draft), one in zip(drafts, posted, strict=True)]
    return {"Successful": done, "Failed": refused}


# -- what others use ----------------------------------------------------------------------------------------------------------


async def post(ctx: Context, queue: Queue, drafts: Sequence[Draft]) -> list[Posted]:
    """Commit new messages in one transaction, and tell who waits; a repeated one (FIFO) gives what was sent first."""
    engine = engine_of(ctx.cloud)
    now = engine.now()
    if queue.is_fifo:
        return await _post_once(ctx, queue, drafts, engine)
    live = engine.live(queue)
    changes: list[Change] = []
    new = [await _prepare(ctx, queue, live, draft, now, changes) for draft in drafts]
    await _commit(ctx, live, new, changes, engine)
    return [Posted(entry.message_id, entry.seq) for entry in new]


async def _prepare(ctx: Context, queue: Queue, live: Live, draft: Draft, now: int, changes: list[Change]) -> Entry:
    row: dict[str, Any] = {"m": ctx.ids.request(), "t": now, "s": ctx.principal.user_id or ctx.principal.name, "n": draft.size}
    if draft.delay_s:
        row["d"] = now + draft.delay_s * 1000
    if draft.group:
        row["g"] = draft.group
    if draft.duplicate_id:
        row["u"] = draft.duplicate_id
    content = _traced(ctx, draft.content)
    data = await sealed(ctx, queue, row, content)
    seq = live.next_seq(now)
    changes += insertion(queue, seq, row, data)
    entry = Entry(seq, row, content)
    live.sending[seq] = entry
    return entry


def _traced(ctx: Context, content: Content) -> Content:
    """The tracing header that a request came with is told to who receives, as on AWS."""
    if not ctx.trace or content.system or len(ctx.trace) > MOST_TRACE:
        return content
    return content._replace(system={"AWSTraceHeader": {"DataType": "String", "StringValue": ctx.trace}})


async def _commit(ctx: Context, live: Live, new: Sequence[Entry], changes: Sequence[Change], engine: Engine) -> None:
    error: BaseException | None = None
    try:
        await ctx.store.commit(changes)
    except (PilviError, asyncio.CancelledError) as caught:
        error = caught
    if isinstance(error, PilviError):
        for entry in new:
            live.sending.pop(entry.seq, None)
        raise error
    now = engine.now()
    for entry in new:
        entry.row.pop("p", None)
        live.arrived(entry, now)
        live.figures.sent(entry.size)
    if error is not None:
        raise error


async def _post_once(ctx: Context, queue: Queue, drafts: Sequence[Draft], engine: Engine) -> list[Posted]:
    """FIFO: what was sent within five minutes under the same deduplication id is not sent again. The order of the calls is that of
    the messages: nothing is awaited between a message's number and its commit, but a key from KMS before."""
    known = duplicates_of(engine, queue)
    if queue.kms_key:
        await sealed(ctx, queue, {"m": ""}, drafts[0].content)  # the data key is at hand from here on
    live = engine.live(queue)
    now = engine.now()
    known.forget(now - INTERVAL_MS)
    changes: list[Change] = []
    new: list[Entry] = []
    marked: list[str] = []
    posted: list[Posted] = []
    others: list[Awaitable[None]] = []
    for draft in drafts:
        key = f"{draft.group}\0{draft.duplicate_id}" if queue.by_group else draft.duplicate_id
        earlier = known.find(key, now - INTERVAL_MS)
        if earlier is not None:
            posted.append(Posted(earlier.message_id, earlier.seq))
            if earlier.commit is not None and key not in marked:
                others.append(earlier.commit)
            continue
        entry = await _prepare(ctx, queue, live, draft, now, changes)
        changes.append(known.mark(key, Sent(entry.message_id, entry.seq, now)))
        new.append(entry)
        marked.append(key)
        posted.append(Posted(entry.message_id, entry.seq))
    if new:
        work = asyncio.ensure_future(_commit(ctx, live, new, changes, engine))
        known.committing(marked, work)
        others.append(asyncio.shield(work))
    for other in others:
        await other
    return posted


def _answer(queue: Queue, draft: Draft, posted: Posted) -> dict[str, Any]:
    content = draft.content
    found: dict[str, Any] = {"MD5OfMessageBody": digests.of_body(content.body), "MessageId": posted.message_id}
    if content.attributes:
        found["MD5OfMessageAttributes"] = digests.of_attributes(content.attributes)
    if content.system:
        found["MD5OfMessageSystemAttributes"] = digests.of_attributes(content.system)
    if queue.is_fifo:
        found["SequenceNumber"] = sequence_number(posted.seq)
    return found
