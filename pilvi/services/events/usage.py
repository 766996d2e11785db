"""What EventBridge is used for, on the bill of who sends: custom events in chunks of 64 KiB.

Source: Amazon EventBridge pricing: 1.00 USD for a million custom or cross-account events, 0.20 for calls of API destinations; events of
AWS's own services are free; archives 0.10 a GB processed. Differs: what archives keep is not on the bill.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pilvi.metering.counted import Counter, Use

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
    from pilvi.services.events.buses import Place

COUNTED: Final = Counter("events")
CHUNK_BYTES: Final = 64 << 10
_EVENTS: Final = Use("AWSEvents", "Event-64K-Chunks", "PutEvents", "64K-Chunks")
_CALLS: Final = Use("AWSEvents", "Invocation-64K-Chunks", "ApiDestination", "64K-Chunks")


def count_event(cloud: Cloud, account: str, region: str, size_bytes: int) -> None:
    """An event was put on a bus."""
    COUNTED.add(cloud, _EVENTS, account, region, chunks(size_bytes))


def count_chunks(cloud: Cloud, place: Place, kind: str, size_bytes: int) -> None:
    """A target was called: only those outside cost something."""
    if kind == "events/api-destination":
        count_call(cloud, place.account, place.region, size_bytes)


def count_call(cloud: Cloud, account: str, region: str, size_bytes: int) -> None:
    """An API destination was called."""
    COUNTED.add(cloud, _CALLS, account, region, chunks(size_bytes))


def chunks(size_bytes: int) -> int:
    return max(1, -(-size_bytes // CHUNK_BYTES))
