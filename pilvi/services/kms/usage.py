"""How much KMS is used: requests on their callers' bills, when each key was last used, and the months of customers' keys.

Source: AWS KMS pricing: 1 USD a key and month, by the hour; 0.03 USD for 10,000 requests, 0.15 for asymmetric ones other than
RSA_2048, more for data key pairs. Differs: rotated material costs nothing.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, NamedTuple

from pilvi.core.service import Context
from pilvi.metering.counted import Counter, Use
from pilvi.metering.line import Meter
from pilvi.services.kms import spec as kinds
from pilvi.storage.records import Put, Table

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
    from pilvi.services.kms.keys import Key

PRODUCT: Final = "awskms"
COUNTED: Final = Counter("kms")
SECONDS_A_MONTH: Final = 730 * 3600
"""AWS's month of hourly prices."""
_SERVICE: Final = "kmsusage"
"""A service name of its own: writing down what was used must not empty the cache of keys."""
_MEMORY: Final = "kms:last"
_PAIRS: Final = frozenset({"GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext"})


class LastUse(NamedTuple):
    operation: str
    time_s: float
    request_id: str


class LastUses:
    """Of each key since they were written down last."""

    def __init__(self) -> None:
        self.by_key: dict[tuple[str, str, str], LastUse] = {}
        """By account, Region and id."""
        self.lock = threading.Lock()


def count(ctx: Context, key: Key, operation: str, pair: str = "") -> None:
    """A key was used, successfully. pair: the kind of a data key pair."""
    use = Use(PRODUCT, _usage_type(key, operation, pair), "Unknown", "Requests")
    COUNTED.add(ctx.cloud, use, ctx.principal.account, ctx.region)
    last = _last_uses(ctx.cloud)
    with last.lock:
        last.by_key[key.account, key.region, key.id] = LastUse(operation, ctx.clock.time_s(), ctx.request_id)


def last_use(ctx: Context, account: str, region: str, key_id: str) -> LastUse | None:
    """When a key was last used, as far as this server knows."""
    last = _last_uses(ctx.cloud).by_key.get((account, region, key_id))
    if last is None:
        row = ctx.store.get(_last_table(account, region), key_id)
        last = None if row is None else LastUse(row.value["operation"], row.value["time_s"], row.value["request_id"])
    return last


def write_down(cloud: Cloud) -> None:
    """What was counted and seen since the last time."""
    COUNTED.write_down(cloud)
    last = _last_uses(cloud)
    with last.lock:
        found, last.by_key = last.by_key, {}
    if found:
        cloud.store.write(
            *(Put(_last_table(account, region), key_id, use._asdict()) for (account, region, key_id), use in found.items())
        )


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


def _usage_type(key: Key, operation: str, pair: str) -> str:
    if operation in _PAIRS:
        return f"KMS-Requests-GenerateDatakeyPair-{'RSA' if pair.startswith('RSA') else 'ECC'}"
    if not kinds.is_asymmetric(key.spec):
        return "KMS-Requests"
    return "KMS-Requests-Asymmetric-RSA_2048" if key.spec == "RSA_2048" else "KMS-Requests-Asymmetric"


def _last_table(account: str, region: str) -> Table:
    return Table(account, region, _SERVICE, "LastUse")


def _last_uses(cloud: Cloud) -> LastUses:
    found: LastUses | None = cloud.memory.get(_MEMORY)
    if found is None:
        found = cloud.memory.setdefault(_MEMORY, LastUses())
    return found
