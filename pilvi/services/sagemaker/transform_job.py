"""Batch transform jobs: a model led over every object below a prefix of S3, with nothing left running."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import AlreadyExists
from pilvi.core.service import Context, Operations
from pilvi.jobs import Status
from pilvi.services.sagemaker.job_kind import Job, JobKind, Record, Words, failure_reason
from pilvi.services.sagemaker.job_list import indexing
from pilvi.services.sagemaker.model import find_model
from pilvi.services.sagemaker.tag import tagging
from pilvi.services.sagemaker.training_hold import settled
from pilvi.services.sagemaker.transform_check import check_request, check_surroundings
from pilvi.services.sagemaker.transform_spec import spec_for

ops = Operations()


@ops
def create_transform_job(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Start a transform job. It has a place in the queue, durably, when the answer comes. Every input object gets `<its name>.out`.

    req: TransformJobName (1-63), ModelName, TransformInput (S3Prefix or ManifestFile; SplitType None, Line, RecordIO, TFRecord;
        Gzip), TransformOutput (AssembleWith, Accept), TransformResources; BatchStrategy, MaxPayloadInMB (0-100, 6),
        MaxConcurrentTransforms, ModelClientConfig, DataProcessing (filters, join), Environment.
    Errors: ResourceInUse - the name is taken. ValidationException - there is no such model, or something is asked for that is not built.
    Source: SageMaker API reference and Developer Guide ("Use batch transform to run inference").
    Differs: a file that cannot be transformed is named in FailureReason, and the others have their outputs. Images of one's own and
        augmented manifests are refused. Each host's log is one stream, with what AWS writes to data-log in it. MaxPayloadInMB 0 sends
        a file in one piece.
    """
    name, arn = req["TransformJobName"], ctx.arn(f"transform-job/{req['TransformJobName'].lower()}")
    jobs = ctx.records("TransformJob")
    taken = AlreadyExists(
        "Transform job names must be unique within an AWS account and region, and a transform job with this name already exists "
        f"({arn})"
    )
    if jobs.find(name.lower()) is not None:
        raise taken
    model = find_model(ctx, req["ModelName"])
    check_request(ctx, req, model)
    check_surroundings(ctx, req, model, arn)
    spec = spec_for(ctx, req, model, arn, ctx.ids.lower(20))
    record: Record = {
        **{member: value for member, value in req.items() if member != "Tags"},
        "TransformJobArn": arn,
        "CreationTime": ctx.clock.now(),
        "_job": spec.id,
    }
    record["TransformInput"] = {"CompressionType": "None", "SplitType": "None", **req["TransformInput"]}
    record["TransformOutput"] = {"AssembleWith": "None", "KmsKeyId": "", **req["TransformOutput"]}
    record["DataProcessing"] = {"InputFilter": "$", "OutputFilter": "$", "JoinSource": "None", **(req.get("DataProcessing") or {})}
    try:
        changes = (*indexing(ctx, KIND.noun, record), *tagging(ctx, arn, req.get("Tags")))
        ctx.jobs.submit(spec, jobs.insertion(name.lower(), record), *changes)
    except AlreadyExists:
        raise taken from None
    return {"TransformJobArn": arn}


@ops
def describe_transform_job(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Everything about one transform job.

    Errors: ValidationException - there is none of this name.
    Differs: the SageMaker SDK 2 gets its first answer up to five seconds late, when the job has ended meanwhile.
    """
    record, job = KIND.find(ctx, req["TransformJobName"])
    return described(record, settled(ctx, record, job))


def described(record: Record, job: Job) -> Record:
    """The record with what its job says."""
    return {
        **record,
        "TransformJobStatus": KIND.status(job).primary,
        "TransformStartTime": job.get("started"),
        "TransformEndTime": job.get("ended"),
        "FailureReason": reason(job),
    }


@ops
def list_transform_jobs(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Transform jobs, a page at a time, filtered by name, status and times. Errors: ValidationException - a foreign token."""
    return KIND.listed(ctx, req)


@ops
def stop_transform_job(ctx: Context, req: Mapping[str, Any]) -> None:
    """Ask a transform job to end. Nothing of what it made goes to S3.

    Errors: ValidationException - there is none of this name, or it has ended.
    """
    KIND.stop(ctx, req["TransformJobName"])


def reason(job: Job) -> str | None:
    """Why it failed: what the program left about it says whose fault it was."""
    text = str(job.get("failure_text") or "")
    if job["status"] == Status.FAILED and text.startswith(("ClientError: ", "AlgorithmError: ")):
        return text[:1024]
    found = failure_reason(job)
    return None if found is None else found[:1024]


WORDS = {
    Status.QUEUED: Words("InProgress", "Pending", "Waiting for a place"),
    Status.STARTING: Words("InProgress", "Starting", "Preparing the instances for the transform"),
    Status.DOWNLOADING: Words("InProgress", "Downloading", "Downloading input data"),
    Status.RUNNING: Words("InProgress", "Transforming", "Transform in progress"),
    Status.STOPPING: Words("Stopping", "Stopping", "Stopping the transform job"),
    Status.UPLOADING: Words("InProgress", "Uploading", "Uploading outputs"),
    Status.COMPLETED: Words("Completed", "Completed", "Transform job completed"),
    Status.FAILED: Words("Failed", "Failed", "Transform job failed"),
    Status.STOPPED: Words("Stopped", "Stopped", "Transform job stopped"),
    Status.TIMED_OUT: Words("Stopped", "Stopped", "Transform job stopped"),
}
"""The primary ones are AWS's; transform jobs show no secondary ones."""


def _summary(record: Record, job: Job) -> Record:
    return {
        "TransformJobName": record["TransformJobName"],
        "TransformJobArn": record["TransformJobArn"],
        "CreationTime": record["CreationTime"],
        "TransformEndTime": job.get("ended"),
        "LastModifiedTime": job["modified"],
        "TransformJobStatus": KIND.status(job).primary,
        "FailureReason": reason(job),
    }


KIND = JobKind(
    "TransformJob",
    WORDS,
    _summary,
    sort_default="CreationTime",
    order_default="Descending",
    missing="Could not find requested job with name: {name}",
    is_indexed=True,
)
