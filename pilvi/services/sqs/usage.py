"""What a queue is used for: requests on the bill of the queue's owner, counted in memory and written down every few minutes.

Source: Amazon SQS pricing: 0.40 USD for a million requests, 0.50 of FIFO queues; each 64 KiB of a payload is a request. Differs: the
first million a month is not free, and prices do not fall with use.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from pilvi.core.service import Context
from pilvi.metering.line import Line, Meter, keeping

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
    from pilvi.services.sqs.queues import Queue

PRODUCT: Final = "AWSQueueService"
REQUEST_BYTES: Final = 64 << 10
_MEMORY: Final = "sqs:usage"

Address = tuple[int, str, str, str]
"""Hour, account, Region, usage type."""


class Counted:
    def __init__(self, name: str) -> None:
        self.name = name
        """Of this process's lines: unlike any other's."""
        self.requests: dict[Address, int] = {}
        self.changed: set[Address] = set()


def count(ctx: Context, queue: Queue, size_bytes: int = 0) -> None:
    """A request was answered; on the event loop only."""
    counted = _counted(ctx.cloud)
    usage = "Requests-FIFO-Tier1" if queue.is_fifo else "Requests-Tier1"
    address = (int(ctx.clock.time_s() // 3600), queue.account, queue.region, usage)
    counted.requests[address] = counted.requests.get(address, 0) + max(1, -(-size_bytes // REQUEST_BYTES))
    counted.changed.add(address)


def write_down(cloud: Cloud) -> None:
    """What was counted since the last time. Lines hold an hour's whole count, so writing one again changes nothing."""
    counted = _counted(cloud)
    changed, counted.changed = counted.changed, set()
    lines = [_line(counted.name, address, counted.requests[address]) for address in list(changed)]
    this_hour = int(cloud.clock.time_s() // 3600)
    for address in [address for address in list(counted.requests) if address[0] < this_hour and address not in counted.changed]:
        counted.requests.pop(address, None)
    if changes := keeping(lines):
        cloud.store.write(*changes)


def _line(name: str, address: Address, many: int) -> Line:
    hour, account, region, usage = address
    meter = Meter(
        id=f"sqs/{region}/{name}",
        account=account,
        region=region,
        product=PRODUCT,
        usage=usage,
        operation="Unknown",
        resource="",
        unit="Requests",
        per_unit=1,
    )
    return Line(meter, datetime.fromtimestamp(hour * 3600, UTC), datetime.fromtimestamp(hour * 3600 + 3600, UTC), many)


def _counted(cloud: Cloud) -> Counted:
    counted: Counted | None = cloud.memory.get(_MEMORY)
    if counted is None:
        counted = cloud.memory.setdefault(_MEMORY, Counted(cloud.ids.hex(16)))
    return counted
