"""The workers of a cloud: reused while warm, started when none is free, ended when idle, out of date or in the way."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from pilvi.core.errors import LimitExceeded
from pilvi.core.principal import Principal
from pilvi.core.service import Context
from pilvi.services.lambda_.catalog import Target
from pilvi.services.lambda_.journal import LogWriter
from pilvi.services.lambda_.unpacked import Unpacked
from pilvi.services.lambda_.worker import Worker

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

WORKERS = 128
"""Processes at the same time; who comes later waits for one to be free."""
IDLE_WORKERS = 32
"""Warm ones kept beyond use; the longest idle go first."""
IDLE_S = 300.0
STARTING = 2 * (os.cpu_count() or 1)
"""Workers of one target that start at the same time. More would only start more slowly, and those who come meanwhile may well be served by
the first that is done."""
_SWEEP_S = 20.0


class Pool:
    """Lives on the event loop; `close` may be called from any thread."""

    def __init__(self, cloud: Cloud, loop: asyncio.AbstractEventLoop, logs: LogWriter) -> None:
        self.cloud = cloud
        self.loop = loop
        self.logs = logs
        self.workers: dict[str, Worker] = {}
        """By the token of their runtime API."""
        self._root = cloud.config.data_dir / "lambda"
        self.unpacked = Unpacked(self._root / "unpacked", cloud.blobs, cloud.clock)
        shutil.rmtree(self._root / "tmp", ignore_errors=True)
        self._idle: dict[str, list[Worker]] = {}
        self._idle_count = 0
        self.kept: dict[str, int] = {}
        """Idle workers that stay, by target: provisioned concurrency."""
        self._waiting: deque[tuple[str, asyncio.Future[Worker | None]]] = deque()
        self._starting: dict[str, int] = {}
        """How many start, by target."""
        self._lined_up: dict[str, deque[asyncio.Future[Worker | None]]] = {}
        """Who waits for one of a target to have started."""
        self._sweeper: asyncio.TimerHandle | None = None

    async def obtain(self, target: Target) -> Worker:
        """A worker that runs this target and does nothing else: a warm one, or a new one that is just starting."""
        while True:
            if (worker := self._take_idle(target.key)) is not None:
                return worker
            if self._starting.get(target.key, 0) >= STARTING:
                free: asyncio.Future[Worker | None] = self.loop.create_future()
                self._lined_up.setdefault(target.key, deque()).append(free)
                if (given := await free) is not None:
                    return given
                continue
            if len(self.workers) < WORKERS or self._end_oldest():
                break
            turn: asyncio.Future[Worker | None] = self.loop.create_future()
            self._waiting.append((target.key, turn))
            if (given := await turn) is not None:
                return given
        worker = Worker(self, target, self.cloud.ids.hex(48))
        self.workers[worker.token] = worker
        self._starting[target.key] = self._starting.get(target.key, 0) + 1
        try:
            await worker.launch()
        except BaseException:
            self.forget(worker)
            raise
        return worker

    async def start_warm(self, target: Target) -> None:
        """Start a worker for whoever comes. Errors: as Worker.launch; LimitExceeded - all are busy."""
        if len(self.workers) >= WORKERS and not self._end_oldest():
            raise LimitExceeded("every worker of this server is busy")
        worker = Worker(self, target, self.cloud.ids.hex(48), is_provisioned=True)
        self.workers[worker.token] = worker
        try:
            await worker.launch()
        except BaseException:
            self.forget(worker)
            raise

    def living(self, key: str) -> int:
        """Workers of a target that take work, or soon will."""
        now = self.cloud.clock.now()
        return sum(worker.target.key == key and worker.is_fresh(now) for worker in self.workers.values())

    def ready(self, key: str) -> int:
        """Those that have started."""
        return sum(worker.target.key == key and worker.is_ready and not worker.has_ended for worker in self.workers.values())

    def started(self, worker: Worker) -> None:
        """It asks for work, or has ended before it did: another may start."""
        key = worker.target.key
        if worker.is_counted or worker.is_provisioned:
            return
        worker.is_counted = True
        left = self._starting.get(key, 0) - 1
        if left > 0:
            self._starting[key] = left
        else:
            self._starting.pop(key, None)
        self._call_next(key, None)

    def _call_next(self, key: str, worker: Worker | None) -> bool:
        """The next of those who line up gets a worker, or may start one; False when nobody does."""
        line = self._lined_up.get(key)
        while line:
            turn = line.popleft()
            if not line:
                del self._lined_up[key]
            if not turn.done():
                turn.set_result(worker)
                return True
        return False

    def release(self, worker: Worker) -> None:
        """It has answered, or started without work: it waits for the next, takes one that waits, or goes."""
        if not worker.is_fresh(self.cloud.clock.now()):
            worker.end()
            return
        if self._call_next(worker.target.key, worker):
            return
        for position, (key, turn) in enumerate(self._waiting):
            if key == worker.target.key and not turn.done():
                del self._waiting[position]
                turn.set_result(worker)
                return
        if self._waiting:
            worker.end()
            return
        worker.idle_since_s = self.loop.time()
        self._idle.setdefault(worker.target.key, []).append(worker)
        self._idle_count += 1
        if self._idle_count > IDLE_WORKERS:
            self._end_oldest()
        if self._sweeper is None:
            self._sweeper = self.loop.call_later(_SWEEP_S, self._sweep)

    def forget(self, worker: Worker) -> None:
        """It has ended, or is about to: there is room for another."""
        if self.workers.pop(worker.token, None) is None:
            return
        self.started(worker)
        self._drop_idle(worker)
        while self._waiting:
            _, turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                break

    def retire(self, arn: str, version: str | None) -> None:
        """Workers of a function (or one version of it) take no more work; busy ones finish first."""
        for worker in list(self.workers.values()):
            if worker.target.arn == arn and version in (None, worker.target.version):
                worker.is_retired = True
                if worker.current is None and worker.is_ready:
                    worker.end()

    def context(self, target: Target) -> Context:
        """Nobody's context at the function's place; the start of acting as a service or a role."""
        nobody = Principal("anonymous", target.account, "", "anonymous")
        return Context(self.cloud, principal=nobody, account=target.account, region=target.region, service="lambda")

    def scratch(self, token: str) -> Path:
        """A folder for /tmp, where the machine gives programs none of their own."""
        path = self._root / "tmp" / token
        path.mkdir(parents=True, exist_ok=True)
        return path

    def drop_scratch(self, token: str) -> None:
        shutil.rmtree(self._root / "tmp" / token, ignore_errors=True)

    def close(self) -> None:
        """End every worker."""
        workers = list(self.workers.values())
        self.workers.clear()
        self._idle.clear()
        for worker in workers:
            worker.kill()
        self.unpacked.close()

    # -- private ----------------------------------------------------------------------------------------------------

    def _take_idle(self, key: str) -> Worker | None:
        stack = self._idle.get(key)
        while stack:
            worker = stack.pop()
            self._idle_count -= 1
            if not stack:
                del self._idle[key]
            if worker.is_fresh(self.cloud.clock.now()):
                return worker
            worker.end()
        return None

    def _drop_idle(self, worker: Worker) -> None:
        stack = self._idle.get(worker.target.key, [])
        if worker in stack:
            stack.remove(worker)
            self._idle_count -= 1
            if not stack:
                del self._idle[worker.target.key]

    def _end_oldest(self) -> bool:
        """End the worker that has been idle longest; False when all are busy."""
        idle = [worker for key, stack in self._idle.items() for worker in stack[self.kept.get(key, 0) :]]
        if not idle:
            return False
        min(idle, key=lambda worker: worker.idle_since_s).end()
        return True

    def _sweep(self) -> None:
        limit = self.loop.time() - IDLE_S
        for stack in list(self._idle.values()):
            kept = self.kept.get(stack[0].target.key, 0) if stack else 0
            for worker in list(stack[kept:]):
                if worker.idle_since_s < limit:
                    worker.end()
        self.loop.run_in_executor(None, self.unpacked.sweep)
        busy_or_warm = self.workers or not self.unpacked.is_empty()
        self._sweeper = self.loop.call_later(_SWEEP_S, self._sweep) if busy_or_warm else None
