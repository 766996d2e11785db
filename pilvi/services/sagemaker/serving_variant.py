"""A variant at work: its instances, as many as are wanted; and a deployment, the variants of one endpoint configuration.

An instance that ends by itself is replaced. Requests wait for one that is up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pilvi.core.service import Context
from pilvi.jobs.host import remove_folder
from pilvi.services.sagemaker.job_check import SESSION
from pilvi.services.sagemaker.model import containers_of
from pilvi.services.sagemaker.serving_files import Files
from pilvi.services.sagemaker.serving_instance import Instance, Surroundings
from pilvi.services.sagemaker.serving_spec import Room, room_of, serving_of
from pilvi.serving.answer import StartFailed

log = logging.getLogger("pilvi.sagemaker")

_RETRY_S = (0.0, 1.0, 5.0, 15.0, 60.0)
DRAIN_S = 60.0
"""The longest that requests may still be with an instance that goes."""


class Variant:
    """On the event loop."""

    def __init__(self, ctx: Context, record: Mapping[str, Any], folder: Path, around: Surroundings) -> None:
        """record: the configuration's variant with `_model`."""
        self.ctx = ctx
        self.record = record
        self.name: str = record["VariantName"]
        self.weight = float(record.get("InitialVariantWeight", 1.0))
        self.desired = 1 if record.get("InitialInstanceCount") is None else int(record["InitialInstanceCount"])
        self.credit = 0.0
        """For whose turn it is (serving_live.py)."""
        self.instances: list[Instance] = []
        self.is_closed = False
        self.on_note: Callable[[str, str, float, str], None] = lambda *_: None
        self.room: Room = room_of(record, next(iter(ctx.compute.nodes()), None))
        self._around = around
        self._folder = folder / self.name
        self._files = [
            Files(self._folder / "files" / str(number), container)
            for number, container in enumerate(containers_of(record["_model"]))
        ]
        self._is_up = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._leaving: set[Instance] = set()
        self._is_fetched = False

    @property
    def current(self) -> int:
        return sum(instance.is_up for instance in self.instances)

    async def start(self) -> None:
        """All instances up. StartFailed when one does not come; whoever asked closes the variant then."""
        await self.fetch()
        await self.become(self.desired)

    async def fetch(self) -> None:
        """The model's files, once."""
        if not self._is_fetched:
            await asyncio.to_thread(self._fetch)
            self._is_fetched = True

    async def become(self, count: int) -> None:
        """Grow or shrink to so many instances. StartFailed when one does not come up."""
        self.desired = count
        while len(self.instances) > count:
            instance = min(self.instances, key=lambda one: one.load)
            self.instances.remove(instance)
            self._leaving.add(instance)
            self._spawn(self._retire(instance))
        missing = count - len(self.instances)
        if missing > 0:
            results = await asyncio.gather(*(self._add() for _ in range(missing)), return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException):
                    raise result
        self._tell()

    def pick(self) -> Instance | None:
        """The instance that is up and has the fewest requests."""
        best: Instance | None = None
        for instance in self.instances:
            if instance.is_up and (best is None or instance.load < best.load):
                best = instance
        return best

    async def wait(self, timeout_s: float) -> Instance | None:
        """An instance as soon as one is up; None after the time."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while not self.is_closed:
            if (found := self.pick()) is not None:
                return found
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                return None
            self._is_up.clear()
            try:
                await asyncio.wait_for(self._is_up.wait(), left)
            except TimeoutError:
                return None
        return None

    async def close(self, drain_s: float = 0.0) -> None:
        """End all instances, once their requests are answered or the time is over."""
        self.is_closed = True
        for task in list(self._tasks):
            task.cancel()
        instances, self.instances = [*self.instances, *self._leaving], []
        self._is_up.set()
        await asyncio.gather(*(_ended(instance, drain_s) for instance in instances))
        await asyncio.to_thread(remove_folder, self._folder)

    def kill(self) -> None:
        self.is_closed = True
        for instance in (*self.instances, *self._leaving):
            instance.kill()

    # -- private ------------------------------------------------------------------------------------------------------

    def _fetch(self) -> None:
        model = self.record["_model"]
        role = self.ctx.as_role(model["ExecutionRoleArn"], SESSION)
        for files, container in zip(self._files, containers_of(model), strict=True):
            files.fetch(role, wants_code=serving_of(self.ctx.account, container).is_script)

    async def _add(self) -> None:
        instance = Instance(self.ctx, self.record, self.room, self._files, self._folder / "instances", self._around)
        self.instances.append(instance)
        try:
            await instance.start()
        except BaseException:
            if instance in self.instances:
                self.instances.remove(instance)
            raise
        if self.is_closed:
            await instance.end()
            return
        instance.on_end = self._lost
        instance.on_note = self.on_note
        self._tell()

    def _tell(self) -> None:
        self._is_up.set()

    def _lost(self, instance: Instance) -> None:
        if instance in self.instances:
            self.instances.remove(instance)
        if not self.is_closed:
            self._spawn(self._replace(instance))

    async def _replace(self, instance: Instance) -> None:
        await instance.end()
        attempt = 0
        while not self.is_closed and len(self.instances) < self.desired:
            await asyncio.sleep(_RETRY_S[min(attempt, len(_RETRY_S) - 1)])
            attempt += 1
            try:
                await self._add()
            except StartFailed as error:
                log.warning("an instance of variant %s could not be replaced yet: %s", self.name, error)

    async def _retire(self, instance: Instance) -> None:
        self._leaving.add(instance)
        await _ended(instance, DRAIN_S)
        self._leaving.discard(instance)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _ended(instance: Instance, drain_s: float) -> None:
    """End an instance that gets no new requests, once those it has are answered."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + drain_s
    while instance.load and loop.time() < deadline:
        await asyncio.sleep(0.02)
    await instance.end()


Make = Callable[[Context, Mapping[str, Any], Path, Surroundings], Variant]


class Deployment:
    """The variants of one plan, together."""

    def __init__(self, ctx: Context, plan: Mapping[str, Any], folder: Path, around: Surroundings, make: Make) -> None:
        """make: a variant of a plan's record."""
        self.plan = plan
        self.id = ctx.ids.lower(12)
        self.folder = folder / self.id
        self.variants = {record["VariantName"]: make(ctx, record, self.folder, around) for record in plan["variants"]}
        self.shadows = [make(ctx, record, self.folder, around) for record in plan.get("shadows") or ()]
        self.share = 1.0
        """Its part of the traffic."""
        self.credit = 0.0

    async def start(self) -> None:
        """Everything up; StartFailed and nothing left when something does not come."""
        try:
            results = await asyncio.gather(*(variant.start() for variant in self.all()), return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException):
                    raise result
        except BaseException:
            await self.close()
            raise

    def all(self) -> list[Variant]:
        return [*self.variants.values(), *self.shadows]

    async def close(self, drain_s: float = 0.0) -> None:
        await asyncio.gather(*(variant.close(drain_s) for variant in self.all()))
        await asyncio.to_thread(remove_folder, self.folder)

    def kill(self) -> None:
        for variant in self.all():
            variant.kill()
