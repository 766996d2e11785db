"""What Encrypt gives: a blob that says which key and which version of its material opens it, and nothing else.

    01 02 02 00          format
    flags                1: the key is a multi-Region key
    account              6 bytes
    key id               16 bytes
    material id          its first 8 bytes
    salt                 16 random bytes: each blob is sealed by a key of its own, derived from the material and the salt
    nonce                12 random bytes
    AES-256-GCM          ciphertext and tag; header and encryption context are authenticated with it

Blobs carry no Region: what a multi-Region key sealed opens wherever a replica is, and every other key exists in one Region only.
"""

from __future__ import annotations

import hmac
import os
import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pilvi.services.kms.errors import invalid_ciphertext

_MAGIC = b"\x01\x02\x02\x00"
_HEAD = struct.Struct(">4sB6s16s8s16s12s")
_MULTI_REGION = 1


class Head(NamedTuple):
    account: str
    key_id: str
    material: str
    """The first 16 hexadecimal digits of the material's id."""


@lru_cache(maxsize=1024)
def head_of(blob: bytes) -> Head:
    """Whose blob this is. InvalidCiphertextException when it is none."""
    if len(blob) <= _HEAD.size + 16 or not blob.startswith(_MAGIC):
        raise invalid_ciphertext()
    _, flags, account, key, material, _, _ = _HEAD.unpack_from(blob)
    digits = key.hex()
    is_multi = bool(flags & _MULTI_REGION)
    key_id = f"mrk-{digits}" if is_multi else f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
    return Head(f"{int.from_bytes(account, 'big'):012d}", key_id, material.hex())


def seal(account: str, key_id: str, material_id: str, material: bytes, plain: bytes, context: Mapping[str, str] | None) -> bytes:
    is_multi = key_id.startswith("mrk-")
    salt, nonce = os.urandom(16), os.urandom(12)
    head = _HEAD.pack(
        _MAGIC,
        _MULTI_REGION if is_multi else 0,
        int(account).to_bytes(6, "big"),
        bytes.fromhex(key_id[4:] if is_multi else key_id.replace("-", "")),
        bytes.fromhex(material_id[:16]),
        salt,
        nonce,
    )
    return head + AESGCM(_derive(material, salt)).encrypt(nonce, plain, head + canonical(context))


def unseal(material: bytes, blob: bytes, context: Mapping[str, str] | None) -> bytes:
    """The plaintext. InvalidCiphertextException when blob or encryption context is another."""
    salt, nonce = _HEAD.unpack_from(blob)[5:]
    try:
        return AESGCM(_derive(material, salt)).decrypt(nonce, blob[_HEAD.size :], blob[: _HEAD.size] + canonical(context))
    except InvalidTag:
        raise invalid_ciphertext() from None


def canonical(context: Mapping[str, str] | None) -> bytes:
    """An encryption context as bytes: no two contexts are alike, and the order of its pairs does not matter."""
    out = bytearray()
    for text in (text for pair in sorted((context or {}).items()) for text in pair):
        data = text.encode()
        out += len(data).to_bytes(4, "big") + data
    return bytes(out)


def _derive(material: bytes, salt: bytes) -> bytes:
    return hmac.digest(material, b"kms blob:" + salt, "sha256")
