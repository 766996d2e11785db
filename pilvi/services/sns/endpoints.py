"""Where subscriptions may point: what each protocol calls an endpoint. Pure.

Source: SNS API reference, Subscribe; messages as quoted in public issue trackers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

from pilvi.core.arn import Arn
from pilvi.core.errors import ServiceError
from pilvi.services.sns.errors import invalid, not_built
from pilvi.services.sns.topics import Topic

PROTOCOLS: Final = ("http", "https", "email", "email-json", "sms", "sqs", "application", "lambda", "firehose")
_MAIL = re.compile(r"[^@\s\x00-\x1f]{1,64}@[^@\s\x00-\x1f]{1,255}\Z")
_PHONE = re.compile(r"\+?[0-9]+([ ./-][0-9]+)*\Z")
"""One sign between digits at most."""


def check_endpoint(topic: Topic, protocol: str, endpoint: str) -> str:
    """The endpoint in its one form. InvalidParameter."""
    if protocol not in PROTOCOLS:
        raise invalid(f"Amazon SNS does not support this protocol string: {protocol}")
    if not endpoint:
        raise invalid("Endpoint")
    if topic.is_fifo and protocol != "sqs":
        raise invalid("Invalid parameter: Endpoint Reason: FIFO topics deliver to SQS queues only")
    return _CHECKS[protocol](topic, endpoint)


def phone_number(text: str) -> str:
    """A number as E.164 writes it: a plus sign and digits; '' for what is none."""
    digits = re.sub(r"[^0-9]", "", text)
    return f"+{digits}" if _PHONE.match(text) and 4 <= len(digits) <= 15 else ""


def _url(scheme: str) -> Callable[[Topic, str], str]:
    def check(_topic: Topic, endpoint: str) -> str:
        if not endpoint.startswith(f"{scheme}://"):
            raise invalid("Endpoint must match the specified protocol")
        try:
            parts = urlsplit(endpoint)
            is_fine = bool(parts.hostname) and (parts.port is None or parts.port > 0)
        except ValueError:
            is_fine = False
        if not is_fine or len(endpoint) > 2048 or any(sign <= " " or sign == "\x7f" for sign in endpoint):
            raise invalid("Endpoint Reason: it is no URL")
        return endpoint

    return check


def _mail(_topic: Topic, endpoint: str) -> str:
    if not _MAIL.match(endpoint):
        raise invalid("Email address")
    return endpoint


def _sms(_topic: Topic, endpoint: str) -> str:
    if not phone_number(endpoint):
        raise ServiceError("InvalidParameterException", f"Invalid SMS endpoint: {endpoint}", 400)
    return phone_number(endpoint)


def _queue(topic: Topic, endpoint: str) -> str:
    arn = Arn.parse(endpoint)
    if arn is None or arn.service != "sqs" or not arn.region or not arn.account or not arn.resource:
        raise invalid("SQS endpoint ARN")
    if arn.resource.endswith(".fifo") and not topic.is_fifo:
        raise invalid("Invalid parameter: Endpoint Reason: FIFO SQS Queues can not be subscribed to standard SNS topics")
    return endpoint


def _function(_topic: Topic, endpoint: str) -> str:
    arn = Arn.parse(endpoint)
    if arn is None or arn.service != "lambda" or not arn.account or not arn.resource.startswith("function:"):
        raise invalid("Lambda endpoint ARN")
    return endpoint


def _application(_topic: Topic, endpoint: str) -> str:
    arn = Arn.parse(endpoint)
    if arn is None or arn.service != "sns" or not arn.resource.startswith("endpoint/"):
        raise invalid("Endpoint")
    return endpoint


def _firehose(_topic: Topic, _endpoint: str) -> str:
    raise not_built("Subscriptions of Firehose delivery streams are")


_CHECKS: Final[Mapping[str, Callable[[Topic, str], str]]] = {
    "http": _url("http"),
    "https": _url("https"),
    "email": _mail,
    "email-json": _mail,
    "sms": _sms,
    "sqs": _queue,
    "lambda": _function,
    "application": _application,
    "firehose": _firehose,
}
