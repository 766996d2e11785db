"""Queues: created, found, listed, set, told of, purged, deleted."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from pilvi.core.errors import AlreadyExists, Conflict, Invalid, NotFound, ServiceError
from pilvi.core.paging import decode_token, encode_token
from pilvi.core.service import Context, Operations
from pilvi.services.sqs.attributes import COUNTS, TOLD, applied, checked
from pilvi.services.sqs.engine import engine_of, trash
from pilvi.services.sqs.errors import bad_value, invalid, no_queue, unknown_attribute
from pilvi.services.sqs.queues import Address, Queue, find, find_by_arn, look, queue_table, url_of
from pilvi.storage.records import Change, Delete, Insert, Put, Row, Update

ops = Operations(on_loop=True)

AGAIN_S: Final = 60
"""Between two purges, and between a deletion and a new queue of the same name."""
MOST_LISTED: Final = 1000
_GONE: Final = "Gone"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}\Z")
_FIFO_NAME = re.compile(r"[A-Za-z0-9_-]{1,75}\.fifo\Z")


@ops
async def create_queue(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Create a queue; the same again gives the same URL.

    req: QueueName (1-80 of [A-Za-z0-9_-]; FIFO queues end in .fifo), Attributes, tags (up to 50).
    Errors: QueueNameExists - it is there with other attributes. QueueDeletedRecently - within 60 seconds. InvalidAttributeName.
    InvalidAttributeValue. InvalidParameterValue - the name.
    Source: SQS API reference, CreateQueue.
    """
    name = req["QueueName"]
    _check_name(name)
    given = checked(req.get("Attributes") or {}, name=name, creating=True)
    table = queue_table(ctx.account, ctx.region)
    there = look(ctx.cloud, ctx.account, ctx.region, name)
    if there is not None:
        return _same(ctx, there, given)
    attributes = applied({}, given)
    _check_dead_letters(ctx, Address(ctx.account, ctx.region, name).arn, attributes.get("RedrivePolicy", ""))
    now = ctx.clock.time_s()
    changes: list[Change] = []
    gone = ctx.store.get(table._replace(noun=_GONE), name)
    if gone is not None:
        if now - gone.value["at"] < AGAIN_S:
            raise ServiceError(
                "QueueDeletedRecently",
                "You must wait 60 seconds after deleting a queue before you can create another with the same name.",
                400,
            )
        changes.append(Delete(gone_table(ctx), name))
    tags = dict(req.get("tags") or {})
    check_tags(tags)
    value = {
        "uid": ctx.ids.hex(16),
        "data": ctx.ids.hex(16),
        "attributes": attributes,
        "tags": tags,
        "created": int(now),
        "modified": int(now),
    }
    try:
        await ctx.store.commit([*changes, Insert(table, name, value)])
    except (AlreadyExists, NotFound, Conflict):
        there = look(ctx.cloud, ctx.account, ctx.region, name)
        if there is None:
            raise
        return _same(ctx, there, given)
    return {"QueueUrl": url_of(ctx, ctx.account, name)}


