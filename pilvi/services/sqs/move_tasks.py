"""What is known of message move tasks (redrive): their rows, their handles, and their work.

    Table(account, Region, "sqsjobs", "MoveTask")   source queue's name / start, newest last -> task

A task that runs when the server is killed goes on after the next start. Messages move one transaction at a time, so each is in
exactly one queue at any moment.
"""

from __future__ import annotations

import asyncio
import binascii
import json
import logging
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Any, Final

from pilvi.core.errors import Conflict, NotFound, PilviError, Unavailable
from pilvi.services.sqs.dead_letters import drop, move
from pilvi.services.sqs.engine import Engine, engine_of
from pilvi.services.sqs.figures import own_context
from pilvi.services.sqs.queues import Queue, find_by_arn
from pilvi.storage.records import Table, Update

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
    from pilvi.services.sqs.entry import Entry

log = logging.getLogger("pilvi.sqs")

NOUN: Final = "MoveTask"
AT_ONCE: Final = 10
TOLD_EVERY: Final = 100
_RUNNING: Final = ("RUNNING", "CANCELLING")


def task_table(account: str, region: str) -> Table:
    return Table(account, region, "sqsjobs", NOUN)


def handle_of(task_id: str, source_arn: str) -> str:
    return b64encode(json.dumps({"taskId": task_id, "sourceArn": source_arn}).encode()).decode()


def read_handle(handle: str) -> tuple[str, str]:
    """Id and source of a task; ('', '') for what is no handle."""
    try:
        found = json.loads(b64decode(handle, validate=True))
        return str(found["taskId"]), str(found["sourceArn"])
    except (binascii.Error, ValueError, KeyError, TypeError, RecursionError):
        return "", ""


def source_of(handle: str) -> str:
    return read_handle(handle)[1]


def start(cloud: Cloud, table: Table, task_id: str) -> None:
    engine = engine_of(cloud)
    engine.start(_run(cloud, engine, table, task_id))


async def _run(cloud: Cloud, engine: Engine, table: Table, task_id: str) -> None:
    """Move until the queue holds nothing that may be moved, somebody cancels, or it cannot go on."""
    moved, told, seen = 0, 0, 0
    while True:
        row = cloud.store.get(table, task_id)
        if row is None or row.value["Status"] not in _RUNNING or engine.is_closing:
            return
        task = row.value
        if not seen:
            moved = told = task["Moved"]
        seen += 1
        if task["Status"] == "CANCELLING":
            await _tell(cloud, table, task_id, {"Status": "CANCELLED", "Moved": moved})
            return
        source = find_by_arn(cloud, task["SourceArn"])
        reason, count = ("AWS.SimpleQueueService.NonExistentQueue", 0)
        if source is not None:
            try:
                reason, count = await _move_some(cloud, engine, source, task)
            except Unavailable:
                return  # the store is closed: the next start goes on
            except PilviError as error:
                reason = error.message
        moved += count
        if reason:
            await _tell(cloud, table, task_id, {"Status": "FAILED", "FailureReason": reason, "Moved": moved})
            return
        if not count:
            await _tell(cloud, table, task_id, {"Status": "COMPLETED", "Moved": moved})
            return
        if moved - told >= TOLD_EVERY:
            told = moved
            await _tell(cloud, table, task_id, {"Moved": moved})
        rate = task.get("MaxNumberOfMessagesPerSecond")
        await asyncio.sleep(count / rate if rate else 0)


async def _move_some(cloud: Cloud, engine: Engine, source: Queue, task: dict[str, Any]) -> tuple[str, int]:
    """Some messages to where they belong; why it cannot go on, and how many went."""
    ctx = own_context(cloud, source.account, source.region)
    live, now = engine.live(source), engine.now()
    rate = task.get("MaxNumberOfMessagesPerSecond") or AT_ONCE
    taken, _, old = live.take(min(AT_ONCE, rate), now, now - source.retention_ms, 0)
    if old:
        drop(engine, live, old)
    by_target: dict[str, list[Entry]] = {}
    for entry in taken:
        by_target.setdefault(task.get("DestinationArn") or entry.row.get("o", ""), []).append(entry)
    count, reason = 0, ""
    for arn, entries in by_target.items():
        target = find_by_arn(cloud, arn)
        if target is None:
            reason = "AWS.SimpleQueueService.NonExistentQueue" if arn else "CouldNotDetermineMessageSource"
            for entry in entries:
                live.put_back(entry)
            continue
        await move(ctx, source, live, entries, target, resets=True)
        count += len(entries)
    return reason, count or len(old)


async def _tell(cloud: Cloud, table: Table, task_id: str, news: dict[str, Any]) -> None:
    """Write down how far a task is; somebody may have cancelled it meanwhile."""
    while True:
        row = cloud.store.get(table, task_id)
        if row is None:
            return
        try:
            await cloud.store.commit([Update(table, task_id, {**row.value, **news}, row.version)])
        except Conflict:
            continue
        except NotFound:
            return
        return


def go_on(cloud: Cloud) -> None:
    """After a start: what was running."""
    for table in cloud.store.tables(service="sqsjobs", noun=NOUN):
        after = ""
        while rows := cloud.store.scan(table, after=after):
            for row in rows:
                if row.value["Status"] in _RUNNING:
                    start(cloud, table, row.id)
            after = rows[-1].id
