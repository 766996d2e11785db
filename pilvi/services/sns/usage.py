"""What a topic is used for: requests and deliveries on the bill of the topic's owner, counted in memory and written down every few
minutes.

Source: Amazon SNS pricing: each 64 KiB of what is published is a request; deliveries to SQS and Lambda cost nothing. Differs: what
AWS gives free each month is not taken off; text messages have no price here, as it depends on where they go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from pilvi.core.service import Context
from pilvi.metering.line import Line, Meter, keeping

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
    from pilvi.services.sns.topics import Topic

PRODUCT: Final = "AmazonSNS"
REQUEST_BYTES: Final = 64 << 10
DELIVERIES: Final = {
    "http": "DeliveryAttempts-HTTP",
    "https": "DeliveryAttempts-HTTP",
    "email": "DeliveryAttempts-SMTP",
    "email-json": "DeliveryAttempts-SMTP",
    "sms": "DeliveryAttempts-SMS",
    "sqs": "DeliveryAttempts-SQS",
    "lambda": "DeliveryAttempts-LAMBDA",
}
"""Of the endpoints that are not mobile applications: those count by their platform."""
_MEMORY: Final = "sns:usage"

Address = tuple[int, str, str, str, str]
"""Hour, account, Region, usage type, unit."""


class Counted:
    def __init__(self, name: str) -> None:
        self.name = name
        """Of this process's lines: unlike any other's."""
        self.counts: dict[Address, int] = {}
        self.changed: set[Address] = set()
        self.loop: asyncio.AbstractEventLoop | None = None


def count(cloud: Cloud, account: str, region: str, usage: str, unit: str, many: int) -> None:
    """Something was used; on the event loop only."""
    counted = _counted(cloud)
    if counted.loop is None:
        counted.loop = asyncio.get_running_loop()
    address = (int(cloud.clock.time_s() // 3600), account, region, usage, unit)
    counted.counts[address] = counted.counts.get(address, 0) + many
    counted.changed.add(address)


def count_publish(ctx: Context, topic: Topic, sizes: Sequence[int]) -> None:
    usage = "F-Request-Tier1" if topic.is_fifo else "Requests-Tier1"
    requests = sum(max(1, -(-size // REQUEST_BYTES)) for size in sizes)
    count(ctx.cloud, topic.account, topic.region, usage, "Requests", requests)


def count_delivery(cloud: Cloud, topic: Topic, usage: str) -> None:
    count(cloud, topic.account, topic.region, "F-DA-SQS" if topic.is_fifo else usage, "Notifications", 1)


def loop_of(cloud: Cloud) -> asyncio.AbstractEventLoop | None:
    """Where counting happens; None while nothing was counted."""
    return _counted(cloud).loop


def write_down(cloud: Cloud) -> None:
    """What was counted since the last time. Lines hold an hour's whole count, so writing one again changes nothing."""
    counted = _counted(cloud)
    changed, counted.changed = counted.changed, set()
    lines = [_line(counted.name, address, counted.counts[address]) for address in list(changed)]
    this_hour = int(cloud.clock.time_s() // 3600)
    for address in [address for address in list(counted.counts) if address[0] < this_hour and address not in counted.changed]:
        counted.counts.pop(address, None)
    if changes := keeping(lines):
        cloud.store.write(*changes)


def _line(name: str, address: Address, many: int) -> Line:
    hour, account, region, usage, unit = address
    meter = Meter(
        id=f"sns/{region}/{name}",
        account=account,
        region=region,
        product=PRODUCT,
        usage=usage,
        operation="",
        resource="",
        unit=unit,
        per_unit=1,
    )
    return Line(meter, datetime.fromtimestamp(hour * 3600, UTC), datetime.fromtimestamp(hour * 3600 + 3600, UTC), many)


def _counted(cloud: Cloud) -> Counted:
    counted: Counted | None = cloud.memory.get(_MEMORY)
    if counted is None:
        counted = cloud.memory.setdefault(_MEMORY, Counted(cloud.ids.hex(16)))
    return counted
