"""Publishing: one message, or up to ten in one transaction. Answered when all that is to be delivered is on the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pilvi.core.errors import PilviError, ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.sns import archive, figures, push, sms
from pilvi.services.sns.drafts import MOST_BYTES, Draft, check_batch, drafted, message_of
from pilvi.services.sns.duplicates import Published, duplicates_of
from pilvi.services.sns.errors import invalid, of_kms
from pilvi.services.sns.outbox import Lane, entries, wake
from pilvi.services.sns.topics import Topic, find
from pilvi.services.sns.usage import count_publish

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
    from pilvi.storage.records import Change

ops = Operations(on_loop=True)

FIRST_SEQUENCE: Final = 10**19
_MEMORY: Final = "sns:sequence"


class Posted(NamedTuple):
    """What became of a draft: a new message, or the one it repeats."""

    message_id: str
    sequence: str


@ops
async def publish(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Send a message to a topic's subscriptions, to a mobile endpoint, or to a phone. Durable when answered.

    req: TopicArn, TargetArn or PhoneNumber; Message (to 256 KiB with attributes), Subject, MessageStructure (json), MessageAttributes,
    MessageGroupId, MessageDeduplicationId.
    Errors: NotFound. InvalidParameter, ParameterValueInvalid - the message. EndpointDisabled. PlatformApplicationDisabled. OptedOut;
    of the topic's key: KMSAccessDenied, KMSNotFound, KMSDisabled, KMSInvalidState.
    Source: SNS API reference, Publish.
    Differs: KMS is asked for a data key as the publisher, so its permissions count, but what waits for delivery is sealed by the
    server's own keys.
    """
    where = [name for name in ("TopicArn", "TargetArn", "PhoneNumber") if name in req]
    if not where:
        raise invalid("TopicArn or TargetArn Reason: no value for required parameter")
    if len(where) > 1:
        raise invalid(f"{' and '.join(where)} Reason: exactly one of them must be given")
    if where[0] == "PhoneNumber":
        return {"MessageId": await sms.text(ctx, req["PhoneNumber"], drafted(req, None))}
    arn = req[where[0]]
    if ":endpoint/" in arn:
        push.check_endpoint(ctx.cloud, arn)
        return {"MessageId": await push.publish_to_endpoint(ctx, arn, drafted(req, None))}
    topic = find(ctx, arn, where[0])
    draft = drafted(req, topic)
    (posted,) = await post(ctx, topic, [draft])
    count_publish(ctx, topic, [draft.size])
    return _answer(posted)


@ops
async def publish_batch(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Publish up to ten messages to a topic; all of them or none.

    Errors: NotFound, EmptyBatchRequest, TooManyEntriesInBatchRequest, InvalidBatchEntryId, BatchEntryIdsNotDistinct;
    BatchRequestTooLong - over 256 KiB together; what Publish answers to any of them.
    """
    topic = find(ctx, req["TopicArn"])
    given = req["PublishBatchRequestEntries"]
    check_batch(given)
    drafts = [drafted(one, topic, in_batch=True) for one in given]
    if sum(draft.size for draft in drafts) > MOST_BYTES:
        raise ServiceError(
            "BatchRequestTooLongException", "The length of all the messages put together is more than the limit.", 400
        )
    posted = await post(ctx, topic, drafts)
    count_publish(ctx, topic, [draft.size for draft in drafts])
    return {"Successful": [{"Id": one["Id"], **_answer(done)} for one, done in zip(given, posted, strict=True)], "Failed": []}


async def post(ctx: Context, topic: Topic, drafts: Sequence[Draft]) -> list[Posted]:
    """Commit messages with their deliveries in one transaction; a repeated one (FIFO) gives what was published first."""
    if topic.kms_key:
        await _ask_kms(ctx, topic)
    for draft in drafts:
        figures.published(ctx.cloud, topic, draft.size)
    now = ctx.clock.time_s()
    if topic.is_fifo:
        return await _post_once(ctx, topic, drafts, now)
    changes: list[Change] = []
    lanes: list[Lane] = []
    posted: list[Posted] = []
    for draft in drafts:
        message = message_of(ctx, now, draft)
        more, to = entries(ctx, topic, message)
        changes += more
        lanes += to
        posted.append(Posted(message.id, ""))
    if changes:
        await ctx.store.commit(changes)
        wake(ctx.cloud, lanes)
    return posted


async def _post_once(ctx: Context, topic: Topic, drafts: Sequence[Draft], now: float) -> list[Posted]:
    """FIFO: nothing is awaited between a message's number and the submission of its transaction, so the order of the calls counts."""
    known = duplicates_of(ctx.cloud, topic)
    known.forget(now)
    changes: list[Change] = []
    lanes: list[Lane] = []
    posted: list[Posted] = []
    new: dict[str, Published] = {}
    others: list[Awaitable[None]] = []
    for draft in drafts:
        key = f"{draft.group}\0{draft.duplicate_id}" if topic.by_group else draft.duplicate_id
        earlier = known.find(key, now)
        if earlier is not None:
            posted.append(Posted(earlier.id, earlier.sequence))
            if earlier.commit is not None and key not in new:
                others.append(asyncio.shield(earlier.commit))
            continue
        message = message_of(ctx, now, draft, _next_sequence(ctx.cloud, now))
        published = Published(message.id, message.sequence, now)
        changes.append(known.mark(key, published))
        if topic.archive_days:
            changes.append(archive.keeping(ctx, topic, message))
        more, to = entries(ctx, topic, message)
        changes += more
        lanes += to
        new[key] = published
        posted.append(Posted(message.id, message.sequence))
    if new:
        work = asyncio.ensure_future(_commit(ctx, changes, lanes))
        for published in new.values():
            published.commit = work

        def ended(done: asyncio.Future[None]) -> None:
            is_lost = done.cancelled() or isinstance(done.exception(), PilviError)
            for key, published in new.items():
                published.commit = None
                if is_lost:
                    known.lost(key, published)

        work.add_done_callback(ended)
        others.append(asyncio.shield(work))
    for other in others:
        await other
    return posted


async def _commit(ctx: Context, changes: Sequence[Change], lanes: Sequence[Lane]) -> None:
    await ctx.store.commit(changes)
    wake(ctx.cloud, lanes)


def _next_sequence(cloud: Cloud, now: float) -> str:
    """20 digits that grow, also over restarts: microseconds, made to grow within this process."""
    numbers: list[int] = cloud.memory.setdefault(_MEMORY, [0])
    numbers[0] = max(int(now * 1_000_000), numbers[0] + 1)
    return str(FIRST_SEQUENCE + numbers[0])


async def _ask_kms(ctx: Context, topic: Topic) -> None:
    """The publisher must be able to use the topic's key. Source: SNS developer guide, "Managing Amazon SNS encryption keys"."""
    context = {"aws:sns:topicArn": topic.arn}
    try:
        made = await ctx.acall("kms", "GenerateDataKey", KeyId=topic.kms_key, KeySpec="AES_256", EncryptionContext=context)
        await ctx.acall("kms", "Decrypt", CiphertextBlob=made["CiphertextBlob"], EncryptionContext=context)
    except ServiceError as error:
        raise of_kms(error) from error


def _answer(posted: Posted) -> dict[str, Any]:
    return {"MessageId": posted.message_id} | ({"SequenceNumber": posted.sequence} if posted.sequence else {})
