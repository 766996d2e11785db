"""A cloud: one data directory's adapters joined with the services. What contexts reach through."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import socket
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilvi.app import letters
from pilvi.app.clients import CERTIFICATE, Clients
from pilvi.app.places import event_log, job_compute
from pilvi.app.registry import Registry
from pilvi.app.scrubbing import Scrubbing
from pilvi.app.servers import Servers
from pilvi.app.stores import is_in_use, open_stores
from pilvi.auth.identity import Identities as IdentitiesPort
from pilvi.compute import Compute
from pilvi.compute.leftovers import end_leftovers
from pilvi.compute.process import ProcessCompute
from pilvi.core.clock import Clock, ProductClock, SystemClock
from pilvi.core.config import Config
from pilvi.core.errors import AlreadyExists, NotFound, PilviError
from pilvi.core.ids import Ids
from pilvi.core.principal import Principal
from pilvi.core.service import Access, ClientSide, Context
from pilvi.events import Events
from pilvi.events.delivery import Delivery
from pilvi.events.lease import Lease
from pilvi.events.letters import Letters
from pilvi.gateway.dispatch import Dispatcher
from pilvi.jobs import Jobs
from pilvi.protocol.models import Models
from pilvi.protocol.plain import typed
from pilvi.schedules import Periodic, Ran, Schedules
from pilvi.schedules.offset import Follower, move, read_offset
from pilvi.services.iam.identities import Identities
from pilvi.storage.blobs import nobody
from pilvi.storage.lock import lock_data_dir
from pilvi.storage.records import Records, Rows, Table
from pilvi.storage.sealed import AtRest, Keyring

if TYPE_CHECKING:
    from pilvi.gateway.authority import Authority

log = logging.getLogger("pilvi")

SETTLE_S = 10.0
"""How long a move of the clock waits for the deliveries that became due by it."""


class Cloud:
    """Opened from a configuration; `close` leaves everything on the disk and nothing running."""

    def __init__(self, config: Config, clock: Clock | None = None, *, is_first: bool = True) -> None:
        """is_first: the process that does everything and holds the directory; the others only read (pilvi.app.workers)."""
        self.config = config
        self.ids = Ids()
        config.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.endpoint = f"http://{url_host(config.host)}:{config.port}"
        self._lock = lock_data_dir(config.data_dir, self.endpoint) if is_first else None
        self.stores = open_stores(config, is_first=is_first)
        self.keyring: Keyring = self.stores.keyring
        self.store: Records = self.stores.records
        self.blobs: AtRest = self.stores.blobs
        self.servers = Servers(self.store, clock or SystemClock(), self.endpoint) if config.is_shared else None
        alone = is_first and not config.is_shared
        self.product_clock = ProductClock(clock or SystemClock(), None if alone else Follower(self.store))
        self.clock: Clock = self.product_clock
        if is_first:
            self.product_clock.offset_s = read_offset(self.store)
        self.identities: IdentitiesPort = Identities(self.store, self.keyring, self.clock, self.ids)
        self.models = Models(config.data_dir / "cache")
        self.registry = Registry()
        self.dispatcher = Dispatcher(self.models, self.registry.find, self.identities)
        self.compute: Compute = ProcessCompute(config.isolation, hidden=(config.data_dir,), folder=config.data_dir)
        # A worker process only reads; it runs no job.
        self.job_compute: Compute = job_compute(config, self.compute) if is_first else self.compute
        self.clients = Clients(config.data_dir, self.endpoint)
        self.memory: dict[str, Any] = {}
        servers = self.servers
        lease = None if servers is None else Lease(self.store, self.ids, self.clock.real_s, lambda: servers.leads)
        waiting = event_log(config, self.store, self.clock, self.ids, self.keyring)
        self.delivery = Delivery(waiting, self.clock, self.registry.consumers, lease)
        self.events: Events = self.delivery
        self.letters = Letters(self.delivery, self.clock)
        self.jobs = Jobs(self)
        self.schedules = Schedules(self, self.store, self.clock, server_name(config.data_dir), self._tasks, self.registry.timers)
        self.scrubbing = Scrubbing(self)

    def prepare(self) -> None:
        """What a first start makes, and what a start after a crash puts in order."""
        end_leftovers(self.config.data_dir)
        spare = nobody
        if self.servers is not None:
            self.servers.join()
            spare = self.is_of_another_server
        self.blobs.sweep(self.store.body_names(blobs_only=True), spare)
        if not self.identities.accounts():
            with suppress(AlreadyExists):  # another server was quicker
                self.identities.create_account(self.config.account)
        if self.servers is None or self.servers.leads:
            self.jobs.recover()

    def is_of_another_server(self, name: str) -> bool:
        """Whether a blob may be one that another server is writing, or has written to its end after this one began to look."""
        if self.servers is None:
            return False
        return self.servers.is_alive(name[:16]) or is_in_use(self.store, name)

    @cached_property
    def authority(self) -> Authority:
        """Certificates for clients that speak TLS. Made when the first does: its libraries cost memory."""
        from pilvi.gateway.authority import Authority

        return Authority(self.config.data_dir, self.keyring)

    async def resume(self) -> None:
        """After a start: what clients need to trust is there, and services go on where an earlier server stopped."""
        if not (self.config.data_dir / CERTIFICATE).exists():
            await asyncio.to_thread(lambda: self.authority.prepare())
        self.schedules.start()
        self.scrubbing.start()
        if self.servers is not None:
            loop = asyncio.get_running_loop()
            self.servers.start(lambda: self._take_over(loop))
            if not self.servers.leads:
                return
        await self._resume_services()

    def _take_over(self, loop: asyncio.AbstractEventLoop) -> None:
        """The server that led is gone: go on with what it ran. From a thread."""
        self.jobs.recover()
        asyncio.run_coroutine_threadsafe(self._resume_services(), loop).result()

    async def _resume_services(self) -> None:
        for name in sorted({table.service for table in await asyncio.to_thread(self.store.tables)}):
            if (resume := await asyncio.to_thread(self.registry.resumption, name)) is not None:
                try:
                    await resume(self)
                except Exception:  # the server stands; the other services must go on
                    log.exception("%s could not go on where it stopped", name)

    def context(self, principal: Principal, service: str, *, region: str = "", account: str = "") -> Context:
        """A context made by hand, for the rim and for tests."""
        return Context(
            self,
            principal=principal,
            account=account or principal.account,
            region=region or self.config.region,
            service=service,
        )

    def rows(self, account: str, region: str, service: str, noun: str) -> Rows:
        return Rows(self.store, Table(account, region, service, noun))

    def call(self, ctx: Context, service: str, operation: str, params: Mapping[str, Any]) -> dict[str, Any]:
        return self.dispatcher.call(ctx, service, operation, params)

    async def acall(self, ctx: Context, service: str, operation: str, params: Mapping[str, Any]) -> dict[str, Any]:
        return await self.dispatcher.acall(ctx, service, operation, params)

    async def ainside(self, ctx: Context, service: str, action: str, params: Mapping[str, Any]) -> dict[str, Any]:
        return await self.dispatcher.ainside(ctx, service, action, params)

    def client_side(self, account: str, region: str) -> ClientSide:
        self.authority.prepare()
        return self.clients.inside(account, region)

    def check(self, ctx: Context, access: Access) -> PilviError | None:
        return self.dispatcher.check(ctx, access)

    def understand(self, service: str, action: str, plain: Mapping[str, Any]) -> tuple[str, str, dict[str, Any]]:
        name = self.models.named(service)
        operation = None if name is None else self.models.service(name).operation_named(action)
        if name is None or operation is None:
            raise NotFound(f"There is no operation {service}:{action}.")
        self.dispatcher.find(name, operation)
        found = self.models.service(name).operation(operation)
        return name, operation, typed(None if found is None else found.input, plain)

    def reset(self) -> None:
        """Empty everything and begin again with one account (only offered in open mode)."""
        self.stop_services()
        self.jobs.reset()
        self.store.clear()
        self.blobs.clear()
        self.delivery.log.clear()
        self.memory.clear()
        self.product_clock.offset_s = 0.0
        self.schedules.forget()
        self.identities.create_account(self.config.account)

    def _tasks(self) -> dict[str, Periodic]:
        return {**self.registry.tasks(), **self.scrubbing.tasks(), **letters.tasks(self)}

    def advance_clock(self, by_s: float) -> Ran:
        """Move the product's time forward, and run all that becomes due by it. For threads; Invalid when it goes back."""
        self.product_clock.offset_s = move(self.store, by_s)
        ran = self.schedules.run_all_due()
        if (loop := self.dispatcher.loop) is not None:
            asyncio.run_coroutine_threadsafe(self.delivery.settle(SETTLE_S), loop).result()
        return ran

    def close(self) -> None:
        self.schedules.close()
        self.scrubbing.close()
        if self.servers is not None:
            self.servers.close()
        self.stop_services()
        self.jobs.close()
        if self.job_compute is not self.compute:
            self.job_compute.close()
        self.compute.close()
        self.dispatcher.threads.shutdown(wait=True, cancel_futures=True)
        self.delivery.log.close()
        self.store.close()
        if self._lock is not None:
            self._lock.release()

    def stop_services(self) -> None:
        """End what services keep running, and with it the requests that wait for it."""
        for service in self.registry.loaded():
            if service.close is not None:
                service.close(self)


def server_name(data_dir: Path) -> str:
    """What tells this server from others on one store: a data directory is held by one at a time."""
    return hashlib.sha256(f"{socket.gethostname()}:{data_dir.resolve()}".encode()).hexdigest()[:16]


def url_host(host: str) -> str:
    """A host as it stands in a URL; the loopback address where the server listens everywhere."""
    if host in ("", "0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
