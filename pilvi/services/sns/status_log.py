"""Delivery status: what became of messages, in CloudWatch Logs, where a topic names roles for it.

Groups `sns/<region>/<account>/<topic>` and the same with `/Failure`. All failures are told, and of successes the share that
<Protocol>SuccessFeedbackSampleRate says. Written as the role, which must trust sns.amazonaws.com; a log that cannot be written costs no
delivery.

Source: SNS developer guide, "Amazon SNS message delivery status".
"""

from __future__ import annotations

import logging
import zlib
from hashlib import md5
from typing import TYPE_CHECKING, Any, Final

from pilvi.core.errors import PilviError, ServiceError
from pilvi.core.service import Context
from pilvi.events.targets import compact, text_of

if TYPE_CHECKING:
    from pilvi.events.outgoing import Answer
    from pilvi.services.sns.message import Message
    from pilvi.services.sns.topics import Topic

log = logging.getLogger("pilvi.sns")

_KINDS: Final = {"sqs": "SQS", "lambda": "Lambda", "http": "HTTP", "https": "HTTP", "application": "Application"}


async def succeeded(
    ctx: Context, topic: Topic, protocol: str, endpoint: str, message: Message, answer: Answer, took_s: float
) -> None:
    kind = _KINDS.get(protocol)
    role = topic.attributes.get(f"{kind}SuccessFeedbackRoleArn", "")
    rate = int(topic.attributes.get(f"{kind}SuccessFeedbackSampleRate", "100") or 0)
    if not role or zlib.crc32(message.id.encode()) % 100 >= rate:
        return
    delivery = _delivery(ctx, endpoint, took_s, answer.status, answer.body.decode("utf-8", "replace")[:1000])
    await _tell(ctx, role, topic, "", message, delivery, "SUCCESS")


async def failed(
    ctx: Context, topic: Topic, protocol: str, endpoint: str, message: Message, error: Exception, attempts: int
) -> None:
    role = topic.attributes.get(f"{_KINDS.get(protocol)}FailureFeedbackRoleArn", "")
    if role:
        status = (error.status or 400) if isinstance(error, ServiceError) else 500
        took_s = ctx.clock.time_s() - message.at
        delivery = {**_delivery(ctx, endpoint, took_s, status, text_of(error)), "attempts": attempts}
        await _tell(ctx, role, topic, "/Failure", message, delivery, "FAILURE")


def _delivery(ctx: Context, endpoint: str, took_s: float, status: int, response: str) -> dict[str, Any]:
    return {
        "deliveryId": ctx.ids.uuid(),
        "destination": endpoint,
        "providerResponse": response,
        "dwellTimeMs": int(took_s * 1000),
        "statusCode": status,
    }


async def _tell(
    ctx: Context, role: str, topic: Topic, suffix: str, message: Message, delivery: dict[str, Any], status: str
) -> None:
    notification = {
        "messageMD5Sum": md5(message.body.encode(), usedforsecurity=False).hexdigest(),
        "messageId": message.id,
        "topicArn": topic.arn,
        "timestamp": message.timestamp,
    }
    text = compact({"notification": notification, "delivery": delivery, "status": status})
    group = f"sns/{topic.region}/{topic.account}/{topic.name}{suffix}"
    try:
        inside = ctx.as_role(role, "sns-delivery-status")
        stream = ctx.ids.uuid()
        await _made(inside, "CreateLogGroup", logGroupName=group)
        await _made(inside, "CreateLogStream", logGroupName=group, logStreamName=stream)
        event = {"timestamp": int(ctx.clock.time_s() * 1000), "message": text}
        await inside.acall("logs", "PutLogEvents", logGroupName=group, logStreamName=stream, logEvents=[event])
    except PilviError as error:
        log.warning("sns: the delivery status of %s could not be written: %s", topic.arn, error.message)


async def _made(ctx: Context, operation: str, **params: Any) -> None:
    try:
        await ctx.acall("logs", operation, **params)
    except ServiceError as error:
        if error.code != "ResourceAlreadyExistsException":
            raise
