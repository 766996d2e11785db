"""A serverless variant: a program for each request at a time, started when there is none, ended when it has long had nothing to do.

    request --> an idle program, or a new one (a cold start), or a refusal beyond MaxConcurrency

Source: developer guide, "Deploy models with Amazon SageMaker Serverless Inference". Provisioned concurrency is kept up always.
"""

from __future__ import annotations

import asyncio
from typing import Any

from pilvi.core.errors import ServiceError
from pilvi.services.sagemaker.serving_instance import Instance
from pilvi.services.sagemaker.serving_variant import Variant
from pilvi.serving.answer import StartFailed

IDLE_S = 300.0
"""How long a program may have nothing to do, on the product's clock."""
_SWEEP_S = 1.0


class ServerlessVariant(Variant):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        config = self.record["ServerlessConfig"]
        self.most = int(config["MaxConcurrency"])
        self.kept = int(config.get("ProvisionedConcurrency") or 0)
        self.memory_mib = int(config["MemorySizeInMB"])
        self.desired = 0
        self.starting = 0
        self.on_cold_start: Any = lambda _seconds: None
        self._idle_since: dict[str, float] = {}
        self._sweeper: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """The model is tried once: a program that answers, which then waits for a first request like any other."""
        await self.fetch()
        results = await asyncio.gather(*(self._add() for _ in range(max(1, self.kept))), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        self._watch()

    async def become(self, count: int) -> None:
        raise AssertionError(f"{count}: a serverless variant has no number of instances")

    def pick(self) -> Instance | None:
        found = next((instance for instance in self.instances if instance.is_up and not instance.load), None)
        if found is not None:
            self._idle_since.pop(found.id, None)
        return found

    async def wait(self, timeout_s: float) -> Instance | None:  # noqa: ARG002 - the container's own start limit counts
        if sum(instance.is_up for instance in self.instances) + self.starting >= self.most:
            raise ServiceError("ThrottlingException", "Rate exceeded", 429)
        self.starting += 1
        began = asyncio.get_running_loop().time()
        before = {instance.id for instance in self.instances}
        try:
            await self._add()
        except StartFailed as error:
            raise ServiceError("ModelError", str(error), 424, OriginalStatusCode=500, OriginalMessage=str(error)) from error
        finally:
            self.starting -= 1
        self.on_cold_start(asyncio.get_running_loop().time() - began)
        self._watch()
        fresh = [instance for instance in self.instances if instance.id not in before and instance.is_up and not instance.load]
        return fresh[0] if fresh else self.pick()

    async def close(self, drain_s: float = 0.0) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        await super().close(drain_s)

    def _lost(self, instance: Instance) -> None:
        """Nothing takes its place before a request wants it, but for what is provisioned."""
        if instance in self.instances:
            self.instances.remove(instance)
        if not self.is_closed:
            self._spawn(self._replace(instance) if len(self.instances) < self.kept else instance.end())

    def _watch(self) -> None:
        if self._sweeper is None and not self.is_closed:
            self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        now = self.ctx.clock.time_s()
        for instance in list(self.instances):
            if instance.load or not instance.is_up:
                self._idle_since.pop(instance.id, None)
            elif now - self._idle_since.setdefault(instance.id, now) >= IDLE_S and len(self.instances) > self.kept:
                self.instances.remove(instance)
                self._leaving.add(instance)
                self._idle_since.pop(instance.id)
                self._spawn(self._retire(instance))
        if self.instances:
            self._watch()
