"""What EventBridge is used for, on the bill of who sends: custom events in chunks of 64 KiB, counted in memory and written down every few
minutes.

Source: Amazon EventBridge pricing: 1.00 USD for a million custom or cross-account events, 0.20 for calls of API destinations; events of
AWS's own services are free; archives 0.10 a GB processed. Differs: what archives keep is not on the bill.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from pilvi.metering.line import Line, Meter, keeping

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
    from pilvi.services.events.buses import Place

PRODUCT: Final = "AWSEvents"
EVENTS: Final = "Event-64K-Chunks"
CALLS: Final = "Invocation-64K-Chunks"
CHUNK_BYTES: Final = 64 << 10
_MEMORY: Final = "events:usage"

Address = tuple[int, str, str, str]
"""Hour, account, Region, usage type."""


class Counted:
    def __init__(self, name: str) -> None:
        self.name = name
        """Of this process's lines: unlike any other's."""
        self.lock = threading.Lock()
        self.chunks: dict[Address, int] = {}
        self.changed: set[Address] = set()

    def add(self, address: Address, many: int) -> None:
        with self.lock:
            self.chunks[address] = self.chunks.get(address, 0) + many
            self.changed.add(address)


def count_event(cloud: Cloud, account: str, region: str, size_bytes: int) -> None:
    """An event was put on a bus."""
    _count(cloud, account, region, EVENTS, size_bytes)


def count_chunks(cloud: Cloud, place: Place, kind: str, size_bytes: int) -> None:
    """A target was called: only those outside cost something."""
    if kind == "events/api-destination":
        _count(cloud, place.account, place.region, CALLS, size_bytes)


def write_down(cloud: Cloud) -> None:
    """What was counted since the last time. Lines hold an hour's whole count, so writing one again changes nothing."""
    counted = _counted(cloud)
    this_hour = int(cloud.clock.time_s() // 3600)
    with counted.lock:
        changed, counted.changed = counted.changed, set()
        lines = [_line(counted.name, address, counted.chunks[address]) for address in changed]
        for address in [address for address in counted.chunks if address[0] < this_hour]:
            del counted.chunks[address]
    if changes := keeping(lines):
        cloud.store.write(*changes)


def _count(cloud: Cloud, account: str, region: str, usage: str, size_bytes: int) -> None:
    address = (int(cloud.clock.time_s() // 3600), account, region, usage)
    _counted(cloud).add(address, max(1, -(-size_bytes // CHUNK_BYTES)))


def _line(name: str, address: Address, many: int) -> Line:
    hour, account, region, usage = address
    meter = Meter(
        id=f"events/{region}/{usage}/{name}",
        account=account,
        region=region,
        product=PRODUCT,
        usage=usage,
        operation="PutEvents" if usage == EVENTS else "ApiDestination",
        resource="",
        unit="64K-Chunks",
        per_unit=1,
    )
    return Line(meter, datetime.fromtimestamp(hour * 3600, UTC), datetime.fromtimestamp(hour * 3600 + 3600, UTC), many)


def _counted(cloud: Cloud) -> Counted:
    counted: Counted | None = cloud.memory.get(_MEMORY)
    if counted is None:
        counted = cloud.memory.setdefault(_MEMORY, Counted(cloud.ids.hex(16)))
    return counted
