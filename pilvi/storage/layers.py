"""Ciphers of an object's own: what is sealed under keys that the server does not keep (SSE-KMS, DSSE-KMS, SSE-C).

    data key --HMAC-SHA256(its purpose and name)--> the AES-256-GCM key of one blob or one small body

A name is given once, so a derived key seals one thing only and its nonces are free to count from zero. Two data keys make two
layers: the second seals what the first has sealed, chunk by chunk.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pilvi.core.errors import Invalid

Keys = tuple[bytes, ...]
"""One data key of 32 bytes for each layer, the innermost first."""

KEY_BYTES = 32
TAG_BYTES = 16

_BODY = b"\x02"
"""How small bodies under keys of their own begin; those of the keyring begin with 0x01."""
_NONCE = bytes(12)


class Cipher(Protocol):
    """AESGCM, or several of them as one. What is sealed is `len(Keys) * TAG_BYTES` longer."""

    def encrypt(self, nonce: bytes, data: bytes | bytearray | memoryview, associated_data: bytes | None, /) -> bytes: ...

    def decrypt_into(
        self, nonce: bytes, data: bytes | bytearray | memoryview, associated_data: bytes | None, buf: bytearray | memoryview, /
    ) -> int: ...


class TwoLayers:
    """An inner cipher inside an outer one."""

    def __init__(self, inner: Cipher, outer: AESGCM) -> None:
        self._inner = inner
        self._outer = outer

    def encrypt(self, nonce: bytes, data: bytes | bytearray | memoryview, associated_data: bytes | None, /) -> bytes:
        return self._outer.encrypt(nonce, self._inner.encrypt(nonce, data, associated_data), associated_data)

    def decrypt_into(
        self, nonce: bytes, data: bytes | bytearray | memoryview, associated_data: bytes | None, buf: bytearray | memoryview, /
    ) -> int:
        return self._inner.decrypt_into(nonce, self._outer.decrypt(nonce, data, associated_data), associated_data, buf)


def cipher_for(keys: Keys, purpose: bytes) -> Cipher:
    """The cipher of one thing; `purpose` names it and nothing else ever."""
    cipher: Cipher | None = None
    for key in keys:
        layer = AESGCM(hmac.digest(key, purpose, hashlib.sha256))
        cipher = layer if cipher is None else TwoLayers(cipher, layer)
    assert cipher is not None
    return cipher


def seal_body(keys: Keys, data: bytes, name: str) -> bytes:
    """A small body, sealed for its name."""
    return _BODY + cipher_for(keys, b"body:" + name.encode()).encrypt(_NONCE, data, None)


def unseal_body(keys: Keys, sealed: bytes, name: str) -> bytes:
    """What `seal_body` sealed. Invalid when it was altered, belongs elsewhere, or the keys are others."""
    size = len(sealed) - len(_BODY) - len(keys) * TAG_BYTES
    if size < 0 or sealed[:1] != _BODY:
        raise Invalid("This is not a body sealed under keys of its own.")
    plain = bytearray(size)
    try:
        cipher_for(keys, b"body:" + name.encode()).decrypt_into(_NONCE, memoryview(sealed)[len(_BODY) :], None, plain)
    except InvalidTag:
        raise Invalid("The sealed body was altered or belongs elsewhere.") from None
    return bytes(plain)
