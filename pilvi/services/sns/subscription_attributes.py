"""Attributes of subscriptions: which there are, and what they may be. Pure.

Source: SNS API reference, Subscribe and SetSubscriptionAttributes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from pilvi.core.arn import Arn
from pilvi.services.sns.delivery_policy import checked_subscription_policy
from pilvi.services.sns.errors import invalid
from pilvi.services.sns.filters import BY_ATTRIBUTES, SCOPES, compile_filter
from pilvi.services.sns.topics import Topic

SETTABLE: Final = frozenset(
    {
        "DeliveryPolicy",
        "FilterPolicy",
        "FilterPolicyScope",
        "RawMessageDelivery",
        "RedrivePolicy",
        "ReplayPolicy",
        "SubscriptionRoleArn",
    }
)
_RAW: Final = frozenset({"sqs", "http", "https", "firehose"})


def applied(topic: Topic, protocol: str, endpoint: str, there: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """The attributes after a change; '' takes one away. InvalidParameter - no such attribute, or not this value."""
    for name in given:
        if name not in SETTABLE:
            raise invalid("AttributeName")
    merged = {**there, **given}
    if "RawMessageDelivery" in given:
        merged["RawMessageDelivery"] = _raw(protocol, given["RawMessageDelivery"])
    if merged.get("FilterPolicyScope", BY_ATTRIBUTES) not in SCOPES:
        raise invalid(
            f"FilterPolicyScope: Invalid value [{merged['FilterPolicyScope']}]. Please use either MessageBody or MessageAttributes"
        )
    if merged.get("FilterPolicy"):
        compile_filter(merged["FilterPolicy"], merged.get("FilterPolicyScope", BY_ATTRIBUTES))
    if given.get("DeliveryPolicy"):
        if protocol not in ("http", "https"):
            raise invalid("DeliveryPolicy: Delivery policies are for HTTP and HTTPS endpoints only")
        merged["DeliveryPolicy"] = checked_subscription_policy(given["DeliveryPolicy"])
    if given.get("RedrivePolicy"):
        merged["RedrivePolicy"] = _redrive(topic, endpoint, given["RedrivePolicy"])
    if given.get("ReplayPolicy"):
        merged["ReplayPolicy"] = _replay(topic, given["ReplayPolicy"])
    if given.get("SubscriptionRoleArn"):
        raise invalid("SubscriptionRoleArn: it is for Firehose delivery streams only")
    return {name: value for name, value in merged.items() if value != ""}


def _raw(protocol: str, text: str) -> str:
    if text.lower() not in ("true", "false"):
        raise invalid(f"RawMessageDelivery: Invalid value [{text}]. Must be true or false.")
    if text.lower() == "true" and protocol not in _RAW:
        raise invalid(f"RawMessageDelivery: Raw message delivery is not supported by the protocol {protocol}")
    return text.lower() if text.lower() == "true" else ""


def _redrive(topic: Topic, endpoint: str, text: str) -> str:
    found = _object("RedrivePolicy", text)
    target = found.get("deadLetterTargetArn")
    arn = Arn.parse(target) if isinstance(target, str) else None
    if set(found) - {"deadLetterTargetArn"}:
        raise invalid("RedrivePolicy: unknown member")
    if arn is None or arn.service != "sqs" or not arn.account or not arn.resource:
        raise invalid("RedrivePolicy: deadLetterTargetArn is an invalid arn")
    if arn.region != topic.region:
        raise invalid("RedrivePolicy: the dead-letter queue must be in the topic's Region")
    if arn.resource.endswith(".fifo") and not topic.is_fifo:
        raise invalid("RedrivePolicy: must use a standard queue as DLQ for a subscription to a standard topic")
    if endpoint.endswith(".fifo") and not arn.resource.endswith(".fifo"):
        raise invalid("RedrivePolicy: must use a FIFO queue as DLQ for a FIFO Subscription to a FIFO Topic.")
    return json.dumps({"deadLetterTargetArn": target}, separators=(",", ":"))


def _replay(topic: Topic, text: str) -> str:
    found = _object("ReplayPolicy", text)
    if not topic.archive_days:
        raise invalid("ReplayPolicy: the topic keeps no archive")
    if set(found) - {"PointType", "StartingPoint", "EndingPoint"} or found.get("PointType") != "Timestamp":
        raise invalid("ReplayPolicy: PointType must be Timestamp, with a StartingPoint and possibly an EndingPoint")
    if moment(found.get("StartingPoint")) is None or (
        found.get("EndingPoint") is not None and moment(found["EndingPoint"]) is None
    ):
        raise invalid("ReplayPolicy: StartingPoint and EndingPoint must be instants: 2026-11-22T12:00:00.000Z")
    return json.dumps(found, separators=(",", ":"))


def moment(text: Any) -> float | None:
    """An instant in seconds since 1970."""
    if not isinstance(text, str):
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at.replace(tzinfo=at.tzinfo or UTC).timestamp()


def _object(name: str, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise invalid(f"{name}: failed to parse JSON.")
    return found
