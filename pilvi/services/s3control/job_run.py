"""How a job runs: a fact leads here, and again after a restart, until the job has come to its end.

    prepare   the manifest becomes rows of tasks, TASKS objects each              New, Preparing -> Suspended or Ready
    work      one row after the other: its tasks side by side, then in one transaction the row goes, its results come
              and the counters grow                                               Active, Paused
    end       the report is written, the rows go                                  Completing, Failing, Cancelling -> ...

A server that was killed does at most the tasks of one row again. Every call is the role's.

Source: S3 User Guide, "Job status and completion reports", "Assigning job priority"; a job fails when more than half of its tasks have
failed, once a thousand were tried.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from pilvi.core.errors import NotFound, PilviError, ServiceError
from pilvi.core.principal import Principal
from pilvi.core.service import Cloud, Context
from pilvi.services.s3control.job import ENDED, PRINCIPAL, arn_of, change_job, find_job, jobs_of, results_of, tasks_of
from pilvi.services.s3control.job_manifest import BadManifest, Item, items_of, keep_generated
from pilvi.services.s3control.job_report import write_report
from pilvi.services.s3control.job_task import Outcome, perform
from pilvi.storage.records import Change, Delete, Insert, Put, Row, Table

TASKS = 100
SIDE_BY_SIDE = 16
LOOK_S = 0.2
THRESHOLD_TASKS, THRESHOLD = 1000, 0.5
BATCH = 50


async def work(cloud: Cloud, fact: Mapping[str, Any]) -> None:
    """Take a job as far as it goes now."""
    ctx = service_context(cloud, fact)
    id = fact["job"]
    try:
        job = find_job(ctx, id).value
    except ServiceError:
        return
    if job["Status"] in ("New", "Preparing"):
        await asyncio.to_thread(prepare, ctx, id)
    if (await asyncio.to_thread(find_job, ctx, id)).value["Status"] in ("Ready", "Active", "Paused"):
        await run(ctx, id)
    await asyncio.to_thread(end, ctx, id)


def service_context(cloud: Cloud, fact: Mapping[str, Any]) -> Context:
    """Batch Operations, on behalf of the job."""
    account, region = fact["account"], fact["region"]
    principal = Principal("service", account, "", PRINCIPAL, PRINCIPAL)
    ctx = Context(cloud, principal=principal, account=account, region=region, service="s3control", source_ip=PRINCIPAL)
    return ctx.as_service(PRINCIPAL, source_arn=arn_of(ctx, fact["job"]))


def as_role(ctx: Context, job: Mapping[str, Any]) -> Context:
    return ctx.as_role(job["RoleArn"], f"s3-batch-{job['JobId']}"[:64])


def itself(ctx: Context) -> Context:
    """S3 in the bucket owner's place, for lists that only S3 makes."""
    return Context(
        ctx.cloud,
        principal=ctx.cloud.identities.root(ctx.account),
        account=ctx.account,
        region=ctx.region,
        service="s3control",
        source_ip=PRINCIPAL,
    )


# -- preparing ------------------------------------------------------------------------------------------------------------


def prepare(ctx: Context, id: str) -> None:
    """From the beginning each time it is begun: what a killed server has prepared is thrown away."""
    if not step(ctx, id, ("New", "Preparing"), "Preparing"):
        return
    tasks = tasks_of(ctx, id)
    empty(ctx, tasks)
    job = find_job(ctx, id).value
    generated: dict[str, Any] | None = None
    try:
        acting = as_role(ctx, job)
        count = keep_tasks(ctx, tasks, items_of(acting, itself(ctx), job))
        if "ManifestGenerator" in job:
            generated = keep_generated(acting, job, kept_items(ctx, tasks))
        reason = None if count else BadManifest("ManifestEmpty", "The manifest names no objects.")
    except BadManifest as error:
        count, reason = 0, error
    except ServiceError as error:
        count, reason = 0, BadManifest(error.code, f"Reading the manifest is forbidden or failed: {error.message}")
    except PilviError as error:
        count, reason = 0, BadManifest("InvalidRequest", str(error))
    if reason is not None:
        fail(ctx, id, reason.code, reason.reason)
        return

    def change(job: dict[str, Any]) -> list[Change]:
        job["ProgressSummary"]["TotalNumberOfTasks"] = count
        if generated is not None:
            job["GeneratedManifestDescriptor"] = generated
        if job["Status"] == "Preparing":
            job["Status"] = "Suspended" if job["ConfirmationRequired"] else "Ready"
            if job["ConfirmationRequired"]:
                job["SuspendedCause"] = "Awaiting confirmation"
                job["SuspendedDate"] = ctx.clock.now().replace(microsecond=0)
        return []

    change_job(ctx, id, change)


