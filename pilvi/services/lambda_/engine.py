"""What runs functions in one cloud: concurrency, the pool, the logs, the queue of events. Made at the first invocation."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from pilvi.core.errors import NotFound, ServiceError
from pilvi.services.lambda_ import figures
from pilvi.services.lambda_.catalog import Catalog, Target, catalog_of
from pilvi.services.lambda_.event_queue import EventQueue
from pilvi.services.lambda_.invocation import Invocation, Outcome
from pilvi.services.lambda_.journal import LogWriter
from pilvi.services.lambda_.lineage import following, is_loop
from pilvi.services.lambda_.mappings import Mappings
from pilvi.services.lambda_.names import FunctionRef
from pilvi.services.lambda_.pool import Pool
from pilvi.services.lambda_.provisioned import Provisioned
from pilvi.services.lambda_.usage import COUNTED, count

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

ACCOUNT_CONCURRENCY = 1000
"""Source: Lambda quotas, "Concurrent executions"."""

_KEY = "lambda"
_TAIL_WAIT_S = 1.0
_ATTEMPTS = 5
"""Workers an invocation tries when each goes before it took the work."""


class Engine:
    def __init__(self, cloud: Cloud, loop: asyncio.AbstractEventLoop) -> None:
        self.cloud = cloud
        self.loop = loop
        self.catalog: Catalog = catalog_of(cloud)
        self.logs = LogWriter()
        self.pool = Pool(cloud, loop, self.logs)
        self.events = EventQueue(self)
        self.mappings = Mappings(self)
        self.provisioned = Provisioned(self)
        self.is_closed = False
        self._running: dict[str, int] = {}
        self._unreserved: dict[tuple[str, str], int] = {}
        self._tasks: set[asyncio.Task[Outcome]] = set()

    async def run(
        self,
        ref: FunctionRef,
        request_id: str,
        payload: bytes,
        client_context: str = "",
        *,
        wants_tail: bool = False,
        trace: str = "",
    ) -> tuple[Target, Outcome]:
        """Run a function to its end, even when the caller goes away meanwhile. trace: the tracing header it is called with.

        Errors: ResourceNotFoundException; TooManyRequestsException - its concurrency, or the account's, is used up;
        RecursiveInvocationException - the chain of events that leads here came from the function itself too often.
        """
        target = self.catalog.target(ref, self.cloud.ids)
        if trace and not target.may_loop and is_loop(trace, target.arn):
            figures.add(self.cloud, ref, "RecursiveInvocationsDropped")
            raise recursive()
        try:
            self._enter(target)
        except ServiceError:
            figures.add(self.cloud, ref, "Throttles")
            raise
        task = self.loop.create_task(self._run(ref, target, request_id, payload, client_context, wants_tail, trace))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return target, await asyncio.shield(task)

    async def _run(
        self,
        ref: FunctionRef,
        target: Target,
        request_id: str,
        payload: bytes,
        client_context: str,
        wants_tail: bool,
        trace: str,
    ) -> Outcome:
        try:
            for _ in range(_ATTEMPTS):
                if self.is_closed:
                    raise ServiceError("ServiceException", "The server is stopping.", 503)
                invocation = Invocation(self.loop, target, request_id, ref.qualified_arn, payload, client_context, wants_tail)
                invocation.trace = following(trace, target.arn, self.cloud.clock.real_s(), self.cloud.ids.hex(40)).header
                try:
                    worker = await self.pool.obtain(target)
                except NotFound:
                    # Its package went while we were about to unpack it: the function has changed.
                    target = self.catalog.target(ref, self.cloud.ids)
                    worker = await self.pool.obtain(target)
                if worker.has_ended:
                    continue  # between being handed over and being here
                worker.give(invocation)
                outcome = await invocation.done
                if outcome is not None:
                    self._count(ref, invocation, outcome)
                    return await self._with_tail(invocation, outcome) if wants_tail else outcome
            raise ServiceError("ServiceException", "The function's workers end before they take their work.", 500)
        finally:
            self._leave(target)

    def _count(self, ref: FunctionRef, invocation: Invocation, outcome: Outcome) -> None:
        """What it was, for CloudWatch and the bill."""
        began_s = invocation.delivered_s or self.loop.time()
        duration_ms = (self.loop.time() - began_s) * 1000
        figures.ran(self.cloud, ref, duration_ms, failed=bool(outcome.error))
        count(self.cloud, invocation.target, math.ceil(duration_ms + invocation.init_ms))

    async def _with_tail(self, invocation: Invocation, outcome: Outcome) -> Outcome:
        """The outcome once the last line of its log is there."""
        assert invocation.reported is not None
        with suppress(TimeoutError):
            await asyncio.wait_for(invocation.reported, _TAIL_WAIT_S)
        return replace(outcome, tail=invocation.tail_bytes())

    def retire(self, arn: str, version: str | None) -> None:
        """A function has changed or gone. From any thread."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.pool.retire, arn, version)

    def close(self) -> None:
        """End what runs. From any thread."""
        self.is_closed = True
        self.mappings.close()
        self.provisioned.close()
        self.events.close()
        self.pool.close()
        self.logs.close()

    # -- concurrency ------------------------------------------------------------------------------------------------

    def _enter(self, target: Target) -> None:
        running = self._running.get(target.arn, 0)
        place = (target.account, target.region)
        if target.reserved is not None:
            if running >= target.reserved:
                raise throttled("ReservedFunctionConcurrentInvocationLimitExceeded")
        else:
            others = self._unreserved.get(place, 0)
            if others >= ACCOUNT_CONCURRENCY - self.catalog.reserved_total(*place):
                raise throttled("ConcurrentInvocationLimitExceeded")
            self._unreserved[place] = others + 1
        self._running[target.arn] = running + 1
        figures.running(self.cloud, target.account, target.region, target.name, running + 1)

    def _leave(self, target: Target) -> None:
        left = self._running[target.arn] - 1
        if left:
            self._running[target.arn] = left
        else:
            del self._running[target.arn]
        if target.reserved is None:
            self._unreserved[(target.account, target.region)] -= 1


def recursive() -> ServiceError:
    message = (
        "Lambda has detected your function being invoked in a recursive loop with other AWS resources and stopped your function's "
        "invocation."
    )
    return ServiceError("RecursiveInvocationException", message, 400, Type="User", Message=message)


def throttled(reason: str) -> ServiceError:
    return ServiceError("TooManyRequestsException", "Rate Exceeded.", 429, Type="User", Reason=reason)


def engine_of(cloud: Cloud) -> Engine:
    """The engine of a cloud; on its event loop."""
    found = cloud.memory.get(_KEY)
    if isinstance(found, Engine) and not found.is_closed:
        return found
    engine = Engine(cloud, asyncio.get_running_loop())
    cloud.memory[_KEY] = engine
    engine.events.resume()
    engine.mappings.resume()
    engine.provisioned.resume()
    return engine


def running_engine(cloud: Cloud) -> Engine | None:
    """The engine, if anything was invoked yet."""
    found = cloud.memory.get(_KEY)
    return found if isinstance(found, Engine) and not found.is_closed else None


def retire_workers(cloud: Cloud, arn: str, version: str | None = None) -> None:
    """End the warm workers of a function (or of one version), whose next invocation wants new ones."""
    engine = running_engine(cloud)
    if engine is not None:
        engine.retire(arn, version)


def close_engine(cloud: Cloud) -> None:
    """The server stops."""
    COUNTED.write_down(cloud)
    if (engine := running_engine(cloud)) is not None:
        engine.close()
