"""A message as it travels: what a publisher said, and what SNS adds; kept sealed until it is delivered."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec

from pilvi.storage.keyring import Keyring

NOTIFICATION: Final = "Notification"
CONFIRMATION: Final = "SubscriptionConfirmation"
FAREWELL: Final = "UnsubscribeConfirmation"


class Message(NamedTuple):
    """Everything about a message but to whom it goes."""

    id: str
    kind: str
    at: float
    """When it was published, on the product's clock."""
    body: str
    bodies: Mapping[str, str]
    """By protocol, where MessageStructure is json; `default` is among them."""
    subject: str
    attributes: Mapping[str, Mapping[str, Any]]
    group: str = ""
    duplicate_id: str = ""
    sequence: str = ""
    token: str = ""
    """Of confirmations."""
    trace: str = ""
    """The tracing header it was published with: it goes on with the message."""

    def body_for(self, protocol: str) -> str:
        return self.bodies.get(protocol, self.bodies.get("default", "")) if self.bodies else self.body

    @property
    def timestamp(self) -> str:
        """As AWS writes it: to the millisecond."""
        at = datetime.fromtimestamp(self.at, UTC)
        return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"


def sealed(keyring: Keyring, message: Message) -> bytes:
    return keyring.seal(msgspec.msgpack.encode(message), _context(message.id))


def opened(keyring: Keyring, message_id: str, data: bytes) -> Message:
    return msgspec.msgpack.decode(keyring.unseal(data, _context(message_id)), type=Message)


def _context(message_id: str) -> bytes:
    return b"sns:" + message_id.encode()
