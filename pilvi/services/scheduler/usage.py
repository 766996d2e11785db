"""What Scheduler is used for: invocations on the bill of the schedule's account, counted in memory and written down every few minutes.

Source: Amazon EventBridge pricing: 1 USD for a million invocations. Differs: the first 14 million a month are not free.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from pilvi.metering.line import Line, Meter, keeping

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

PRODUCT: Final = "AWSEvents"
USAGE: Final = "ScheduledInvocation"
_MEMORY: Final = "scheduler:usage"

Address = tuple[int, str, str]
"""Hour, account, Region."""


class Counted:
    def __init__(self, name: str) -> None:
        self.name = name
        """Of this process's lines: unlike any other's."""
        self.many: dict[Address, int] = {}
        self.changed: set[Address] = set()


def count(cloud: Cloud, account: str, region: str) -> None:
    """An invocation; on the event loop only."""
    counted = _counted(cloud)
    address = (int(cloud.clock.time_s() // 3600), account, region)
    counted.many[address] = counted.many.get(address, 0) + 1
    counted.changed.add(address)


def write_down(cloud: Cloud) -> None:
    """What was counted since the last time. Lines hold an hour's whole count, so writing one again changes nothing."""
    counted = _counted(cloud)
    changed, counted.changed = counted.changed, set()
    lines = [_line(counted.name, address, counted.many[address]) for address in list(changed)]
    this_hour = int(cloud.clock.time_s() // 3600)
    for address in [address for address in list(counted.many) if address[0] < this_hour and address not in counted.changed]:
        counted.many.pop(address, None)
    if changes := keeping(lines):
        cloud.store.write(*changes)


def _line(name: str, address: Address, many: int) -> Line:
    hour, account, region = address
    meter = Meter(
        id=f"scheduler/{region}/{name}",
        account=account,
        region=region,
        product=PRODUCT,
        usage=USAGE,
        operation="Invocation",
        resource="",
        unit="Invocations",
        per_unit=1,
    )
    return Line(meter, datetime.fromtimestamp(hour * 3600, UTC), datetime.fromtimestamp(hour * 3600 + 3600, UTC), many)


def _counted(cloud: Cloud) -> Counted:
    counted: Counted | None = cloud.memory.get(_MEMORY)
    if counted is None:
        counted = cloud.memory.setdefault(_MEMORY, Counted(cloud.ids.hex(16)))
    return counted
