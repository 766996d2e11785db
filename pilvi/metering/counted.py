"""What comes one at a time (requests, messages, invocations): counted in memory, and written down every few minutes as one line an hour.

    REQUESTS = Use("AWSQueueService", "Requests-Tier1", "Unknown", "Requests")
    COUNTED = Counter("sqs")

    COUNTED.add(cloud, REQUESTS, account, region)      half a microsecond; from any thread
    COUNTED.write_down(cloud)                          in the service's schedule, and when the server stops

A line holds its hour's whole count, so writing it again changes nothing. A server that is killed loses what it counted since the last
time, which only makes the bill smaller.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from pilvi.metering.line import Line, Meter, keeping

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
    from pilvi.storage.records import Change


class Use(NamedTuple):
    """What is counted, as AWS's bill calls it."""

    product: str
    """AWS's product code."""
    usage: str
    """Usage type without its Region."""
    operation: str
    unit: str
    per_unit: int = 1
    """How many of what is counted make one unit."""


class Address(NamedTuple):
    """A line to be."""

    hour: int
    """Since 1970."""
    account: str
    region: str
    resource: str
    use: Use


class _Counts:
    """Of one service in one process."""

    __slots__ = ("changed", "lock", "many", "name", "writing")

    def __init__(self, name: str) -> None:
        self.name = name
        """Of this process's lines: unlike any other's."""
        self.many: dict[Address, int] = {}
        self.changed: set[Address] = set()
        self.lock = threading.Lock()
        self.writing = threading.Lock()
        """An older count must not be written after a newer one."""


class Counter:
    """What one service counts. What it has counted lives in the cloud's memory."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._key = f"{service}:usage"

    def add(self, cloud: Cloud, use: Use, account: str, region: str, many: int = 1, resource: str = "") -> None:
        """Something was used. resource: its ARN, where AWS's bill tells resources apart."""
        counts = self._counts(cloud)
        address = Address(int(cloud.clock.time_s() // 3600), account, region, resource, use)
        with counts.lock:
            counts.many[address] = counts.many.get(address, 0) + many
            counts.changed.add(address)

    def write_down(self, cloud: Cloud) -> None:
        """In a thread."""
        with self._counts(cloud).writing:
            if changes := self._changes(cloud):
                cloud.store.write(*changes)

    def _changes(self, cloud: Cloud) -> list[Change]:
        """What was counted since the last time; hours that are over are forgotten then."""
        counts = self._counts(cloud)
        this_hour = int(cloud.clock.time_s() // 3600)
        with counts.lock:
            changed, counts.changed = counts.changed, set()
            lines = [self._line(counts.name, address, counts.many[address]) for address in changed]
            for address in [address for address in counts.many if address.hour < this_hour]:
                del counts.many[address]
        return list(keeping(lines))

    def _line(self, name: str, address: Address, many: int) -> Line:
        use = address.use
        meter = Meter(
            id=f"{self._service}/{address.resource or address.region}/{name}",
            account=address.account,
            region=address.region,
            product=use.product,
            usage=use.usage,
            operation=use.operation,
            resource=address.resource,
            unit=use.unit,
            per_unit=use.per_unit,
        )
        start, end = (datetime.fromtimestamp(hour * 3600, UTC) for hour in (address.hour, address.hour + 1))
        return Line(meter, start, end, many)

    def _counts(self, cloud: Cloud) -> _Counts:
        counts: _Counts | None = cloud.memory.get(self._key)
        if counts is None:
            counts = cloud.memory.setdefault(self._key, _Counts(cloud.ids.hex(16)))
        return counts
