"""How much KMS is used: requests on their callers' bills, when each key was last used, and the months of customers' keys.

Requests are counted in memory and written down every few minutes, as one line an hour for each kind; counting costs a call half a
microsecond. A server that is killed loses what it counted since then, which only makes the bill smaller.

Source: AWS KMS pricing: 1 USD a key and month, by the hour; 0.03 USD for 10,000 requests, 0.15 for asymmetric ones other than
RSA_2048, more for data key pairs. Differs: rotated material costs nothing.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from pilvi.core.service import Context
from pilvi.metering.line import Line, Meter, keeping
from pilvi.services.kms import spec as kinds
from pilvi.storage.records import Put, Table

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
    from pilvi.services.kms.keys import Key
    from pilvi.storage.records import Change

PRODUCT: Final = "awskms"
SECONDS_A_MONTH: Final = 730 * 3600
"""AWS's month of hourly prices."""
WRITES_S: Final = 300.0
_SERVICE: Final = "kmsusage"
"""A service name of its own: writing down what was used must not empty the cache of keys."""
_MEMORY: Final = "kmsusage"
_PAIRS: Final = frozenset({"GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext"})


class LastUse(NamedTuple):
    operation: str
    time_s: float
    request_id: str


class Counted:
    """What this process counted: requests by (hour, account, Region, usage type), and each key's last use."""

    def __init__(self, name: str, now_s: float) -> None:
        self.name = name
        """Of this process's lines: unlike any other's."""
        self.requests: dict[tuple[int, str, str, str], int] = {}
        self.changed: set[tuple[int, str, str, str]] = set()
        self.last: dict[tuple[str, str, str], LastUse] = {}
        self.written_s = now_s
        self.lock = threading.Lock()


def count(ctx: Context, key: Key, operation: str, pair: str = "") -> None:
    """A key was used, successfully. pair: the kind of a data key pair."""
    counted = _counted(ctx.cloud)
    now_s = ctx.clock.time_s()
    address = (int(now_s // 3600), ctx.principal.account, ctx.region, _usage_type(key, operation, pair))
    with counted.lock:
        counted.requests[address] = counted.requests.get(address, 0) + 1
        counted.changed.add(address)
        counted.last[key.account, key.region, key.id] = LastUse(operation, now_s, ctx.request_id)
        is_due = now_s - counted.written_s > WRITES_S
        if is_due:
            counted.written_s = now_s
    if is_due and (changes := _changes(ctx.cloud, counted)):
        ctx.store.submit(changes)  # nobody waits for it


def last_use(ctx: Context, account: str, region: str, key_id: str) -> LastUse | None:
    """When a key was last used, as far as this server knows."""
    last = _counted(ctx.cloud).last.get((account, region, key_id))
    if last is None:
        row = ctx.store.get(_last_table(account, region), key_id)
        last = None if row is None else LastUse(row.value["operation"], row.value["time_s"], row.value["request_id"])
    return last


def write_down(cloud: Cloud) -> None:
    """What was counted since the last time."""
    if changes := _changes(cloud, _counted(cloud)):
        cloud.store.write(*changes)


def _changes(cloud: Cloud, counted: Counted) -> list[Change]:
    """What was counted since the last time. Lines hold an hour's whole count, so writing one again changes nothing."""
    with counted.lock:
        changed = [(address, counted.requests[address]) for address in counted.changed]
        last = dict(counted.last)
        counted.changed.clear()
        counted.last.clear()
        this_hour = int(cloud.clock.time_s() // 3600)
        counted.requests = {address: many for address, many in counted.requests.items() if address[0] >= this_hour}
    changes: list[Change] = [*keeping(_line(counted.name, *address, many) for address, many in changed)]
    changes += [Put(_last_table(account, region), key_id, use._asdict()) for (account, region, key_id), use in last.items()]
    return changes


def month_meter(account: str, region: str, arn: str) -> Meter:
    """What a customer's key costs while it is there: AWS asks by the month, an hour at a time."""
    return Meter(
        id=f"{arn}/month",
        account=account,
        region=region,
        product=PRODUCT,
        usage="KMS-Keys",
        operation="Unknown",
        resource=arn,
        unit="Keys",
        per_unit=SECONDS_A_MONTH,
    )


def _line(name: str, hour: int, account: str, region: str, usage: str, many: int) -> Line:
    start = datetime.fromtimestamp(hour * 3600, UTC)
    meter = Meter(
        id=f"kms/{region}/{name}",
        account=account,
        region=region,
        product=PRODUCT,
        usage=usage,
        operation="Unknown",
        resource="",
        unit="Requests",
        per_unit=1,
    )
    return Line(meter, start, datetime.fromtimestamp(hour * 3600 + 3600, UTC), many)


def _usage_type(key: Key, operation: str, pair: str) -> str:
    if operation in _PAIRS:
        return f"KMS-Requests-GenerateDatakeyPair-{'RSA' if pair.startswith('RSA') else 'ECC'}"
    if not kinds.is_asymmetric(key.spec):
        return "KMS-Requests"
    return "KMS-Requests-Asymmetric-RSA_2048" if key.spec == "RSA_2048" else "KMS-Requests-Asymmetric"


def _last_table(account: str, region: str) -> Table:
    return Table(account, region, _SERVICE, "LastUse")


def _counted(cloud: Cloud) -> Counted:
    counted: Counted | None = cloud.memory.get(_MEMORY)
    if counted is None:
        counted = cloud.memory.setdefault(_MEMORY, Counted(cloud.ids.hex(16), cloud.clock.time_s()))
    return counted
