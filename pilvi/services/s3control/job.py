"""Batch Operations jobs: one operation on every object of a manifest. How a job runs: job_run.py; what it does to an object: job_task.py.

CreateJob --> New --> Preparing --> Suspended (confirmation is wanted) --UpdateJobStatus--> Ready
                               \\--> Ready --> Active <--> Paused (one of higher priority runs)
Active --> Completing --> Complete            --> Failing --> Failed            --> Cancelling --> Cancelled
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pilvi.core.arn import partition_of
from pilvi.core.errors import AlreadyExists, Conflict, Invalid, ServiceError
from pilvi.core.paging import decode_token, encode_token
from pilvi.core.service import Access, Context, Operations
from pilvi.services.s3control.access import RULES
from pilvi.services.s3control.errors import invalid_request, not_implemented
from pilvi.services.s3control.tags import checked_tags
from pilvi.storage.records import Change, Insert, Row, Table, Update

ops = Operations()

CONSUMER = "s3control/jobs"
PRINCIPAL = "batchoperations.s3.amazonaws.com"
BUILT = (
    "LambdaInvoke",
    "S3PutObjectCopy",
    "S3PutObjectAcl",
    "S3PutObjectTagging",
    "S3DeleteObjectTagging",
    "S3InitiateRestoreObject",
    "S3PutObjectLegalHold",
    "S3PutObjectRetention",
    "S3ReplicateObject",
)
CSV = "S3BatchOperations_CSV_20180820"
INVENTORY = "S3InventoryReport_CSV_20161130"
ENDED = ("Complete", "Failed", "Cancelled")
LISTED_DAYS = 30
"""ListJobs tells of jobs that were made or have ended so long ago. Source: S3 User Guide, "Listing jobs"."""
TAGS = 50


@ops
def create_job(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Begin a job over every object of a manifest, as a role that trusts batchoperations.s3.amazonaws.com.

    req: AccountId, ConfirmationRequired, Operation (one), Manifest or ManifestGenerator, Report, Priority (0 or more), RoleArn,
    ClientRequestToken, Description, Tags (50). The same token again gives the same job.
    Errors: InvalidRequest - not exactly one operation, or manifest; a report without a bucket; missing fields; AccessDenied - the
    caller may not pass the role; IdempotencyException - the token was used for another job; NotImplemented -
    S3ComputeObjectChecksum, S3UpdateObjectEncryption and filters on encryption or on eligibility for replication.
    Source: S3 Control API Reference, CreateJob; S3 User Guide, "Creating an S3 Batch Operations job".
    Differs: generated manifests name current versions only. After a crash up to a hundred objects are done a second time.
    """
    check_job(req)
    tags = checked_tags(req.get("Tags"), TAGS)
    id, now = ctx.ids.uuid(), ctx.clock.now()
    asked = {
        name: req[name] for name in ("Operation", "Report", "Manifest", "ManifestGenerator", "RoleArn", "Priority") if name in req
    }
    job: dict[str, Any] = {
        **asked,
        "JobId": id,
        "JobArn": arn_of(ctx, id),
        "ConfirmationRequired": bool(req.get("ConfirmationRequired")),
        "Description": req.get("Description", ""),
        "Status": "New",
        "CreationTime": now.replace(microsecond=0),
        "ProgressSummary": {"TotalNumberOfTasks": 0, "NumberOfTasksSucceeded": 0, "NumberOfTasksFailed": 0},
        "FailureReasons": [],
        "_tags": tags,
        "_active_s": 0.0,
    }
    tokens, token = ctx.records("JobToken").table, req["ClientRequestToken"]
    try:
        ctx.write(
            Insert(tokens, token, {"JobId": id, "asked": asked}),
            Insert(jobs_of(ctx), id, job),
            begun(ctx, id),
        )
    except AlreadyExists:
        known = ctx.records("JobToken").get(token)
        if known["asked"] != asked:
            raise ServiceError("IdempotencyException", "The client request token was used for another job.", 400) from None
        return {"JobId": known["JobId"]}
    ctx.cloud.events.wake(CONSUMER, lane_of(ctx))
    return {"JobId": id}


