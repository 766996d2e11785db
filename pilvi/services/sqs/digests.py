"""MD5 sums that clients check: of bodies, and of message attributes in SQS's own encoding.

Source: SQS developer guide, "Calculating the MD5 message digest for message attributes".
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import md5
from typing import Any


def of_body(body: str) -> str:
    return md5(body.encode(), usedforsecurity=False).hexdigest()


def of_attributes(attributes: Mapping[str, Mapping[str, Any]]) -> str:
    """Each attribute's name, type and value with their lengths, by name; 1 stands before text, 2 before bytes."""
    out = bytearray()
    for name in sorted(attributes):
        value = attributes[name]
        kind = value["DataType"]
        out += _part(name.encode()) + _part(kind.encode())
        if kind.startswith("Binary"):
            out += b"\x02" + _part(bytes(value["BinaryValue"]))
        else:
            out += b"\x01" + _part(value["StringValue"].encode())
    return md5(out, usedforsecurity=False).hexdigest()


def _part(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data
