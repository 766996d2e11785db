"""What endpoints are used for: the time of each instance that is up, and a serverless variant's compute time, written down every minute.

An instance has a meter of its own. Its line of an hour holds that hour's whole time, so writing it again changes nothing. What a killed
server had counted since its last minute is not paid for.

Source: Amazon SageMaker pricing: real-time inference by the instance second; serverless inference by the second and the memory.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil
from typing import TYPE_CHECKING

from pilvi.metering.line import HOURS, Line, Meter, keeping, tags_of
from pilvi.services.sagemaker.metered import PRODUCT

if TYPE_CHECKING:
    from pilvi.core.service import Context
    from pilvi.storage.records import Records

_HOUR = timedelta(hours=1)


@dataclass(slots=True)
class Use:
    """One instance's time."""

    meter: Meter
    start: datetime
    written: datetime
    """All before this hour is written down for good."""
    end: datetime | None = None


@dataclass(slots=True)
class Seconds:
    """The compute time of a serverless variant in one hour."""

    meter: Meter
    hour: datetime
    milliseconds: float = 0.0


@dataclass(slots=True)
class Uses:
    """All of a server's. Safe to use from several threads."""

    running: dict[str, Use] = field(default_factory=dict)
    serverless: dict[tuple[str, datetime], Seconds] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def begins(self, ctx: Context, arn: str, instance: str, instance_type: str) -> None:
        now = ctx.clock.now()
        meter = _meter(ctx, arn, f"endpoint/{instance}", f"Host:{instance_type}", instance_type)
        with self.lock:
            self.running[instance] = Use(meter, now, now)

    def ends(self, instance: str, now: datetime) -> None:
        with self.lock:
            if (use := self.running.get(instance)) is not None and use.end is None:
                use.end = now

    def worked(self, ctx: Context, arn: str, id: str, memory_mib: int, seconds: float) -> None:
        """A serverless variant worked for so long."""
        hour = _hour(ctx.clock.now())
        with self.lock:
            found = self.serverless.get((id, hour))
            if found is None:
                usage = f"ServerlessInf:Mem-{memory_mib // 1024}GB"
                found = self.serverless[(id, hour)] = Seconds(_meter(ctx, arn, f"serverless/{id}", usage, "", "seconds", 1), hour)
            found.milliseconds += seconds * 1000

    def write_down(self, store: Records, now: datetime) -> None:
        """All that was used since the last time."""
        with self.lock:
            lines = [line for use in self.running.values() for line in _lines(store, use, now)]
            for name, use in list(self.running.items()):
                use.written = now
                if use.end is not None:
                    del self.running[name]
            for key, found in list(self.serverless.items()):
                tags = _tags(store, found.meter)
                lines.append(Line(found.meter, found.hour, found.hour + _HOUR, ceil(found.milliseconds / 1000), tags))
                if key[1] < _hour(now):
                    del self.serverless[key]
        if changes := keeping(line for line in lines if line.quantity):
            store.write(*changes)


def _meter(
    ctx: Context, arn: str, id: str, usage: str, instance_type: str, unit: str = HOURS[0], per_unit: int = HOURS[1]
) -> Meter:
    return Meter(
        id=id,
        account=ctx.account,
        region=ctx.region,
        product=PRODUCT,
        usage=usage,
        operation="RunInstance",
        resource=arn,
        instance_type=instance_type,
        unit=unit,
        per_unit=per_unit,
    )


def _lines(store: Records, use: Use, now: datetime) -> Iterator[Line]:
    """The hours of a use that have changed."""
    end, tags = use.end or now, _tags(store, use.meter)
    hour = max(_hour(use.written), _hour(use.start))
    while hour < end or hour == _hour(use.start):
        start, until = max(use.start, hour), min(end, hour + _HOUR)
        yield Line(use.meter, start, until, max(1, ceil((until - start).total_seconds())), tags)
        hour += _HOUR


def _tags(store: Records, meter: Meter) -> dict[str, str]:
    return tags_of(store, meter.account, meter.region, "sagemaker", meter.resource)


def _hour(instant: datetime) -> datetime:
    return instant.replace(minute=0, second=0, microsecond=0)
