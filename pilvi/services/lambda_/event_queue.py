"""Asynchronous invocations: events that were acknowledged are kept until they were handled or given up.

An event is a row before the caller hears 202, and goes when it is done with, in one transaction with what is told of it
(destinations.py); a server that comes back goes on with what is there, so an event is handled at least once. Source of the rules: developer
guide, "How Lambda handles errors and retries with asynchronous invocation": two more attempts after a function error, one and two minutes
later; throttling and trouble of the service are tried again with growing pauses, for six hours. Time is the product's.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import logging
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pilvi.core.errors import NotFound, PilviError, ServiceError
from pilvi.services.lambda_ import figures
from pilvi.services.lambda_.catalog import Target
from pilvi.services.lambda_.destinations import CONSUMER, DEAD, FAILURE, SUCCESS, dead_letter, record_of, recording
from pilvi.services.lambda_.invocation import Outcome
from pilvi.services.lambda_.lineage import following
from pilvi.services.lambda_.names import FunctionRef
from pilvi.storage.records import Change, Delete, Insert, Put, Table

if TYPE_CHECKING:
    from pilvi.services.lambda_.engine import Engine

log = logging.getLogger("pilvi.lambda")

SERVICE = "lambda-events"
"""Apart from Lambda's other tables, so that events do not make the catalog forget what it knows."""
RETRY_S = (60.0, 120.0)
MAX_AGE_S = 21600.0
AT_ONCE = 16
"""Events of one function under way at the same time."""

_BACKOFF_S = (1.0, 300.0)
_TICK_S = 1.0
_CONTEXT = b"lambda-event"


class Settings(NamedTuple):
    """What PutFunctionEventInvokeConfig says for a function, version or alias."""

    retries: int
    age_s: float
    destinations: Mapping[str, Any]

    def to(self, when: str) -> str:
        return str((self.destinations.get(when) or {}).get("Destination") or "")


class Done(NamedTuple):
    """An event needs no further attempt."""

    changes: list[Change]
    """What is told of it."""
    lanes: list[str]


