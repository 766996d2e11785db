"""Messages at rest: always sealed by the server's keyring, and under a KMS data key where the queue has a key.

A data key is made as its sender (who needs kms:GenerateDataKey and kms:Decrypt) and opened as the receiver, and used again by the
same caller for the queue's KmsDataKeyReusePeriodSeconds. Source: SQS developer guide, "Encryption at rest" and "Key management".
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pilvi.core.errors import NotFound, ServiceError
from pilvi.core.service import Context
from pilvi.services.sqs.entry import Content, Entry, packed, unpacked
from pilvi.services.sqs.errors import of_kms
from pilvi.services.sqs.queues import Queue

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

_NONCE: Final = 12
_MOST_KEYS: Final = 10_000
_MEMORY: Final = "sqs:datakeys"

Keys = dict[tuple[str, ...], tuple[float, bytes, bytes]]
"""(purpose, caller, what) -> until when, the key, the same sealed"""


async def sealed(ctx: Context, queue: Queue, row: dict[str, Any], content: Content) -> bytes:
    """A message as it is kept; notes in its row what is needed to get its key again."""
    data = packed(content)
    if queue.kms_key:
        plain, blob = await _sending_key(ctx, queue)
        nonce = os.urandom(_NONCE)
        data = nonce + AESGCM(plain).encrypt(nonce, data, row["m"].encode())
        row["k"], row["ka"] = blob, queue.arn
    return ctx.keyring.seal(data, _context(row["m"]))


async def opened(ctx: Context, queue: Queue, entry: Entry) -> Content | None:
    """A message read back from the store; None when it was deleted meanwhile."""
    row = entry.row
    if "p" not in row and "b" not in row:
        stored = ctx.store.get(queue.messages, entry.id)
        if stored is None:
            return None
        row = stored.value
    try:
        kept = row["p"] if "p" in row else ctx.store.body(row["b"])
    except NotFound:
        return None
    data = ctx.keyring.unseal(kept or b"", _context(entry.message_id))
    if "k" in row:
        plain = await _receiving_key(ctx, row, queue.key_reuse_s)
        data = AESGCM(plain).decrypt(data[:_NONCE], data[_NONCE:], entry.message_id.encode())
    return unpacked(data)


async def check_receiver(ctx: Context, entry: Entry, reuse_s: int) -> None:
    """Who receives what is still open in memory must be able to open it, too."""
    if "k" in entry.row:
        await _receiving_key(ctx, entry.row, reuse_s)


async def _sending_key(ctx: Context, queue: Queue) -> tuple[bytes, bytes]:
    keys, now = _keys(ctx.cloud), ctx.clock.time_s()
    name = ("send", _caller(ctx), queue.arn, queue.kms_key)
    known = keys.get(name)
    if known is None or known[0] <= now:
        try:
            made = await ctx.acall(
                "kms", "GenerateDataKey", KeyId=queue.kms_key, KeySpec="AES_256", EncryptionContext={"aws:sqs:arn": queue.arn}
            )
        except ServiceError as error:
            raise of_kms(error) from error
        known = keys[name] = (now + queue.key_reuse_s, made["Plaintext"], made["CiphertextBlob"])
    return known[1], known[2]


async def _receiving_key(ctx: Context, row: dict[str, Any], reuse_s: int) -> bytes:
    keys, now = _keys(ctx.cloud), ctx.clock.time_s()
    blob: bytes = row["k"]
    name = ("receive", _caller(ctx), blob.hex())
    known = keys.get(name)
    if known is None or known[0] <= now:
        try:
            made = await ctx.acall("kms", "Decrypt", CiphertextBlob=blob, EncryptionContext={"aws:sqs:arn": row["ka"]})
        except ServiceError as error:
            raise of_kms(error) from error
        known = keys[name] = (now + reuse_s, made["Plaintext"], blob)
    return known[1]


def _caller(ctx: Context) -> str:
    return f"{ctx.principal.account} {ctx.principal.arn or ctx.principal.name} {ctx.principal.access_key_id}"


def _keys(cloud: Cloud) -> Keys:
    keys: Keys = cloud.memory.setdefault(_MEMORY, {})
    if len(keys) > _MOST_KEYS:
        keys.clear()
    return keys


def _context(message_id: str) -> bytes:
    return b"sqs:" + message_id.encode()
