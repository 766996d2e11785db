"""Pipes: from a source, through an enrichment, to a target. What the API says; engine.py makes it true."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from pilvi.core.arn import Arn
from pilvi.core.errors import AlreadyExists, Conflict, Invalid, LimitExceeded, NotFound, PilviError, ServiceError
from pilvi.core.paging import decode_token, encode_token
from pilvi.core.service import Context, Operations
from pilvi.services.pipes.access import PRINCIPAL, pipe_arn
from pilvi.services.pipes.engine import NOUN, PASSING, engine_of
from pilvi.services.pipes.stages import check, not_built, source_defaults
from pilvi.services.pipes.tag import check_tags
from pilvi.storage.records import Row

MOST: Final = 1000
"""Source: EventBridge quotas, pipes for each Region."""
_ASKED: Final = (
    "Description",
    "Source",
    "SourceParameters",
    "Enrichment",
    "EnrichmentParameters",
    "Target",
    "TargetParameters",
    "RoleArn",
    "LogConfiguration",
)
_ATOMIC: Final = ("SourceParameters", "EnrichmentParameters", "TargetParameters")
_SHORT: Final = ("Arn", "Name", "DesiredState", "CurrentState", "CreationTime", "LastModifiedTime")

ops = Operations()


@ops
async def create_pipe(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Create a pipe: CREATING until its role and its source let it begin, then RUNNING or STOPPED; CREATE_FAILED with the reason else.

    req: Name; Source (a queue); Enrichment (a function, an API destination); Target (besides these queue, topic, bus, log group, SageMaker pipeline);
    parameters of the three; RoleArn; DesiredState; LogConfiguration (CloudWatch Logs); Tags.
    Errors: ConflictException - the name is taken; ValidationException; NotImplemented - a kind of source, enrichment or target, or a log
    destination, that is not built here; ServiceQuotaExceededException - 1,000 pipes.
    Differs: KmsKeyIdentifier is refused; everything is sealed with the server's key.
    """
    now = ctx.clock.now()
    if len(ctx.records(NOUN).scan(limit=MOST)) >= MOST:
        raise LimitExceeded(f"The limit of {MOST} pipes is reached.")
    pipe = {
        **{member: req[member] for member in _ASKED if req.get(member) not in (None, "", {})},
        "Arn": pipe_arn(ctx, req["Name"]),
        "Name": req["Name"],
        "Tags": dict(req.get("Tags") or {}),
        "DesiredState": req.get("DesiredState") or "RUNNING",
        "CurrentState": "CREATING",
        "CreationTime": now,
        "LastModifiedTime": now,
    }
    check_tags(pipe["Tags"])
    await asyncio.to_thread(_check, ctx, req, pipe)
    pipe["SourceParameters"] = source_defaults(pipe)
    rows = ctx.records(NOUN)
    try:
        await ctx.store.commit([rows.insertion(pipe["Name"], pipe)])
    except AlreadyExists:
        raise Conflict(f"Pipe {pipe['Name']} already exists.") from None
    _attend(ctx, pipe["Name"])
    return _short(pipe)


