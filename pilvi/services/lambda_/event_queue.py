"""Asynchronous invocations: events that were acknowledged are kept until they were handled or given up.

An event is a row before the caller hears 202, and goes when it is done with; a server that comes back goes on with what is
there, so an event is handled at least once. Source of the rules: developer guide, "How Lambda handles errors and retries with
asynchronous invocation": two more attempts after a function error, one and two minutes later; throttling and trouble of the
service are tried again with growing pauses, for six hours.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pilvi.core.errors import NotFound, PilviError, ServiceError
from pilvi.services.lambda_.names import FunctionRef
from pilvi.storage.records import Delete, Insert, Put, Table

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

    async def accept(self, ref: FunctionRef, request_id: str, payload: bytes, client_context: str) -> None:
        """Keep an event; it is durable when this returns, and on its way."""
        now_s = self._cloud.clock.time_s()
        table = Table(ref.account, ref.region, SERVICE, "Event")
        row_id = f"{int(now_s * 1000):015d}-{request_id}"
        event = {
            "function": [ref.account, ref.region, ref.name, ref.qualifier],
            "request_id": request_id,
            "received_s": now_s,
            "due_s": now_s,
            "errors": 0,
            "refusals": 0,
            "client_context": client_context,
            "payload": self._cloud.keyring.seal(payload, _CONTEXT),
        }
        await asyncio.wrap_future(self._cloud.store.submit([Insert(table, row_id, event)]))
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
            event = await self._attempt(row.value)
            if self._is_closed:
                return  # whatever the end of the server did to it does not count
            if event is None:
                await asyncio.wrap_future(self._cloud.store.submit([Delete(table, row_id)]))
                return
            await asyncio.wrap_future(self._cloud.store.submit([Put(table, row_id, event)]))
            self._schedule(event["due_s"], row_id, table, function)
        except NotFound:
            pass  # the row went with a reset
        finally:
            self._busy[key] -= 1
            if not self._busy[key]:
                del self._busy[key]
            self._start(key)

    async def _attempt(self, event: dict[str, Any]) -> dict[str, Any] | None:
        """Run it once: None when it is done with, else the event as it is to be tried again."""
        ref = FunctionRef(*event["function"])
        payload = self._cloud.keyring.unseal(event["payload"], _CONTEXT)
        settings = self._settings(ref)
        try:
            _, outcome = await self._engine.run(ref, event["request_id"], payload, event["client_context"])
        except ServiceError as error:
            return None if error.code == "ResourceNotFoundException" else self._refused(event, settings, error)
        except PilviError as error:
            return self._refused(event, settings, error)
        if not outcome.error:
            return None
        event["errors"] += 1
        if event["errors"] > min(settings["retries"], len(RETRY_S)):
            log.info("event %s of %s was given up after %d errors", event["request_id"], ref.name, event["errors"])
            return None
        return self._again(event, settings, RETRY_S[event["errors"] - 1])

    def _refused(self, event: dict[str, Any], settings: Mapping[str, Any], error: PilviError) -> dict[str, Any] | None:
        log.debug("event %s has to wait: %s", event["request_id"], error)
        event["refusals"] += 1
        low, high = _BACKOFF_S
        return self._again(event, settings, min(high, low * 2 ** min(event["refusals"] - 1, 16)))

    def _again(self, event: dict[str, Any], settings: Mapping[str, Any], pause_s: float) -> dict[str, Any] | None:
        event["due_s"] = self._cloud.clock.time_s() + pause_s
        if event["due_s"] - event["received_s"] > settings["age_s"]:
            log.info("event %s was given up: too old", event["request_id"])
            return None
        return event

    def _settings(self, ref: FunctionRef) -> dict[str, Any]:
        """What PutFunctionEventInvokeConfig says for this function, version or alias."""
        table = Table(ref.account, ref.region, "lambda", "EventInvokeConfig")
        row = self._cloud.store.get(table, f"{ref.name}/{ref.qualifier or '$LATEST'}")
        found = row.value if row else {}
        return {"retries": found.get("MaximumRetryAttempts", 2), "age_s": found.get("MaximumEventAgeInSeconds", MAX_AGE_S)}

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
