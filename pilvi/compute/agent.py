"""The server's hand on another machine: starts programs there, tells their lines and ends, and takes and gives back their files.

    server -- engine's connection -- Agent -- ProcessCompute -- programs

An adapter for a cluster makes one on each node (ray.py) and calls its methods; what happens is fetched in order with `events`, which
waits for news. An agent that nobody asks any more ends all its programs: its server is gone.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tarfile
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from pilvi.compute import Bind, Node, Process, ProcessSpec
from pilvi.compute.machine import this_machine
from pilvi.compute.process import Isolation, ProcessCompute
from pilvi.core.errors import PilviError, Unavailable

LEASE_S = 60.0
"""An agent that hears nothing for so long gives its server up."""
CHUNK_BYTES = 8 << 20
_HELD_BYTES = 64 << 20
"""Lines that nobody fetched; those beyond are counted only."""
_BATCH = 5000

Event = tuple[int, str, str, Any]
"""(number, program, "line" | "exit", the line | (code, reason, peak MiB))"""


@dataclass(frozen=True, slots=True)
class Facts:
    """What an agent says of its node."""

    node: Node
    isolation: str
    machine: str
    """The same for agents on one machine."""
    host: str


class Agent:
    def __init__(
        self, isolation: Isolation = "auto", hidden: Sequence[str] = (), scratch: str = "", lease_s: float = LEASE_S
    ) -> None:
        """scratch: where files of programs go that come from another machine (default: a new folder in the temporary folder)."""
        self._scratch = Path(tempfile.mkdtemp(prefix="pilvi-", dir=scratch or None))
        self._compute = ProcessCompute(isolation, hidden=[Path(path) for path in hidden], folder=self._scratch)
        self._programs: dict[str, Process] = {}
        self._events: deque[Event] = deque()
        self._number = 0
        self._held_bytes = 0
        self._dropped: dict[str, int] = {}
        self._news = threading.Condition()
        self._incoming: dict[str, _Unpacking] = {}
        self._outgoing: dict[str, Iterator[bytes]] = {}
        self._lease_s = lease_s
        self._heard = time.monotonic()
        self._closed = threading.Event()
        threading.Thread(target=self._watch_lease, name="pilvi-agent-lease", daemon=True).start()

    # -- the node -----------------------------------------------------------------------------------------------------

    def facts(self) -> Facts:
        boot = Path("/proc/sys/kernel/random/boot_id")
        return Facts(
            this_machine(),
            self._compute.isolation,
            boot.read_text().strip() if boot.exists() else os.uname().nodename,
            os.uname().nodename,
        )

    def sees(self, path: str, text: str) -> bool:
        """Whether a file of the server is here with the same content: the folder is shared."""
        try:
            return Path(path).read_text() == text
        except OSError:
            return False

    # -- programs -----------------------------------------------------------------------------------------------------

    def launch(self, id: str, spec: ProcessSpec) -> tuple[int, str]:
        """Start a program: (its pid, ''), or (0, why not). Binds that came by `receive` are taken from where they lie here."""
        try:
            process = self._compute.launch(self._here(id, spec), lambda line: self._say(id, line))
        except (PilviError, OSError) as error:
            return 0, str(error)
        self._programs[id] = process
        threading.Thread(target=self._await, args=(id, process), name="pilvi-agent-wait", daemon=True).start()
        return process.pid, ""

    def stop(self, id: str, grace_s: float) -> None:
        if (process := self._programs.get(id)) is not None:
            process.stop(grace_s)

    def kill(self, id: str) -> None:
        if (process := self._programs.get(id)) is not None:
            process.kill()

    def peak_memory_mib(self, id: str) -> int:
        process = self._programs.get(id)
        return 0 if process is None else process.peak_memory_mib()

    def events(self, after: int, timeout_s: float) -> list[Event]:
        """What happened after event number `after` (which is forgotten up to there); waits for something to happen."""
        self._heard = time.monotonic()
        with self._news:
            while self._events and self._events[0][0] <= after:
                _, _, kind, what = self._events.popleft()
                self._held_bytes -= len(what) if kind == "line" else 0
            if not self._events and not self._closed.is_set():
                self._news.wait(timeout_s)
            self._heard = time.monotonic()
            return [event for _, event in zip(range(_BATCH), self._events, strict=False)]

    def close(self) -> None:
        """End every program, and take away all that came here."""
        self._compute.close()
        with self._news:
            self._closed.set()
            self._news.notify_all()
        shutil.rmtree(self._scratch, ignore_errors=True)

    # -- files from and to a server that shares none ------------------------------------------------------------------

    def lacks(self, paths: Sequence[str]) -> list[str]:
        """Those of the server's paths that are not here, neither of themselves nor because they came before."""
        return [path for path in paths if not Path(path).exists() and not self._place("", path).exists()]

    def receive(self, id: str, path: str, data: bytes) -> None:
        """A piece of a packed folder or file, for one program or ('') for all; b'' is the end."""
        key = f"{id}\0{path}"
        if (unpacking := self._incoming.get(key)) is None:
            unpacking = self._incoming[key] = _Unpacking(self._place(id, path))
        if data:
            unpacking.write(data)
        else:
            self._incoming.pop(key).finish()

    def abandon(self, id: str, path: str) -> None:
        """No more pieces will come."""
        if (unpacking := self._incoming.pop(f"{id}\0{path}", None)) is not None:
            unpacking.abandon()

    def give(self, id: str, path: str) -> bytes:
        """The next piece of what a program has in a folder; b'' is the end."""
        key = f"{id}\0{path}"
        if (pieces := self._outgoing.get(key)) is None:
            pieces = self._outgoing[key] = packed(self._place(id, path))
        data = next(pieces, b"")
        if not data:
            del self._outgoing[key]
        return data

    def forget(self, id: str) -> None:
        """A program's files go."""
        self._programs.pop(id, None)
        shutil.rmtree(self._scratch / "programs" / id, ignore_errors=True)

    # -- private ------------------------------------------------------------------------------------------------------

    def _place(self, id: str, path: str) -> Path:
        return self._scratch / (f"programs/{id}" if id else "shared") / path.strip("/")

    def _here(self, id: str, spec: ProcessSpec) -> ProcessSpec:
        return replace(spec, binds=tuple(self._bind(id, bind) for bind in spec.binds))

    def _bind(self, id: str, bind: Bind) -> Bind:
        for place in (self._place(id, str(bind.source)), self._place("", str(bind.source))):
            if place.exists():
                return replace(bind, source=place)
        return bind

    def _say(self, id: str, line: str) -> None:
        with self._news:
            if self._held_bytes > _HELD_BYTES:
                self._dropped[id] = self._dropped.get(id, 0) + 1
                return
            self._held_bytes += len(line)
            self._add(id, "line", line)

    def _await(self, id: str, process: Process) -> None:
        ended = process.wait()
        assert ended is not None
        with self._news:
            if dropped := self._dropped.pop(id, 0):
                self._add(id, "line", f"[{dropped} lines came too fast to be kept]")
            self._add(id, "exit", (ended.code, ended.reason, process.peak_memory_mib()))

    def _add(self, id: str, kind: str, what: Any) -> None:
        self._number += 1
        self._events.append((self._number, id, kind, what))
        self._news.notify_all()

    def _watch_lease(self) -> None:
        while not self._closed.wait(min(1.0, self._lease_s / 4)):
            if time.monotonic() - self._heard > self._lease_s:
                self.close()


