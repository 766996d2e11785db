"""What pipes are used for: requests of 64 KiB, after filtering, on the bill of the pipe's account.

Source: Amazon EventBridge pricing: 0.40 USD for a million requests; each 64 KiB of a batch is one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pilvi.metering.counted import Counter, Use

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

COUNTED: Final = Counter("pipes")
CHUNK_BYTES: Final = 64 << 10
_REQUEST: Final = Use("AWSEvents", "Pipes-64K-Chunks", "Request", "Requests")


def count(cloud: Cloud, account: str, region: str, size_bytes: int) -> None:
    """A batch."""
    COUNTED.add(cloud, _REQUEST, account, region, max(1, -(-size_bytes // CHUNK_BYTES)))
