"""Topics: created, listed, told of, set, deleted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from pilvi.core.errors import AlreadyExists, Invalid, NotFound
from pilvi.core.paging import decode_token, encode_token
from pilvi.core.service import Context, Operations
from pilvi.services.sns import attributes as topic_attributes
from pilvi.services.sns.delivery_policy import effective_of_topic
from pilvi.services.sns.errors import bad_attributes, invalid, not_built
from pilvi.services.sns.tag import checked_tags, tags_of
from pilvi.services.sns.topics import (
    DATA,
    Topic,
    default_policy,
    find,
    look,
    owned_table,
    parsed,
    revise,
    subscription_table,
    topic_arn,
    topic_table,
)
from pilvi.storage.records import Change, Delete, Insert, Put, Table

ops = Operations(on_loop=True)

PAGE: Final = 100
GONE: Final = Table("", "", DATA, "Gone")
"""uid of a deleted topic -> {}: what is left of it is swept behind."""


@ops
async def create_topic(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Create a topic; the same again gives the same ARN.

    req: Name (1-256 of [A-Za-z0-9_-]; FIFO topics end in .fifo), Attributes, Tags (up to 50).
    Errors: InvalidParameter - the name, an attribute, or it is there with other attributes or tags.
    Source: SNS API reference, CreateTopic.
    Differs: DataProtectionPolicy and active tracing are refused.
    """
    name, given = req["Name"], req.get("Attributes") or {}
    if req.get("DataProtectionPolicy"):
        raise not_built("Data protection policies are")
    topic_attributes.check_name(name, given)
    wanted = topic_attributes.checked(given, is_fifo=name.endswith(".fifo"))
    tags = checked_tags({}, req.get("Tags") or [])
    there = look(ctx.cloud, ctx.account, ctx.region, name)
    if there is not None:
        return _same(there, wanted, tags)
    value = {
        "uid": ctx.ids.hex(16),
        "attributes": wanted,
        "tags": tags,
        "created": ctx.clock.time_s(),
        "deleted": 0,
    }
    if "ArchivePolicy" in wanted:
        value["archived_since"] = ctx.clock.time_s()
    try:
        await ctx.store.commit([Insert(topic_table(ctx.account, ctx.region), name, value)])
    except AlreadyExists:
        there = look(ctx.cloud, ctx.account, ctx.region, name)
        if there is None:
            raise
        return _same(there, wanted, tags)
    return {"TopicArn": topic_arn(ctx.account, ctx.region, name)}


@ops
async def list_topics(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The topics here, 100 at a time. Errors: InvalidParameter - a foreign token."""
    after = position(req.get("NextToken"))
    rows = ctx.store.scan(topic_table(ctx.account, ctx.region), after=after, limit=PAGE + 1)
    arns = [{"TopicArn": topic_arn(ctx.account, ctx.region, row.id)} for row in rows[:PAGE]]
    return {"Topics": arns} | ({"NextToken": token_of(rows[PAGE - 1].id)} if len(rows) > PAGE else {})


@ops
async def get_topic_attributes(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is set of a topic, and how many subscriptions it has. Errors: NotFound, InvalidParameter."""
    topic = find(ctx, req["TopicArn"])
    confirmed = sum(1 for one in topic.subscriptions if one.is_confirmed)
    found: dict[str, str] = {
        "TopicArn": topic.arn,
        "Owner": topic.account,
        "DisplayName": "",
        "Policy": default_policy(topic.arn, topic.account),
        "SubscriptionsConfirmed": str(confirmed),
        "SubscriptionsPending": str(len(topic.subscriptions) - confirmed),
        "SubscriptionsDeleted": str(topic.row["deleted"]),
        "EffectiveDeliveryPolicy": json.dumps(
            effective_of_topic(topic.attributes.get("DeliveryPolicy", "")), separators=(",", ":")
        ),
    }
    if topic.is_fifo:
        found |= {"FifoTopic": "true", "ContentBasedDeduplication": "false"}
    found |= topic.attributes
    if "archived_since" in topic.row:
        found["BeginningArchiveTime"] = _beginning(ctx, topic)
    return {"Attributes": found}


@ops
async def set_topic_attributes(ctx: Context, req: Mapping[str, Any]) -> None:
    """Change one attribute; it counts from the next call on. Nothing as its value takes it away.

    Errors: NotFound. InvalidParameter - no such attribute, or not this value.
    Differs: active tracing is refused.
    """
    topic = find(ctx, req["TopicArn"])
    name = req["AttributeName"]
    value = topic_attributes.one(name, req.get("AttributeValue") or "", is_fifo=topic.is_fifo)

    def change(row: dict[str, Any]) -> None:
        if value == "":
            row["attributes"].pop(name, None)
        else:
            row["attributes"][name] = value
        if name == "ArchivePolicy":
            if value == "":
                row.pop("archived_since", None)
            else:
                row.setdefault("archived_since", ctx.clock.time_s())

    await revise(ctx, topic, change)


@ops
async def delete_topic(ctx: Context, req: Mapping[str, Any]) -> None:
    """Delete a topic with its subscriptions; one that is not there is no error. What waits for delivery is let go.

    Errors: InvalidParameter - the ARN.
    Differs: an archive goes with its topic, where AWS refuses to delete a topic that keeps one.
    """
    where = parsed(req["TopicArn"])
    if where.region != ctx.region:
        raise invalid("TopicArn")
    topic = look(ctx.cloud, where.account, where.region, where.resource)
    if topic is None:
        return
    changes: list[Change] = [
        Delete(topic.table, topic.name),
        Put(GONE, topic.uid, {"account": topic.account, "region": topic.region}),
    ]
    for one in topic.subscriptions:
        changes.append(Delete(subscription_table(topic.account, topic.region), one.id))
        changes.append(Delete(owned_table(one.owner, topic.region), one.arn))
    try:
        await ctx.store.commit(changes)
    except NotFound:  # somebody unsubscribed meanwhile, or deleted it too
        await delete_topic(ctx, req)


# -- what others use ------------------------------------------------------------------------------------------------------


def token_of(position: str) -> str:
    """Where the next page begins, in the alphabet and with the padding of AWS's."""
    token = encode_token(position)
    return token + "=" * (-len(token) % 4)


def position(token: str | None) -> str:
    """Where a page begins. InvalidParameter."""
    try:
        return decode_token(token)
    except Invalid:
        raise invalid("NextToken") from None


def _same(there: Topic, wanted: Mapping[str, str], tags: Mapping[str, str]) -> Mapping[str, Any]:
    """The topic is there: fine when everything that is asked for is as it is."""
    defaults = {"ContentBasedDeduplication": "false"} if there.is_fifo else {}
    has = {**defaults, **there.attributes}
    if any(has.get(name) != value for name, value in wanted.items()):
        raise bad_attributes("Topic already exists with different attributes")
    if any(tags_of(there).get(key) != value for key, value in tags.items()):
        raise invalid("Tags Reason: Topic already exists with different tags")
    return {"TopicArn": there.arn}


def _beginning(ctx: Context, topic: Topic) -> str:
    """From when on messages are kept: since archiving began, or for as long as they are kept."""
    since = max(topic.row["archived_since"], ctx.clock.time_s() - topic.archive_days * 86_400)
    at = datetime.fromtimestamp(since, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"
