"""One model server: its program, its log, the lanes to it.

    start --(/ping answers 200)--> up --(the program ends)--> ended
       \\--(it ends before, or takes too long)--> StartFailed

It listens on a Unix socket in a folder that it shares with this server, or, where the program is somebody's own, on a port.
"""

from __future__ import annotations

import asyncio
import importlib.resources
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from pilvi.compute import Bind, Exit, Process, ProcessSpec
from pilvi.compute.environments import Environments, interpreter
from pilvi.core.errors import PilviError, Unavailable
from pilvi.core.service import Context
from pilvi.jobs.host import remove_folder
from pilvi.jobs.image import Unpacked, unpack
from pilvi.serving.answer import StartFailed
from pilvi.serving.lanes import Lanes, until_answering

if TYPE_CHECKING:
    from pilvi.jobs.logs import JobLog

SOCKETS: Final = "/run/pilvi"
"""Where a program finds the folder for its socket."""
PORT: Final = 8080
"""Source: developer guide, "Use Your Own Inference Code with Hosting Services": containers listen on port 8080."""
_SUPPORT: Final = "/opt/pilvi"
_PACKAGES: Final = "/tmp/packages"
_IMAGE_LANES: Final = 64
_STOP_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """A model server to run: pure data."""

    name: str
    """In messages: primary, container-1."""
    command: tuple[str, ...]
    env: Mapping[str, str]
    """On top of what every program gets."""
    runtime: str = ""
    """The environment it runs in; '' for the bare interpreter."""
    image: str = ""
    """Somebody's own image instead."""
    replaces_entry: bool = False
    support: tuple[tuple[str, str], ...] = ()
    """(package of pilvi.runtimes, name below /opt/pilvi): programs of ours, in the order of PYTHONPATH."""
    binds: tuple[Bind, ...] = ()
    most: int = 1
    """Requests at once."""
    cpus: int | None = None
    memory_mib: int | None = None
    gpus: tuple[str, ...] | None = None
    network: bool = True
    start_s: float = 240.0
    """Source: developer guide, ping requests: a container has 4 minutes to answer them."""
    secrets: Mapping[str, str] = field(default_factory=dict)
    """Environment that holds credentials: never told."""


