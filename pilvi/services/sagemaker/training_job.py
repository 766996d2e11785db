"""Training jobs: a script or program, its data and its parameters, run once, leaving a model in S3."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any

from pilvi.core.errors import AlreadyExists, Conflict, Invalid, ServiceError
from pilvi.core.service import Context, Operations
from pilvi.jobs import LIVE, Status
from pilvi.jobs.record import billable_s
from pilvi.services.sagemaker.algorithm_use import applied, named
from pilvi.services.sagemaker.builtin_algorithms import with_metrics
from pilvi.services.sagemaker.job_kind import Job, JobKind, Record, Words, failure_reason
from pilvi.services.sagemaker.job_list import indexing, unindexing
from pilvi.services.sagemaker.tag import tagging, untagging
from pilvi.services.sagemaker.training_check import check_request, check_surroundings
from pilvi.services.sagemaker.training_hold import settled
from pilvi.services.sagemaker.training_pool import warm_pool_status
from pilvi.services.sagemaker.training_spec import SPOT_SHARE, model_uri, spec_for
from pilvi.storage.records import Change

ops = Operations()


@ops
def create_training_job(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Start a training job. It has a place in the queue, durably, when the answer comes.

    req: TrainingJobName (1-63, letters, digits, hyphens), AlgorithmSpecification with TrainingImage, RoleArn, OutputDataConfig,
        ResourceConfig (instances all alike, or InstanceGroups), StoppingCondition; up to 20 input channels in File, FastFile or Pipe
        mode; CheckpointConfig, EnableManagedSpotTraining, RetryStrategy.
    Errors: ResourceInUse - the name is taken. ValidationException - the role cannot be assumed, a channel has no objects, or
        something is asked for that is not built. AccessDeniedException - the caller may not pass the role.
    Source: SageMaker API reference and Developer Guide ("How Amazon SageMaker AI Provides Training Information"); messages
        for a taken name, a missing object and an untrusted role as users of AWS report them.
    Differs: instances are processes on this machine's cores and memory, as many as the type says and the machine has; hosts reach each
        other on loopback addresses (network_interface_name is lo). FastFile channels are files, downloaded first. File systems, data
        set sources and network isolation of several hosts are refused. VolumeKmsKeyId must be a key that the caller or the role may
        create grants on, but the volume is a folder on this machine's disk that this key does not seal: the job's log says so.
        OutputDataConfig's KmsKeyId seals checkpoints and TensorBoard's files, too. VpcConfig, ExperimentConfig,
        EnableInterContainerTrafficEncryption (traffic between hosts does not leave the machine) and the debugger's and profiler's
        configurations are recorded and do nothing. Spot training is interrupted by `pilvi spot interrupt` alone, and a second of it
        counts 0.3 seconds in BillableTimeInSeconds. A runtime has one version of its framework, whatever the image's tag says. Data is
        unpacked by name in File mode too: a Gzip channel's file loses the ending .gz. A job that fills its volume is ended.
        A warm pool (KeepAlivePeriodInSeconds) keeps its place and /opt/ml/sagemaker/warmpoolcache for the next job that is alike, but
        gives them up to a job that would have to wait, and ends with the server.
    """
    return {"TrainingJobArn": start(ctx, req)}


