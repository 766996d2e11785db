"""What SageMaker tells EventBridge: each change of the state of a job, a tuning job or a notebook instance, as its Describe shows it then.

    the state of a job (pilvi.jobs)                -> consumer "sagemaker/jobs"  ┐
    what is written of a tuning job or a notebook  -> consumer "sagemaker/states" ┴-> told (pilvi.events.told) -> the default bus

Source: SageMaker Developer Guide, "Events that Amazon SageMaker AI sends to Amazon EventBridge".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from pilvi.core.service import Context
from pilvi.events.told import told, wake
from pilvi.jobs import Status
from pilvi.jobs.record import service_context
from pilvi.jobs.spec import spec_from_record
from pilvi.services.sagemaker import hyper_parameter_tuning_job, processing_job, training_job, transform_job
from pilvi.services.sagemaker.job_kind import Job, JobKind, Record
from pilvi.services.sagemaker.state_note import context_of
from pilvi.services.sagemaker.tag import tags_of
from pilvi.storage.records import Change

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
    from pilvi.events import Fact

SOURCE: Final = "aws.sagemaker"
TYPES: Final = {
    "TrainingJob": "SageMaker Training Job State Change",
    "ProcessingJob": "SageMaker Processing Job State Change",
    "TransformJob": "SageMaker Transform Job State Change",
    "HyperParameterTuningJob": "SageMaker HyperParameter Tuning Job State Change",
    "NotebookInstance": "SageMaker Notebook Instance State Change",
}
_KINDS: Final[Mapping[str, tuple[JobKind, Callable[[Record, Job], Record]]]] = {
    "training": (training_job.KIND, training_job.described),
    "processing": (processing_job.KIND, processing_job.described),
    "transform": (transform_job.KIND, transform_job.described),
}
"""By the kind that a job's spec tells."""


_DESCRIBED: Final[Mapping[str, Callable[[Context, Record], Record]]] = {
    "HyperParameterTuningJob": hyper_parameter_tuning_job.described,
    "NotebookInstance": lambda _ctx, record: record,
}


async def take(cloud: Cloud, fact: Fact) -> None:
    """A consumer: a job has come to another state. Told where its words, as the API says them, are others than before."""
    job = fact["job"]
    spec = spec_from_record(job["spec"])
    kind, described = _KINDS[spec.kind]
    if not _is_news(kind, job):
        return
    ctx = service_context(cloud, spec)
    record = ctx.records(kind.noun).find(spec.name.lower())
    if record is None or record["_job"] != spec.id:
        return
    await cloud.store.commit([telling(ctx, kind.noun, described(record, job))])
    wake_bus(ctx)


async def take_noted(cloud: Cloud, fact: Fact) -> None:
    """A consumer: a tuning job or a notebook instance has come to another state."""
    ctx = context_of(cloud, fact)
    described = await asyncio.to_thread(_DESCRIBED[fact["noun"]], ctx, dict(fact["record"]))
    await cloud.store.commit([telling(ctx, fact["noun"], described)])
    wake_bus(ctx)


def telling(ctx: Context, noun: str, described: Mapping[str, Any]) -> Change:
    """The change that tells of a resource as it is described now."""
    arn = described[f"{noun}Arn"]
    detail = {name: value for name, value in described.items() if value is not None}
    detail["Tags"] = {tag["Key"]: tag["Value"] for tag in tags_of(ctx, arn)}
    return told(ctx, ctx.account, ctx.region, SOURCE, TYPES[noun], [arn], detail)


def wake_bus(ctx: Context) -> None:
    wake(ctx, ctx.account, ctx.region)


def _is_news(kind: JobKind, job: Job) -> bool:
    """Training jobs tell of secondary states, too; the others of those that they show."""
    if len(job["transitions"]) < 2:
        return True
    before, now = kind.words[Status(job["transitions"][-2]["status"])], kind.status(job)
    return before.primary != now.primary or (kind.noun == "TrainingJob" and before.secondary != now.secondary)
