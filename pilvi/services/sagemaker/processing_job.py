"""Processing jobs: a program, what it reads from S3 and what it writes there, run once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import AlreadyExists, ServiceError
from pilvi.core.service import Context, Operations
from pilvi.jobs import LIVE, Status
from pilvi.services.sagemaker.job_kind import Job, JobKind, Record, Words, failure_reason
from pilvi.services.sagemaker.job_list import indexing, unindexing
from pilvi.services.sagemaker.processing_check import check_request, check_surroundings
from pilvi.services.sagemaker.processing_spec import recorded, spec_for
from pilvi.services.sagemaker.tag import tagging, untagging
from pilvi.services.sagemaker.training_hold import settled

ops = Operations()


@ops
def create_processing_job(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Start a processing job. It has a place in the queue, durably, when the answer comes.

    req: ProcessingJobName (1-63, letters, digits, hyphens), AppSpecification with ImageUri and an entry point or arguments,
        ProcessingResources, RoleArn; up to 10 inputs and 10 outputs.
    Errors: ResourceInUse - the name is taken. ValidationException - the role cannot be assumed, a local path is not allowed or
        used twice, or something is asked for that is not built. AccessDeniedException - the caller may not pass the role.
    Source: SageMaker API reference and Developer Guide ("Build Your Own Processing Container").
    Differs: hosts are processes on the machines there are, with as much of the instance type as those have; of InstancePreferences
        the first is taken. Data set inputs from Athena and Redshift and outputs to Feature Store are refused. VolumeKmsKeyId must be a
        key that the caller or the role may create grants on, but the volume is a folder on this machine's disk that this key does not
        seal: the job's log says so.
        VpcConfig, ExperimentConfig and EnableInterContainerTrafficEncryption (traffic between hosts does not leave the machine) are
        recorded and do nothing. Data is unpacked by name: a Gzip input's file loses the ending .gz. Pipes are named <LocalPath>_0, _1, ...: one for each time that the program reads the input.
    """
    return {"ProcessingJobArn": start(ctx, req)}


def start(ctx: Context, req: Mapping[str, Any], **more: Any) -> str:
    """The same for jobs that the service itself makes; `more` are further members of the record (MonitoringScheduleArn)."""
    name, arn = req["ProcessingJobName"], ctx.arn(f"processing-job/{req['ProcessingJobName'].lower()}")
    check_request(ctx, req)
    jobs = ctx.records("ProcessingJob")
    taken = AlreadyExists(
        "Processing job names must be unique within an AWS account and region, and a processing job with this name already exists "
        f"({arn})"
    )
    if jobs.find(name.lower()) is not None:
        raise taken
    check_surroundings(ctx, req, arn)
    record: Record = recorded(req)
    spec = spec_for(ctx, record, arn, ctx.ids.lower(20))
    record |= {"ProcessingJobArn": arn, "CreationTime": ctx.clock.now(), "_job": spec.id, **more}
    try:
        changes = (*indexing(ctx, KIND.noun, record), *tagging(ctx, arn, req.get("Tags")))
        ctx.jobs.submit(spec, jobs.insertion(name.lower(), record), *changes)
    except AlreadyExists:
        raise taken from None
    return arn


