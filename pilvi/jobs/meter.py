"""What a job used of its instances: written down with its end, in the same transaction, so that neither is without the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pilvi.jobs.record import JOBS, ON_INSTANCES, OPEN, billable_s
from pilvi.jobs.spec import JobSpec, spec_from_record
from pilvi.jobs.states import Status
from pilvi.metering.line import ON_DEMAND, SPOT, Meter, keeping, spread, tags_of
from pilvi.storage.records import Change, Records

OPERATION = "RunInstance"


@dataclass(frozen=True, slots=True)
class OnInstances:
    """A job that has its instances now."""

    meter: Meter
    instances: int
    seconds: int
    """Of all instances together, so far, as they count on the bill."""
    share: float
    since: datetime


def metering(store: Records, record: Mapping[str, Any]) -> tuple[Change, ...]:
    """The usage lines of a job that has just ended: a meter for each instance type. None for what is on no bill."""
    spec = spec_from_record(record["spec"])
    seconds = billable_s(record, spec.billed_share, record["ended"])
    if not spec.product or not seconds:
        return ()
    spans = [(entry["start"], entry["end"]) for entry in record["transitions"] if entry["status"] in ON_INSTANCES]
    tags = tags_of(store, spec.account, spec.region, spec.service, spec.arn)
    lines = [line for meter, count in _meters(spec) for line in spread(meter, spans, seconds * count, tags)]
    return keeping(lines)


def on_instances(store: Records, account: str, now: datetime) -> Iterator[OnInstances]:
    """The jobs of an account that cost something right now."""
    after = ""
    while rows := store.scan(OPEN, after=after):
        for row in rows:
            job = store.get(JOBS, row.id)
            if job is None or job.value["spec"]["account"] != account or Status(job.value["status"]) not in ON_INSTANCES:
                continue
            spec = spec_from_record(job.value["spec"])
            seconds = billable_s(job.value, spec.billed_share, now)
            for meter, count in _meters(spec) if spec.product else ():
                yield OnInstances(meter, count, seconds * count, spec.billed_share, job.value["started"])
        after = rows[-1].id


def _meters(spec: JobSpec) -> list[tuple[Meter, int]]:
    """What is counted, and on how many instances."""
    types = Counter((member.resources or spec.resources).label for member in spec.all_members)
    return [
        (
            Meter(
                id=spec.id,
                account=spec.account,
                region=spec.region,
                product=spec.product,
                usage=f"{spec.usage}:{name}",
                operation=OPERATION,
                resource=spec.arn,
                instance_type=name,
                purchase=SPOT if spec.is_interruptible else ON_DEMAND,
            ),
            count,
        )
        for name, count in sorted(types.items())
    ]