@ops
def describe_training_job(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Everything about one training job.

    Errors: ValidationException - there is none of this name.
    Differs: ProfilingStatus is always Disabled: nothing is profiled. The SageMaker SDK 2, which asks once soon after it has started a
        job and then sleeps for long, gets its first answer up to five seconds late: as soon as the job has ended.
    """
    record, job = KIND.find(ctx, req["TrainingJobName"])
    return described(record, settled(ctx, record, job))


def described(record: Record, job: Job) -> Record:
    """The record with what its job says."""
    words = KIND.status(job)
    return {
        **record,
        # The place where the model is or would be: the member is required, whatever the status.
        "ModelArtifacts": {"S3ModelArtifacts": model_uri(record)},
        "TrainingJobStatus": words.primary,
        "SecondaryStatus": words.secondary,
        "SecondaryStatusTransitions": KIND.transitions(job),
        "LastModifiedTime": job["modified"],
        "FailureReason": failure_reason(job),
        "WarmPoolStatus": warm_pool_status(record, job),
        "FinalMetricDataList": job.get("metrics") or None,
        "ProfilingStatus": "Disabled",
        **_times(record, job),
    }


@ops
def list_training_jobs(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Training jobs, a page at a time, filtered by name, status and times, sorted by Name, CreationTime or Status.

    Errors: ValidationException - a foreign token.
    Differs: TrainingPlanArnEquals finds nothing: there are no plans.
    """
    if req.get("TrainingPlanArnEquals"):
        return {"TrainingJobSummaries": []}
    return KIND.listed(ctx, req)


@ops
def update_training_job(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Change how long a job's warm pool is kept (from its end on; 0 ends it), or what is recorded of its profiler.

    req: ResourceConfig.KeepAlivePeriodInSeconds (0-21600), ProfilerConfig.
    Errors: ValidationException - there is none of this name, its warm pool is neither in use nor available, or something is asked for
        that is not built.
    Differs: ProfilerConfig is recorded: nothing is profiled.
    """
    for member in ("ProfilerRuleConfigurations", "RemoteDebugConfig"):
        if req.get(member):
            raise Invalid(f"{member} is not supported by this server yet.")
    record, job = KIND.find(ctx, req["TrainingJobName"])
    if (resources := req.get("ResourceConfig")) is not None:
        pool = warm_pool_status(record, job)
        if pool is None or pool["Status"] not in ("InUse", "Available"):
            raise Invalid(_no_pool(record, pool))
        try:
            ctx.jobs.keep_alive(record["_job"], resources["KeepAlivePeriodInSeconds"])
        except Conflict:
            raise Invalid(_no_pool(record, warm_pool_status(record, ctx.jobs.get(record["_job"])))) from None

    def changed(old: Record) -> Record:
        new = dict(old)
        if resources is not None:
            new["ResourceConfig"] = {**old["ResourceConfig"], **resources}
        if (profiler := req.get("ProfilerConfig")) is not None:
            new["ProfilerConfig"] = {**(old.get("ProfilerConfig") or {}), **profiler}
        return new

    ctx.records("TrainingJob").update(record["TrainingJobName"].lower(), changed)
    return {"TrainingJobArn": record["TrainingJobArn"]}


def _no_pool(record: Record, pool: Record | None) -> str:
    status = "it has none" if pool is None else f"its status is {pool['Status']}"
    return (
        f"The warm pool of training job {record['TrainingJobName']} cannot be updated: {status}. "
        "Only warm pools in status InUse or Available can be updated."
    )


@ops
def stop_training_job(ctx: Context, req: Mapping[str, Any]) -> None:
    """Ask a training job to end: SIGTERM, 120 seconds to leave a model, SIGKILL. What it left in the model folder is kept.

    Errors: ValidationException - there is none of this name, or it has ended.
    """
    KIND.stop(ctx, req["TrainingJobName"])


@ops
def delete_training_job(ctx: Context, req: Mapping[str, Any]) -> None:
    """Forget a training job that has ended; its name is free again. Its model and its logs stay.

    Errors: ResourceNotFound - there is none of this name. ResourceInUse - it has not ended, or its warm pool is Available.
    """
    name = req["TrainingJobName"].lower()
    row = ctx.records("TrainingJob").row(name)
    if row is None:
        raise ServiceError("ResourceNotFound", "Requested resource not found.")
    job = ctx.jobs.get(row.value["_job"])
    if Status(job["status"]) in LIVE:
        raise ServiceError(
            "ResourceInUse",
            f"Training job {req['TrainingJobName']} is in status {KIND.status(job).primary} and cannot be deleted.",
        )
    if (warm_pool_status(row.value, job) or {}).get("Status") == "Available":
        raise ServiceError(
            "ResourceInUse",
            f"Training job {req['TrainingJobName']} has an Available warm pool and cannot be deleted. End the pool first.",
        )
    arn = row.value["TrainingJobArn"]
    forgotten = (ctx.jobs.forgetting(row.value["_job"]), *unindexing(ctx, "TrainingJob", row.value), *untagging(ctx, arn))
    ctx.write(ctx.records("TrainingJob").deletion(name, row.version), *forgotten)


# Source of the words: SageMaker API reference, SecondaryStatusTransition; logs of training jobs that users show.
WORDS = {
    Status.QUEUED: Words("InProgress", "Starting", "Starting the training job"),
    Status.STARTING: Words("InProgress", "Starting", "Preparing the instances for training"),
    Status.DOWNLOADING: Words("InProgress", "Downloading", "Downloading input data"),
    Status.RUNNING: Words("InProgress", "Training", "Training image download completed. Training in progress."),
    Status.STOPPING: Words("Stopping", "Stopping", "Stopping the training job"),
    Status.UPLOADING: Words("InProgress", "Uploading", "Uploading generated training model"),
    Status.INTERRUPTED: Words("InProgress", "Interrupted", "The managed spot training instances were interrupted"),
    Status.RESTARTING: Words("InProgress", "Restarting", "Restarting the training job after an internal error"),
    Status.COMPLETED: Words("Completed", "Completed", "Training job completed"),
    Status.FAILED: Words("Failed", "Failed", "Training job failed"),
    Status.STOPPED: Words("Stopped", "Stopped", "Training job stopped"),
    Status.TIMED_OUT: Words("Stopped", "MaxRuntimeExceeded", "Training job runtime exceeded MaxRuntimeInSeconds provided"),
    Status.WAITED_OUT: Words("Stopped", "MaxWaitTimeExceeded", "Training job exceeded MaxWaitTimeInSeconds provided"),
}


def start(ctx: Context, req: Mapping[str, Any], *changes: Change, **more: Any) -> str:
    """Take a training job, with all checks; gives its ARN. For whoever starts jobs of its own, as tuning does.

    changes: of the same transaction. more: further members of the record (TuningJobArn).
    """
    name, arn = req["TrainingJobName"], ctx.arn(f"training-job/{req['TrainingJobName'].lower()}")
    asked, req = req, applied(ctx, req)
    check_request(ctx, req)
    if "AlgorithmName" not in asked["AlgorithmSpecification"]:
        req = with_metrics(req, account=ctx.account)
    jobs = ctx.records("TrainingJob")
    taken = AlreadyExists(
        "Training job names must be unique within an AWS account and region, and a training job with this name already exists "
        f"({arn})"
    )
    if jobs.find(name.lower()) is not None:
        raise taken
    check_surroundings(ctx, req, arn)
    spec = spec_for(ctx, req, arn, ctx.ids.lower(20))
    record = {**named(recorded(req), asked), **more, "TrainingJobArn": arn, "CreationTime": ctx.clock.now(), "_job": spec.id}
    try:
        kept = (jobs.insertion(name.lower(), record), *indexing(ctx, "TrainingJob", record), *tagging(ctx, arn, req.get("Tags")))
        ctx.jobs.submit(spec, *kept, *changes)
    except AlreadyExists:
        raise taken from None
    return arn


def recorded(req: Mapping[str, Any]) -> Record:
    """The request as Describe gives it back, with what AWS fills in."""
    record: Record = {key: value for key, value in req.items() if key != "Tags"}
    record["AlgorithmSpecification"] = {
        "MetricDefinitions": [],
        "EnableSageMakerMetricsTimeSeries": False,
        **req["AlgorithmSpecification"],
    }
    record["OutputDataConfig"] = {"KmsKeyId": "", **req["OutputDataConfig"]}
    record["StoppingCondition"] = {"MaxRuntimeInSeconds": 86400, **(req.get("StoppingCondition") or {})}
    for member in ("EnableNetworkIsolation", "EnableInterContainerTrafficEncryption", "EnableManagedSpotTraining"):
        record[member] = bool(req.get(member))
    if (checkpoints := req.get("CheckpointConfig")) is not None:
        record["CheckpointConfig"] = {"LocalPath": "/opt/ml/checkpoints", **checkpoints}
    record["InputDataConfig"] = [
        {"CompressionType": "None", "RecordWrapperType": "None", **channel, "DataSource": _with_distribution(channel["DataSource"])}
        for channel in req.get("InputDataConfig") or ()
    ] or None
    return record


def _with_distribution(source: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**source, "S3DataSource": {"S3DataDistributionType": "FullyReplicated", **source["S3DataSource"]}}


def _times(record: Record, job: Job) -> Record:
    """When it was on its instance, and for how long."""
    started, ended = job.get("started"), job.get("ended")
    if started is None:
        return {"TrainingEndTime": ended}
    if ended is None:
        return {"TrainingStartTime": started}
    share = SPOT_SHARE if record["EnableManagedSpotTraining"] else 1
    return {
        "TrainingStartTime": started,
        "TrainingEndTime": ended,
        "TrainingTimeInSeconds": max(1, ceil((ended - started).total_seconds())),
        "BillableTimeInSeconds": billable_s(job, share, ended),
    }


def _summary(record: Record, job: Job) -> Record:
    words = KIND.status(job)
    return {
        "TrainingJobName": record["TrainingJobName"],
        "TrainingJobArn": record["TrainingJobArn"],
        "CreationTime": record["CreationTime"],
        "TrainingEndTime": job.get("ended"),
        "LastModifiedTime": job["modified"],
        "TrainingJobStatus": words.primary,
        "SecondaryStatus": words.secondary,
        "WarmPoolStatus": warm_pool_status(record, job),
    }


KIND = JobKind("TrainingJob", WORDS, _summary, is_indexed=True)
