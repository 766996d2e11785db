"""More processes on the same port: `pilvi up --workers N`.

The first process does everything. The others take connections from the same listening socket, answer what only reads (objects,
listings, who am I) from the same store, and pass the rest on to the first process (pilvi.gateway.forward). They end with it: each
holds the end of a pipe that closes when the first process goes, however it goes.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from pilvi.app.cloud import Cloud
from pilvi.core.config import Config
from pilvi.gateway.app import Gateway
from pilvi.gateway.audit import Audit
from pilvi.gateway.forward import Forwarder
from pilvi.gateway.http1 import Answer, HttpServer
from pilvi.gateway.secure import Secure


class Workers:
    """The first process's side: an inner socket for what is passed on, and the other processes."""

    def __init__(self, config: Config, listening: socket.socket) -> None:
        self._config = config
        self._listening = listening
        self._folder = Path(tempfile.mkdtemp(prefix="pilvi-"))
        self._processes: list[subprocess.Popen[bytes]] = []

    async def start(self, answer: Answer) -> None:
        inner = socket.socket(socket.AF_UNIX)
        inner.bind(str(self._folder / "inner"))
        inner.listen(1024)
        inner.setblocking(False)
        self._server = HttpServer(answer, is_inner=True)
        await self._server.start(inner)
        settings = json.dumps({name: str(value) for name, value in asdict(self._config).items()})
        for number in range(1, self._config.workers):
            command = [
                sys.executable,
                "-m",
                "pilvi.app.workers",
                str(number),
                str(self._listening.fileno()),
                str(self._folder / "inner"),
            ]
            process = subprocess.Popen([*command, settings], stdin=subprocess.PIPE, pass_fds=(self._listening.fileno(),))
            self._processes.append(process)

    def refuse_more(self) -> None:
        """They take no more connections, and end when what they have is answered."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()

    async def stop(self) -> None:
        """After refuse_more."""
        for process in self._processes:
            await asyncio.to_thread(process.wait)
        await self._server.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


async def work(number: int, listening: socket.socket, inner: str, config: Config) -> None:
    """A worker's whole life."""
    cloud = Cloud(config, is_first=False)
    cloud.dispatcher.loop = asyncio.get_running_loop()
    audit = Audit(config.data_dir / "audit" / f"worker-{number}", cloud.clock)
    forwarder = Forwarder(inner)
    gateway = Gateway(cloud, audit, forwarder)
    audit.start()
    http = HttpServer(gateway.answer, secure=Secure(lambda: cloud.authority))
    await http.start(listening)
    first_is_gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), first_is_gone.set)
    await first_is_gone.wait()
    asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
    await http.stop()
    forwarder.close()
    await asyncio.to_thread(cloud.close)
    audit.close()


def main() -> None:
    import signal

    import uvloop

    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)  # the terminal sends Ctrl-C to all; the first process decides when to end
    number, descriptor, inner, settings = sys.argv[1:]
    os.set_inheritable(int(descriptor), False)
    listening = socket.socket(fileno=int(descriptor))
    listening.setblocking(False)
    uvloop.run(work(int(number), listening, inner, Config.from_text(json.loads(settings))))


if __name__ == "__main__":
    main()
