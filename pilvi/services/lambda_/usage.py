"""What functions use: requests, and memory by time (GB-seconds), on the bill of the function's owner.

Counted in memory in whole megabytes and milliseconds and written down every few minutes.

Source: AWS Lambda pricing: 0.20 USD for a million requests, 0.0000166667 for a GB-second (x86); time counts from the start of the function's
code, by the millisecond. Differs: the million requests and 400,000 GB-seconds a month that AWS gives are not taken off.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from pilvi.metering.line import Line, Meter, keeping

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
    from pilvi.services.lambda_.catalog import Target

PRODUCT: Final = "AWSLambda"
REQUESTS: Final = "Request"
TIME: Final = "Lambda-GB-Second"
_UNITS: Final = {REQUESTS: ("Requests", 1), TIME: ("Lambda-GB-Second", 1024 * 1000)}
_MEMORY: Final = "lambda:usage"

Address = tuple[int, str, str, str, str]
"""Hour, account, Region, function, usage type."""


class Counted:
    def __init__(self, name: str) -> None:
        self.name = name
        """Of this process's lines: unlike any other's."""
        self.lock = threading.Lock()
        self.used: dict[Address, int] = {}
        self.changed: set[Address] = set()


def count(cloud: Cloud, target: Target, billed_ms: int) -> None:
    """An invocation came to its end."""
    counted = _counted(cloud)
    hour = int(cloud.clock.time_s() // 3600)
    place = (hour, target.account, target.region, target.arn)
    with counted.lock:
        for address, many in (((*place, REQUESTS), 1), ((*place, TIME), target.memory_mib * billed_ms)):
            counted.used[address] = counted.used.get(address, 0) + many
            counted.changed.add(address)


def write_down(cloud: Cloud) -> None:
    """What was counted since the last time. Lines hold an hour's whole count, so writing one again changes nothing."""
    counted = _counted(cloud)
    this_hour = int(cloud.clock.time_s() // 3600)
    with counted.lock:
        changed, counted.changed = counted.changed, set()
        lines = [_line(counted.name, address, counted.used[address]) for address in changed]
        for address in [address for address in counted.used if address[0] < this_hour]:
            del counted.used[address]
    if changes := keeping(lines):
        cloud.store.write(*changes)


def _line(name: str, address: Address, many: int) -> Line:
    hour, account, region, arn, usage = address
    unit, per_unit = _UNITS[usage]
    meter = Meter(
        id=f"lambda/{arn}/{name}",
        account=account,
        region=region,
        product=PRODUCT,
        usage=usage,
        operation="Invoke",
        resource=arn,
        unit=unit,
        per_unit=per_unit,
    )
    return Line(meter, datetime.fromtimestamp(hour * 3600, UTC), datetime.fromtimestamp(hour * 3600 + 3600, UTC), many)


def _counted(cloud: Cloud) -> Counted:
    counted: Counted | None = cloud.memory.get(_MEMORY)
    if counted is None:
        counted = cloud.memory.setdefault(_MEMORY, Counted(cloud.ids.hex(16)))
    return counted
