"""What a queue is used for: requests on the bill of the queue's owner.

Source: Amazon SQS pricing: 0.40 USD for a million requests, 0.50 of FIFO queues; each 64 KiB of a payload is a request. Differs: the
first million a month is not free, and prices do not fall with use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pilvi.core.service import Context
from pilvi.metering.counted import Counter, Use

if TYPE_CHECKING:
    from pilvi.services.sqs.queues import Queue

COUNTED: Final = Counter("sqs")
REQUEST_BYTES: Final = 64 << 10
_STANDARD: Final = Use("AWSQueueService", "Requests-Tier1", "Unknown", "Requests")
_FIFO: Final = Use("AWSQueueService", "Requests-FIFO-Tier1", "Unknown", "Requests")


def count(ctx: Context, queue: Queue, size_bytes: int = 0) -> None:
    """A request was answered."""
    use = _FIFO if queue.is_fifo else _STANDARD
    COUNTED.add(ctx.cloud, use, queue.account, queue.region, max(1, -(-size_bytes // REQUEST_BYTES)))