# -- packing --------------------------------------------------------------------------------------------------------------


def packed(path: Path) -> Iterator[bytes]:
    """A folder or a file as a tar stream in pieces. Unavailable for what only a shared file system can give (named pipes)."""
    reader, writer = os.pipe()
    trouble: list[str] = []

    def pack() -> None:
        try:
            with os.fdopen(writer, "wb") as out, tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
                tar.add(path, arcname=".", filter=lambda member: _packable(member, trouble))
        except OSError as error:
            trouble.append(str(error))

    thread = threading.Thread(target=pack, name="pilvi-pack", daemon=True)
    thread.start()
    with os.fdopen(reader, "rb") as stream:
        while data := stream.read(CHUNK_BYTES):
            yield data
    thread.join()
    if trouble:
        raise Unavailable(trouble[0])


def _packable(member: tarfile.TarInfo, trouble: list[str]) -> tarfile.TarInfo | None:
    if member.isfifo():
        trouble.append("Named pipes (input mode Pipe) need a file system that the nodes share with the server.")
        return None
    return None if member.ischr() or member.isblk() else member


def unpacked(pieces: Iterator[bytes], place: Path) -> None:
    """The other side of `packed`: the place is then as the other side has it, or as it was."""
    unpacking = _Unpacking(place)
    try:
        for data in pieces:
            unpacking.write(data)
    except BaseException:
        unpacking.abandon()
        raise
    unpacking.finish()


class _Unpacking:
    """A tar stream being written beside a place, by a thread of its own; the place has it when it is whole."""

    def __init__(self, place: Path) -> None:
        self._target = place
        self._place = place.with_name(f"{place.name}.pilvi-new")
        place.parent.mkdir(parents=True, exist_ok=True)
        reader, writer = os.pipe()
        self._writer: IO[bytes] = os.fdopen(writer, "wb")
        self._trouble: list[str] = []
        self._thread = threading.Thread(target=self._unpack, args=(reader,), name="pilvi-unpack", daemon=True)
        self._thread.start()

    def write(self, data: bytes) -> None:
        try:
            self._writer.write(data)
        except BrokenPipeError:
            self.finish()

    def finish(self) -> None:
        self._end()
        if self._trouble:
            self._remove()
            raise Unavailable(f"Files could not be brought over: {self._trouble[0]}")
        if self._target.is_dir():
            shutil.rmtree(self._target)
        self._place.replace(self._target)

    def abandon(self) -> None:
        self._end()
        self._remove()

    def _end(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._writer.close()
        self._thread.join()

    def _remove(self) -> None:
        if self._place.is_dir():
            shutil.rmtree(self._place, ignore_errors=True)
        else:
            self._place.unlink(missing_ok=True)

    def _unpack(self, reader: int) -> None:
        try:
            with os.fdopen(reader, "rb") as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
                for member in tar:
                    if member.name == "." and member.isfile():
                        self._write_file(tar, member)
                    else:
                        tar.extract(member, self._place, set_attrs=True, filter=_safe)
        except (OSError, tarfile.TarError) as error:
            self._trouble.append(str(error))

    def _write_file(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        source = tar.extractfile(member)
        assert source is not None
        with self._place.open("wb") as file:
            shutil.copyfileobj(source, file)
        self._place.chmod(stat.S_IMODE(member.mode))


def _safe(member: tarfile.TarInfo, _path: str) -> tarfile.TarInfo:
    """What a program left may not write elsewhere: no owner, no way up. Links stay as they are; nothing is written through them."""
    parts = member.name.split("/")
    if member.name.startswith("/") or ".." in parts:
        raise tarfile.FilterError(f"{member.name} leads out of its folder")
    return member.replace(uid=os.getuid(), gid=os.getgid(), uname="", gname="", deep=False)