def keep_tasks(ctx: Context, table: Table, items: Iterator[Item]) -> int:
    count = number = 0
    while some := list(islice(items, TASKS * BATCH)):
        changes = []
        for start in range(0, len(some), TASKS):
            changes.append(Insert(table, f"{number:010d}", {"first": count, "items": some[start : start + TASKS]}))
            count += len(some[start : start + TASKS])
            number += 1
        ctx.write(*changes)
    return count


def kept_items(ctx: Context, table: Table) -> Iterator[Item]:
    after = ""
    while rows := ctx.store.scan(table, after=after, limit=BATCH):
        after = rows[-1].id
        for row in rows:
            yield from row.value["items"]


def empty(ctx: Context, table: Table) -> None:
    while rows := ctx.store.scan(table, limit=500):
        ctx.write(*(Delete(table, row.id) for row in rows))


# -- working --------------------------------------------------------------------------------------------------------------


async def run(ctx: Context, id: str) -> None:
    """Row after row, while nobody cancels the job and none of higher priority wants to run."""
    active = Table(ctx.account, ctx.region, "s3control", "JobActive")
    await ctx.store.commit([Put(active, id, {})])
    gate = asyncio.Semaphore(SIDE_BY_SIDE)
    acting: Context | None = None
    while True:
        job = (await asyncio.to_thread(find_job, ctx, id)).value
        if job["Status"] not in ("Ready", "Active", "Paused"):
            break
        if await asyncio.to_thread(is_outranked, ctx, active, job):
            await asyncio.to_thread(step, ctx, id, ("Ready", "Active"), "Paused")
            await asyncio.sleep(LOOK_S)
            continue
        if job["Status"] != "Active":
            await asyncio.to_thread(step, ctx, id, ("Ready", "Paused"), "Active")
        rows = await asyncio.to_thread(ctx.store.scan, tasks_of(ctx, id), limit=1)
        if not rows or too_many_failed(job):
            break
        try:
            acting = await asyncio.to_thread(as_role, ctx, job)
        except PilviError as error:
            await asyncio.to_thread(fail, ctx, id, "AccessDenied", str(error))
            break
        await do_row(ctx, acting, job, rows[0], gate)
    await asyncio.to_thread(leave, ctx, active, id)


async def do_row(ctx: Context, acting: Context, job: Mapping[str, Any], row: Row, gate: asyncio.Semaphore) -> None:
    items, first = row.value["items"], row.value["first"]

    async def one(number: int, item: Item) -> Outcome:
        async with gate:
            return await perform(acting, job, f"{job['JobId']}-{first + number}", *item)

    outcomes = await asyncio.gather(*(one(number, item) for number, item in enumerate(items)))
    await asyncio.to_thread(keep, ctx, job["JobId"], row, items, outcomes)


def keep(ctx: Context, id: str, row: Row, items: list[Item], outcomes: list[Outcome]) -> None:
    """The row is done: all that says so, in one transaction."""
    done = [[*item, *outcome] for item, outcome in zip(items, outcomes, strict=True)]
    succeeded = sum(outcome.succeeded for outcome in outcomes)

    def change(job: dict[str, Any]) -> list[Change]:
        progress = job["ProgressSummary"]
        progress["NumberOfTasksSucceeded"] += succeeded
        progress["NumberOfTasksFailed"] += len(outcomes) - succeeded
        return [Delete(tasks_of(ctx, id), row.id), Put(results_of(ctx, id), row.id, {"done": done})]

    change_job(ctx, id, change)


def too_many_failed(job: Mapping[str, Any]) -> bool:
    progress = job["ProgressSummary"]
    failed: int = progress["NumberOfTasksFailed"]
    tried: int = failed + progress["NumberOfTasksSucceeded"]
    return tried >= THRESHOLD_TASKS and failed > tried * THRESHOLD


def is_outranked(ctx: Context, active: Table, job: Mapping[str, Any]) -> bool:
    """Whether a job of higher priority of the same account and Region has tasks to do."""
    for row in ctx.store.scan(active):
        other = ctx.store.get(jobs_of(ctx), row.id)
        if (
            other is not None
            and other.value["Priority"] > job["Priority"]
            and other.value["Status"] in ("Ready", "Active", "Paused")
        ):
            return True
    return False


