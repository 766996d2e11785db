"""Subscriptions: made, listed, set, ended. How they are confirmed: confirmation.py."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from pilvi.core.arn import Arn
from pilvi.core.errors import Conflict, NotFound, ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.sns import archive, confirmation, outbox
from pilvi.services.sns.endpoints import check_endpoint
from pilvi.services.sns.errors import bad_attributes, invalid, no_endpoint, unauthorized
from pilvi.services.sns.filters import BY_ATTRIBUTES
from pilvi.services.sns.platform_endpoint import look_endpoint
from pilvi.services.sns.subscription_attributes import applied
from pilvi.services.sns.topic import position, token_of
from pilvi.services.sns.topics import (
    Subscription,
    Topic,
    find,
    find_subscription,
    owned_table,
    revise_subscription,
    subscription_table,
)
from pilvi.storage.records import Change, Delete, Expect, Insert, Put, Row, Update

ops = Operations(on_loop=True)

PAGE: Final = 100
MOST_FILTERS: Final = 200
PENDING: Final = "PendingConfirmation"
_CONFIRMED_BY_OWNER: Final = ("sqs", "lambda", "application")
_DEFAULTS: Final = {"RawMessageDelivery": "false", "FilterPolicyScope": BY_ATTRIBUTES}
_UNCONFIRMED: Final = ("http", "https", "email", "email-json")


@ops
async def subscribe(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make a subscription; the same again gives the same one, and sends its confirmation once more where that is missing.

    req: TopicArn, Protocol, Endpoint, Attributes, ReturnSubscriptionArn.
    Errors: NotFound. InvalidParameter - protocol, endpoint, attributes, or it is there with others. FilterPolicyLimitExceeded.
    NotImplemented - Firehose.
    Source: SNS API reference, Subscribe.
    """
    topic = find(ctx, req["TopicArn"])
    protocol, given = req["Protocol"], req.get("Attributes") or {}
    endpoint = check_endpoint(topic, protocol, req.get("Endpoint") or "")
    _check_is_not_here(ctx, protocol, endpoint)
    wanted = _wanted(topic, protocol, endpoint, given)
    there = next((one for one in topic.subscriptions if one.protocol == protocol and one.endpoint == endpoint), None)
    if there is not None:
        return await _again(ctx, there, wanted, given, req)
    if protocol == "application" and look_endpoint(ctx.cloud, endpoint) is None:
        raise no_endpoint()
    if "FilterPolicy" in wanted:
        _check_room(topic)
    is_confirmed = protocol == "sms" or (protocol in _CONFIRMED_BY_OWNER and _owner_of(endpoint) == ctx.principal.account)
    uid = ctx.ids.uuid()
    value: dict[str, Any] = {
        "owner": ctx.account,
        "protocol": protocol,
        "endpoint": endpoint,
        "attributes": wanted,
        "confirmed": is_confirmed,
        "authenticated": is_confirmed,
        "principal": ctx.principal.arn,
        "created": ctx.clock.time_s(),
    }
    if not is_confirmed:
        value["asked"] = ctx.clock.time_s()
    one = Subscription(topic, Row(f"{topic.name}:{uid}", value, 1))
    changes: list[Change] = [
        Expect(topic.table, topic.name, topic.version),
        Insert(subscription_table(topic.account, topic.region), one.id, value),
        Put(owned_table(ctx.account, topic.region), one.arn, {}),
    ]
    lanes = []
    if not is_confirmed:
        more, lane = confirmation.asking(ctx, one)
        changes += more
        lanes.append(lane)
    try:
        await ctx.store.commit(changes)
    except Conflict:  # the topic was changed, or deleted, in between
        found: Mapping[str, Any] = await subscribe(ctx, req)
        return found
    outbox.wake(ctx.cloud, lanes)
    if is_confirmed and "ReplayPolicy" in wanted:
        await archive.begin(ctx, one)
    return {"SubscriptionArn": _shown_arn(one, req)}


