"""Delivery: a message and a subscription become a call, a request, or a letter. What comes of failures: retry.py.

A queue or a function is called as SNS, for the topic: its own policy must let sns.amazonaws.com in, with aws:SourceArn the topic.
Source: SNS developer guide, "Fanout to Amazon SQS queues", "HTTP/HTTPS headers", "Raw message delivery".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pilvi.core.arn import Arn
from pilvi.core.errors import ServiceError
from pilvi.core.service import Context
from pilvi.events.outgoing import Answer, Unreachable, post
from pilvi.events.targets import compact, send
from pilvi.services.sns import envelope, figures, push, sms, spool, status_log, usage
from pilvi.services.sns.message import NOTIFICATION, Message, opened
from pilvi.services.sns.signer import signer_of
from pilvi.services.sns.topics import Subscription, Topic, as_sns, look

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
    from pilvi.events import Fact

HTTP_S: Final = 15.0
"""An endpoint that takes longer has failed. Source: SNS developer guide, "Make sure your endpoint is ready"."""
AGENT: Final = "Amazon Simple Notification Service Agent"
MOST_RAW_ATTRIBUTES: Final = 10
_MEMORY: Final = "sns:throttle"


class Refused(ServiceError):
    """A web server answered, and not with success."""

    def __init__(self, answer: Answer) -> None:
        super().__init__("HttpError", f"The endpoint answered {answer.status}.", answer.status)
        self.is_lasting = answer.status < 500 and answer.status != 429


class Delivery(NamedTuple):
    """One message on its way to one endpoint."""

    cloud: Cloud
    topic: Topic
    subscription: Subscription | None
    """None where it is gone: a farewell."""
    arn: str
    protocol: str
    endpoint: str
    message: Message

    @property
    def ctx(self) -> Context:
        return as_sns(self.cloud, self.topic.account, self.topic.region, self.topic.arn).traced(self.message.trace)

    @property
    def is_raw(self) -> bool:
        return self.subscription is not None and self.subscription.is_raw and self.message.kind == NOTIFICATION


async def deliver(cloud: Cloud, fact: Fact) -> None:
    """Hand a message over. Nothing to do where the subscription ended, or the topic was deleted, in between."""
    found = delivery_of(cloud, fact)
    if found is None:
        return
    begun = cloud.clock.time_s()
    answer = await KINDS[found.protocol](found)
    if found.message.kind != NOTIFICATION:
        return
    figures.count(cloud, found.topic, figures.DELIVERED)
    _count(found)
    feedback = status_log.of_topic(found.topic, found.protocol)
    await status_log.succeeded(found.ctx, feedback, found.endpoint, found.message, answer, cloud.clock.time_s() - begun)


def delivery_of(cloud: Cloud, fact: Fact) -> Delivery | None:
    arn = Arn.parse(fact["t"])
    topic = look(cloud, arn.account, arn.region, arn.resource) if arn is not None else None
    if topic is None:
        return None
    one = topic.subscription(fact["s"])
    kind = fact.get("k", NOTIFICATION)
    if one is None and kind != "UnsubscribeConfirmation":
        return None
    if one is not None and one.is_confirmed != (kind == NOTIFICATION) and kind != "UnsubscribeConfirmation":
        return None  # confirmed before it was asked
    message = opened(cloud.keyring, fact["m"], fact["p"])
    protocol, endpoint = (one.protocol, one.endpoint) if one is not None else (fact["by"], fact["to"])
    return Delivery(cloud, topic, one, f"{topic.arn}:{fact['s']}", protocol, endpoint, message)


async def members_of(found: Delivery) -> dict[str, Any]:
    """What the endpoint is told, signed but of FIFO topics."""
    topic, endpoint = found.topic, found.cloud.endpoint
    told = envelope.members(
        found.message, topic_arn=topic.arn, subscription_arn=found.arn, protocol=found.protocol, endpoint=endpoint
    )
    if topic.is_fifo:
        return told
    return envelope.signed(told, await signer_of(found.cloud), topic.signature_version, endpoint)


async def text_and_attributes(found: Delivery) -> tuple[str, dict[str, dict[str, Any]]]:
    """As queues get it: raw, with the message attributes as the queue's own, or as JSON."""
    if not found.is_raw:
        return envelope.text_of(await members_of(found)), {}
    attributes = envelope.raw_attributes(found.message)
    if len(attributes) > MOST_RAW_ATTRIBUTES:
        raise ServiceError("InvalidParameterValue", "A raw message to a queue can have 10 attributes at most.")
    return found.message.body_for(found.protocol), attributes


# -- kinds --------------------------------------------------------------------------------------------------------------------


async def _to_queue(found: Delivery) -> Answer:
    await send_to_queue(found, found.endpoint)
    return Answer(200)