def check_job(req: Mapping[str, Any]) -> None:
    operation = req["Operation"]
    if len(operation) != 1:
        raise invalid_request("The job must have exactly one operation.")
    (name,) = operation
    if name not in BUILT:
        raise not_implemented(f"The operation {name}")
    check_operation(name, operation[name])
    if ("Manifest" in req) == ("ManifestGenerator" in req):
        raise invalid_request("The job must have either a Manifest or a ManifestGenerator.")
    if "Manifest" in req:
        check_manifest(req["Manifest"]["Spec"])
    else:
        check_generator(req["ManifestGenerator"])
    report = req["Report"]
    if report["Enabled"] and any(name not in report for name in ("Bucket", "Format", "ReportScope")):
        raise invalid_request("Bucket, Format and ReportScope are required when the report is enabled.")


def check_operation(name: str, given: Mapping[str, Any]) -> None:
    if name == "LambdaInvoke":
        if "FunctionArn" not in given:
            raise invalid_request("Missing required field: FunctionArn")
        if given.get("InvocationSchemaVersion", "1.0") not in ("1.0", "2.0"):
            raise invalid_request("InvocationSchemaVersion must be 1.0 or 2.0.")
        if "UserArguments" in given and given.get("InvocationSchemaVersion") != "2.0":
            raise invalid_request("UserArguments require InvocationSchemaVersion 2.0.")
    if name == "S3PutObjectCopy" and "TargetResource" not in given:
        raise invalid_request("Missing required field: TargetResource")
    if name == "S3InitiateRestoreObject" and "GlacierJobTier" not in given:
        raise invalid_request("Missing required field: GlacierJobTier")
    if name == "S3PutObjectTagging":
        checked_tags(given.get("TagSet"), 10)
    if name == "S3PutObjectRetention" and ("EventHold" in given["Retention"] or "EventHoldDuration" in given["Retention"]):
        raise not_implemented("EventHold")


def check_manifest(spec: Mapping[str, Any]) -> None:
    fields = spec.get("Fields")
    if spec["Format"] == INVENTORY:
        if fields:
            raise invalid_request("Fields is not allowed for the manifest format S3InventoryReport_CSV_20161130.")
    elif not fields or "Bucket" not in fields or "Key" not in fields:
        raise invalid_request("The manifest's Fields must hold Bucket and Key.")
    elif any(fields.count(name) > 1 for name in ("Bucket", "Key", "VersionId")):
        raise invalid_request("The manifest's Fields must name a column only once.")


def check_generator(given: Mapping[str, Any]) -> None:
    generator = given.get("S3JobManifestGenerator")
    if generator is None:
        raise invalid_request("Missing required field: S3JobManifestGenerator")
    if generator["EnableManifestOutput"] and "ManifestOutputLocation" not in generator:
        raise invalid_request("ManifestOutputLocation is required when EnableManifestOutput is true.")
    chosen = generator.get("Filter") or {}
    for name in ("EligibleForReplication", "MatchAnyObjectEncryption"):
        if chosen.get(name):
            raise not_implemented(f"The filter {name}")


