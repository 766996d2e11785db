"""How much KMS is used: requests by kind, and when each key was last used. Counted in memory, written down with the hour.

A process that ends at once loses what it counted since the last look; nothing that a bill or a key's safety rests on is kept here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pilvi.metering.line import Meter

if TYPE_CHECKING:
    from pilvi.core.service import Context
    from pilvi.services.kms.keys import Key

PRODUCT: Final = "awskms"
SECONDS_A_MONTH: Final = 730 * 3600
"""AWS's month of hourly prices."""


def count(ctx: Context, key: Key, operation: str) -> None:
    """A key was used, successfully."""


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