@ops
async def describe_pipe(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Describe a pipe. Errors: NotFoundException."""
    return _find(ctx, req["Name"]).value


@ops
async def list_pipes(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Pipes by name. req: NamePrefix, SourcePrefix, TargetPrefix, DesiredState, CurrentState, Limit, NextToken."""
    limit, rows = req.get("Limit") or 100, ctx.records(NOUN)
    after, found = decode_token(req.get("NextToken")), list[Row]()
    while len(found) <= limit and (page := rows.scan(prefix=req.get("NamePrefix") or "", after=after, limit=limit + 1)):
        after = page[-1].id
        found += [row for row in page if _is_wanted(row.value, req)]
    shown = found[:limit]
    token = encode_token(shown[-1].id) if len(found) > limit else None
    members = ("StateReason", "Source", "Target", "Enrichment")
    pipes = [{**_short(row.value), **{name: row.value[name] for name in members if name in row.value}} for row in shown]
    return {"Pipes": pipes, "NextToken": token}


@ops
async def update_pipe(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Change a pipe: what is given is replaced, parameters of a service as a whole; empty text removes.

    Errors: NotFoundException; ConflictException - it is not at rest; ValidationException, NotImplemented as for CreatePipe.
    """

    def change(pipe: dict[str, Any]) -> None:
        _must_be_at_rest(pipe, "updated")
        for member in _ASKED:
            if req.get(member) is None or member == "Source":
                continue
            given = {**pipe.get(member, {}), **req[member]} if member in _ATOMIC else req[member]
            if given in ("", {}):
                pipe.pop(member, None)
            else:
                pipe[member] = given
        if req.get("DesiredState"):
            pipe["DesiredState"] = req["DesiredState"]
        _check(ctx, req, pipe)
        pipe["SourceParameters"] = source_defaults(pipe)
        pipe["CurrentState"] = "UPDATING"

    return await _changed(ctx, req["Name"], change)


@ops
async def start_pipe(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Start a pipe that is stopped: STARTING, then RUNNING. Errors: NotFoundException; ConflictException - it is not stopped."""

    def change(pipe: dict[str, Any]) -> None:
        _must_be_at_rest(pipe, "started")
        if pipe["CurrentState"] == "RUNNING":
            raise Conflict(f"Pipe {pipe['Name']} is already running.")
        pipe |= {"DesiredState": "RUNNING", "CurrentState": "STARTING"}

    return await _changed(ctx, req["Name"], change)


@ops
async def stop_pipe(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Stop a pipe: STOPPING until what is under way has ended, then STOPPED. Errors: NotFoundException; ConflictException - it is not running."""

    def change(pipe: dict[str, Any]) -> None:
        _must_be_at_rest(pipe, "stopped")
        if pipe["CurrentState"] == "STOPPED":
            raise Conflict(f"Pipe {pipe['Name']} is already stopped.")
        pipe |= {"DesiredState": "STOPPED", "CurrentState": "STOPPING"}

    return await _changed(ctx, req["Name"], change)


@ops
async def delete_pipe(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Delete a pipe: DELETING until what is under way has ended. Errors: NotFoundException; ConflictException - it is being deleted."""

    def change(pipe: dict[str, Any]) -> None:
        if pipe["CurrentState"] == "DELETING":
            raise Conflict(f"Pipe {pipe['Name']} is being deleted.")
        pipe |= {"DesiredState": "DELETED", "CurrentState": "DELETING"}

    return await _changed(ctx, req["Name"], change)


# -- private ------------------------------------------------------------------------------------------------------------------


async def _changed(ctx: Context, name: str, change: Callable[[dict[str, Any]], None]) -> Mapping[str, Any]:
    """Read, change, write; then have it made true."""
    rows = ctx.records(NOUN)
    while True:
        row = _find(ctx, name)
        pipe = dict(row.value)
        await asyncio.to_thread(change, pipe)
        pipe["LastModifiedTime"] = ctx.clock.now()
        try:
            await ctx.store.commit([rows.revision(name, pipe, row.version)])
        except (Conflict, NotFound):
            continue
        _attend(ctx, name)
        return _short(pipe)


def _attend(ctx: Context, name: str) -> None:
    engine_of(ctx.cloud).attend(ctx.records(NOUN).table, name)


def _find(ctx: Context, name: str) -> Row:
    row = ctx.records(NOUN).row(name)
    if row is None:
        raise NotFound(f"Pipe {name} does not exist.")
    return row


def _must_be_at_rest(pipe: Mapping[str, Any], what: str) -> None:
    if pipe["CurrentState"] in PASSING:
        raise Conflict(f"Pipe {pipe['Name']} cannot be {what} while it is {pipe['CurrentState']}.")


def _is_wanted(pipe: Mapping[str, Any], req: Mapping[str, Any]) -> bool:
    return (
        pipe["Source"].startswith(req.get("SourcePrefix") or "")
        and pipe["Target"].startswith(req.get("TargetPrefix") or "")
        and req.get("DesiredState") in (None, pipe["DesiredState"])
        and req.get("CurrentState") in (None, pipe["CurrentState"])
    )


def _short(pipe: Mapping[str, Any]) -> dict[str, Any]:
    return {member: pipe[member] for member in _SHORT}


def _check(ctx: Context, req: Mapping[str, Any], pipe: Mapping[str, Any]) -> None:
    if req.get("KmsKeyIdentifier"):
        raise not_built("Customer managed keys")
    check(ctx, pipe)
    _check_log(pipe.get("LogConfiguration") or {})
    _check_role(ctx, pipe)


def _check_log(settings: Mapping[str, Any]) -> None:
    for name, what in (("S3LogDestination", "Logs to S3"), ("FirehoseLogDestination", "Logs to Firehose")):
        if settings.get(name):
            raise not_built(what)
    if settings.get("Level", "OFF") != "OFF" and not settings.get("CloudwatchLogsLogDestination"):
        raise Invalid("A log level other than OFF needs a log destination.")


def _check_role(ctx: Context, pipe: Mapping[str, Any]) -> None:
    """It is this account's, and Pipes may take it."""
    parsed = Arn.parse(pipe["RoleArn"])
    if parsed is None or parsed.account != ctx.account:
        raise ServiceError("AccessDeniedException", "Cross-account pass role is not allowed.", 403)
    try:
        ctx.as_service(PRINCIPAL, source_arn=pipe["Arn"]).as_role(pipe["RoleArn"], f"pipe-{pipe['Name']}"[:64])
    except PilviError:
        raise Invalid(f"The role {pipe['RoleArn']} cannot be assumed by Pipes: it must trust {PRINCIPAL}.") from None