@ops
def describe_job(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """All that is known of a job: its parameters, how far it is, why it failed.

    Errors: NotFoundException.
    Source: S3 Control API Reference, DescribeJob.
    """
    job = find_job(ctx, req["JobId"]).value
    progress = {**job["ProgressSummary"], "Timers": {"ElapsedTimeInActiveSeconds": int(active_s(ctx, job))}}
    return {"Job": {**job, "ProgressSummary": progress}}


def active_s(ctx: Context, job: Mapping[str, Any]) -> float:
    since: float = job.get("_active_since") or ctx.clock.real_s()
    return float(job["_active_s"] + ctx.clock.real_s() - since)


@ops
def list_jobs(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Jobs of the last 30 days, newest first, of some statuses.

    req: AccountId, JobStatuses, MaxResults (1-1,000), NextToken.
    Errors: InvalidNextTokenException; InvalidRequest - MaxResults.
    Source: S3 Control API Reference, ListJobs.
    """
    limit = req.get("MaxResults") or 1000
    if not 1 <= limit <= 1000:
        raise invalid_request("MaxResults must be between 1 and 1,000.")
    try:
        after = decode_token(req.get("NextToken"))
    except Invalid:
        raise ServiceError("InvalidNextTokenException", "The continuation token provided is incorrect", 400) from None
    oldest, wanted = ctx.clock.now() - timedelta(days=LISTED_DAYS), req.get("JobStatuses")
    found = sorted(
        (
            job
            for job in ctx.records("Job").all()
            if (job.get("TerminationDate") or job["CreationTime"]) >= oldest and (not wanted or job["Status"] in wanted)
        ),
        key=place_of,
        reverse=True,
    )
    rest = [job for job in found if not after or place_of(job) < after]
    answer: dict[str, Any] = {"Jobs": [{**job, "Operation": next(iter(job["Operation"]))} for job in rest[:limit]]}
    if len(rest) > limit:
        answer["NextToken"] = encode_token(place_of(rest[limit - 1]))
    return answer


def place_of(job: Mapping[str, Any]) -> str:
    return f"{job['CreationTime']:%Y%m%d%H%M%S}{job['JobId']}"


@ops
def update_job_priority(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Let a job run before, or after, others.

    Errors: NotFoundException; JobStatusException - the job has ended.
    Source: S3 Control API Reference, UpdateJobPriority.
    """

    def change(job: dict[str, Any]) -> list[Change]:
        if job["Status"] in ENDED:
            raise wrong_status(job, "have its priority changed")
        job["Priority"] = req["Priority"]
        return []

    change_job(ctx, req["JobId"], change)
    return {"JobId": req["JobId"], "Priority": req["Priority"]}


@ops
def update_job_status(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Confirm a job that waits for it (Ready), or cancel one. What a cancelled job has done already stays done.

    Errors: NotFoundException; JobStatusException - not Suspended, or at its end already.
    Source: S3 Control API Reference, UpdateJobStatus.
    """
    wanted, reason = req["RequestedJobStatus"], req.get("StatusUpdateReason")

    def change(job: dict[str, Any]) -> list[Change]:
        status = job["Status"]
        if wanted == "Ready":
            if status != "Suspended":
                raise wrong_status(job, "be confirmed")
            job["Status"] = "Ready"
            job["_confirmed"] = True
        elif status in (*ENDED, "Cancelling", "Completing", "Failing"):
            raise wrong_status(job, "be cancelled")
        else:
            job["Status"] = "Cancelling"
        if reason is not None:
            job["StatusUpdateReason"] = reason
        return [begun(ctx, job["JobId"])] if status == "Suspended" else []

    job = change_job(ctx, req["JobId"], change)
    ctx.cloud.events.wake(CONSUMER, lane_of(ctx))
    return {name: job[name] for name in ("JobId", "Status", "StatusUpdateReason") if name in job}


def wrong_status(job: Mapping[str, Any], what: str) -> ServiceError:
    return ServiceError("JobStatusException", f"A job in the status {job['Status']} cannot {what}.", 400)


# -- tags -----------------------------------------------------------------------------------------------------------------


@ops
def put_job_tagging(ctx: Context, req: Mapping[str, Any]) -> None:
    """Replace a job's tags.

    Errors: NotFoundException; TooManyTagsException - more than 50; InvalidTag.
    Source: S3 Control API Reference, PutJobTagging.
    """
    tags = checked_tags(req["Tags"], TAGS)

    def change(job: dict[str, Any]) -> list[Change]:
        job["_tags"] = tags
        return []

    change_job(ctx, req["JobId"], change)


@ops
def get_job_tagging(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """A job's tags.

    Errors: NotFoundException.
    Source: S3 Control API Reference, GetJobTagging.
    """
    return {"Tags": find_job(ctx, req["JobId"]).value["_tags"]}


@ops
def delete_job_tagging(ctx: Context, req: Mapping[str, Any]) -> None:
    """Take a job's tags away.

    Errors: NotFoundException.
    Source: S3 Control API Reference, DeleteJobTagging.
    """
    put_job_tagging(ctx, {**req, "Tags": []})


# -- rows -----------------------------------------------------------------------------------------------------------------


def jobs_of(ctx: Context) -> Table:
    return Table(ctx.account, ctx.region, "s3control", "Job")


def tasks_of(ctx: Context, id: str) -> Table:
    """What is left to do, some objects a row, in the manifest's order."""
    return Table(ctx.account, ctx.region, "s3control", f"JobTask:{id}")


def results_of(ctx: Context, id: str) -> Table:
    """What was done, for the report."""
    return Table(ctx.account, ctx.region, "s3control", f"JobResult:{id}")


def lane_of(ctx: Context) -> str:
    return f"{ctx.account}/{ctx.region}"


def begun(ctx: Context, id: str) -> Change:
    """What makes somebody work on a job, also after a restart."""
    return ctx.cloud.events.recording(CONSUMER, lane_of(ctx), id, {"account": ctx.account, "region": ctx.region, "job": id})


def arn_of(ctx: Context, id: str) -> str:
    return f"arn:{partition_of(ctx.region)}:s3:{ctx.region}:{ctx.account}:job/{id}"


def find_job(ctx: Context, id: str) -> Row:
    row = ctx.store.get(jobs_of(ctx), id)
    if row is None:
        raise ServiceError("NotFoundException", "The specified job does not exist.", 404)
    return row


def change_job(ctx: Context, id: str, change: Any) -> dict[str, Any]:
    """Change a job's row, with whatever other changes `change(job)` gives, in one transaction."""
    while True:
        row = find_job(ctx, id)
        job = row.value
        more = change(job)
        try:
            ctx.write(Update(jobs_of(ctx), id, job, row.version), *more)
        except Conflict:
            continue
        return job


# -- permissions ----------------------------------------------------------------------------------------------------------


def create_rule(_: Context, req: Mapping[str, Any]) -> tuple[Access, ...]:
    context = {"s3:RequestJobPriority": str(req["Priority"]), "s3:RequestJobOperation": next(iter(req["Operation"]), "")}
    return (
        Access("s3:CreateJob", context=context),
        Access("iam:PassRole", req["RoleArn"], context={"iam:PassedToService": PRINCIPAL}),
    )


def job_rule(action: str) -> Any:
    def rule(ctx: Context, req: Mapping[str, Any]) -> tuple[Access, ...]:
        row = ctx.store.get(jobs_of(ctx), req["JobId"])
        context: dict[str, Any] = {}
        if row is not None:
            context = {
                "s3:ExistingJobPriority": str(row.value["Priority"]),
                "s3:ExistingJobOperation": next(iter(row.value["Operation"])),
            }
            if "SuspendedCause" in row.value:
                context["s3:JobSuspendedCause"] = row.value["SuspendedCause"]
        if "Priority" in req:
            context["s3:RequestJobPriority"] = str(req["Priority"])
        return (Access(action, arn_of(ctx, req["JobId"]), context=context),)

    return rule


RULES["CreateJob"] = create_rule
RULES.update(
    {
        name: job_rule(f"s3:{name}")
        for name in (
            "DescribeJob",
            "UpdateJobPriority",
            "UpdateJobStatus",
            "PutJobTagging",
            "GetJobTagging",
            "DeleteJobTagging",
        )
    }
)
