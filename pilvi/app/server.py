"""A cloud behind a port: start, announce, serve, stop. One server to a data directory."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pilvi
from pilvi.app.cloud import Cloud
from pilvi.app.workers import Workers
from pilvi.core.config import Config
from pilvi.core.errors import Unavailable
from pilvi.gateway.app import Gateway
from pilvi.gateway.audit import Audit

if TYPE_CHECKING:
    from pilvi.core.clock import Clock

IO_THREADS = 32
"""Large bodies being hashed, sealed, written or read at the same time; threads are made when first needed."""

MOST_FILES = 65_536
STATE_FILE = "server.json"
"""In the data directory while a server runs: endpoint, pid, version. `pilvi env` and `pilvi status` read it."""


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; Unavailable with a clear line when the port is taken. Never shares a port with a left-over process."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise Unavailable(
            f"cannot listen on {host}:{port}: {error.strerror}. Another program may hold it; choose --port."
        ) from error
    sock.listen(1024)
    sock.setblocking(False)
    return sock


class Server:
    """Owns the socket, the cloud and the gateway."""

    def __init__(self, config: Config, clock: Clock | None = None) -> None:
        self._socket = listen(config.host, config.port)
        self.config = replace(config, port=self._socket.getsockname()[1])
        try:
            self.cloud = Cloud(self.config, clock)
        except BaseException:
            self._socket.close()
            raise
        self.endpoint = self.cloud.endpoint
        self.audit = Audit(config.data_dir / "audit", self.cloud.clock)
        self.gateway = Gateway(self.cloud, self.audit)
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def serve(self, on_ready: Callable[[Server], None] = lambda _server: None) -> None:
        """Serve until `stop`; everything it started has ended when this returns."""
        from pilvi.gateway.http1 import HttpServer
        from pilvi.gateway.secure import Secure

        self._stop = asyncio.Event()
        self._loop = self.cloud.dispatcher.loop = asyncio.get_running_loop()
        self._loop.set_default_executor(ThreadPoolExecutor(IO_THREADS, "io"))
        self.audit.start()
        self.cloud.prepare()
        http = HttpServer(self.gateway.answer, secure=Secure(lambda: self.cloud.authority), shortcut=self.gateway.shortcut)
        await http.start(self._socket)
        workers = Workers(self.config, self._socket) if self.config.workers > 1 else None
        if workers is not None:
            await workers.start(self.gateway.answer)
        self.gateway.is_ready = True
        state = self.config.data_dir / STATE_FILE
        facts = {"endpoint": self.endpoint, "region": self.config.region, "auth": self.config.auth}
        facts |= {name: getattr(self.config, name) for name in ("mirrors", "records", "root_key") if getattr(self.config, name)}
        write_state(state, facts | {"pid": os.getpid(), "version": pilvi.__version__})
        on_ready(self)
        resuming = self._loop.create_task(self.cloud.resume())
        self.cloud.delivery.start(self.cloud)
        try:
            await self._stop.wait()
        finally:
            resuming.cancel()
            await self.cloud.delivery.stop()
            self.gateway.is_ready = False
            with suppress(FileNotFoundError):
                state.unlink()
            http.refuse_more()
            if workers is not None:
                workers.refuse_more()
            await asyncio.to_thread(self.cloud.stop_services)  # ends functions, whose long polls would be waited for
            if workers is not None:
                await workers.stop()
            await http.stop()
            await asyncio.to_thread(self.cloud.close)
            self.audit.close()

    def stop(self) -> None:
        """End serving; may be called from any thread or a signal handler."""
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)


def run(config: Config, on_ready: Callable[[Server], None]) -> None:
    """Serve in this process until SIGTERM or Ctrl-C."""
    import uvloop

    server = Server(config)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, server.stop)
        settle_memory()
        allow_files()
        await server.serve(on_ready)

    uvloop.run(main())


def settle_memory() -> None:
    """What was loaded stays: keep the garbage collector from walking it, and let it look less often at what requests make."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def allow_files() -> None:
    """As many open files as this user may have, within reason: each connection is one, in and out."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def write_state(path: Path, state: dict[str, object]) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(state))
    fresh.replace(path)


def read_state(data_dir: Path) -> dict[str, object] | None:
    """What the running server said of itself; None when none runs on this directory."""
    try:
        state: dict[str, object] = json.loads((data_dir / STATE_FILE).read_text())
        os.kill(int(str(state["pid"])), 0)
    except (OSError, ValueError, KeyError):
        return None
    return state
