"""Event source mappings: records that Lambda fetches for a function, from queues. What polls them is `mappings.py`.

    created --> Creating ----> Enabled <--> Updating --> Enabled | Disabled
                   |             |  ^
                   v   Disabling v  | Enabling
                Disabled <-------+--+          any of the steady ones --> Deleting --> gone

A state that passes is one in which something happens: batches under way come to their end, polling begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from pilvi.core.errors import AlreadyExists, Conflict, PilviError, ServiceError
from pilvi.core.paging import decode_token, encode_token
from pilvi.core.service import Context, Operations
from pilvi.services.lambda_.catalog import Target, catalog_of
from pilvi.services.lambda_.engine import engine_of
from pilvi.services.lambda_.mappings import NOUN, PASSING, pair_of
from pilvi.services.lambda_.names import FunctionRef, conflict, function_not_found, function_ref, invalid, not_found
from pilvi.services.lambda_.role import acting_as
from pilvi.services.lambda_.source_settings import applied, check_source, mapping_arn
from pilvi.storage.records import Change, Insert, Row, Table, Update

if TYPE_CHECKING:
    from types_boto3_lambda import type_defs as t

ops = Operations(on_loop=True)

LISTED: Final = 100
NEVER: Final = "No records processed"
_REASON: Final = "USER_INITIATED"
_NOT_THERE: Final = "The resource you requested does not exist."
_DENIED: Final = ("AccessDenied", "AccessDeniedException")


@ops
async def create_event_source_mapping(ctx: Context, req: t.CreateEventSourceMappingRequestTypeDef) -> Mapping[str, Any]:
    """Have a function handle what lies in a queue.

    req: FunctionName (with an alias or version), EventSourceArn (an SQS queue of this Region, standard or FIFO), Enabled, BatchSize (1-10000;
    FIFO 10), MaximumBatchingWindowInSeconds (0-300; needed beyond 10 records, none for FIFO), FilterCriteria (5 patterns),
    FunctionResponseTypes (ReportBatchItemFailures), ScalingConfig (MaximumConcurrency 2-1000), MetricsConfig (EventCount), Tags.
    Errors: ResourceNotFoundException - the function; ResourceConflictException - it has this source already; InvalidParameterValueException -
    no such queue, its visibility timeout is shorter than the function's timeout, the function's role may not receive, delete or look at it,
    settings that the source does not know.
    Source: Lambda API reference, CreateEventSourceMapping; developer guide, "Using Lambda with Amazon SQS".
    Differs: sources are queues: streams, Kafka, MQ and DocumentDB are refused; so are provisioned pollers and keys of one's own for patterns.
    LastProcessingResult is what happened since this server started.
    """
    ref = _own_function(ctx, req["FunctionName"])
    source = check_source(req)
    settings = applied({}, req, source)
    target = catalog_of(ctx.cloud).target(ref, ctx.ids)
    table = _table(ctx)
    _check_new(ctx, ref, source.arn)
    await _check_queue(ctx, target, source.arn)
    uuid = ctx.ids.uuid()
    record: dict[str, Any] = {
        "UUID": uuid,
        "EventSourceMappingArn": mapping_arn(ctx, uuid),
        "EventSourceArn": source.arn,
        "FunctionArn": ref.qualified_arn,
        **settings,
        "LastModified": ctx.clock.now(),
        "State": "Creating",
        "StateTransitionReason": _REASON,
        "_function": list(ref),
        "_enabled": req.get("Enabled") is not False,
        "_tags": dict(req.get("Tags") or {}),
    }
    try:
        await ctx.store.commit([Insert(table, uuid, record), pair_of(table, record).inserted])
    except AlreadyExists:
        _check_new(ctx, ref, source.arn)
        raise
    engine_of(ctx.cloud).mappings.attend(table, uuid)
    return _shown(ctx, record)


@ops
async def get_event_source_mapping(ctx: Context, req: t.GetEventSourceMappingRequestTypeDef) -> Mapping[str, Any]:
    """One mapping. Errors: ResourceNotFoundException."""
    return _shown(ctx, _find(ctx, req["UUID"]).value)


@ops
async def list_event_source_mappings(ctx: Context, req: t.ListEventSourceMappingsRequestTypeDef) -> Mapping[str, Any]:
    """Mappings here, at most 100 a page; of one function (as it is named: with or without its qualifier), of one source.

    Errors: ResourceNotFoundException - no such function.
    """
    arn = _own_function(ctx, req["FunctionName"]).qualified_arn if req.get("FunctionName") else ""
    if arn:
        catalog_of(ctx.cloud).target(_own_function(ctx, req["FunctionName"]), ctx.ids)
    source = req.get("EventSourceArn") or ""
    after, limit = decode_token(req.get("Marker")), min(req.get("MaxItems") or LISTED, LISTED)
    found = [
        row.value
        for row in _rows(ctx, after)
        if (not arn or row.value["FunctionArn"] == arn) and (not source or row.value["EventSourceArn"] == source)
    ]
    out: dict[str, Any] = {"EventSourceMappings": [_shown(ctx, record) for record in found[:limit]]}
    if len(found) > limit:
        out["NextMarker"] = encode_token(found[limit - 1]["UUID"])
    return out


@ops
async def update_event_source_mapping(ctx: Context, req: t.UpdateEventSourceMappingRequestTypeDef) -> Mapping[str, Any]:
    """Change what is given: the function, whether it is enabled, how batches are made. Batches under way end as they began.

    Errors: ResourceNotFoundException; ResourceInUseException - the mapping is between two states; as CreateEventSourceMapping.
    """
    row = _settled(ctx, req["UUID"], "update")
    source = check_source({**req, "EventSourceArn": row.value["EventSourceArn"]})
    record = {**row.value, **applied(row.value, req, source)}
    for member in ("FilterCriteria", "ScalingConfig", "FunctionResponseTypes", "MetricsConfig"):
        if req.get(member) is not None and not applied({}, req, source).get(member):
            record.pop(member, None)
    if req.get("FunctionName"):
        ref = _own_function(ctx, req["FunctionName"])
        catalog_of(ctx.cloud).target(ref, ctx.ids)
        if ref.qualified_arn != record["FunctionArn"]:
            _check_new(ctx, ref, source.arn)
        record |= {"FunctionArn": ref.qualified_arn, "_function": list(ref)}
    target = catalog_of(ctx.cloud).target(FunctionRef(*record["_function"]), ctx.ids)
    await _check_queue(ctx, target, source.arn)
    enabled = record["_enabled"] if req.get("Enabled") is None else bool(req["Enabled"])
    state = "Updating" if enabled == record["_enabled"] else "Enabling" if enabled else "Disabling"
    record |= {"_enabled": enabled, "State": state, "StateTransitionReason": _REASON, "LastModified": ctx.clock.now()}
    return await _pass(ctx, row, record, "update")


@ops
async def delete_event_source_mapping(ctx: Context, req: t.DeleteEventSourceMappingRequestTypeDef) -> Mapping[str, Any]:
    """Take no more records; the mapping is gone when batches under way have ended.

    Errors: ResourceNotFoundException; ResourceInUseException - the mapping is between two states.
    """
    row = _settled(ctx, req["UUID"], "delete")
    record = {**row.value, "State": "Deleting", "StateTransitionReason": _REASON, "LastModified": ctx.clock.now()}
    return await _pass(ctx, row, record, "delete")


# -- what others use ----------------------------------------------------------------------------------------------------------


def find_mapping(ctx: Context, uuid: str) -> dict[str, Any] | None:
    row = ctx.store.get(_table(ctx), uuid)
    return row.value if row is not None else None


# -- private ------------------------------------------------------------------------------------------------------------------


def _table(ctx: Context) -> Table:
    return Table(ctx.account, ctx.region, "lambda", NOUN)


def _rows(ctx: Context, after: str = "") -> list[Row]:
    found: list[Row] = []
    while rows := ctx.store.scan(_table(ctx), after=after):
        found += rows
        after = rows[-1].id
    return found


def _find(ctx: Context, uuid: str) -> Row:
    row = ctx.store.get(_table(ctx), uuid)
    if row is None:
        raise not_found(_NOT_THERE)
    return row


def _settled(ctx: Context, uuid: str, verb: str) -> Row:
    row = _find(ctx, uuid)
    if row.value["State"] in PASSING:
        raise _in_use(verb)
    return row


def _in_use(verb: str) -> ServiceError:
    return ServiceError("ResourceInUseException", f"Cannot {verb} the event source mapping because it is in use.", Type="User")


async def _pass(ctx: Context, row: Row, record: dict[str, Any], verb: str) -> dict[str, Any]:
    """Write a state that passes, and have it passed."""
    table = _table(ctx)
    changes: list[Change] = [Update(table, row.id, record, row.version)]
    if record["FunctionArn"] != row.value["FunctionArn"]:
        changes += [pair_of(table, row.value).removed, pair_of(table, record).inserted]
    try:
        await ctx.store.commit(changes)
    except (Conflict, AlreadyExists):
        raise _in_use(verb) from None
    engine_of(ctx.cloud).mappings.attend(table, row.id)
    return _shown(ctx, record)


def _check_new(ctx: Context, ref: FunctionRef, source: str) -> None:
    """A function has a source once."""
    pair = pair_of(_table(ctx), {"FunctionArn": ref.qualified_arn, "EventSourceArn": source, "UUID": ""})
    found = ctx.store.get(pair.table, pair.id)
    if found is not None:
        raise conflict(
            f'The event source arn (" {source} ") and function (" {ref.name} ") provided mapping already exists. '
            f"Please update or delete the existing mapping with UUID {found.value['UUID']}"
        )


def _own_function(ctx: Context, name: str) -> FunctionRef:
    ref = function_ref(ctx, {"FunctionName": name})
    if ref.account != ctx.account:
        raise function_not_found(ref)
    return ref


async def _check_queue(ctx: Context, target: Target, arn: str) -> None:
    """The queue is there, hides messages for as long as the function may work on them, and lets the function's role in."""
    try:
        inside = acting_as(ctx.cloud, FunctionRef(target.account, target.region, target.name, ""), target.record["Role"])[0]
    except PilviError as error:
        raise invalid("The role defined for the function cannot be assumed by Lambda.") from error
    _, _, _, region, account, name = arn.split(":", 5)
    if region != ctx.region:
        raise invalid(f"Event source {arn} is in another Region than the function.")
    url = f"{ctx.cloud.endpoint}/{account}/{name}"
    # Requests that no queue takes: those who may not ask hear AccessDenied first, and nothing is received.
    await _ask(inside, "ReceiveMessage", QueueUrl=url, MaxNumberOfMessages=0)
    await _ask(inside, "DeleteMessage", QueueUrl=url, ReceiptHandle="-")
    answer = await _ask(inside, "GetQueueAttributes", QueueUrl=url, AttributeNames=["VisibilityTimeout"])
    hidden_s = int(answer["Attributes"]["VisibilityTimeout"])
    if hidden_s < target.timeout_s:
        raise invalid(f"Queue visibility timeout: {hidden_s} seconds is less than Function timeout: {target.timeout_s} seconds")


async def _ask(inside: Context, operation: str, **params: Any) -> dict[str, Any]:
    try:
        return await inside.acall("sqs", operation, **params)
    except ServiceError as error:
        if error.code in _DENIED:
            raise invalid(f"The function execution role does not have permissions to call {operation} on SQS") from error
        if error.code == "QueueDoesNotExist":
            raise invalid(
                f"Error occurred while {operation}. SQS Error Code: AWS.SimpleQueueService.NonExistentQueue. "
                "SQS Error Message: The specified queue does not exist."
            ) from error
        if operation == "GetQueueAttributes":
            raise invalid(
                f"Error occurred while {operation}. SQS Error Code: {error.code}. SQS Error Message: {error.message}"
            ) from error
        return {}


def _shown(ctx: Context, record: Mapping[str, Any]) -> dict[str, Any]:
    out = {key: value for key, value in record.items() if not key.startswith("_")}
    out["LastProcessingResult"] = engine_of(ctx.cloud).mappings.results.get(record["UUID"], NEVER)
    return out
