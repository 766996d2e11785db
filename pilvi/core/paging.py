"""Opaque continuation tokens: where the next page starts, unreadable but checkable."""

from __future__ import annotations

import base64
import binascii

from pilvi.core.errors import Invalid


def encode_token(position: str) -> str:
    """A token that resumes after `position`."""
    return base64.urlsafe_b64encode(b"1:" + position.encode()).decode().rstrip("=")


def decode_token(token: str | None) -> str:
    """The position a token stands for; '' for none. Invalid when it was not made here."""
    if not token:
        return ""
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        version, _, position = raw.decode().partition(":")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        version, position = "", ""
    if version != "1":
        raise Invalid("The continuation token provided is not valid.")
    return position