async def send_to_queue(found: Delivery, arn: str) -> None:
    """Also for dead letters."""
    text, attributes = await text_and_attributes(found)
    options: dict[str, Any] = {"MessageAttributes": attributes} if attributes else {}
    message = found.message
    if arn.endswith(".fifo"):
        options |= {"MessageGroupId": message.group, "MessageDeduplicationId": message.duplicate_id}
    elif message.group and not found.topic.is_fifo:
        options["MessageGroupId"] = message.group
    await send(found.ctx, arn, text, options=options)


async def _to_function(found: Delivery) -> Answer:
    await send(found.ctx, found.endpoint, compact(envelope.event_of(await members_of(found), found.arn)))
    return Answer(202)


async def _to_web(found: Delivery) -> Answer:
    message, one = found.message, found.subscription
    policy = one.http if one is not None else None
    headers = {
        "x-amz-sns-message-type": message.kind,
        "x-amz-sns-message-id": message.id,
        "x-amz-sns-topic-arn": found.topic.arn,
        "Content-Type": policy.content_type if policy is not None else "text/plain; charset=UTF-8",
        "User-Agent": AGENT,
        "Accept-Encoding": "gzip,deflate",
    }
    if message.kind != "SubscriptionConfirmation":
        headers["x-amz-sns-subscription-arn"] = found.arn
    if found.is_raw:
        headers["x-amz-sns-rawdelivery"] = "true"
    if message.trace:
        headers["X-Amzn-Trace-Id"] = message.trace
    text = message.body_for(found.protocol) if found.is_raw else envelope.text_of(await members_of(found))
    if policy is not None and policy.most_a_second:
        await _throttle(found, policy.most_a_second)
    answer = await post(found.endpoint, text.encode(), headers, timeout_s=HTTP_S, own=found.cloud.endpoint)
    if not 200 <= answer.status < 300:
        raise Refused(answer)
    return answer


async def _throttle(found: Delivery, most_a_second: int) -> None:
    """maxReceivesPerSecond: each delivery takes the next free place in time."""
    loop = asyncio.get_running_loop()
    places: dict[str, float] = found.cloud.memory.setdefault(_MEMORY, {})
    place = max(loop.time(), places.get(found.arn, 0.0))
    places[found.arn] = place + 1.0 / most_a_second
    if (wait_s := place - loop.time()) > 0:
        await asyncio.sleep(wait_s)


async def _to_mailbox(found: Delivery) -> Answer:
    told = await members_of(found)
    subject, text = envelope.letter(found.message, told)
    if found.protocol == "email-json":
        text = envelope.text_of(told)
    topic = found.topic
    sender = f"{topic.attributes.get('DisplayName') or 'AWS Notifications'} <no-reply@sns.amazonaws.com>"
    letter = spool.posting(
        found.cloud,
        topic.account,
        topic.region,
        kind=spool.EMAIL,
        to=found.endpoint,
        text=text,
        source=topic.arn,
        subject=subject,
        sender=sender,
    )
    await found.cloud.store.commit([letter])
    return Answer(200)


async def _to_phone(found: Delivery) -> Answer:
    topic, message = found.topic, found.message
    if sms.is_opted_out(found.cloud, topic.account, topic.region, found.endpoint):
        raise ServiceError("OptedOutException", f"The phone number {found.endpoint} is opted out.")
    name = topic.attributes.get("DisplayName", "")
    body = message.body_for("sms")
    text = f"{name}> {body}" if name else body
    sender = sms.sender_of(found.cloud, topic.account, topic.region, message.attributes)
    await found.cloud.store.commit(
        [sms.text_letter(found.cloud, topic.account, topic.region, found.endpoint, text, topic.arn, sender)]
    )
    return Answer(200)


async def _to_application(found: Delivery) -> Answer:
    message = found.message
    await found.cloud.store.commit(
        [push.pushing(found.cloud, found.endpoint, message.bodies, message.body, message.subject, found.topic.arn)]
    )
    return Answer(200)


KINDS: Final[Mapping[str, Callable[[Delivery], Awaitable[Answer]]]] = {
    "sqs": _to_queue,
    "lambda": _to_function,
    "http": _to_web,
    "https": _to_web,
    "email": _to_mailbox,
    "email-json": _to_mailbox,
    "sms": _to_phone,
    "application": _to_application,
}


def _count(found: Delivery) -> None:
    if found.protocol == "application":
        kind = f"DeliveryAttempts-{found.endpoint.split('/')[1]}"
    else:
        kind = usage.DELIVERIES[found.protocol]
    usage.count_delivery(found.cloud, found.topic, kind)


__all__ = ["Delivery", "Refused", "Unreachable", "deliver", "delivery_of", "send_to_queue"]
