"""On the way out: a message becomes one entry of the events room for each subscription that wants it, in the publish's transaction.

Each subscription is a lane of its own, so a broken one holds up no other; FIFO topics keep the order of each group in it. Kinds of
endpoints are consumers of their own (consumers.py), for what they wait for differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from pilvi.core.service import Context
from pilvi.services.sns import figures
from pilvi.services.sns.filters import body_of
from pilvi.services.sns.message import NOTIFICATION, Message, sealed
from pilvi.services.sns.topics import Subscription, Topic

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
    from pilvi.storage.records import Change

CONSUMERS: Final = {
    "sqs": "sns/sqs",
    "lambda": "sns/lambda",
    "http": "sns/http",
    "https": "sns/http",
    "email": "sns/spool",
    "email-json": "sns/spool",
    "sms": "sns/spool",
    "application": "sns/spool",
}
Lane = tuple[str, str]


def entries(ctx: Context, topic: Topic, message: Message) -> tuple[list[Change], list[Lane]]:
    """What a publish adds to its transaction, and which lanes to wake afterwards."""
    changes: list[Change] = []
    lanes: list[Lane] = []
    data = b""
    bodies: dict[str, Any] = {}
    for one in topic.subscriptions:
        if not one.is_confirmed or "replay" in one.row:
            continue
        if one.is_filtered and not wants(ctx.cloud, one, message, bodies):
            continue
        data = data or sealed(ctx.keyring, message)
        change, lane = entry(ctx, one, message, data)
        changes.append(change)
        lanes.append(lane)
    return changes, lanes


def wants(cloud: Cloud, one: Subscription, message: Message, bodies: dict[str, Any]) -> bool:
    """Whether a subscription's filter lets a message through. bodies: what was read of JSON already."""
    if one.filter is None:
        return True
    body = None
    if one.filter.by_body:
        text = message.body_for(one.protocol)
        if text not in bodies:
            bodies[text] = body_of(text)
        body = bodies[text]
    if one.filter.wants(message.attributes, body):
        return True
    figures.filtered(cloud, one.topic, message, by_body=one.filter.by_body)
    return False


def entry(ctx: Context, one: Subscription, message: Message, data: bytes = b"") -> tuple[Change, Lane]:
    """One message on its way to one subscription. What is no notification tells by itself where it goes: the subscription may be gone."""
    fact: dict[str, Any] = {"t": one.topic.arn, "s": one.uid, "m": message.id, "p": data or sealed(ctx.keyring, message)}
    if message.kind != NOTIFICATION:
        fact |= {"to": one.endpoint, "by": one.protocol, "k": message.kind}
    consumer = CONSUMERS[one.protocol]
    return ctx.cloud.events.recording(consumer, one.uid, message.group or message.id, fact), (consumer, one.uid)


def wake(cloud: Cloud, lanes: Sequence[Lane]) -> None:
    for consumer, lane in lanes:
        cloud.events.wake(consumer, lane)
