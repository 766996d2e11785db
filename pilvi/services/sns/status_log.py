"""Delivery status: what became of messages, in CloudWatch Logs, where somebody has named roles for it: a topic (for each kind of
endpoint), a platform application, or the preferences for text messages.

Groups `sns/<region>/<account>/<topic>` (or `app/<platform>/<name>`, or `DirectPublishToPhoneNumber`), and the same with `/Failure`. All
failures are told, and of successes the share that is asked for. Written as the role, which must trust sns.amazonaws.com; a log that
cannot be written costs no delivery.

Source: SNS developer guide, "Amazon SNS message delivery status".
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Mapping
from hashlib import md5
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pilvi.core.errors import PilviError, ServiceError
from pilvi.core.service import Context
from pilvi.events.targets import compact, text_of

if TYPE_CHECKING:
    from pilvi.events.outgoing import Answer
    from pilvi.services.sns.message import Message
    from pilvi.services.sns.topics import Topic

log = logging.getLogger("pilvi.sns")

_KINDS: Final = {"sqs": "SQS", "lambda": "Lambda", "http": "HTTP", "https": "HTTP", "application": "Application"}


class Feedback(NamedTuple):
    """Who wants to know, and how much of it."""

    success_role: str
    failure_role: str
    rate: int
    """Of a hundred successes."""
    group: str
    source: str
    """ARN of the topic or application; '' for direct text messages."""


def of_topic(topic: Topic, protocol: str) -> Feedback:
    group = f"sns/{topic.region}/{topic.account}/{topic.name}"
    return _read(topic.attributes, _KINDS.get(protocol, "?"), group, topic.arn)


def of_application(account: str, region: str, key: str, arn: str, attributes: Mapping[str, str]) -> Feedback:
    return _read(attributes, "", f"sns/{region}/{account}/app/{key}", arn)


def of_phones(account: str, region: str, attributes: Mapping[str, str]) -> Feedback:
    role, rate = attributes.get("DeliveryStatusIAMRole", ""), attributes.get("DeliveryStatusSuccessSamplingRate", "0")
    return Feedback(role, role, int(rate), f"sns/{region}/{account}/DirectPublishToPhoneNumber", "")


def _read(attributes: Mapping[str, str], kind: str, group: str, source: str) -> Feedback:
    return Feedback(
        attributes.get(f"{kind}SuccessFeedbackRoleArn", ""),
        attributes.get(f"{kind}FailureFeedbackRoleArn", ""),
        int(attributes.get(f"{kind}SuccessFeedbackSampleRate") or 100),
        group,
        source,
    )


async def succeeded(ctx: Context, feedback: Feedback, endpoint: str, message: Message, answer: Answer, took_s: float) -> None:
    if feedback.success_role and zlib.crc32(message.id.encode()) % 100 < feedback.rate:
        delivery = _delivery(ctx, endpoint, took_s, answer.status, answer.body.decode("utf-8", "replace")[:1000])
        await _tell(ctx, feedback, feedback.success_role, "", message, delivery, "SUCCESS")


async def failed(ctx: Context, feedback: Feedback, endpoint: str, message: Message, error: Exception, attempts: int) -> None:
    if feedback.failure_role:
        status = (error.status or 400) if isinstance(error, ServiceError) else 500
        delivery = {**_delivery(ctx, endpoint, ctx.clock.time_s() - message.at, status, text_of(error)), "attempts": attempts}
        await _tell(ctx, feedback, feedback.failure_role, "/Failure", message, delivery, "FAILURE")


def _delivery(ctx: Context, endpoint: str, took_s: float, status: int, response: str) -> dict[str, Any]:
    return {
        "deliveryId": ctx.ids.uuid(),
        "destination": endpoint,
        "providerResponse": response,
        "dwellTimeMs": int(took_s * 1000),
        "statusCode": status,
    }


async def _tell(
    ctx: Context, feedback: Feedback, role: str, suffix: str, message: Message, delivery: dict[str, Any], status: str
) -> None:
    notification = {"messageMD5Sum": md5(message.body.encode(), usedforsecurity=False).hexdigest(), "messageId": message.id}
    if feedback.source:
        notification["topicArn"] = feedback.source
    notification["timestamp"] = message.timestamp
    text = compact({"notification": notification, "delivery": delivery, "status": status})
    group, stream = f"{feedback.group}{suffix}", ctx.ids.uuid()
    try:
        inside = ctx.as_role(role, "sns-delivery-status")
        await _made(inside, "CreateLogGroup", logGroupName=group)
        await _made(inside, "CreateLogStream", logGroupName=group, logStreamName=stream)
        event = {"timestamp": int(ctx.clock.time_s() * 1000), "message": text}
        await inside.acall("logs", "PutLogEvents", logGroupName=group, logStreamName=stream, logEvents=[event])
    except PilviError as error:
        log.warning("sns: the delivery status for %s could not be written: %s", group, error.message)


async def _made(ctx: Context, operation: str, **params: Any) -> None:
    try:
        await ctx.acall("logs", operation, **params)
    except ServiceError as error:
        if error.code != "ResourceAlreadyExistsException":
            raise
