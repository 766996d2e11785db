"""What functions use: requests, and memory by time (GB-seconds), on the bill of the function's owner. Counted in whole megabytes and
milliseconds.

Source: AWS Lambda pricing: 0.20 USD for a million requests, 0.0000166667 for a GB-second (x86); time counts from the start of the function's
code, by the millisecond. Differs: the million requests and 400,000 GB-seconds a month that AWS gives are not taken off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pilvi.metering.counted import Counter, Use

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
    from pilvi.services.lambda_.catalog import Target

COUNTED: Final = Counter("lambda")
_REQUESTS: Final = Use("AWSLambda", "Request", "Invoke", "Requests")
_TIME: Final = Use("AWSLambda", "Lambda-GB-Second", "Invoke", "Lambda-GB-Second", per_unit=1024 * 1000)


def count(cloud: Cloud, target: Target, billed_ms: int) -> None:
    """An invocation came to its end."""
    COUNTED.add(cloud, _REQUESTS, target.account, target.region, resource=target.arn)
    COUNTED.add(cloud, _TIME, target.account, target.region, target.memory_mib * billed_ms, target.arn)
