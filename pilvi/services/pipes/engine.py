"""Pipes at work: each polls its source as its role, and sends batches on (execution.py).

    row (pipe.py) --attend--> Running: makes true what the row says, and then says so: CREATING -> RUNNING, STOPPING -> STOPPED, DELETING -> gone
                                 |
                        Poller (pilvi.events.poller) --batch--> Execution --> what failed stays in the source

Everything runs on the event loop. Nothing is kept here that a restart needs: rows say what there is, queues hold what was not finished.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from pilvi.auth.identity import Identity
from pilvi.core.errors import Conflict, NotFound, PilviError
from pilvi.core.principal import Principal
from pilvi.core.service import Context
from pilvi.events.poller import Poller, Record
from pilvi.events.queue_source import QueueSource
from pilvi.metering.figures import by
from pilvi.services.pipes import usage
from pilvi.services.pipes.access import PRINCIPAL
from pilvi.services.pipes.execution import Execution
from pilvi.services.pipes.figures import FIGURES
from pilvi.services.pipes.stages import poller_settings
from pilvi.storage.records import Change, Delete, Table, Update

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

log = logging.getLogger("pilvi.pipes")

NOUN: Final = "Pipe"
PASSING: Final = {
    "CREATING": "CREATE_FAILED",
    "UPDATING": "UPDATE_FAILED",
    "STARTING": "START_FAILED",
    "STOPPING": "",
    "DELETING": "",
}
"""States that pass by themselves, and what they become when what is asked for cannot be."""
RENEW: Final = timedelta(minutes=5)
"""Before its credentials end, a pipe takes new ones."""
_MEMORY: Final = "pipes:engine"


class Engine:
    """All pipes of one server."""

    def __init__(self, cloud: Cloud, loop: asyncio.AbstractEventLoop) -> None:
        self.cloud = cloud
        self.loop = loop
        self._running: dict[tuple[Table, str], Running] = {}

    def resume(self) -> None:
        """Poll again what an earlier server polled, and bring to an end what it had begun."""
        store = self.cloud.store
        for table in store.tables(service="pipes", noun=NOUN):
            after = ""
            while rows := store.scan(table, after=after):
                for row in rows:
                    self.attend(table, row.id)
                after = rows[-1].id

    def attend(self, table: Table, name: str) -> None:
        """A row was written: make it true. On the loop."""
        running = self._running.get((table, name))
        if running is None:
            running = self._running[table, name] = Running(self, table, name)
        running.news.set()

    def forget(self, table: Table, name: str) -> None:
        self._running.pop((table, name), None)

    def close(self) -> None:
        """From any thread: the server stops."""
        running, self._running = list(self._running.values()), {}
        for one in running:
            try:
                self.loop.call_soon_threadsafe(one.kill)
            except RuntimeError:
                return


def engine_of(cloud: Cloud) -> Engine:
    """The server's; made on its event loop at the first use."""
    found: Engine | None = cloud.memory.get(_MEMORY)
    if found is None:
        found = cloud.memory[_MEMORY] = Engine(cloud, asyncio.get_running_loop())
    return found


def close(cloud: Cloud) -> None:
    found: Engine | None = cloud.memory.get(_MEMORY)
    if found is not None:
        found.close()
    usage.COUNTED.write_down(cloud)


def own_context(cloud: Cloud, table: Table, pipe_arn: str) -> Context:
    """Pipes itself, acting for a pipe."""
    principal = Principal("service", table.account, "", PRINCIPAL, PRINCIPAL, source_arn=pipe_arn)
    return Context(cloud, principal=principal, account=table.account, region=table.region, service="pipes")


