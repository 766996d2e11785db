"""What somebody wants to publish, checked: pure.

Source: SNS API reference, Publish and PublishBatch; developer guide, "Amazon SNS message attributes", "FIFO topic message grouping".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final, NamedTuple

from pilvi.core.errors import ServiceError
from pilvi.core.service import Context
from pilvi.services.sns.errors import bad_value, invalid
from pilvi.services.sns.message import NOTIFICATION, Message
from pilvi.services.sns.topics import Topic

MOST_BYTES: Final = 256 << 10
MOST_BATCH: Final = 10
MOST_SUBJECT: Final = 100
MOST_NAME: Final = 256
MOST_TRACE: Final = 512
"""Longer headers are nobody's trace."""
_ID = re.compile(r"[A-Za-z0-9_-]{1,80}\Z")
_TOKEN = re.compile(r"[A-Za-z0-9!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]{1,128}\Z")
_ODD = re.compile(r"[^A-Za-z0-9_.-]")
_TYPE = re.compile(r"(String|Number|Binary)(\..{1,250})?\Z", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Draft(NamedTuple):
    body: str
    bodies: Mapping[str, str]
    subject: str
    attributes: Mapping[str, Mapping[str, Any]]
    group: str
    duplicate_id: str
    size: int
    """Of message and attributes, as the limit counts them."""


def drafted(req: Mapping[str, Any], topic: Topic | None, *, in_batch: bool = False) -> Draft:
    """A message that may be published. topic: None for a phone or a mobile endpoint.

    Errors: InvalidParameter - empty, too long, subject, structure, what a FIFO topic needs. ParameterValueInvalid - attributes.
    """
    body = req["Message"]
    if not body:
        raise invalid("Empty message")
    subject = req.get("Subject")
    if subject is not None and (not subject or len(subject) > MOST_SUBJECT or _CONTROL.search(subject)):
        raise invalid("Subject")
    attributes = req.get("MessageAttributes") or {}
    size = len(body) if body.isascii() else len(body.encode())
    for name, value in attributes.items():
        size += _check_attribute(name, value)
    if size > MOST_BYTES and not in_batch:
        raise invalid("Message too long")
    bodies = _bodies(req.get("MessageStructure"), body)
    group, duplicate_id = _fifo(req, topic, body)
    return Draft(body, bodies, subject or "", attributes, group, duplicate_id, size)


def message_of(ctx: Context, now: float, draft: Draft, sequence: str = "") -> Message:
    """What becomes of a draft when it is published."""
    return Message(
        ctx.ids.uuid(),
        NOTIFICATION,
        now,
        draft.body,
        draft.bodies,
        draft.subject,
        draft.attributes,
        draft.group,
        draft.duplicate_id,
        sequence,
        trace=ctx.trace if len(ctx.trace) <= MOST_TRACE else "",
    )


def _bodies(structure: str | None, body: str) -> Mapping[str, str]:
    if not structure:
        return {}
    if structure != "json":
        raise invalid("MessageStructure")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise invalid("Message Structure - JSON message body failed to parse")
    texts = {name: text for name, text in found.items() if isinstance(text, str)}
    if "default" not in texts:
        raise invalid("Message Structure - No default entry in JSON message body")
    return texts


def _fifo(req: Mapping[str, Any], topic: Topic | None, body: str) -> tuple[str, str]:
    group, given = req.get("MessageGroupId"), req.get("MessageDeduplicationId")
    if group is not None and not _TOKEN.match(group):
        raise invalid(
            "MessageGroupId Reason: The MessageGroupId can only include alphanumeric and punctuation characters. 1 to 128 in length"
        )
    if topic is None or not topic.is_fifo:
        if given is not None:
            raise invalid(
                "MessageDeduplicationId Reason: The request includes MessageDeduplicationId parameter that is not valid for this topic type"
            )
        return group or "", ""
    if group is None:
        raise invalid("The MessageGroupId parameter is required for FIFO topics")
    if given is None:
        if not topic.by_content:
            raise invalid(
                "The topic should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly"
            )
        return group, sha256(body.encode()).hexdigest()
    if not _TOKEN.match(given):
        raise invalid(
            "MessageDeduplicationId Reason: The MessageDeduplicationId can only include alphanumeric and punctuation characters. "
            "1 to 128 in length"
        )
    return group, given


def _check_attribute(name: str, value: Mapping[str, Any]) -> int:
    """Its size."""
    _check_attribute_name(name)
    lower = name.lower()
    is_reserved = lower.startswith(("aws.", "amazon.")) and not lower.startswith(("aws.sns.", "aws.mm."))
    if is_reserved:
        raise bad_value(f"The message attribute name '{name}' is invalid.")
    kind = value.get("DataType") or ""
    if not kind:
        raise bad_value(f"The message attribute '{name}' must contain non-empty message attribute type.")
    if not _TYPE.match(kind):
        raise bad_value(
            f"The message attribute '{name}' has an invalid message attribute type, the set of supported type prefixes is "
            "Binary, Number, and String."
        )
    if kind.startswith("Binary"):
        data = value.get("BinaryValue")
        if value.get("StringValue") is not None:
            raise bad_value(f"The message attribute '{name}' with type '{kind}' must use field 'Binary'.")
        if not data:
            raise _empty(name, kind)
        return len(name) + len(kind.encode()) + len(data)
    text = value.get("StringValue")
    if value.get("BinaryValue") is not None:
        raise bad_value(f"The message attribute '{name}' with type '{kind}' must use field 'String'.")
    if not text:
        raise _empty(name, kind)
    if kind.startswith("Number") and not _NUMBER.match(text):
        raise bad_value(f"Could not cast message attribute '{name}' value to number.")
    return len(name) + len(kind.encode()) + len(text.encode())


def _check_attribute_name(name: str) -> None:
    if not name or len(name) > MOST_NAME:
        raise bad_value(f"Length of message attribute name must be less than {MOST_NAME} bytes.")
    if (odd := _ODD.search(name)) is not None:
        raise bad_value(
            f"Invalid non-alphanumeric character '#x{ord(odd[0]):02X}' was found in the message attribute name. "
            "Can only include alphanumeric characters, hyphens, underscores, or dots."
        )
    if name[0] == ".":
        raise bad_value("Invalid message attribute name starting with character '.' was found.")
    if name[-1] == ".":
        raise bad_value("Invalid message attribute name ending with character '.' was found.")
    if ".." in name:
        raise bad_value("Message attribute name can not have successive '.' character.")


def _empty(name: str, kind: str) -> ServiceError:
    return bad_value(
        f"The message attribute '{name}' must contain non-empty message attribute value for message attribute type '{kind}'."
    )


# -- batches ----------------------------------------------------------------------------------------------------------------


def check_batch(entries: Sequence[Mapping[str, Any]]) -> None:
    """Whether a batch as a whole may be looked at."""
    if not entries:
        raise ServiceError("EmptyBatchRequestException", "The batch request doesn't contain any entries.", 400)
    if len(entries) > MOST_BATCH:
        raise ServiceError(
            "TooManyEntriesInBatchRequestException", "The batch request contains more entries than permissible.", 400
        )
    ids = [entry["Id"] for entry in entries]
    for entry_id in ids:
        if not _ID.match(entry_id):
            what = "is too long" if len(entry_id) > 80 else "contains an impermissible character"
            raise ServiceError(
                "InvalidBatchEntryIdException", f"The Id of a batch entry in the batch request {what}: {entry_id}", 400
            )
    if len(set(ids)) < len(ids):
        raise ServiceError("BatchEntryIdsNotDistinctException", "Two or more batch entries in the request have the same Id.", 400)