@ops
async def list_subscriptions(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The caller's subscriptions in this Region, 100 at a time. Errors: InvalidParameter - a foreign token."""
    rows = ctx.store.scan(owned_table(ctx.account, ctx.region), after=position(req.get("NextToken")), limit=PAGE + 1)
    found = []
    for row in rows[:PAGE]:
        try:
            found.append(_listed(find_subscription(ctx.cloud, row.id)))
        except ServiceError:
            continue  # being deleted right now
    return {"Subscriptions": found} | ({"NextToken": token_of(rows[PAGE - 1].id)} if len(rows) > PAGE else {})


@ops
async def list_subscriptions_by_topic(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """A topic's subscriptions, 100 at a time. Errors: NotFound. InvalidParameter - a foreign token."""
    topic = find(ctx, req["TopicArn"])
    after = position(req.get("NextToken"))
    rest = [one for one in topic.subscriptions if one.uid > after]
    more = {"NextToken": token_of(rest[PAGE - 1].uid)} if len(rest) > PAGE else {}
    return {"Subscriptions": [_listed(one) for one in rest[:PAGE]]} | more


@ops
async def get_subscription_attributes(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is set of a subscription. Errors: NotFound. InvalidParameter - the ARN. AuthorizationError - somebody else's."""
    one = _own(ctx, req["SubscriptionArn"])
    found = {
        "SubscriptionArn": one.arn,
        "TopicArn": one.topic.arn,
        "Owner": one.owner,
        "Protocol": one.protocol,
        "Endpoint": one.endpoint,
        "PendingConfirmation": "false" if one.is_confirmed else "true",
        "ConfirmationWasAuthenticated": "true" if one.row["authenticated"] else "false",
        "RawMessageDelivery": "false",
        "SubscriptionPrincipal": one.row["principal"],
    }
    if one.protocol in ("http", "https"):
        found["EffectiveDeliveryPolicy"] = json.dumps(one.http.shown, separators=(",", ":"))
    if status := archive.status_of(one):
        found["ReplayStatus"] = status
    attributes = dict(one.attributes)
    if one.is_filtered:
        attributes.setdefault("FilterPolicyScope", BY_ATTRIBUTES)
    else:
        attributes.pop("FilterPolicyScope", None)
    return {"Attributes": found | attributes}


@ops
async def set_subscription_attributes(ctx: Context, req: Mapping[str, Any]) -> None:
    """Change one attribute; it counts from the next message on. Nothing as its value takes it away.

    Errors: NotFound. InvalidParameter - no such attribute, or not this value. FilterPolicyLimitExceeded. AuthorizationError.
    """
    one = _own(ctx, req["SubscriptionArn"])
    name, value = req["AttributeName"], req.get("AttributeValue") or ""
    if name == "FilterPolicy" and value and not one.is_filtered:
        _check_room(one.topic)

    def change(row: dict[str, Any]) -> None:
        row["attributes"] = applied(one.topic, one.protocol, one.endpoint, row["attributes"], {name: value})

    await revise_subscription(ctx, one, change)
    if name == "ReplayPolicy":
        await (archive.begin(ctx, _own(ctx, one.arn)) if value else archive.end(ctx, one))


@ops
async def unsubscribe(ctx: Context, req: Mapping[str, Any]) -> None:
    """End a subscription; one that is not there is no error. Without a signature, as by the link in a message, only where the
    confirmation did not ask for one; the endpoint then hears how to come back.

    Errors: InvalidParameter - the ARN. AuthorizationError - not the subscription's nor the topic's owner.
    """
    try:
        one = find_subscription(ctx.cloud, req["SubscriptionArn"])
    except ServiceError as error:
        if error.code != "NotFoundException":
            raise
        return
    is_stranger = ctx.principal.account not in (one.owner, one.topic.account)
    if is_stranger and one.row["authenticated"]:
        raise unauthorized("This subscription can only be ended by its owner or the topic's.")
    topic = one.topic
    changes: list[Change] = [
        Delete(subscription_table(topic.account, topic.region), one.id),
        Delete(owned_table(one.owner, topic.region), one.arn),
    ]
    lanes = []
    row = ctx.store.get(topic.table, topic.name)
    if row is not None:
        changes.append(Update(topic.table, topic.name, {**row.value, "deleted": row.value["deleted"] + 1}, row.version))
    if is_stranger and one.is_confirmed and one.protocol in _UNCONFIRMED:
        more, lane = confirmation.leaving(ctx, one)
        changes += more
        lanes.append(lane)
    try:
        await ctx.store.commit(changes)
    except (NotFound, Conflict):
        await unsubscribe(ctx, req)
        return
    outbox.wake(ctx.cloud, lanes)


# -- inside -----------------------------------------------------------------------------------------------------------------


async def _again(
    ctx: Context, there: Subscription, wanted: Mapping[str, str], given: Mapping[str, str], req: Mapping[str, Any]
) -> Mapping[str, Any]:
    has = {**_DEFAULTS, **there.attributes}
    if any(has.get(name) != wanted.get(name, _DEFAULTS.get(name)) for name in given):
        raise bad_attributes("Subscription already exists with different attributes")
    if not there.is_confirmed:
        table = subscription_table(there.topic.account, there.topic.region)
        more, lane = confirmation.asking(ctx, there)
        try:
            await ctx.store.commit([Update(table, there.id, {**there.row, "asked": ctx.clock.time_s()}, there.version), *more])
        except Conflict:
            found: Mapping[str, Any] = await subscribe(ctx, req)
            return found
        outbox.wake(ctx.cloud, [lane])
    return {"SubscriptionArn": _shown_arn(there, req)}


def _wanted(topic: Topic, protocol: str, endpoint: str, given: Mapping[str, str]) -> dict[str, str]:
    try:
        return applied(topic, protocol, endpoint, {}, given)
    except ServiceError as error:
        reason = error.message.removeprefix("Invalid parameter: ")
        raise bad_attributes(reason) if ":" in reason else error from None


def _own(ctx: Context, arn: str) -> Subscription:
    one = find_subscription(ctx.cloud, arn)
    if ctx.principal.account not in (one.owner, one.topic.account):
        raise unauthorized("Not the owner of this subscription")
    return one


def _check_room(topic: Topic) -> None:
    if sum(1 for one in topic.subscriptions if one.is_filtered) >= MOST_FILTERS:
        raise ServiceError("FilterPolicyLimitExceededException", f"Filter policy limit exceeded: {MOST_FILTERS}", 403)


def _owner_of(endpoint: str) -> str:
    arn = Arn.parse(endpoint)
    return arn.account if arn is not None else ""


def _listed(one: Subscription) -> dict[str, str]:
    return {
        "SubscriptionArn": one.arn if one.is_confirmed else PENDING,
        "Owner": one.owner,
        "Protocol": one.protocol,
        "Endpoint": one.endpoint,
        "TopicArn": one.topic.arn,
    }


def _shown_arn(one: Subscription, req: Mapping[str, Any]) -> str:
    return one.arn if one.is_confirmed or req.get("ReturnSubscriptionArn") else "pending confirmation"


def _check_is_not_here(ctx: Context, protocol: str, endpoint: str) -> None:
    """Messages go where people say, but never to this server's own doors."""
    if protocol in ("http", "https") and endpoint.startswith(f"{ctx.cloud.endpoint}/_pilvi"):
        raise invalid("Endpoint Reason: this server does not send messages to itself")
