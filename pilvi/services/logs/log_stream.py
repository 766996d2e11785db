"""Log streams: one source of events within a group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import AlreadyExists, Conflict, Invalid, NotFound
from pilvi.core.paging import decode_token, encode_token
from pilvi.core.service import Context, Operations
from pilvi.services.logs import event_store
from pilvi.services.logs.log_group import find_group, group_arn
from pilvi.storage.records import Expect, Row

ops = Operations()

PAGE_LIMIT = 50


@ops
def create_log_stream(ctx: Context, req: Mapping[str, Any]) -> None:
    """Create an empty stream.

    req: logGroupName, logStreamName (1-512, no ':' or '*').
    Errors: ResourceNotFoundException - no such group. ResourceAlreadyExistsException - the name is taken in it.
    """
    groups = ctx.records("LogGroup")
    while True:
        group = groups.row(req["logGroupName"])
        if group is None:
            raise NotFound("The specified log group does not exist.")
        stream = {
            "logStreamName": req["logStreamName"],
            "creationTime": event_store.now_ms(ctx),
            "arn": f"{group_arn(ctx, group.id)}:log-stream:{req['logStreamName']}",
            "storedBytes": 0,
            "_uid": ctx.ids.hex(16),
            "_seq": 0,
            "_bytes": 0,
        }
        id = event_store.stream_id(group.value, req["logStreamName"])
        try:
            ctx.write(Expect(groups.table, group.id, group.version), ctx.records("LogStream").insertion(id, stream))
        except AlreadyExists:
            raise AlreadyExists("The specified log stream already exists") from None
        except Conflict:
            continue
        return


@ops
def describe_log_streams(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Streams by name, or by the time of their last event.

    req: logGroupName or logGroupIdentifier, logStreamNamePrefix, orderBy, descending, limit (at most 50).
    Errors: InvalidParameterException - a prefix together with orderBy LastEventTime. ResourceNotFoundException - no such group.
    Differs: lastEventTimestamp is exact at once. storedBytes of a stream is 0, as it is on AWS since 2019.
    """
    group = find_group(ctx, req)
    prefix, limit = req.get("logStreamNamePrefix") or "", req.get("limit") or PAGE_LIMIT
    if req.get("orderBy") == "LastEventTime":
        if prefix:
            raise Invalid("Cannot order by LastEventTime with a logStreamNamePrefix.")
        streams, token = page_by_time(ctx, group, req.get("nextToken"), limit, bool(req.get("descending")))
    else:
        streams, token = page_by_name(ctx, group, prefix, req.get("nextToken"), limit, bool(req.get("descending")))
    return {"logStreams": [described(stream) for stream in streams], "nextToken": token}


@ops
def delete_log_stream(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove a stream and its events.

    Errors: ResourceNotFoundException - no such group or stream.
    """
    group = find_group(ctx, {"logGroupName": req["logGroupName"]})
    row = find_stream(ctx, group, req["logStreamName"])
    try:
        ctx.write(ctx.records("LogStream").deletion(row.id), event_store.removal_of_stream(ctx, row.value["_uid"]))
    except NotFound:
        raise NotFound("The specified log stream does not exist.") from None
    event_store.purge_removed(ctx)


# -- for the other nouns ------------------------------------------------------------------------------------------------


def find_stream(ctx: Context, group: Mapping[str, Any], name: str) -> Row:
    row = ctx.records("LogStream").row(event_store.stream_id(group, name))
    if row is None:
        raise NotFound("The specified log stream does not exist.")
    return row


def page_by_name(
    ctx: Context, group: Mapping[str, Any], prefix: str, token: str | None, limit: int, descending: bool
) -> tuple[list[dict[str, Any]], str | None]:
    position = decode_token(token)
    rows = ctx.records("LogStream").scan(
        prefix=event_store.stream_id(group, prefix),
        after="" if descending else position,
        before=position if descending else "",
        limit=limit + 1,
        reverse=descending,
    )
    more = encode_token(rows[limit - 1].id) if len(rows) > limit else None
    return [row.value for row in rows[:limit]], more


def page_by_time(
    ctx: Context, group: Mapping[str, Any], token: str | None, limit: int, descending: bool
) -> tuple[list[dict[str, Any]], str | None]:
    """Streams without events count as oldest; equal times go by name."""
    streams = sorted(event_store.streams_of(ctx, group), key=time_position, reverse=descending)
    if position := decode_token(token):
        streams = [s for s in streams if (time_position(s) < position if descending else time_position(s) > position)]
    more = encode_token(time_position(streams[limit - 1])) if len(streams) > limit else None
    return streams[:limit], more


def time_position(stream: Mapping[str, Any]) -> str:
    return f"{stream.get('lastEventTimestamp', 0):014d} {stream['logStreamName']}"


def described(stream: Mapping[str, Any]) -> dict[str, Any]:
    """With the token older clients put into their next PutLogEvents."""
    return {**stream, "uploadSequenceToken": event_store.sequence_token(stream)}
