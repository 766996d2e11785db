"""Events at rest: sealed by the server's keyring, and under a KMS data key where the bus has a key.

The data key is made and opened as EventBridge, for the bus, and used again for five minutes. Source: EventBridge User Guide,
"Encrypting EventBridge events" and "KMS key policy".
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pilvi.core.principal import Principal
from pilvi.core.service import Context
from pilvi.services.events.buses import PRINCIPAL, Place

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

REUSE_S: Final = 300.0
MOST_KEYS: Final = 5000
_NONCE: Final = 12
_PURPOSE: Final = b"events"
_MEMORY: Final = "events:datakeys"

DataKey = tuple[bytes, bytes]
"""The key, and the same as KMS wrapped it."""
Keys = dict[tuple[str, str | bytes], tuple[float, DataKey]]
"""(bus, its key's id or a wrapped data key) -> until when, the data key"""


async def data_key(cloud: Cloud, place: Place, key: str | None) -> DataKey | None:
    """A key to seal events of a bus with, made by this KMS key; None for none. Raises what KMS refuses."""
    if not key:
        return None
    keys, now = _keys(cloud), cloud.clock.time_s()
    known = keys.get((place.arn, key))
    if known is None or known[0] <= now:
        ctx = as_events(cloud, place.account, place.region, place.arn)
        made = await ctx.acall("kms", "GenerateDataKey", KeyId=key, KeySpec="AES_256", EncryptionContext=_context_of(place))
        known = keys[place.arn, key] = (now + REUSE_S, (made["Plaintext"], made["CiphertextBlob"]))
    return known[1]


def sealed(cloud: Cloud, event: dict[str, Any], key: DataKey | None = None) -> dict[str, bytes]:
    """An event as facts and archives keep it: members `event`, and `key` where KMS must open it."""
    data = msgspec.json.encode(event)
    if key is None:
        return {"event": cloud.keyring.seal(data, _PURPOSE)}
    nonce = os.urandom(_NONCE)
    data = nonce + AESGCM(key[0]).encrypt(nonce, data, None)
    return {"event": cloud.keyring.seal(data, _PURPOSE), "key": key[1]}


async def opened(cloud: Cloud, kept: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """The event. place: the bus it came to, whose key may be needed."""
    data = cloud.keyring.unseal(kept["event"], _PURPOSE)
    if "key" in kept:
        data = AESGCM(await _opening_key(cloud, kept["key"], place)).decrypt(data[:_NONCE], data[_NONCE:], None)
    event: dict[str, Any] = msgspec.json.decode(data)
    return event


async def _opening_key(cloud: Cloud, wrapped: bytes, place: Place) -> bytes:
    keys, now = _keys(cloud), cloud.clock.time_s()
    known = keys.get((place.arn, wrapped))
    if known is None or known[0] <= now:
        ctx = as_events(cloud, place.account, place.region, place.arn)
        made = await ctx.acall("kms", "Decrypt", CiphertextBlob=wrapped, EncryptionContext=_context_of(place))
        known = keys[place.arn, wrapped] = (now + REUSE_S, (made["Plaintext"], wrapped))
    return known[1][0]


def _context_of(place: Place) -> dict[str, str]:
    return {"aws:events:event-bus:arn": place.arn}


def _keys(cloud: Cloud) -> Keys:
    keys: Keys = cloud.memory.setdefault(_MEMORY, {})
    if len(keys) > MOST_KEYS:
        keys.clear()
    return keys


def as_events(cloud: Cloud, account: str, region: str, source_arn: str) -> Context:
    """EventBridge itself, on behalf of a rule or a bus."""
    principal = Principal("service", account, "", PRINCIPAL, PRINCIPAL, source_arn=source_arn)
    return Context(cloud, principal=principal, account=account, region=region, service="events")