def leave(ctx: Context, active: Table, id: str) -> None:
    try:
        ctx.write(Delete(active, id))
    except NotFound:
        return


# -- statuses -------------------------------------------------------------------------------------------------------------


def step(ctx: Context, id: str, before: tuple[str, ...], after: str) -> bool:
    """Into another status, from one of these; False when the job is in none of them."""
    moved = False

    def change(job: dict[str, Any]) -> list[Change]:
        nonlocal moved
        moved = job["Status"] in before
        if moved:
            count_time(ctx, job, after)
            job["Status"] = after
        return []

    change_job(ctx, id, change)
    return moved


def count_time(ctx: Context, job: dict[str, Any], after: str) -> None:
    """Seconds spent in the status Active."""
    now = ctx.clock.real_s()
    if (since := job.pop("_active_since", None)) is not None:
        job["_active_s"] += max(0.0, now - since)
    if after == "Active":
        job["_active_since"] = now


def fail(ctx: Context, id: str, code: str, reason: str) -> None:
    def change(job: dict[str, Any]) -> list[Change]:
        count_time(ctx, job, "Failing")
        if job["Status"] != "Cancelling":
            job["Status"] = "Failing"
            job["FailureReasons"] = [{"FailureCode": code, "FailureReason": reason}]
        return []

    change_job(ctx, id, change)


def end(ctx: Context, id: str) -> None:
    """The report, and the last status. Nothing for jobs that wait."""
    job = find_job(ctx, id).value
    if job["Status"] in ("Ready", "Active"):
        if too_many_failed(job):
            fail(ctx, id, "JobFailureThresholdExceeded", "More than 50% of the job's tasks have failed.")
        else:
            step(ctx, id, ("Ready", "Active"), "Completing")
    job = find_job(ctx, id).value
    last = {"Completing": "Complete", "Failing": "Failed", "Cancelling": "Cancelled"}.get(job["Status"])
    if last is None:
        return
    problem = report(ctx, job)
    empty(ctx, tasks_of(ctx, id))

    def change(job: dict[str, Any]) -> list[Change]:
        count_time(ctx, job, last)
        job["Status"] = last if problem is None else "Failed"
        if problem is not None:
            job["FailureReasons"] = [*job["FailureReasons"], problem]
        job["TerminationDate"] = ctx.clock.now().replace(microsecond=0)
        return []

    change_job(ctx, id, change)
    empty(ctx, results_of(ctx, id))


def report(ctx: Context, job: Mapping[str, Any]) -> dict[str, str] | None:
    """Why there is no report though there should be one."""
    if not job["Report"]["Enabled"] or not ctx.store.scan(results_of(ctx, job["JobId"]), limit=1):
        return None
    try:
        write_report(as_role(ctx, job), job, results_of(ctx, job["JobId"]))
    except PilviError as error:
        code = error.code if isinstance(error, ServiceError) else "AccessDenied"
        return {"FailureCode": code, "FailureReason": f"The completion report could not be written: {error}"}
    return None


# -- time -----------------------------------------------------------------------------------------------------------------

SUSPENDED_S, KEPT_S = 30 * 86_400, 90 * 86_400
"""Source: S3 User Guide, "Managing S3 Batch Operations jobs": unconfirmed jobs end after 30 days, jobs are forgotten after 90."""


def sweep(cloud: Cloud) -> None:
    """Jobs that nobody has confirmed for 30 days fail; those that ended 90 days ago are forgotten."""
    now = cloud.clock.time_s()
    for table in cloud.store.tables(service="s3control", noun="Job"):
        after = ""
        while rows := cloud.store.scan(table, after=after):
            after = rows[-1].id
            for row in rows:
                sweep_job(cloud, table, row, now)


def sweep_job(cloud: Cloud, table: Table, row: Row, now: float) -> None:
    job = row.value
    ctx = service_context(cloud, {"account": table.account, "region": table.region, "job": row.id})
    if job["Status"] in ENDED and job["TerminationDate"].timestamp() < now - KEPT_S:
        cloud.store.write(Delete(table, row.id))
    elif job["Status"] == "Suspended" and job["CreationTime"].timestamp() < now - SUSPENDED_S:
        fail(ctx, row.id, "JobConfirmationExpired", "The job was not confirmed within 30 days.")
        end(ctx, row.id)
