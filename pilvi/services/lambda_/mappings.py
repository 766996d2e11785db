"""Event source mappings at work: each polls its source as its function's role, and hands batches to the engine.

    row (event_source_mapping.py) --attend--> Running: makes true what the row says, and says when it is: Creating -> Enabled, Deleting -> gone
                                                 |
                                        Poller (pilvi.events.poller) --batch--> Engine.run --> what failed stays in the queue

Everything runs on the event loop. Nothing is kept here that a restart needs: rows say what there is, queues hold what was not finished.

Source: developer guide, "Handling errors for an SQS event source in Lambda".
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pilvi.auth.identity import Identity
from pilvi.core.errors import Conflict, NotFound, PilviError, ServiceError
from pilvi.core.service import Context
from pilvi.events.poller import Busy, Counts, Poller, Record
from pilvi.events.queue_source import QueueSource
from pilvi.services.lambda_ import figures
from pilvi.services.lambda_.lineage import is_loop, longest
from pilvi.services.lambda_.names import FunctionRef
from pilvi.services.lambda_.role import acting_as
from pilvi.services.lambda_.source_settings import poller_settings
from pilvi.storage.records import Change, Delete, Insert, Table, Update

if TYPE_CHECKING:
    from pilvi.services.lambda_.engine import Engine

log = logging.getLogger("pilvi.lambda")

NOUN: Final = "EventSourceMapping"
PASSING: Final = frozenset({"Creating", "Enabling", "Disabling", "Updating", "Deleting"})
RENEW: Final = timedelta(minutes=5)
"""Before its credentials end, a mapping takes new ones."""
FAILED: Final = "Function call failed"


class Pair(NamedTuple):
    """The row that lets a function have a source only once."""

    table: Table
    id: str
    uuid: str

    @property
    def inserted(self) -> Change:
        return Insert(self.table, self.id, {"UUID": self.uuid})

    @property
    def removed(self) -> Change:
        return Delete(self.table, self.id)


def pair_of(table: Table, record: Mapping[str, Any]) -> Pair:
    return Pair(table._replace(noun=f"{NOUN}Pair"), f"{record['FunctionArn']}|{record['EventSourceArn']}", record["UUID"])


class Mappings:
    """All of one server."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._running: dict[str, Running] = {}
        self.results: dict[str, str] = {}
        """LastProcessingResult by UUID."""

    def resume(self) -> None:
        """Poll again what an earlier server polled, and bring to an end what it had begun."""
        store = self._engine.cloud.store
        for table in store.tables(service="lambda", noun=NOUN):
            after = ""
            while rows := store.scan(table, after=after):
                for row in rows:
                    self.attend(table, row.id)
                after = rows[-1].id

    def attend(self, table: Table, uuid: str) -> None:
        """A row was written: make it true."""
        running = self._running.get(uuid)
        if running is None:
            running = self._running[uuid] = Running(self._engine, self, table, uuid)
        running.news.set()

    def forget(self, uuid: str) -> None:
        self._running.pop(uuid, None)
        self.results.pop(uuid, None)

    def tell(self) -> int:
        """What mappings that are to be counted have done since the last time goes to the figures; gives how many there are."""
        for one in self._running.values():
            one.tell()
        return len(self._running)

    def close(self) -> None:
        """From any thread: the server stops."""
        running, self._running = list(self._running.values()), {}
        for one in running:
            try:
                self._engine.loop.call_soon_threadsafe(one.kill)
            except RuntimeError:
                return


