"""Attributes of queues: which there are, what they may be, and what they are when nobody says. Pure.

Source: SQS API reference, CreateQueue and SetQueueAttributes; developer guide, "Amazon SQS message quotas".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from pilvi.auth.policy import MalformedPolicy, parse
from pilvi.core.arn import Arn
from pilvi.services.sqs.errors import bad_attribute, bad_value, unknown_attribute

RANGES: Final[Mapping[str, tuple[int, int, int]]] = {
    "DelaySeconds": (0, 900, 0),
    "MaximumMessageSize": (1024, 1 << 20, 1 << 20),
    "MessageRetentionPeriod": (60, 1_209_600, 345_600),
    "ReceiveMessageWaitTimeSeconds": (0, 20, 0),
    "VisibilityTimeout": (0, 43_200, 30),
    "KmsDataKeyReusePeriodSeconds": (60, 86_400, 300),
}
"""Least, most and default."""
_TRUTHS: Final = frozenset({"FifoQueue", "ContentBasedDeduplication", "SqsManagedSseEnabled"})
_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "DeduplicationScope": ("messageGroup", "queue"),
    "FifoThroughputLimit": ("perQueue", "perMessageGroupId"),
}
_FIFO_ONLY: Final = frozenset({"FifoQueue", "ContentBasedDeduplication", "DeduplicationScope", "FifoThroughputLimit"})
_TEXTS: Final = frozenset({"Policy", "RedrivePolicy", "RedriveAllowPolicy", "KmsMasterKeyId"})
SETTABLE: Final = frozenset(RANGES) | _TRUTHS | frozenset(_WORDS) | _TEXTS
COUNTS: Final = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed")
TOLD: Final = SETTABLE | frozenset(COUNTS) | {"CreatedTimestamp", "LastModifiedTimestamp", "QueueArn"}
POLICY_BYTES: Final = 8192
_SOURCES: Final = 10


def checked(given: Mapping[str, str], *, name: str, creating: bool) -> dict[str, str]:
    """Attributes in their one form; those given as '' are to be taken away.

    Errors: InvalidAttributeName - no such attribute, or not of this kind of queue. InvalidAttributeValue.
    """
    is_fifo = name.endswith(".fifo")
    found: dict[str, str] = {}
    for key, value in given.items():
        if key == "FifoQueue" and creating and not is_fifo and value.lower() == "true":
            raise _bad_name(name)
        if key not in SETTABLE or (key in _FIFO_ONLY and not is_fifo) or (key == "FifoQueue" and not creating):
            raise unknown_attribute(key)
        found[key] = _one(key, value)
    if creating and is_fifo and "FifoQueue" not in found:
        raise _bad_name(name)
    if found.get("KmsMasterKeyId") and found.get("SqsManagedSseEnabled") == "true":
        raise bad_attribute("SqsManagedSseEnabled")
    return found


def _bad_name(name: str) -> Exception:
    """A FIFO queue is one by its name and by its attribute, or by neither."""
    reason = (
        "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length"
        if name.endswith(".fifo")
        else "The name of a FIFO queue can only include alphanumeric characters, hyphens, or underscores, must end with .fifo suffix and "
        "be 1 to 80 in length."
    )
    return bad_value(name, "QueueName", reason)


def _one(key: str, value: str) -> str:
    if key in RANGES:
        least, most, _ = RANGES[key]
        if not value.isascii() or not value.isdigit() or len(value) > 9 or not least <= int(value) <= most:
            raise bad_attribute(key)
        return str(int(value))
    if key in _TRUTHS:
        if value.lower() not in ("true", "false") or (key == "FifoQueue" and value.lower() == "false"):
            raise bad_attribute(key)
        return value.lower()
    if key in _WORDS:
        if value not in _WORDS[key]:
            raise bad_attribute(key)
        return value
    if not value:
        return value
    return _TEXT_CHECKS[key](value)


def _policy(text: str) -> str:
    try:
        parse(text, "resource")
    except MalformedPolicy:
        raise bad_attribute("Policy") from None
    if len(text.encode()) > POLICY_BYTES:
        raise bad_attribute("Policy")
    return text


def _object(key: str, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise bad_value(text, key, "Amazon SQS can't create the redrive policy, as it isn't a valid JSON map.")
    return found


def _redrive(text: str) -> str:
    found = _object("RedrivePolicy", text)
    target, many = found.get("deadLetterTargetArn"), found.get("maxReceiveCount")
    if many is None and isinstance(target, str):
        many = 10
    if isinstance(many, str) and many.isascii() and many.isdigit():
        many = int(many)
    if set(found) - {"deadLetterTargetArn", "maxReceiveCount"} or not isinstance(target, str) or not is_queue_arn(target):
        raise bad_value(text, "RedrivePolicy", "Dead letter target does not exist or is not an ARN of a queue.")
    if type(many) is not int or not 1 <= many <= 1000:
        raise bad_value(text, "RedrivePolicy", "Invalid value for maxReceiveCount: must be between 1 and 1000.")
    return json.dumps({"deadLetterTargetArn": target, "maxReceiveCount": many}, separators=(",", ":"))


def _allowing(text: str) -> str:
    found = _object("RedriveAllowPolicy", text)
    permission, sources = found.get("redrivePermission"), found.get("sourceQueueArns")
    if set(found) - {"redrivePermission", "sourceQueueArns"} or permission not in ("allowAll", "denyAll", "byQueue"):
        raise bad_value(text, "RedriveAllowPolicy", "redrivePermission must be one of allowAll, denyAll and byQueue.")
    if (permission == "byQueue") != bool(sources):
        raise bad_value(text, "RedriveAllowPolicy", "sourceQueueArns belong to byQueue, and only to it.")
    if sources and (
        not isinstance(sources, list) or len(sources) > _SOURCES or not all(isinstance(s, str) and is_queue_arn(s) for s in sources)
    ):
        raise bad_value(text, "RedriveAllowPolicy", f"sourceQueueArns must be ARNs of up to {_SOURCES} queues.")
    return json.dumps(found, separators=(",", ":"))


def _key(text: str) -> str:
    if len(text) > 2048:
        raise bad_attribute("KmsMasterKeyId")
    return text


_TEXT_CHECKS = {"Policy": _policy, "RedrivePolicy": _redrive, "RedriveAllowPolicy": _allowing, "KmsMasterKeyId": _key}


def is_queue_arn(text: str) -> bool:
    arn = Arn.parse(text)
    return arn is not None and arn.service == "sqs" and bool(arn.region and arn.account and arn.resource)


def applied(old: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """The attributes after a change: '' takes away; one kind of encryption ends the other."""
    merged = {**old, **given}
    if given.get("KmsMasterKeyId"):
        merged["SqsManagedSseEnabled"] = "false"
    elif given.get("SqsManagedSseEnabled") == "true" or given.get("KmsMasterKeyId") == "":
        merged.pop("KmsMasterKeyId", None)
    found = {key: value for key, value in merged.items() if value != ""}
    if found.get("FifoThroughputLimit") == "perMessageGroupId" and found.get("DeduplicationScope", "queue") != "messageGroup":
        raise bad_attribute("FifoThroughputLimit")
    return found


def with_defaults(attributes: Mapping[str, str], *, is_fifo: bool) -> dict[str, str]:
    """What GetQueueAttributes tells of the settings."""
    found = {key: str(default) for key, (_, _, default) in RANGES.items() if key != "KmsDataKeyReusePeriodSeconds"}
    found["SqsManagedSseEnabled"] = "true"
    if is_fifo:
        found |= {"FifoQueue": "true", "ContentBasedDeduplication": "false", "DeduplicationScope": "queue"}
        found["FifoThroughputLimit"] = "perQueue"
    found |= attributes
    if "KmsMasterKeyId" in found:
        found.setdefault("KmsDataKeyReusePeriodSeconds", "300")
        found["SqsManagedSseEnabled"] = "false"
    return found
