"""Receipt handles: which message was received, and when, sealed so that nobody makes one up. They outlive a restart."""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from struct import Struct
from typing import NamedTuple

from pilvi.core.errors import Invalid
from pilvi.services.sqs.entry import Entry
from pilvi.services.sqs.errors import bad_handle
from pilvi.services.sqs.queues import Queue
from pilvi.storage.keyring import Keyring

_FORM = Struct(">QQ")


class Receipt(NamedTuple):
    seq: int
    received: int
    """Milliseconds; grows with each receive of a message."""


def handle_of(keyring: Keyring, queue: Queue, entry: Entry) -> str:
    return b64encode(keyring.seal(_FORM.pack(entry.seq, entry.last), _context(queue))).decode()


def read_handle(keyring: Keyring, queue: Queue, handle: str) -> Receipt:
    """ReceiptHandleIsInvalid for what this queue has not given out."""
    try:
        return Receipt(*_FORM.unpack(keyring.unseal(b64decode(handle, validate=True), _context(queue))))
    except (binascii.Error, ValueError, Invalid):
        raise bad_handle(handle) from None


def _context(queue: Queue) -> bytes:
    return b"sqs receipt:" + queue.uid.encode()
