"""Attributes of topics: which there are, and what they may be. Pure.

Source: SNS API reference, CreateTopic and SetTopicAttributes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from pilvi.auth.policy import MalformedPolicy, parse
from pilvi.core.arn import Arn
from pilvi.core.errors import ServiceError
from pilvi.services.sns.delivery_policy import checked_topic_policy
from pilvi.services.sns.errors import invalid, not_built

FEEDBACK_KINDS: Final = ("HTTP", "SQS", "Lambda", "Application", "Firehose")
_ROLES: Final = frozenset(f"{kind}{outcome}FeedbackRoleArn" for kind in FEEDBACK_KINDS for outcome in ("Success", "Failure"))
_RATES: Final = frozenset(f"{kind}SuccessFeedbackSampleRate" for kind in FEEDBACK_KINDS)
_FIFO_ONLY: Final = frozenset({"ContentBasedDeduplication", "FifoThroughputScope", "ArchivePolicy"})
_PLAIN: Final = frozenset({"DisplayName", "Policy", "DeliveryPolicy", "KmsMasterKeyId", "SignatureVersion", "TracingConfig"})
SETTABLE: Final = _PLAIN | _ROLES | _RATES | _FIFO_ONLY
POLICY_BYTES: Final = 30_720
MOST_STATEMENTS: Final = 100
MOST_ARCHIVE_DAYS: Final = 365
_NAME = re.compile(r"[A-Za-z0-9_-]{1,256}\Z")
_FIFO_NAME = re.compile(r"[A-Za-z0-9_-]{1,251}\.fifo\Z")


def check_name(name: str, given: Mapping[str, str]) -> None:
    """A topic is FIFO by its name and by its attribute, or by neither."""
    is_fifo = given.get("FifoTopic", "false").lower() == "true"
    if not (_FIFO_NAME if is_fifo else _NAME).match(name):
        raise invalid("Topic Name")


def checked(given: Mapping[str, str], *, is_fifo: bool) -> dict[str, str]:
    """Attributes at a topic's creation, in their one form."""
    found: dict[str, str] = {}
    for name, value in given.items():
        if name == "FifoTopic":
            if value.lower() not in ("true", "false"):
                raise invalid("Attributes Reason: FifoTopic must be true or false")
            continue
        if name not in SETTABLE:
            raise invalid(f"Attributes Reason: Unknown attribute {name}")
        found[name] = one(name, value, is_fifo=is_fifo)
    return {name: value for name, value in found.items() if value != ""}


def one(name: str, value: str, *, is_fifo: bool) -> str:
    """An attribute's value in its one form; '' takes it away. InvalidParameter."""
    if name not in SETTABLE or (name in _FIFO_ONLY and not is_fifo):
        raise invalid("AttributeName")
    if name in _ROLES or name in _RATES:
        return checked_feedback(name, value)
    return _CHECKS[name](value)


def _display_name(text: str) -> str:
    if len(text) > 100:
        raise _bad("DisplayName")
    return text


def _policy(text: str) -> str:
    if not text:
        return text
    try:
        parse(text, "resource")
    except MalformedPolicy as error:
        raise invalid(f"Policy Error: {error}" if str(error) else "Policy Error: null") from None
    if len(text.encode()) > POLICY_BYTES:
        raise invalid("Policy Error: the policy is too long")
    return text


def _delivery(text: str) -> str:
    return checked_topic_policy(text) if text else text


def _key(text: str) -> str:
    if len(text) > 2048:
        raise _bad("KmsMasterKeyId")
    return text


def _signature(text: str) -> str:
    if text not in ("", "1", "2"):
        raise _bad("SignatureVersion")
    return text


def _tracing(text: str) -> str:
    if text == "Active":
        raise not_built("Active tracing (X-Ray) is")
    if text not in ("", "PassThrough"):
        raise _bad("TracingConfig")
    return text


def _truth(text: str) -> str:
    if text.lower() not in ("true", "false"):
        raise _bad("ContentBasedDeduplication")
    return text.lower()


def _scope(text: str) -> str:
    if text not in ("Topic", "MessageGroup"):
        raise _bad("FifoThroughputScope")
    return text


def _archive(text: str) -> str:
    if not text:
        return text
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise _bad("ArchivePolicy") from None
    if not isinstance(found, dict) or set(found) - {"MessageRetentionPeriod"}:
        raise _bad("ArchivePolicy")
    if not found:
        return ""
    days = found["MessageRetentionPeriod"]
    if isinstance(days, str) and days.isascii() and days.isdigit():
        days = int(days)
    if type(days) is not int or not 1 <= days <= MOST_ARCHIVE_DAYS:
        raise invalid("ArchivePolicy Reason: MessageRetentionPeriod must be between 1 and 365")
    return json.dumps({"MessageRetentionPeriod": str(days)}, separators=(",", ":"))


def checked_feedback(name: str, text: str) -> str:
    """A role, or a share in percent, for delivery status. InvalidParameter."""
    if name.endswith("RoleArn"):
        return _role(name, text)
    if text and (not text.isascii() or not text.isdigit() or int(text) > 100):
        raise _bad(name)
    return text


def _role(name: str, text: str) -> str:
    arn = Arn.parse(text)
    if text and (arn is None or arn.service != "iam" or not arn.resource.startswith("role/")):
        raise _bad(name)
    return text


_CHECKS = {
    "DisplayName": _display_name,
    "Policy": _policy,
    "DeliveryPolicy": _delivery,
    "KmsMasterKeyId": _key,
    "SignatureVersion": _signature,
    "TracingConfig": _tracing,
    "ContentBasedDeduplication": _truth,
    "FifoThroughputScope": _scope,
    "ArchivePolicy": _archive,
}


def _bad(name: str) -> ServiceError:
    return invalid(f"{name}")
