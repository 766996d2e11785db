"""Receiving: the next messages, invisible to others from then on, or a wait until there are some."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pilvi.core.errors import PilviError
from pilvi.core.service import Context, Operations
from pilvi.services.sqs import digests
from pilvi.services.sqs.dead_letters import drop, move
from pilvi.services.sqs.engine import Engine, engine_of
from pilvi.services.sqs.entry import Content, Entry
from pilvi.services.sqs.errors import bad_value, over_limit
from pilvi.services.sqs.live import Live
from pilvi.services.sqs.queues import Queue, find, find_by_arn
from pilvi.services.sqs.receipt import handle_of
from pilvi.services.sqs.sealing import check_receiver, opened
from pilvi.services.sqs.usage import count

ops = Operations(on_loop=True)

IN_FLIGHT: Final = 120_000
MOST_WAIT_S: Final = 20
MOST_HIDDEN_S: Final = 43_200
LOOK_S: Final = 0.25
"""While something is to become visible, so often who waits looks at the product's clock, which people may move."""
ATTEMPT_MS: Final = 300_000
_ATTEMPT = re.compile(r"[A-Za-z0-9!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]{1,128}\Z")
_ATTRIBUTES: Final = frozenset(
    {
        "SenderId",
        "SentTimestamp",
        "ApproximateReceiveCount",
        "ApproximateFirstReceiveTimestamp",
        "SequenceNumber",
        "MessageDeduplicationId",
        "MessageGroupId",
        "AWSTraceHeader",
        "DeadLetterQueueSourceArn",
    }
)