@ops
def describe_processing_job(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Everything about one processing job.

    Errors: ValidationException - there is none of this name.
    Differs: an exit message that is not UTF-8 is shown as far as it can be read; it does not fail the job. The SageMaker SDK 2 gets its
        first answer up to five seconds late, when the job has ended meanwhile.
    """
    record, job = KIND.find(ctx, req["ProcessingJobName"])
    return described(record, settled(ctx, record, job))


def described(record: Record, job: Job) -> Record:
    """The record with what its job says."""
    return {
        **record,
        "ProcessingJobStatus": KIND.status(job).primary,
        "LastModifiedTime": job["modified"],
        "ProcessingStartTime": job.get("started"),
        "ProcessingEndTime": job.get("ended"),
        "FailureReason": reason(job),
        "ExitMessage": exit_message(job),
    }


@ops
def list_processing_jobs(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Processing jobs, a page at a time, filtered by name, status and times, sorted by Name, CreationTime or Status.

    Errors: ValidationException - a foreign token.
    """
    return KIND.listed(ctx, req)


@ops
def stop_processing_job(ctx: Context, req: Mapping[str, Any]) -> None:
    """Ask a processing job to end: SIGTERM, 120 seconds, SIGKILL. What stands in its outputs is brought to S3.

    Errors: ValidationException - there is none of this name, or it has ended.
    """
    KIND.stop(ctx, req["ProcessingJobName"])


@ops
def delete_processing_job(ctx: Context, req: Mapping[str, Any]) -> None:
    """Forget a processing job that has ended; its name is free again. Its outputs and its logs stay.

    Errors: ResourceNotFound - there is none of this name. ResourceInUse - it has not ended.
    """
    name = req["ProcessingJobName"].lower()
    row = ctx.records("ProcessingJob").row(name)
    if row is None:
        raise ServiceError("ResourceNotFound", "Requested resource not found.")
    job = ctx.jobs.get(row.value["_job"])
    if Status(job["status"]) in LIVE:
        raise ServiceError(
            "ResourceInUse",
            f"Processing job {req['ProcessingJobName']} is in status {KIND.status(job).primary} and cannot be deleted.",
        )
    arn = row.value["ProcessingJobArn"]
    ctx.write(
        ctx.records("ProcessingJob").deletion(name, row.version),
        ctx.jobs.forgetting(row.value["_job"]),
        *unindexing(ctx, KIND.noun, row.value),
        *untagging(ctx, arn),
    )


WORDS = {
    Status.QUEUED: Words("InProgress", "Pending", "Waiting for a place"),
    Status.STARTING: Words("InProgress", "Starting", "Preparing the instances for processing"),
    Status.DOWNLOADING: Words("InProgress", "Downloading", "Downloading input data"),
    Status.RUNNING: Words("InProgress", "Processing", "Processing in progress"),
    Status.STOPPING: Words("Stopping", "Stopping", "Stopping the processing job"),
    Status.UPLOADING: Words("InProgress", "Uploading", "Uploading outputs"),
    Status.COMPLETED: Words("Completed", "Completed", "Processing job completed"),
    Status.FAILED: Words("Failed", "Failed", "Processing job failed"),
    Status.STOPPED: Words("Stopped", "Stopped", "Processing job stopped"),
    Status.TIMED_OUT: Words("Stopped", "MaxRuntimeExceeded", "Processing job runtime exceeded MaxRuntimeInSeconds provided"),
}
"""The primary ones are AWS's; processing jobs show no secondary ones."""


def reason(job: Job) -> str | None:
    """Why it failed. What a program says about its own failure is in its log and in its exit message, as AWS has it.

    Source: failure reasons of processing jobs that users show ("AlgorithmError: See job logs for more information").
    """
    found = failure_reason({**job, "failure_text": "See job logs for more information"})
    return None if found is None else found[:1024]


def exit_message(job: Job) -> str | None:
    """The first kilobyte of what the programs of all hosts left in /opt/ml/output/message."""
    text = "".join(job.get("texts") or ()) if Status(job["status"]) not in LIVE else ""
    return text.encode()[:1024].decode(errors="ignore") or None


def _summary(record: Record, job: Job) -> Record:
    return {
        "ProcessingJobName": record["ProcessingJobName"],
        "ProcessingJobArn": record["ProcessingJobArn"],
        "CreationTime": record["CreationTime"],
        "ProcessingEndTime": job.get("ended"),
        "LastModifiedTime": job["modified"],
        "ProcessingJobStatus": KIND.status(job).primary,
        "FailureReason": reason(job),
        "ExitMessage": exit_message(job),
    }


# Source of the message: users of AWS report it for DescribeProcessingJob, and the SDK looks for its first words.
KIND = JobKind("ProcessingJob", WORDS, _summary, missing="Could not find requested job with name: {name}", is_indexed=True)
