"""The forms a message takes: the JSON that queues and web servers get, the event of functions, letters. Pure but for the signature.

Source: SNS developer guide, "Parsing Amazon SNS message formats" and "HTTP/HTTPS headers"; Lambda developer guide, "Using AWS Lambda
with Amazon SNS".
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from pilvi.services.sns.message import NOTIFICATION, Message
from pilvi.services.sns.signer import Signer


def members(message: Message, *, topic_arn: str, subscription_arn: str, protocol: str, endpoint: str) -> dict[str, Any]:
    """What a message tells, unsigned, in the order in which AWS writes it. endpoint: this server's."""
    found: dict[str, Any] = {"Type": message.kind, "MessageId": message.id}
    if message.sequence:
        found["SequenceNumber"] = message.sequence
    if message.token:
        found["Token"] = message.token
    found["TopicArn"] = topic_arn
    if message.subject:
        found["Subject"] = message.subject
    found["Message"] = message.body_for(protocol)
    if message.kind != NOTIFICATION:
        found["SubscribeURL"] = subscribe_url(endpoint, topic_arn, message.token)
    found["Timestamp"] = message.timestamp
    if message.kind == NOTIFICATION:
        found["UnsubscribeURL"] = unsubscribe_url(endpoint, subscription_arn)
        if message.attributes:
            found["MessageAttributes"] = attributes_of(message)
    return found


def signed(found: dict[str, Any], signer: Signer, version: str, endpoint: str) -> dict[str, Any]:
    """The same with its signature, before the links. FIFO topics sign nothing."""
    signature = {
        "SignatureVersion": version,
        "Signature": signer.sign(found, version),
        "SigningCertURL": signer.url(endpoint),
    }
    rest: dict[str, Any] = {name: found.pop(name) for name in ("UnsubscribeURL", "MessageAttributes") if name in found}
    return {**found, **signature, **rest}


def text_of(found: Mapping[str, Any]) -> str:
    """As queues and web servers get it, spaced as AWS does."""
    return json.dumps(found, indent=2, separators=(",", " : "), ensure_ascii=False)


def attributes_of(message: Message) -> dict[str, dict[str, str]]:
    return {name: {"Type": value["DataType"], "Value": _value(value)} for name, value in message.attributes.items()}


def _value(value: Mapping[str, Any]) -> str:
    if value.get("StringValue") is not None:
        return str(value["StringValue"])
    return base64.b64encode(bytes(value["BinaryValue"])).decode()


def event_of(found: Mapping[str, Any], subscription_arn: str) -> dict[str, Any]:
    """What a function is given."""
    names = {"SigningCertURL": "SigningCertUrl", "UnsubscribeURL": "UnsubscribeUrl", "SubscribeURL": "SubscribeUrl"}
    sns = {names.get(name, name): value for name, value in found.items()}
    sns = {"Type": sns.pop("Type"), **sns, "Subject": found.get("Subject"), "MessageAttributes": found.get("MessageAttributes", {})}
    return {
        "Records": [
            {"EventSource": "aws:sns", "EventVersion": "1.0", "EventSubscriptionArn": subscription_arn, "Sns": sns},
        ]
    }


def raw_attributes(message: Message) -> dict[str, dict[str, Any]]:
    """Message attributes as queues know them, for raw delivery."""
    return {name: {key: part for key, part in value.items() if part is not None} for name, value in message.attributes.items()}


# -- links --------------------------------------------------------------------------------------------------------------------


def subscribe_url(endpoint: str, topic_arn: str, token: str) -> str:
    return f"{endpoint}/?{urlencode({'Action': 'ConfirmSubscription', 'TopicArn': topic_arn, 'Token': token}, safe=':')}"


def unsubscribe_url(endpoint: str, subscription_arn: str) -> str:
    return f"{endpoint}/?{urlencode({'Action': 'Unsubscribe', 'SubscriptionArn': subscription_arn}, safe=':')}"


def confirmation_text(topic_arn: str) -> str:
    return (
        f"You have chosen to subscribe to the topic {topic_arn}.\n"
        "To confirm the subscription, visit the SubscribeURL included in this message."
    )


# -- letters ------------------------------------------------------------------------------------------------------------------


def letter(message: Message, found: Mapping[str, Any]) -> tuple[str, str]:
    """Subject and text of an e-mail."""
    if message.kind == NOTIFICATION:
        text = f"{found['Message']}\n\n--\nTo stop receiving messages of {found['TopicArn']}, visit:\n{found['UnsubscribeURL']}\n"
        return message.subject or "AWS Notification Message", text
    if message.kind == "SubscriptionConfirmation":
        text = (
            f"You have chosen to subscribe to the topic:\n{found['TopicArn']}\n\n"
            f"To confirm this subscription, visit:\n{found['SubscribeURL']}\n\nIf you did not ask for it, nothing needs to be done.\n"
        )
        return "AWS Notification - Subscription Confirmation", text
    text = (
        f"Your subscription to the topic below has been deactivated:\n{found['TopicArn']}\n\n"
        f"If this was an error, visit this address to subscribe again:\n{found['SubscribeURL']}\n"
    )
    return "AWS Notification - Unsubscribe Confirmation", text