@ops
async def receive_message(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Up to ten messages, for the caller alone until their visibility timeout is over; waits for the first when told to.

    req: MaxNumberOfMessages (1-10), VisibilityTimeout (0-43200 s), WaitTimeSeconds (0-20), MessageSystemAttributeNames (or
    AttributeNames), MessageAttributeNames (names, prefixes as `foo.*`, All), ReceiveRequestAttemptId (FIFO).
    Errors: QueueDoesNotExist, InvalidParameterValue. OverLimit - 120,000 messages in flight (a FIFO queue gives none then). Kms... of the
    queue's key.
    Source: SQS API reference, ReceiveMessage.
    Differs: a short poll finds every visible message. Waiting counts the world's seconds, not those of a clock that was moved.
    """
    queue = find(ctx, req["QueueUrl"])
    many, hidden_s, wait_s = _numbers(queue, req)
    attempt = _attempt(queue, req.get("ReceiveRequestAttemptId"))
    engine = engine_of(ctx.cloud)
    loop = asyncio.get_running_loop()
    until = loop.time() + wait_s
    messages: list[dict[str, Any]] = []
    while True:
        live = engine.live(queue)
        if is_gone(ctx):
            live.wake(1)  # what it may have been woken for is for the next
            break
        repeated = live.attempts.again(live, attempt, engine.now(), hidden_s * 1000) if attempt else None
        taken = repeated if repeated is not None else await collect(ctx, queue, live, many, hidden_s * 1000, waits=wait_s > 0)
        if taken:
            try:
                messages = await _told(ctx, queue, live, taken, req)
            except asyncio.CancelledError:
                give_back(live, taken, engine.now())
                raise
            if is_gone(ctx):
                give_back(live, taken, engine.now())
                messages = []
            break
        left = until - loop.time()
        if engine.is_closing and ctx.request is None:
            await asyncio.sleep(LOOK_S)  # a poller of this server, which asks until it is ended
        if left <= 0 or engine.is_closing:
            break
        if len(live.flying) >= IN_FLIGHT:
            await asyncio.sleep(min(left, LOOK_S))
        else:
            await live.wait(_pause(live, engine, left), ctx.request)
        queue = find(ctx, req["QueueUrl"])
    if attempt and messages:
        live.attempts.keep(attempt, taken, engine.now())
    if messages:
        live.figures.receives += len(messages)
        engine.write_soon()
    else:
        live.figures.empty += 1
    count(ctx, queue, sum(entry.size for entry in taken) if messages else 0)
    return {"Messages": messages or None}


def is_gone(ctx: Context) -> bool:
    """Whether the client has hung up: a message given to it would be hidden for nothing."""
    return ctx.request is not None and ctx.request.is_gone


def give_back(live: Live, taken: Sequence[Entry], now: int) -> None:
    """Nobody got them: visible at once, and not counted as received."""
    for entry in taken:
        if entry.seq in live.flying:
            entry.receives -= 1
            live.hide(entry, now, now)


async def collect(ctx: Context, queue: Queue, live: Live, many: int, hidden_ms: int, *, waits: bool) -> list[Entry]:
    """Take the next messages; those received too often go to the dead-letter queue, those too old go."""
    engine = engine_of(ctx.cloud)
    while True:
        room = IN_FLIGHT - len(live.flying)
        if room <= 0:
            if queue.is_fifo or waits:
                return []
            raise over_limit("Too many messages in flight: 120,000 are the most.")
        now = engine.now()
        target = find_by_arn(ctx.cloud, queue.dead_letters) if queue.dead_letters else None
        limit = queue.most_receives if target is not None else 0
        taken, dead, old = live.take(min(many, room), now, now - queue.retention_ms, limit)
        for entry in taken:
            live.fly(entry, now, hidden_ms)
        if old:
            drop(engine, live, old)
        if dead and target is not None:
            try:
                await move(ctx, queue, live, dead, target, source_arn=queue.arn)
            except BaseException:
                give_back(live, taken, now)
                raise
        if taken or not (dead or old):
            return taken


# -- what is asked for --------------------------------------------------------------------------------------------------------


def _numbers(queue: Queue, req: Mapping[str, Any]) -> tuple[int, int, int]:
    many, hidden, wait = req.get("MaxNumberOfMessages"), req.get("VisibilityTimeout"), req.get("WaitTimeSeconds")
    if many is not None and not 1 <= many <= 10:
        raise bad_value(many, "MaxNumberOfMessages", "Must be between 1 and 10, if provided.")
    if hidden is not None and not 0 <= hidden <= MOST_HIDDEN_S:
        raise bad_value(hidden, "VisibilityTimeout", "Must be between 0 and 43200, if provided.")
    if wait is not None and not 0 <= wait <= MOST_WAIT_S:
        raise bad_value(wait, "WaitTimeSeconds", "Must be >= 0 and <= 20, if provided.")
    for name in (*(req.get("AttributeNames") or ()), *(req.get("MessageSystemAttributeNames") or ())):
        if name not in _ATTRIBUTES and name != "All":
            raise bad_value(name, "AttributeName", "Unknown Attribute.")
    return many or 1, queue.visibility_s if hidden is None else hidden, queue.wait_s if wait is None else wait


def _attempt(queue: Queue, given: str | None) -> str:
    if given is None:
        return ""
    if not queue.is_fifo:
        raise bad_value(given, "ReceiveRequestAttemptId", "The request include parameter that is not valid for this queue type.")
    if not _ATTEMPT.match(given):
        raise bad_value(
            given,
            "ReceiveRequestAttemptId",
            "ReceiveRequestAttemptId can only include alphanumeric and punctuation characters. 1 to 128 in length.",
        )
    return given


def _pause(live: Live, engine: Engine, left_s: float) -> float:
    """How long to sleep at most: until something becomes visible, by a clock that may be moved meanwhile."""
    next_ms = live.next_time()
    if next_ms is None:
        return left_s
    return min(left_s, LOOK_S, max(0.001, (next_ms - engine.now()) / 1000))


# -- what is told -------------------------------------------------------------------------------------------------------------


async def _told(ctx: Context, queue: Queue, live: Live, taken: Sequence[Entry], req: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The messages for the caller; when one of them cannot be opened, all are visible again, and the error is theirs."""
    system = {*(req.get("AttributeNames") or ()), *(req.get("MessageSystemAttributeNames") or ())}
    names = req.get("MessageAttributeNames") or ()
    error: PilviError | None = None
    told: list[dict[str, Any]] = []
    try:
        for entry in taken:
            content = entry.content
            if content is None:
                content = await opened(ctx, queue, entry)
                if content is None:
                    live.removed(entry.seq)
                    continue
            elif "k" in entry.row:
                await check_receiver(ctx, entry, queue.key_reuse_s)
            told.append(_message(ctx, queue, entry, content, system, names))
    except PilviError as caught:
        error = caught
    if error is not None:
        give_back(live, taken, engine_of(ctx.cloud).now())
        raise error
    for entry in taken:
        live.told(entry)
    return told


def _message(ctx: Context, queue: Queue, entry: Entry, content: Content, system: set[str], names: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "MessageId": entry.message_id,
        "ReceiptHandle": handle_of(ctx.keyring, queue, entry),
        "MD5OfBody": digests.of_body(content.body),
        "Body": content.body,
    }
    if system:
        told = _system_attributes(queue, entry, content)
        found["Attributes"] = told if "All" in system else {name: value for name, value in told.items() if name in system} or None
    if names and content.attributes:
        chosen = {name: value for name, value in content.attributes.items() if _is_asked(name, names)}
        if chosen:
            found["MessageAttributes"] = chosen
            found["MD5OfMessageAttributes"] = digests.of_attributes(chosen)
    return found


def _is_asked(name: str, names: Sequence[str]) -> bool:
    return any(asked == name or asked in ("All", ".*") or (asked.endswith(".*") and name.startswith(asked[:-1])) for asked in names)


def _system_attributes(queue: Queue, entry: Entry, content: Content) -> dict[str, str]:
    row = entry.row
    found = {
        "SenderId": row["s"],
        "SentTimestamp": str(entry.sent),
        "ApproximateReceiveCount": str(entry.receives),
        "ApproximateFirstReceiveTimestamp": str(entry.first),
    }
    if queue.is_fifo:
        found["SequenceNumber"] = entry.sequence_number
        found["MessageDeduplicationId"] = entry.duplicate_id
    if entry.group:
        found["MessageGroupId"] = entry.group
    if "AWSTraceHeader" in content.system:
        found["AWSTraceHeader"] = content.system["AWSTraceHeader"]["StringValue"]
    if "o" in row:
        found["DeadLetterQueueSourceArn"] = row["o"]
    return found
