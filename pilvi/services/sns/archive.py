"""The archive of a FIFO topic, and its replay to one subscription.

    Table(account, Region, "snsdata", topic's uid + "~")    sequence number -> {m: message id, p: sealed, g: group, at}

A replay hands the archived messages of a span of time to the subscription in their order; meanwhile new ones are only archived, and
follow when the replay has caught up. How far it is stands in the subscription's row, so it goes on after a restart; a message may be
delivered twice then, which a FIFO queue notices.

Source: SNS developer guide, "Message archiving and replay for FIFO topics".
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any, Final

from pilvi.core.errors import Conflict, ServiceError
from pilvi.core.service import Context
from pilvi.services.sns import outbox
from pilvi.services.sns.message import Message, opened, sealed
from pilvi.services.sns.subscription_attributes import moment
from pilvi.services.sns.topics import DATA, Subscription, Topic, as_sns, find_subscription, revise_subscription, subscription_table
from pilvi.storage.records import Change, Put, Table, Update

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

log = logging.getLogger("pilvi.sns")

PAGE: Final = 100
_MEMORY: Final = "sns:replays"


def archive_table(account: str, region: str, uid: str) -> Table:
    return Table(account, region, DATA, f"{uid}~")


def keeping(ctx: Context, topic: Topic, message: Message) -> Change:
    """Part of the publish's transaction."""
    value = {"m": message.id, "p": sealed(ctx.keyring, message), "at": message.at}
    return Put(archive_table(topic.account, topic.region, topic.uid), message.sequence, value)


def status_of(one: Subscription) -> str:
    """ReplayStatus; '' where nobody asked for a replay."""
    found: dict[str, str] = one.row.get("replay") or one.row.get("replayed") or {}
    return found.get("status", "")


async def begin(ctx: Context, one: Subscription) -> None:
    """Replay as the subscription's ReplayPolicy says, which has just been set."""

    def change(value: dict[str, Any]) -> None:
        value["replay"] = {"status": "In progress", "after": ""}
        value.pop("replayed", None)

    await revise_subscription(ctx, one, change)
    start(ctx.cloud, one.arn)


async def end(ctx: Context, one: Subscription) -> None:
    """No replay any more."""

    def change(value: dict[str, Any]) -> None:
        value.pop("replay", None)
        value.pop("replayed", None)

    await revise_subscription(ctx, one, change)


def start(cloud: Cloud, arn: str) -> None:
    """Work on a replay, on the loop."""
    tasks: dict[str, asyncio.Task[None]] = cloud.memory.setdefault(_MEMORY, {})
    if arn in tasks and not tasks[arn].done():
        tasks[arn].cancel()
    tasks[arn] = asyncio.get_running_loop().create_task(_replay(cloud, arn))


async def _replay(cloud: Cloud, arn: str) -> None:
    try:
        while await _page(cloud, arn):
            await asyncio.sleep(0)
    except ServiceError as error:
        log.info("replay of %s ended: %s", arn, error.message)


async def _page(cloud: Cloud, arn: str) -> bool:
    """Some more messages; whether there may be others."""
    one = find_subscription(cloud, arn)
    if "replay" not in one.row or "ReplayPolicy" not in one.attributes:
        return False
    policy = json.loads(one.attributes["ReplayPolicy"])
    topic = one.topic
    first, last = moment(policy["StartingPoint"]) or 0.0, moment(policy.get("EndingPoint"))
    rows = cloud.store.scan(archive_table(topic.account, topic.region, topic.uid), after=one.row["replay"]["after"], limit=PAGE)
    ctx = as_sns(cloud, topic.account, topic.region, topic.arn)
    wanted = [row for row in rows if row.value["at"] >= first and (last is None or row.value["at"] <= last)]
    is_through = len(rows) < PAGE or (last is not None and rows[-1].value["at"] > last)
    value = {**one.row, "replay": {"status": "In progress", "after": rows[-1].id if rows else one.row["replay"]["after"]}}
    if is_through:
        value["replayed"] = {"status": "Completed"}
        del value["replay"]
    changes: list[Change] = [Update(subscription_table(topic.account, topic.region), one.id, value, one.version)]
    lane = None
    for row in wanted:
        message = opened(cloud.keyring, row.value["m"], row.value["p"])
        if outbox.wants(cloud, one, message, {}):
            change, lane = outbox.entry(ctx, one, message, row.value["p"])
            changes.append(change)
    try:
        await cloud.store.commit(changes)
    except Conflict:
        return True  # the subscription was changed: look again
    if lane is not None:
        outbox.wake(cloud, [lane])
    return not is_through