class Running:
    """One pipe."""

    def __init__(self, engine: Engine, table: Table, name: str) -> None:
        self._engine = engine
        self._table = table
        self._name = name
        self._record: dict[str, Any] = {}
        self._poller: Poller | None = None
        self._acting: tuple[Context, Identity, str] | None = None
        self._at_once = 0
        """Batches under way."""
        self.news = asyncio.Event()
        self._task = engine.loop.create_task(self._run())

    def kill(self) -> None:
        self._task.cancel()
        if self._poller is not None:
            self._poller.kill()

    async def _run(self) -> None:
        while True:
            await self.news.wait()
            self.news.clear()
            try:
                is_gone = await self._make_true()
            except PilviError as error:
                log.warning("pipe %s: %s", self._name, error.message)
                continue
            if is_gone:
                self._engine.forget(self._table, self._name)
                return

    async def _make_true(self) -> bool:
        """Whether the pipe is no more."""
        store = self._engine.cloud.store
        row = store.get(self._table, self._name)
        if row is None:
            await self._rest()
            return True
        self._record = row.value
        state, reason = row.value["CurrentState"], ""
        if state == "RUNNING" and self._poller is not None:
            return False
        try:
            await self._become(row.value)
        except PilviError as error:
            reason = error.message
        if state not in PASSING:
            return False
        if state == "DELETING":
            done: Change = Delete(self._table, self._name, row.version)
        else:
            done = Update(self._table, self._name, _settled(row.value, reason), row.version)
        try:
            await store.commit([done])
        except (Conflict, NotFound):
            self.news.set()
            return False
        return bool(state == "DELETING")

    async def _become(self, record: dict[str, Any]) -> None:
        """Poll, or poll no more, as the record says. A pipe that is to begin raises when its role or its source does not let it; one
        that ran goes on asking."""
        await self._rest()
        state = record["CurrentState"]
        if state in ("DELETING", "STOPPING", "STOPPED") or state.endswith("_FAILED"):
            return
        self._acting = None
        source = QueueSource(record["Source"], self._as_role)
        if state in PASSING:
            await source.attributes()
        if record["DesiredState"] != "RUNNING":
            return
        self._poller = Poller(source, poller_settings(record), self._handle, self._told)
        self._poller.start()

    async def _rest(self) -> None:
        poller, self._poller = self._poller, None
        if poller is not None:
            await poller.stop()

    def _told(self, error: PilviError | None) -> None:
        if error is not None:
            log.info("pipe %s: %s", self._record["Arn"], error.message)

    # -- a batch --------------------------------------------------------------------------------------------------------------

    async def _handle(self, records: Sequence[Record]) -> Sequence[Record]:
        record, cloud, table = self._record, self._engine.cloud, self._table
        usage.count(cloud, table.account, table.region, sum(one.size for one in records))
        self._at_once += 1
        FIGURES.most(cloud, table.account, table.region, by(PipeName=self._name), "Concurrency", self._at_once)
        try:
            return await Execution(own_context(cloud, table, record["Arn"]), self._as_role(), record, records).run()
        finally:
            self._at_once -= 1

    def _as_role(self) -> Context:
        """The context of the pipe's role as it is now."""
        cloud, role = self._engine.cloud, self._record["RoleArn"]
        acting = self._acting
        if acting is None or acting[2] != role or self._is_old(acting[1]):
            own = own_context(cloud, self._table, self._record["Arn"])
            ctx = own.as_role(role, f"pipe-{self._name}"[:64])
            assert ctx.identity is not None
            acting = self._acting = (ctx, ctx.identity, role)
        return acting[0]

    def _is_old(self, identity: Identity) -> bool:
        return identity.expires is not None and identity.expires - self._engine.cloud.clock.now() < RENEW


def _settled(record: dict[str, Any], reason: str) -> dict[str, Any]:
    """The record once what it asked for is so, or cannot be."""
    state = record["CurrentState"]
    kept = {name: value for name, value in record.items() if name != "StateReason"}
    if reason and PASSING[state]:
        return {**kept, "CurrentState": PASSING[state], "StateReason": reason}
    return {**kept, "CurrentState": "RUNNING" if record["DesiredState"] == "RUNNING" and state != "STOPPING" else "STOPPED"}