class Running:
    """One mapping."""

    def __init__(self, engine: Engine, mappings: Mappings, table: Table, uuid: str) -> None:
        self._engine = engine
        self._mappings = mappings
        self._table = table
        self.uuid = uuid
        self.record: dict[str, Any] = {}
        self.news = asyncio.Event()
        self.poller: Poller | None = None
        self._source: QueueSource | None = None
        self._acting: tuple[Context, Identity, str] | None = None
        self._task = engine.loop.create_task(self._run())

    def tell(self) -> None:
        if self.poller is not None and self.record.get("MetricsConfig"):
            counts, self.poller.counts = self.poller.counts, Counts()
            figures.of_mapping(self._engine.cloud, self._table.account, self._table.region, self.uuid, counts)

    def kill(self) -> None:
        self._task.cancel()
        if self.poller is not None:
            self.poller.kill()

    async def _run(self) -> None:
        while True:
            await self.news.wait()
            self.news.clear()
            row = self._engine.cloud.store.get(self._table, self.uuid)
            if row is None:
                await self._rest()
                self._mappings.forget(self.uuid)
                return
            self.record = row.value
            await self._become(row.value)
            if row.value["State"] not in PASSING:
                continue
            if row.value["State"] == "Deleting":
                done: list[Change] = [Delete(self._table, self.uuid, row.version), pair_of(self._table, row.value).removed]
            else:
                settled = {**row.value, "State": "Enabled" if row.value["_enabled"] else "Disabled"}
                done = [Update(self._table, self.uuid, settled, row.version)]
            try:
                await self._engine.cloud.store.commit(done)
            except (Conflict, NotFound):
                self.news.set()
                continue
            except PilviError as error:
                log.warning("event source mapping %s: %s", self.uuid, error.message)
            if row.value["State"] == "Deleting":
                self._mappings.forget(self.uuid)
                return

    async def _become(self, record: dict[str, Any]) -> None:
        """Poll, or poll no more, as the record says."""
        await self._rest()
        if not record["_enabled"] or record["State"] in ("Deleting", "Disabling"):
            return
        self._acting = None
        self._source = source = QueueSource(record["EventSourceArn"], self._as_role)
        self.poller = Poller(source, poller_settings(record), self._handle, self._told)
        self.poller.start()

    async def _rest(self) -> None:
        poller, self.poller = self.poller, None
        if poller is not None:
            await poller.stop()

    def _told(self, error: PilviError | None) -> None:
        self._mappings.results[self.uuid] = "OK" if error is None else f"PROBLEM: {error.message}"

    # -- polling ------------------------------------------------------------------------------------------------------

    def _as_role(self) -> Context:
        """The context of the function's role as it is now."""
        target = self._engine.catalog.target(FunctionRef(*self.record["_function"]), self._engine.cloud.ids)
        role = target.record["Role"]
        acting = self._acting
        if acting is None or acting[2] != role or self._is_old(acting[1]):
            ref = FunctionRef(target.account, target.region, target.name, "")
            acting = self._acting = (*acting_as(self._engine.cloud, ref, role), role)
        return acting[0]

    def _is_old(self, identity: Identity) -> bool:
        return identity.expires is not None and identity.expires - self._engine.cloud.clock.now() < RENEW

    # -- a batch ------------------------------------------------------------------------------------------------------

    async def _handle(self, records: Sequence[Record]) -> Sequence[Record]:
        """Invoke the function with a batch; gives what it failed on."""
        ref = FunctionRef(*self.record["_function"])
        kept, looping = self._told_apart(ref, records)
        if looping:
            figures.add(self._engine.cloud, ref, "RecursiveInvocationsDropped", len(looping))
            log.warning("%s: %d messages come from the function itself too often", ref.qualified_arn, len(looping))
        failed = list(await self._invoke(ref, kept)) if kept else []
        # Where there is a dead-letter queue they find their way there; else nobody would ever handle them.
        return [*failed, *looping] if self._source is not None and self._source.has_dead_letters else failed

    def _told_apart(self, ref: FunctionRef, records: Sequence[Record]) -> tuple[Sequence[Record], list[Record]]:
        """What may be handled, and what the function has caused itself too often."""
        if not any("AWSTraceHeader" in record.event["attributes"] for record in records):
            return records, []
        target = self._engine.catalog.target(ref, self._engine.cloud.ids)
        looping = [] if target.may_loop else [record for record in records if is_loop(trace_of(record), target.arn)]
        handles = {record.handle for record in looping}
        return [record for record in records if record.handle not in handles], looping

    async def _invoke(self, ref: FunctionRef, records: Sequence[Record]) -> Sequence[Record]:
        payload = json.dumps({"Records": [record.event for record in records]}, separators=(",", ":")).encode()
        try:
            trace = longest([trace_of(record) for record in records], ref.arn)
            _, outcome = await self._engine.run(ref, self._engine.cloud.ids.request(), payload, trace=trace)
        except ServiceError as error:
            if error.code == "TooManyRequestsException":
                raise Busy("Function call was throttled") from error
            raise
        if outcome.error:
            raise PilviError(FAILED)
        if "ReportBatchItemFailures" in self.record.get("FunctionResponseTypes", ()):
            return failures(outcome.payload, records)
        return ()


def trace_of(record: Record) -> str:
    return str(record.event["attributes"].get("AWSTraceHeader", ""))


def failures(payload: bytes, records: Sequence[Record]) -> Sequence[Record]:
    """What a function says it failed on: nothing, some records, or all of them where it cannot be understood.

    Source: developer guide, "Implementing partial batch responses", success and failure conditions.
    """
    try:
        answer = json.loads(payload) if payload.strip() else None
    except ValueError:
        return records
    if not answer:
        return ()
    if not isinstance(answer, dict):
        return records
    said = answer.get("batchItemFailures")
    if not said:
        return ()
    by_id = {record.event["messageId"]: record for record in records}
    failed: list[Record] = []
    for one in said if isinstance(said, list) else [None]:
        name = one.get("itemIdentifier") if isinstance(one, dict) else None
        if not isinstance(name, str) or name not in by_id:
            return records
        failed.append(by_id[name])
    return failed
