"""What somebody wants to send, checked: pure.

Source: SQS API reference, SendMessage and SendMessageBatch; developer guide, "Amazon SQS message quotas" and "message metadata".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final, NamedTuple

from pilvi.core.errors import ServiceError
from pilvi.services.sqs.entry import Content
from pilvi.services.sqs.errors import bad_value, invalid, missing
from pilvi.services.sqs.queues import Queue

MOST_BATCH: Final = 10
MOST_BATCH_BYTES: Final = 1 << 20
_MOST_ATTRIBUTES: Final = 10
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ID = re.compile(r"[A-Za-z0-9_-]{1,80}\Z")
_TOKEN = re.compile(r"[A-Za-z0-9!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]{1,128}\Z")
_ATTRIBUTE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,256}\Z")
_TYPE = re.compile(r"(String|Number|Binary)(\..{1,256})?\Z", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?\Z")


class Draft(NamedTuple):
    content: Content
    size: int
    """Of body and attributes, as the limits count them."""
    delay_s: int
    group: str
    duplicate_id: str


def drafted(queue: Queue, req: Mapping[str, Any]) -> Draft:
    """A message that may be sent.

    Errors: InvalidMessageContents - other characters than XML's. InvalidParameterValue - delay, size, attributes, ids.
    MissingParameter - no group or no deduplication id for a FIFO queue.
    """
    body = req["MessageBody"]
    if not body:
        raise missing("MessageBody")
    if not body.isascii() or not body.isprintable():
        check_characters(body)
    attributes = req.get("MessageAttributes") or {}
    system = req.get("MessageSystemAttributes") or {}
    size = len(body) if body.isascii() else len(body.encode())
    if attributes:
        size += _attributes_size(attributes)
    if system:
        _check_system(system)
    if size > queue.most_bytes:
        raise invalid(f"One or more parameters are invalid. Reason: Message must be shorter than {queue.most_bytes} bytes.")
    delay = _delay(queue, req.get("DelaySeconds"))
    group, duplicate_id = _fifo(queue, req, body)
    return Draft(Content(body, attributes, system), size, delay, group, duplicate_id)


def check_characters(text: str) -> None:
    if _FORBIDDEN.search(text):
        raise ServiceError(
            "InvalidMessageContents",
            "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | "
            "#x10000 to #x10FFFF",
            400,
        )


def _delay(queue: Queue, asked: int | None) -> int:
    if asked is None:
        return queue.delay_s
    if not 0 <= asked <= 900:
        raise bad_value(asked, "DelaySeconds", "DelaySeconds must be >= 0 and <= 900.")
    if queue.is_fifo and asked != queue.delay_s:
        raise bad_value(asked, "DelaySeconds", "The request include parameter that is not valid for this queue type.")
    return asked


def _fifo(queue: Queue, req: Mapping[str, Any], body: str) -> tuple[str, str]:
    group, given = req.get("MessageGroupId"), req.get("MessageDeduplicationId")
    if group is not None and not _TOKEN.match(group):
        raise bad_value(
            group, "MessageGroupId", "MessageGroupId can only include alphanumeric and punctuation characters. 1 to 128 in length."
        )
    if not queue.is_fifo:
        if given is not None:
            raise bad_value(given, "MessageDeduplicationId", "The request include parameter that is not valid for this queue type.")
        return group or "", ""
    if group is None:
        raise missing("MessageGroupId")
    if given is None:
        if not queue.by_content:
            raise invalid(
                "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly"
            )
        given = sha256(body.encode()).hexdigest()
    elif not _TOKEN.match(given):
        raise bad_value(
            given,
            "MessageDeduplicationId",
            "MessageDeduplicationId can only include alphanumeric and punctuation characters. 1 to 128 in length.",
        )
    return group, given


def _attributes_size(attributes: Mapping[str, Mapping[str, Any]]) -> int:
    if len(attributes) > _MOST_ATTRIBUTES:
        raise invalid(f"Number of message attributes [{len(attributes)}] exceeds the allowed maximum [{_MOST_ATTRIBUTES}].")
    size = 0
    for name, value in attributes.items():
        size += _check_attribute(name, value)
    return size


def _check_attribute(name: str, value: Mapping[str, Any]) -> int:
    lower = name.lower()
    if (
        not _ATTRIBUTE_NAME.match(name)
        or lower.startswith(("aws.", "amazon."))
        or name[0] == "."
        or name[-1] == "."
        or ".." in name
    ):
        raise invalid(f"The message attribute name '{name}' is invalid.")
    kind = value.get("DataType") or ""
    if not kind:
        raise invalid(f"The message attribute '{name}' must contain non-empty message attribute type.")
    if not _TYPE.match(kind):
        raise invalid(
            f"The message attribute '{name}' has an invalid message attribute type, the set of supported type prefixes is Binary, Number, and String."
        )
    if value.get("StringListValues") or value.get("BinaryListValues"):
        raise ServiceError("UnsupportedOperation", "Message attribute list values in SendMessage operation are not supported.", 400)
    if kind.startswith("Binary"):
        data = value.get("BinaryValue")
        if not data or value.get("StringValue") is not None:
            raise _empty(name, kind)
        return len(name) + len(kind.encode()) + len(data)
    text = value.get("StringValue")
    if not text or value.get("BinaryValue") is not None:
        raise _empty(name, kind)
    check_characters(text)
    if kind.startswith("Number") and not _NUMBER.match(text):
        raise invalid(f"Can't cast the value of message (user) attribute '{name}' to a number.")
    return len(name) + len(kind.encode()) + len(text.encode())


def _empty(name: str, kind: str) -> ServiceError:
    return invalid(f"The message (user) attribute '{name}' must contain a non-empty value of type '{kind}'.")


def _check_system(system: Mapping[str, Mapping[str, Any]]) -> None:
    for name, value in system.items():
        if name != "AWSTraceHeader":
            raise bad_value(name, "MessageSystemAttributes", "The only system attribute that can be sent is AWSTraceHeader.")
        if value.get("DataType") != "String" or not value.get("StringValue"):
            raise invalid(f"The message system attribute '{name}' must contain a non-empty value of type 'String'.")
        check_characters(value["StringValue"])


# -- batches ----------------------------------------------------------------------------------------------------------------


def check_batch(entries: Sequence[Mapping[str, Any]]) -> None:
    """Whether a batch as a whole may be looked at.

    Errors: EmptyBatchRequest, TooManyEntriesInBatchRequest, InvalidBatchEntryId, BatchEntryIdsNotDistinct.
    """
    if not entries:
        raise ServiceError("EmptyBatchRequest", "There should be at least one entry in the request.", 400)
    if len(entries) > MOST_BATCH:
        raise ServiceError(
            "TooManyEntriesInBatchRequest",
            f"Maximum number of entries per request are {MOST_BATCH}. You have sent {len(entries)}.",
            400,
        )
    seen: set[str] = set()
    for entry in entries:
        entry_id = entry["Id"]
        if not _ID.match(entry_id):
            raise ServiceError(
                "InvalidBatchEntryId",
                "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 letters long.",
                400,
            )
        if entry_id in seen:
            raise ServiceError("BatchEntryIdsNotDistinct", f"Id {entry_id} repeated.", 400)
        seen.add(entry_id)


def failed(entry_id: str, error: ServiceError) -> dict[str, Any]:
    """An entry of a batch that was refused by itself."""
    return {"Id": entry_id, "SenderFault": (error.status or 400) < 500, "Code": error.code, "Message": error.message}
