"""Access key ids as AWS forms them: four letters of kind, then base 32 that carries the account.

    AKIA/ASIA + base32(1 bit set, 40 bits account, 39 random bits)

Source: T. Be'ery, "A short note on AWS key ID" (2023): ids made since 2019 carry the account above the seventh bit of their
first 48 bits; earlier ids start lower in the alphabet than Q and carry none.
"""

from __future__ import annotations

import base64
import binascii

from pilvi.core.ids import Ids

_NEW_FORM = 1 << 79


def access_key_id(kind: str, account: str, ids: Ids) -> str:
    """A new id: kind is AKIA (lasting) or ASIA (temporary)."""
    number = _NEW_FORM | int(account) << 39 | int(ids.hex(10), 16) & (1 << 39) - 1
    return kind + base64.b32encode(number.to_bytes(10, "big")).decode()


def account_of_key(access_key_id: str) -> str | None:
    """The account in an id; None when it carries none."""
    try:
        number = int.from_bytes(base64.b32decode(access_key_id[4:20]), "big")
    except (binascii.Error, ValueError):
        return None
    if len(access_key_id) != 20 or not number & _NEW_FORM:
        return None
    return f"{(number & ~_NEW_FORM) >> 39:012d}"


def secret_context(access_key_id: str) -> bytes:
    """What a key's secret is sealed to: it opens in no other key's place."""
    return b"iam:key:" + access_key_id.encode()
