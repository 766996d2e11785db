"""Confirmations: what an endpoint is asked, the token that answers, and the way back for who was unsubscribed by a link.

    Table("", "", "snsdata", "Token")    digest of a token -> {arn: the subscription's, at, left: its row where it was ended by a link}

The token alone finds its subscription, as on AWS; a topic of that account and Region must only be named.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final

from pilvi.core.arn import Arn
from pilvi.core.errors import AlreadyExists, Conflict, NotFound, ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.sns import archive, outbox
from pilvi.services.sns.envelope import confirmation_text
from pilvi.services.sns.errors import invalid
from pilvi.services.sns.message import CONFIRMATION, FAREWELL, Message
from pilvi.services.sns.topics import (
    DATA,
    SERVICE,
    Subscription,
    find_subscription,
    look,
    owned_table,
    revise_subscription,
    subscription_table,
)
from pilvi.storage.records import Change, Expect, Insert, Put, Row, Table

ops = Operations(on_loop=True)

TOKENS: Final = Table("", "", DATA, "Token")
TOKEN_S: Final = 48 * 3600.0
"""For so long a subscription may be confirmed. Source: SNS developer guide, "Confirm the Amazon SNS subscription"."""
_TOKEN = re.compile(r"[0-9a-f]+\Z")


@ops
async def confirm_subscription(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Confirm a subscription with the token that its endpoint was sent; needs no signature. The same again gives the same ARN.

    req: TopicArn, Token, AuthenticateOnUnsubscribe (true, in a signed request: only the owners may end it).
    Errors: InvalidParameter - no such token, or older than two days; a topic elsewhere.
    """
    where = Arn.parse(req["TopicArn"])
    if where is None or where.service != SERVICE or not where.account or not where.resource:
        raise invalid("Topic")
    if not _TOKEN.match(req["Token"]):
        raise ServiceError("InvalidParameterException", "Invalid token", 400)
    row = ctx.store.get(TOKENS, _digest(req["Token"]))
    if row is None or ctx.clock.time_s() - row.value["at"] > TOKEN_S:
        raise invalid("Token")
    arn: str = row.value["arn"]
    if arn.split(":")[3:5] != [where.region, where.account]:
        raise invalid("Topic")
    if row.value["left"] is not None:
        await _come_back(ctx, arn, row)
        return {"SubscriptionArn": arn}
    try:
        one = find_subscription(ctx.cloud, arn)
    except ServiceError:
        raise invalid("Token") from None
    if not one.is_confirmed:
        await _confirm(ctx, one, req.get("AuthenticateOnUnsubscribe") or "")
    return {"SubscriptionArn": arn}


async def _confirm(ctx: Context, one: Subscription, authenticate: str) -> None:
    is_authenticated = authenticate.lower() == "true" and ctx.principal.kind != "anonymous"

    def change(value: dict[str, Any]) -> None:
        value |= {"confirmed": True, "authenticated": is_authenticated}

    await revise_subscription(ctx, one, change)
    if "ReplayPolicy" in one.attributes:
        await archive.begin(ctx, one)


async def _come_back(ctx: Context, arn: str, token: Row) -> None:
    """Somebody who was unsubscribed by a link takes that back: the subscription is as it was."""
    where = Arn.parse(arn)
    assert where is not None
    name = where.resource.partition(":")[0]
    topic = look(ctx.cloud, where.account, where.region, name)
    if topic is None:
        raise invalid("Token")
    changes: list[Change] = [
        Expect(topic.table, topic.name, topic.version),
        Put(TOKENS, token.id, {**token.value, "left": None}),
        Insert(subscription_table(where.account, where.region), where.resource, token.value["left"]),
        Put(owned_table(token.value["left"]["owner"], where.region), arn, {}),
    ]
    try:
        await ctx.store.commit(changes)
    except (AlreadyExists, Conflict, NotFound):
        raise invalid("Token") from None


# -- what others use ----------------------------------------------------------------------------------------------------------


def asking(ctx: Context, one: Subscription) -> tuple[list[Change], outbox.Lane]:
    """The message that asks an endpoint whether it wants this subscription, with a new token."""
    return _sending(ctx, one, CONFIRMATION, confirmation_text(one.topic.arn), None)


def leaving(ctx: Context, one: Subscription) -> tuple[list[Change], outbox.Lane]:
    """The message that tells an endpoint that it is no longer subscribed. Its token brings it back for two days."""
    text = (
        f"You have chosen to deactivate subscription {one.arn}.\n"
        "To cancel this operation and restore the subscription, visit the SubscribeURL included in this message."
    )
    return _sending(ctx, one, FAREWELL, text, one.row)


def _sending(
    ctx: Context, one: Subscription, kind: str, text: str, left: dict[str, Any] | None
) -> tuple[list[Change], outbox.Lane]:
    token, now = ctx.ids.hex(192), ctx.clock.time_s()
    message = Message(ctx.ids.uuid(), kind, now, text, {}, "", {}, token=token)
    change, lane = outbox.entry(ctx, one, message)
    return [change, Put(TOKENS, _digest(token), {"arn": one.arn, "at": now, "left": left})], lane


def _digest(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()