@ops
async def get_queue_url(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The URL of a queue. Errors: QueueDoesNotExist."""
    account = req.get("QueueOwnerAWSAccountId") or ctx.account
    if look(ctx.cloud, account, ctx.region, req["QueueName"]) is None:
        raise no_queue()
    return {"QueueUrl": url_of(ctx, account, req["QueueName"])}


@ops
async def list_queues(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The URLs of the queues here, by name: up to 1,000, or MaxResults and a token for the rest.

    Errors: InvalidParameterValue - MaxResults is not 1-1000, or a foreign token.
    """
    limit = page_size(req.get("MaxResults"))
    after = _position(req.get("NextToken"))
    table = queue_table(ctx.account, ctx.region)
    rows = ctx.store.scan(table, prefix=req.get("QueueNamePrefix") or "", after=after, limit=limit + 1)
    urls = [url_of(ctx, ctx.account, row.id) for row in rows[:limit]]
    is_paged = req.get("MaxResults") is not None and len(rows) > limit
    return {"QueueUrls": urls or None} | ({"NextToken": encode_token(rows[limit - 1].id)} if is_paged else {})


@ops
async def list_dead_letter_source_queues(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The queues whose dead letters come here. Errors: QueueDoesNotExist, InvalidParameterValue."""
    queue = find(ctx, req["QueueUrl"])
    limit = page_size(req.get("MaxResults"))
    table = queue_table(queue.account, queue.region)
    found: list[str] = []
    after = _position(req.get("NextToken"))
    while len(found) <= limit and (rows := ctx.store.scan(table, after=after, limit=MOST_LISTED)):
        found += [row.id for row in rows if queue.arn in row.value["attributes"].get("RedrivePolicy", "")]
        after = rows[-1].id
    urls = [url_of(ctx, queue.account, name) for name in found[:limit]]
    is_paged = req.get("MaxResults") is not None and len(found) > limit
    return {"queueUrls": urls} | ({"NextToken": encode_token(found[limit - 1])} if is_paged else {})


@ops
async def get_queue_attributes(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is set of a queue, and how many messages it has.

    req: AttributeNames ("All", or which; none gives none).
    Errors: QueueDoesNotExist, InvalidAttributeName.
    Differs: the counts are exact, but for delayed messages that lie beyond the first thousands of a long queue.
    """
    queue = find(ctx, req["QueueUrl"])
    names = set(req.get("AttributeNames") or ())
    for name in sorted(names - TOLD - {"All"}):
        raise unknown_attribute(name)
    found = {
        **queue.attributes,
        "QueueArn": queue.arn,
        "CreatedTimestamp": str(queue.row["created"]),
        "LastModifiedTimestamp": str(queue.row["modified"]),
    }
    if "All" in names or names & set(COUNTS):
        engine = engine_of(ctx.cloud)
        live = engine.live(queue)
        live.tick(engine.now())
        found |= zip(COUNTS, map(str, (live.visible, len(live.flying), len(live.delayed))), strict=True)
    asked = found if "All" in names else {name: value for name, value in found.items() if name in names}
    return {"Attributes": asked or None}


@ops
async def set_queue_attributes(ctx: Context, req: Mapping[str, Any]) -> None:
    """Change settings; they count from the next call on. '' takes a policy or key away.

    Errors: QueueDoesNotExist, InvalidAttributeName, InvalidAttributeValue, InvalidParameterValue.
    """
    queue = find(ctx, req["QueueUrl"])
    given = checked(req["Attributes"], name=queue.name, creating=False)
    if "RedrivePolicy" in given:
        _check_dead_letters(ctx, queue.arn, given["RedrivePolicy"])

    def change(value: dict[str, Any]) -> None:
        value["attributes"] = applied(value["attributes"], given)
        value["modified"] = int(ctx.clock.time_s())

    await revise(ctx, queue, change)
    if (live := engine_of(ctx.cloud).lives.get(queue.data)) is not None:
        live.wake_all()


@ops
async def purge_queue(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove all messages of a queue, those in flight as well, at once.

    Errors: QueueDoesNotExist. PurgeQueueInProgress - purged within the last 60 seconds.
    """
    queue = find(ctx, req["QueueUrl"])
    now = ctx.clock.time_s()
    if now - queue.row.get("purged", 0) < AGAIN_S:
        raise ServiceError(
            "PurgeQueueInProgress", f"Only one PurgeQueue operation on {queue.name} is allowed every 60 seconds.", 403
        )
    value = {**queue.row, "data": ctx.ids.hex(16), "purged": now}
    await ctx.store.commit([Update(queue.table, queue.name, value, queue.version), trash(queue, whole=False)])
    _end(ctx, queue)


@ops
async def delete_queue(ctx: Context, req: Mapping[str, Any]) -> None:
    """Delete a queue with its messages. Errors: QueueDoesNotExist."""
    queue = find(ctx, req["QueueUrl"])
    gone = Put(queue.table._replace(noun=_GONE), queue.name, {"at": ctx.clock.time_s()})
    try:
        await ctx.store.commit([Delete(queue.table, queue.name), gone, trash(queue, whole=True)])
    except NotFound:
        raise no_queue() from None
    engine_of(ctx.cloud).duplicates.pop(queue.uid, None)
    _end(ctx, queue)


# -- what others use ------------------------------------------------------------------------------------------------------


async def revise(ctx: Context, queue: Queue, change: Any) -> None:
    """Read, change, write the settings of a queue."""
    while True:
        row: Row | None = ctx.store.get(queue.table, queue.name)
        if row is None or row.value["uid"] != queue.uid:
            raise no_queue()
        change(row.value)
        try:
            await ctx.store.commit([Update(queue.table, queue.name, row.value, row.version)])
        except Conflict:
            continue
        return


def check_tags(tags: Mapping[str, str]) -> None:
    """Source: SQS API reference, TagQueue; developer guide, "Queue quotas"."""
    if len(tags) > 50:
        raise invalid("Too many tags added for queue. Maximum number of tags is 50.")
    for key, value in tags.items():
        if not 1 <= len(key) <= 128 or len(value) > 256 or key.lower().startswith("aws:"):
            raise invalid(f"Tag key or value is invalid: {key}.")


def gone_table(ctx: Context) -> Any:
    return queue_table(ctx.account, ctx.region)._replace(noun=_GONE)


def page_size(asked: int | None) -> int:
    if asked is not None and not 1 <= asked <= MOST_LISTED:
        raise bad_value(asked, "MaxResults", "MaxResults must be an integer between 1 and 1000.")
    return asked or MOST_LISTED


def _position(token: str | None) -> str:
    try:
        return decode_token(token)
    except Invalid:
        raise invalid("Invalid or expired next token.") from None


def _end(ctx: Context, queue: Queue) -> None:
    engine = engine_of(ctx.cloud)
    engine.close(queue)
    engine.sweep_soon(queue.data)


def _check_name(name: str) -> None:
    if not (_FIFO_NAME if name.endswith(".fifo") else _NAME).match(name):
        raise invalid("Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length")


def _same(ctx: Context, there: Queue, given: Mapping[str, str]) -> Mapping[str, Any]:
    """The queue is there: fine when everything that is asked for is as it is."""
    asked = {key: value for key, value in given.items() if value != ""}
    for key, value in asked.items():
        if there.attributes.get(key) != value:
            raise ServiceError(
                "QueueNameExists", f"A queue already exists with the same name and a different value for attribute {key}", 400
            )
    return {"QueueUrl": url_of(ctx, there.account, there.name)}


def _check_dead_letters(ctx: Context, source_arn: str, redrive: str) -> None:
    """The dead-letter queue is there, of the same kind, in the same account and Region, and lets this queue in."""
    if not redrive:
        return
    target = json.loads(redrive)["deadLetterTargetArn"]
    queue = find_by_arn(ctx.cloud, target)
    shown = f"{redrive}"
    if target == source_arn:
        raise bad_value(shown, "RedrivePolicy", "Dead letter queue must not be the queue itself.")
    if target.split(":")[:5] != source_arn.split(":")[:5]:
        raise bad_value(shown, "RedrivePolicy", "Dead-letter target owner should be same as the source.")
    if queue is None:
        raise bad_value(shown, "RedrivePolicy", "Dead letter target does not exist.")
    if queue.is_fifo != source_arn.endswith(".fifo"):
        kind = "FIFO" if source_arn.endswith(".fifo") else "standard"
        raise bad_value(shown, "RedrivePolicy", f"Dead-letter queue must be same type of queue as the source: {kind}.")
    if not queue.takes_dead_letters_of(source_arn):
        raise bad_value(shown, "RedrivePolicy", "Dead letter target does not allow this source queue.")
