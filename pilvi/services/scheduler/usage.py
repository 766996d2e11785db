"""What Scheduler is used for: invocations on the bill of the schedule's account.

Source: Amazon EventBridge pricing: 1 USD for a million invocations. Differs: the first 14 million a month are not free.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pilvi.metering.counted import Counter, Use

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

COUNTED: Final = Counter("scheduler")
_INVOCATION: Final = Use("AWSEvents", "ScheduledInvocation", "Invocation", "Invocations")


def count(cloud: Cloud, account: str, region: str) -> None:
    """An invocation."""
    COUNTED.add(cloud, _INVOCATION, account, region)