class Server:
    """Made and used on the event loop."""

    def __init__(self, ctx: Context, role: Context, spec: ServerSpec, folder: Path, log: JobLog) -> None:
        """ctx: the service's own. role: the same under the model's role. folder: its own, removed with it."""
        self.spec = spec
        self.lanes: Lanes | None = None
        self.is_up = False
        self.on_end: Callable[[], None] = lambda: None
        """Called when the program has ended by itself, once it was up."""
        self.last: list[str] = []
        """The latest lines it said."""
        self._ctx = ctx
        self._role = role
        self._folder = folder
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._process: Process | None = None
        self._image: Unpacked | None = None
        self._relay: subprocess.Popen[bytes] | None = None
        self._has_port = False
        self._over: asyncio.Future[str] = self._loop.create_future()
        self._is_ending = False
        self._lock = threading.Lock()

    async def start(self) -> None:
        """StartFailed, with why, when it does not come up; nothing of it is left then."""
        try:
            port = await asyncio.to_thread(self._launch)
            place = ("127.0.0.1", port) if port else self._folder / "sockets"
            self.lanes = Lanes(self._loop, place, _IMAGE_LANES if self.spec.image else self.spec.most)
            await until_answering(self.lanes, self._over, self.spec.start_s)
            self.is_up = True
        except (PilviError, OSError) as error:
            await self.end()
            raise StartFailed(str(error)) from error
        except BaseException:
            await self.end()
            raise

    @property
    def exit(self) -> Exit | None:
        return None if self._process is None else self._process.poll()

    @property
    def pid(self) -> int:
        return 0 if self._process is None else self._process.pid

    def memory_mib(self) -> int:
        return 0 if self._process is None else self._process.peak_memory_mib()

    async def end(self, grace_s: float = 0.0) -> None:
        """End the program and whatever it left. Requests in flight are cut off: whoever ends it has seen to them."""
        self._is_ending = True
        self.is_up = False
        if self.lanes is not None:
            self.lanes.close()
        with self._lock:
            process = self._process
        if process is not None:
            if grace_s:
                process.stop(grace_s)
            else:
                process.kill()
        await asyncio.to_thread(self._clean, process)

    def kill(self) -> None:
        """The server stops; from any thread."""
        self._is_ending = True
        with self._lock:
            if self._process is not None:
                self._process.kill()

    # -- private ------------------------------------------------------------------------------------------------------

    def _launch(self) -> int:
        """Everything that blocks. Gives the port, or 0 where it listens on a socket."""
        for name in ("sockets", "tmp/packages"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        (self._folder / "sockets").chmod(0o777)
        spec, port = self._program()
        process = self._ctx.compute.launch(spec, self._add)
        with self._lock:
            self._process = process
        if self._is_ending:
            process.kill()
        elif self.spec.image and not port:
            self._relay = self._bridge(process.pid)
        threading.Thread(target=self._watch, args=(process,), name="pilvi-model", daemon=True).start()
        return port

    def _add(self, line: str) -> None:
        self.last = [*self.last[-9:], line]
        self._log.add(line)

    def _watch(self, process: Process) -> None:
        how = process.wait()
        assert how is not None
        try:
            self._loop.call_soon_threadsafe(self._ended, how)
        except RuntimeError:
            return  # the loop has gone before us

    def _ended(self, how: Exit) -> None:
        if not self._over.done():
            self._over.set_result(_words(how))
        was_up, self.is_up = self.is_up, False
        if self.lanes is not None:
            self.lanes.close()
        if was_up and not self._is_ending:
            self.on_end()

    def _clean(self, process: Process | None) -> None:
        if process is not None:
            process.wait(_STOP_S + 10)
        if self._image is not None:
            self._image.lease.end()
            self._image = None
        if self._relay is not None:
            self._relay.kill()
            self._relay.wait()
            self._relay = None
        if self._has_port:
            self._has_port = False
            _PORTS.give_back()
        remove_folder(self._folder)

    def _program(self) -> tuple[ProcessSpec, int]:
        spec = self.spec
        client = self._ctx.cloud.client_side(self._ctx.account, self._ctx.region)
        said = {**(client.env if spec.network else {"AWS_REGION": self._ctx.region}), **(spec.secrets if spec.network else {})}
        if spec.image:
            return self._own(said, client.binds if spec.network else ())
        environments = Environments(self._ctx.config.runtimes_dir)
        environment = environments.find_for(spec.runtime, len(spec.gpus or ())) if spec.runtime else interpreter()
        if environment is None:
            raise Unavailable(
                f"The runtime {spec.runtime} is not installed. Install it with: pilvi runtimes install {spec.runtime}"
            )
        paths = [f"{_SUPPORT}/{name}" for _, name in spec.support]
        env = {
            "PATH": f"{environment.bin}:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
            "HOME": "/tmp",
            "TMPDIR": "/tmp",
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "TRUE",
            "PYTHONPATH": ":".join([*paths[:1], _PACKAGES, *paths[1:]]),
            "PIP_TARGET": _PACKAGES,
            "PILVI_SERVING_SOCKETS": SOCKETS,
            "PILVI_SERVING_WORKERS": str(spec.most),
            "OMP_WAIT_POLICY": "PASSIVE",
            **({"PILVI_MEMORY_MIB": str(spec.memory_mib)} if spec.memory_mib else {}),
            **said,
            **spec.env,
        }
        ours = [Bind(Path(str(importlib.resources.files(package))), f"{_SUPPORT}/{name}") for package, name in spec.support]
        command = (str(environment.python), *spec.command[1:]) if spec.command[0] == "python3" else spec.command
        binds = (*environment.binds, *(client.binds if spec.network else ()), *ours, *self._binds())
        return self._limited(ProcessSpec(command, env, binds, hostname="model")), 0

    def _own(self, said: Mapping[str, str], binds: tuple[Bind, ...]) -> tuple[ProcessSpec, int]:
        """The program of somebody's own image, which listens on a port."""
        if self._ctx.compute.isolation == "none":
            raise Unavailable("This machine has no namespaces, so a container image cannot be run here.")
        self._image = image = unpack(self._role, self.spec.image)
        self._has_port = port = self.spec.network and _PORTS.take()
        env = {
            **image.config.environment(image.user.home),
            **said,
            "SAGEMAKER_BIND_TO_PORT": str(PORT),
            **self.spec.env,
        }
        spec = ProcessSpec(
            image.config.command(self.spec.command, replaces_entry=self.spec.replaces_entry),
            env,
            (*binds, *self._binds()),
            cwd=image.config.working_dir,
            hostname="model",
            root=image.root(self._folder / "changes"),
        )
        limited = self._limited(spec)
        return (limited, PORT) if port else (replace(limited, network=False), 0)

    def _bridge(self, pid: int) -> subprocess.Popen[bytes]:
        """The program has a network of its own: requests go in, and its own to this server come out, by way of a relay."""
        server = urlsplit(self._ctx.cloud.endpoint)
        place = str(self._folder / "sockets")
        words = (str(pid), place, str(PORT), server.hostname or "127.0.0.1", str((server.port or 80) if self.spec.network else 0))
        return subprocess.Popen((sys.executable, "-m", "pilvi.compute.bridge", *words), stdin=subprocess.DEVNULL)

    def _binds(self) -> tuple[Bind, ...]:
        return (
            Bind(self._folder / "tmp", "/tmp", writable=True),
            Bind(self._folder / "sockets", SOCKETS, writable=True),
            *self.spec.binds,
        )

    def _limited(self, spec: ProcessSpec) -> ProcessSpec:
        mine = self.spec
        return replace(spec, cpus=mine.cpus, memory_mib=mine.memory_mib, gpus=mine.gpus, network=mine.network)


def remove_left_over(folder: Path, used: Collection[str] = ()) -> None:
    """What a server that was killed left of its model servers. used: names of those that are not left over."""
    for place in list(folder.iterdir()) if folder.is_dir() else []:
        if place.name not in used:
            for inner in place.glob("*/*/instances/*"):
                remove_folder(inner)
            remove_folder(place)


class _Ports:
    """Who has port 8080 of this machine's network: one container at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_taken = False

    def take(self) -> bool:
        with self._lock:
            if self._is_taken:
                return False
            with socket.socket() as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    sock.bind(("", PORT))
                except OSError:
                    return False
            self._is_taken = True
            return True

    def give_back(self) -> None:
        with self._lock:
            self._is_taken = False


_PORTS = _Ports()


def _words(how: Exit) -> str:
    if how.reason == "memory":
        return "it used more memory than its instance has"
    if how.reason == "exit" and how.code < 0:
        return f"it was ended by signal {-how.code}"
    return f"it ended with exit status {how.code}"
