"""Provisioned concurrency at work: so many warm workers of a version are there, before anybody calls.

A look every second compares what rows ask for with the workers there are: an alias that moves, a worker that ended, credentials that run out
and a server that starts again all come to the same. Calls beyond it take workers of their own, as on demand.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, NamedTuple

from pilvi.core.errors import PilviError
from pilvi.services.lambda_.catalog import Target
from pilvi.services.lambda_.names import FunctionRef

if TYPE_CHECKING:
    from pilvi.services.lambda_.engine import Engine

log = logging.getLogger("pilvi.lambda")

NOUN: Final = "ProvisionedConcurrency"
LOOK_S: Final = 1.0
AT_ONCE: Final = 4
"""Workers started together: more would only slow each other."""


class Supply(NamedTuple):
    """How far a configuration has come."""

    available: int
    problem: str


class Provisioned:
    """Of one server, on the event loop."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._task: asyncio.Task[None] | None = None
        self._problems: dict[str, str] = {}
        """By target: why workers do not start."""

    def resume(self) -> None:
        if self._engine.cloud.store.tables(service="lambda", noun=NOUN):
            self.attend()

    def attend(self) -> None:
        """Rows were written."""
        if self._task is None or self._task.done():
            self._task = self._engine.loop.create_task(self._run())

    def close(self) -> None:
        """From any thread."""
        if self._task is not None:
            try:
                self._engine.loop.call_soon_threadsafe(self._task.cancel)
            except RuntimeError:
                return

    def supply(self, ref: FunctionRef, wanted: int) -> Supply:
        """What there is of a configuration now."""
        target = self._engine.catalog.target(ref, self._engine.cloud.ids)
        return Supply(min(wanted, self._engine.pool.ready(target.key)), self._problems.get(target.key, ""))

    async def _run(self) -> None:
        while not self._engine.is_closed:
            wanted = self._wanted()
            self._engine.pool.kept = {target.key: many for target, many in wanted.values()}
            if not wanted:
                return
            for target, many in wanted.values():
                await self._top_up(target, many)
            await asyncio.sleep(LOOK_S)

    def _wanted(self) -> dict[str, tuple[Target, int]]:
        store = self._engine.cloud.store
        found: dict[str, tuple[Target, int]] = {}
        for table in store.tables(service="lambda", noun=NOUN):
            for row in store.scan(table, limit=1000):
                name, _, qualifier = row.id.partition("/")
                try:
                    target = self._engine.catalog.target(
                        FunctionRef(table.account, table.region, name, qualifier), self._engine.cloud.ids
                    )
                except PilviError:
                    continue  # the function is just being deleted
                many = found.get(target.key, (target, 0))[1] + row.value["Requested"]
                found[target.key] = (target, many)
        return found

    async def _top_up(self, target: Target, many: int) -> None:
        pool = self._engine.pool
        missing = many - pool.living(target.key)
        while missing > 0:
            some = min(missing, AT_ONCE)
            missing -= some
            results = await asyncio.gather(*(pool.start_warm(target) for _ in range(some)), return_exceptions=True)
            failed = [error for error in results if isinstance(error, BaseException)]
            if failed:
                self._problems[target.key] = str(failed[0])
                log.warning("%s: a warm worker did not start: %s", target.arn, failed[0])
                return
        self._problems.pop(target.key, None)