class EventQueue:
    """Lives on the event loop."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._cloud = engine.cloud
        self._later: list[tuple[float, str, Table, str]] = []
        """(due, row id, table, function): a heap."""
        self._ready: dict[tuple[Table, str], deque[str]] = {}
        """Row ids whose time has come, by function."""
        self._busy: dict[tuple[Table, str], int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def accept(self, ref: FunctionRef, request_id: str, payload: bytes, client_context: str, trace: str) -> None:
        """Keep an event; it is durable when this returns, and on its way."""
        now_s = self._cloud.clock.time_s()
        table = Table(ref.account, ref.region, SERVICE, "Event")
        row_id = f"{int(now_s * 1000):015d}-{request_id}-{self._cloud.ids.hex(8)}"  # a caller may send several in one request
        event = {
            "function": [ref.account, ref.region, ref.name, ref.qualifier],
            "request_id": request_id,
            "received_s": now_s,
            "due_s": now_s,
            "errors": 0,
            "refusals": 0,
            "client_context": client_context,
            "trace": trace,
            "payload": self._cloud.keyring.seal(payload, _CONTEXT),
        }
        await self._cloud.store.commit([Insert(table, row_id, event)])
        figures.add(self._cloud, ref, "AsyncEventsReceived")
        self._enqueue(table, ref.name, row_id)

    def resume(self) -> None:
        """Take up what an earlier server left."""
        for table in self._cloud.store.tables(service=SERVICE, noun="Event"):
            after = ""
            while rows := self._cloud.store.scan(table, after=after):
                for row in rows:
                    self._schedule(row.value["due_s"], row.id, table, row.value["function"][2])
                after = rows[-1].id
        self._tick()

    def close(self) -> None:
        self._is_closed = True

    # -- private ----------------------------------------------------------------------------------------------------

    def _enqueue(self, table: Table, function: str, row_id: str) -> None:
        key = (table, function)
        self._ready.setdefault(key, deque()).append(row_id)
        self._start(key)

    def _start(self, key: tuple[Table, str]) -> None:
        waiting = self._ready.get(key)
        while waiting and self._busy.get(key, 0) < AT_ONCE and not self._is_closed:
            row_id = waiting.popleft()
            self._busy[key] = self._busy.get(key, 0) + 1
            task = asyncio.get_running_loop().create_task(self._handle(key, row_id))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if waiting is not None and not waiting:
            del self._ready[key]

    async def _handle(self, key: tuple[Table, str], row_id: str) -> None:
        table, function = key
        try:
            row = self._cloud.store.get(table, row_id)
            if row is None:
                return
            event = row.value
            done = await self._attempt(event)
            if self._is_closed:
                return  # whatever the end of the server did to it does not count
            if done is not None:
                await self._cloud.store.commit([Delete(table, row_id), *done.changes])
                for lane in done.lanes:
                    self._cloud.events.wake(CONSUMER, lane)
                return
            await self._cloud.store.commit([Put(table, row_id, event)])
            self._schedule(event["due_s"], row_id, table, function)
        except NotFound:
            pass  # the row went with a reset
        except PilviError as error:
            log.warning("event %s of %s has to wait: %s", row_id, function, error)
            self._schedule(self._cloud.clock.time_s() + _BACKOFF_S[1], row_id, table, function)
        finally:
            self._busy[key] -= 1
            if not self._busy[key]:
                del self._busy[key]
            self._start(key)

    async def _attempt(self, event: dict[str, Any]) -> Done | None:
        """Run it once. None when it is to be tried again, as `event` then says."""
        ref = FunctionRef(*event["function"])
        try:
            return await self._run(event, ref)
        except ServiceError as error:
            if error.code != "ResourceNotFoundException":
                raise
        figures.add(self._cloud, ref, "AsyncEventsDropped")  # the function is gone, and with it where its failures went
        return Done([], [])

    async def _run(self, event: dict[str, Any], ref: FunctionRef) -> Done | None:
        payload = self._cloud.keyring.unseal(event["payload"], _CONTEXT)
        settings = self._settings(ref)
        age_s = max(0.0, self._cloud.clock.time_s() - event["received_s"])
        if age_s > settings.age_s:
            return self._given_up(event, ref, payload, settings, "EventAgeExceeded", why="The event was too old.", code=429)
        figures.took(self._cloud, ref, "AsyncEventAge", age_s * 1000)
        try:
            target, outcome = await self._engine.run(
                ref, event["request_id"], payload, event["client_context"], trace=event.get("trace", "")
            )
        except PilviError as error:
            if isinstance(error, ServiceError) and error.code == "ResourceNotFoundException":
                raise
            return self._refused(event, ref, payload, settings, error)
        if not outcome.error:
            return self._succeeded(event, ref, payload, settings, target, outcome)
        event["errors"] += 1
        if event["errors"] > min(settings.retries, len(RETRY_S)):
            return self._given_up(event, ref, payload, settings, "RetriesExhausted", target, outcome)
        if self._is_too_old(event, settings, RETRY_S[event["errors"] - 1]):
            return self._given_up(event, ref, payload, settings, "EventAgeExceeded", target, outcome)
        return None

    def _refused(
        self, event: dict[str, Any], ref: FunctionRef, payload: bytes, settings: Settings, error: PilviError
    ) -> Done | None:
        """It could not be run: that counts as no error of the function."""
        log.debug("event %s has to wait: %s", event["request_id"], error)
        event["refusals"] += 1
        if isinstance(error, ServiceError) and error.code == "RecursiveInvocationException":
            return self._given_up(event, ref, payload, settings, "RecursiveInvocation", why=error.message, code=400)
        target = self._engine.catalog.target(ref, self._cloud.ids)
        if target.reserved == 0 and (settings.to(FAILURE) or target.record.get("DeadLetterConfig")):
            # Source: developer guide, "Configuring reserved concurrency": such events are not tried again.
            return self._given_up(event, ref, payload, settings, "ZeroReservedConcurrency", why=error.message, code=429)
        low, high = _BACKOFF_S
        if self._is_too_old(event, settings, min(high, low * 2 ** min(event["refusals"] - 1, 16))):
            return self._given_up(event, ref, payload, settings, "EventAgeExceeded", why=error.message, code=429)
        return None

    def _is_too_old(self, event: dict[str, Any], settings: Settings, pause_s: float) -> bool:
        """Put it off; whether it would be too old then."""
        event["due_s"] = self._cloud.clock.time_s() + pause_s
        return bool(event["due_s"] - event["received_s"] > settings.age_s)

    # -- the end of an event --------------------------------------------------------------------------------------------

    def _succeeded(
        self, event: Mapping[str, Any], ref: FunctionRef, payload: bytes, settings: Settings, target: Target, outcome: Outcome
    ) -> Done:
        arn = settings.to(SUCCESS)
        if not arn:
            return Done([], [])
        now = self._cloud.clock.now()
        answer = {"version": target.version, "error": "", "payload": outcome.payload}
        record = record_of(now, ref, event["request_id"], "Success", event["errors"] + 1, payload, answer)
        message = {"id": event["request_id"], "at": now.timestamp(), "body": json.dumps(record, ensure_ascii=False)}
        trace = self._trace(event, target)
        return Done([recording(self._cloud, ref, target.record["Role"], SUCCESS, arn, message, trace)], [arn])

    def _given_up(
        self,
        event: Mapping[str, Any],
        ref: FunctionRef,
        payload: bytes,
        settings: Settings,
        condition: str,
        target: Target | None = None,
        outcome: Outcome | None = None,
        why: str = "",
        code: int = 200,
    ) -> Done:
        """No further attempt: a record for the destination, the event itself for the dead-letter queue."""
        log.info("event %s of %s was given up: %s", event["request_id"], ref.name, condition)
        figures.add(self._cloud, ref, "AsyncEventsDropped")
        found = target or self._engine.catalog.target(ref, self._cloud.ids)
        answer = None
        if outcome is not None:
            answer = {"version": found.version, "error": outcome.error, "payload": outcome.payload}
            why = why or error_text(outcome.payload)
        now, request_id = self._cloud.clock.now(), event["request_id"]
        role, trace = found.record["Role"], self._trace(event, found)
        changes: list[Change] = []
        lanes: list[str] = []
        if arn := settings.to(FAILURE):
            record = record_of(now, ref, request_id, condition, event["errors"] or event["refusals"], payload, answer)
            message = {"id": request_id, "at": now.timestamp(), "body": json.dumps(record, ensure_ascii=False)}
            changes.append(recording(self._cloud, ref, role, FAILURE, arn, message, trace))
            lanes.append(arn)
        if arn := (found.record.get("DeadLetterConfig") or {}).get("TargetArn") or "":
            letter = dead_letter(request_id, payload, code, why)
            changes.append(recording(self._cloud, ref, role, DEAD, arn, letter, trace))
            lanes.append(arn)
        return Done(changes, lanes)

    def _trace(self, event: Mapping[str, Any], target: Target) -> str:
        """What is told of an event belongs to its chain."""
        clock, ids = self._cloud.clock, self._cloud.ids
        return following(event.get("trace", ""), target.arn, clock.real_s(), ids.hex(40)).header

    def _settings(self, ref: FunctionRef) -> Settings:
        table = Table(ref.account, ref.region, "lambda", "EventInvokeConfig")
        row = self._cloud.store.get(table, f"{ref.name}/{ref.qualifier or '$LATEST'}")
        found = row.value if row else {}
        return Settings(
            found.get("MaximumRetryAttempts", 2),
            found.get("MaximumEventAgeInSeconds", MAX_AGE_S),
            found.get("DestinationConfig") or {},
        )

    # -- time -------------------------------------------------------------------------------------------------------------

    def _schedule(self, due_s: float, row_id: str, table: Table, function: str) -> None:
        heapq.heappush(self._later, (due_s, row_id, table, function))
        self._set_timer()

    def _set_timer(self) -> None:
        if self._later and self._timer is None and not self._is_closed:
            pause_s = min(max(self._later[0][0] - self._cloud.clock.time_s(), 0.0), _TICK_S)
            self._timer = self._engine.loop.call_later(pause_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now_s = self._cloud.clock.time_s()
        while self._later and self._later[0][0] <= now_s:
            _, row_id, table, function = heapq.heappop(self._later)
            self._enqueue(table, function, row_id)
        self._set_timer()


def error_text(payload: bytes) -> str:
    """What a function's error says."""
    try:
        found = json.loads(payload)
    except ValueError:
        return payload.decode(errors="replace")
    return str(found.get("errorMessage", "")) if isinstance(found, dict) else ""
