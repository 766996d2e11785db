"""The compute adapter for this machine: every program is a process group, in namespaces of its own where the machine has them.

    ProcessCompute -- one thread -- starts programs, reads their output, watches memory and deadlines, sees them end
         |
         +-- bwrap     bubblewrap builds the view (bwrap.py)
         +-- unshare   our own guard builds it with the kernel's calls (guard.py, unshare.py)
         +-- none      no namespaces: the guard ends what is left over, and paths are relocated (relocate.py)

One thread does it all for a reason: the kernel ends a child when the *thread* that started it goes (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from pilvi.compute import Exit, Node, ProcessSpec, Root, bwrap, relocate, unshare
from pilvi.compute.cores import Cores
from pilvi.compute.machine import this_machine
from pilvi.compute.memory import children, family, peak_bytes, resident_bytes
from pilvi.compute.sandbox import View, view_for
from pilvi.core.errors import Unavailable

log = logging.getLogger("pilvi.compute")

LINE_BYTES = 256 << 10
"""Longer lines are cut into pieces. Source: CloudWatch Logs' long-standing size limit of an event."""
_READ_BYTES = 256 << 10
_TICK_S = 0.05
_IDLE_TICK_S = 0.4
_DRAIN_S = 2.0
_MISSING = b"bwrap: execvp "
"""So begins bubblewrap's line about a program that it could not start."""

Isolation = Literal["auto", "bwrap", "unshare", "none"]


class ProcessCompute:
    """Runs programs on this machine. Nothing is started before the first launch."""

    def __init__(self, isolation: Isolation = "auto", hidden: Sequence[Path] = (), folder: Path | None = None) -> None:
        """hidden: folders that no program may see even when they lie inside something it is shown (the data directory).
        folder: where small files for programs are kept; without one, a program with fewer cores sees only by affinity that it has.
        """
        self._wanted = isolation
        self._hidden = tuple(path.resolve() for path in hidden)
        self._chosen: str | None = None
        self._flags: dict[str, bool] = {}
        self._choosing = threading.Lock()
        self._lock = threading.Lock()
        self._loop: _Loop | None = None
        self._is_closed = False
        self._overlays: dict[int, bool] = {}
        """By file system, whether the kernel lays a program's own files over shared ones there."""
        self._cores = Cores(folder and folder / "cores")

    def nodes(self) -> Sequence[Node]:
        return (self._machine,)

    @cached_property
    def _machine(self) -> Node:
        return this_machine()

    @property
    def isolation(self) -> str:
        with self._choosing:
            if self._chosen is None:
                self._chosen = self._choose()
            return self._chosen

    def launch(self, spec: ProcessSpec, on_line: Callable[[str], None]) -> Running:
        isolation = self.isolation
        with self._lock:
            if self._is_closed:
                raise Unavailable("The server is stopping.")
            self._loop = loop = self._loop or _Loop()
        if wrong := [name for name, value in spec.env.items() if not name or "=" in name or "\0" in name + value]:
            raise Unavailable(f"The environment variable {wrong[0]!r} has a character that none can have, or no name.")
        if spec.root is not None:
            isolation, spec = self._rooted(isolation, spec, spec.root)
        return loop.call(lambda: self._start(loop, isolation, spec, on_line))

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.close()

    def _rooted(self, isolation: str, spec: ProcessSpec, root: Root) -> tuple[str, ProcessSpec]:
        """How a program gets a tree of its own: laid over the shared one if the kernel does that here, else a copy of it."""
        if isolation == "none":
            raise Unavailable("This machine has no namespaces, so a container image cannot be run here.")
        root.changes.mkdir(parents=True, exist_ok=True)
        device = root.changes.stat().st_dev
        with self._choosing:
            if device not in self._overlays:
                self._overlays[device] = self._can_overlay(root.changes)
        if self._overlays[device]:
            return "unshare", spec
        copy = root.changes / "copy"
        subprocess.run(("cp", "-a", "--reflink=auto", f"{root.folder}/.", str(copy)), check=True, capture_output=True)
        for name in ("proc", "dev"):
            if (copy / name).is_symlink():
                (copy / name).unlink()
            (copy / name).mkdir(exist_ok=True)
        return isolation, replace(spec, root=replace(root, folder=copy))

    def _can_overlay(self, changes: Path) -> bool:
        """Tried with an empty tree: a program that is not found was looked for in the right place."""
        with tempfile.TemporaryDirectory(dir=changes, ignore_cleanup_errors=True) as folder:
            root = Root(Path(folder, "empty"), Path(folder, "changes"))
            root.folder.mkdir()
            prepared = self._prepared("unshare", ProcessSpec(("/-",), {}, root=root))
            with _spawn(prepared, subprocess.PIPE) as child:
                try:
                    said = child.stdout.read().decode(errors="replace").strip() if child.stdout else ""
                    code = child.wait(20)
                except subprocess.TimeoutExpired:
                    child.kill()
                    code, said = -9, "it does not come to an end"
        if code != 127:
            log.info("images are copied for each program, because their files cannot be laid over one another here: %s", said)
        return code == 127

    def _start(self, loop: _Loop, isolation: str, spec: ProcessSpec, on_line: Callable[[str], None]) -> Running:
        """On the loop's thread."""
        with self._cores.taken(spec.cpus) as cores:
            if isolation != "none":
                spec = replace(spec, binds=(*spec.binds, *self._cores.binds(cores)))
            running = loop.start(self._prepared(isolation, spec), isolation, spec.memory_mib, on_line)
            running.at_end = lambda: self._cores.give_back(cores)
            return running

    # -- which isolation ----------------------------------------------------------------------------------------------

    def _choose(self) -> str:
        """The strongest that works here, by trying; said once."""
        reasons: list[str] = []
        for name in ("bwrap", "unshare") if self._wanted == "auto" else (self._wanted,):
            trouble = None if name == "none" else self._trouble(name)
            if trouble is None:
                log.info("programs of users run apart by %s%s", name, f" ({'; '.join(reasons)})" if reasons else "")
                return name
            reasons.append(f"{name} does not work here: {trouble}")
        if self._wanted == "auto":
            log.warning("programs of users run without namespaces of their own: %s", "; ".join(reasons))
            return "none"
        raise Unavailable("; ".join(reasons))

    def _trouble(self, name: str) -> str | None:
        """Why an isolation does not work here, or None when it does."""
        if name == "bwrap":
            if shutil.which("bwrap") is None:
                return "it is not installed (Debian package bubblewrap)"
            self._flags["disable_userns"] = self._try(name) is None
            return None if self._flags["disable_userns"] else self._try(name)
        return self._try(name)

    def _try(self, name: str) -> str | None:
        self._flags.setdefault("disable_userns", True)
        prepared = self._prepared(name, ProcessSpec(("/bin/sh", "-c", "exit 7"), {"PATH": "/usr/bin:/bin"}))
        try:
            child = _spawn(prepared, subprocess.PIPE)
        except OSError as error:
            return str(error)
        finally:
            _close_all(prepared.files)
        with child:
            try:
                code = child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                return "it does not come to an end"
            said = child.stdout.read().decode(errors="replace").strip() if child.stdout else ""
        return None if code == 7 else said or f"exit status {code}"

    def _prepared(self, isolation: str, spec: ProcessSpec) -> _Prepared:
        """What to execute so that the program runs in this isolation."""
        if isolation == "bwrap":
            program = shutil.which("bwrap") or "/usr/bin/bwrap"
            view = self._view(spec)
            command, files = bwrap.command(program, spec, view, disable_userns=self._flags["disable_userns"])
            return _Prepared(command, files, None)
        if isolation == "unshare":
            return _Prepared(unshare.COMMAND, [], unshare.plan(spec, self._view(spec)))
        if not spec.network:
            raise Unavailable("This machine has no namespaces, so no program can be kept from the network here.")
        spec = relocate.relocated(spec)
        return _Prepared(unshare.COMMAND, [], unshare.open_plan(spec))

    def _view(self, spec: ProcessSpec) -> View:
        """What it sees; of the accelerators only its own."""
        view = view_for(spec, self._hidden)
        if spec.gpus is None:
            return view
        foreign = {gpu.device for gpu in self._machine.gpus if gpu.id not in spec.gpus}
        return replace(view, devices=tuple(device for device in view.devices if spec.gpus and device not in foreign))


class _Prepared:
    __slots__ = ("command", "files", "plan")

    def __init__(self, command: Sequence[str], files: list[int], plan: bytes | None) -> None:
        self.command = command
        self.files = files
        self.plan = plan


class Running:
    """A program on this machine. Made by the loop."""

    def __init__(self, loop: _Loop, child: subprocess.Popen[bytes], isolation: str, memory_mib: int | None) -> None:
        self.pid = child.pid
        self.child = child
        self.isolation = isolation
        self.is_missing = False
        """bubblewrap said that it could not start the program; its own status does not tell."""
        self.depth = 1 if isolation == "none" else 2
        """How many generations below `pid` the user's program is."""
        self.memory_bytes = None if memory_mib is None else memory_mib << 20
        self.reason = "exit"
        self.kill_at: float | None = None
        self.has_to_signal = False
        self.next_look = 0.0
        self.tick_s = _TICK_S
        self.last_bytes = 0
        self.at_end: Callable[[], None] = lambda: None
        """Lets go of what it held of the machine."""
        self._loop = loop
        self._peak_bytes = 0
        self._exit: Exit | None = None
        self._ended = threading.Event()
        self.lock = threading.Lock()
        """Held while signalling and while reaping, so that no signal reaches a stranger with a reused number."""
        self.is_reaped = False

    def poll(self) -> Exit | None:
        return self._exit

    def wait(self, timeout_s: float | None = None) -> Exit | None:
        self._ended.wait(timeout_s)
        return self._exit

    def stop(self, grace_s: float) -> None:
        with self.lock:
            if self.is_reaped or self.kill_at is not None:
                return
            self.reason = "stopped"
            self.kill_at = time.monotonic() + grace_s
            self.has_to_signal = not self._terminate()
        self._loop.wake()

    def kill(self) -> None:
        self.end("stopped")

    def peak_memory_mib(self) -> int:
        with self.lock:
            if not self.is_reaped:
                pids = self._pids()
                self._peak_bytes = max(self._peak_bytes, resident_bytes(pids), *map(peak_bytes, pids))
        return -(-self._peak_bytes // (1 << 20))

    # -- for the loop -------------------------------------------------------------------------------------------------

    def end(self, reason: str) -> None:
        """End everything now. The outermost process takes all others with it: by namespace, or as their guard."""
        with self.lock:
            if self.is_reaped:
                return
            if self.reason == "exit":
                self.reason = reason
            if self.child.stdin is not None:
                self.child.stdin.close()
            else:
                os.kill(self.pid, signal.SIGKILL)

    def look(self, now: float) -> None:
        """Deadlines and memory, every now and then."""
        with self.lock:
            if self.is_reaped:
                return
            if self.has_to_signal:
                self.has_to_signal = not self._terminate()
            used = resident_bytes(self._pids()) if self.memory_bytes is not None else 0
        self._peak_bytes = max(self._peak_bytes, used)
        if self.memory_bytes is not None and used > self.memory_bytes:
            self.end("memory")
        elif self.kill_at is not None and now >= self.kill_at:
            self.end("stopped")
        # Whoever sits still (a warm function) is looked at less often.
        self.tick_s = _TICK_S if abs(used - self.last_bytes) > 1 << 20 else min(self.tick_s * 2, _IDLE_TICK_S)
        self.last_bytes = used
        self.next_look = now + self.tick_s
        if self.kill_at is not None:
            self.next_look = min(self.next_look, max(self.kill_at, now)) if not self.has_to_signal else now + _TICK_S

    def reap(self) -> None:
        with self.lock:
            _, status = os.waitpid(self.pid, 0)
            self.is_reaped = True
        if self.child.stdin is not None:
            self.child.stdin.close()
        self.child.returncode = code = os.waitstatus_to_exitcode(status)
        # bubblewrap tells a signal as a shell does.
        self.code = 128 - code if self.child.stdin is None and 128 < code <= 128 + 64 else code

    def lose(self) -> None:
        """End it, and wait for that, when the loop cannot follow it any more."""
        self.end("lost")
        if not self.is_reaped:
            self.reap()
        self.code, self.reason = -9, "lost"
        self.finish()

    def finish(self) -> None:
        self.at_end()
        self._exit = Exit(127 if self.is_missing and self.code == 1 else self.code, self.reason)
        self._ended.set()

    def _pids(self) -> list[int]:
        """Every process of the user's: all but those that keep them apart."""
        keepers = [self.pid]
        for _ in range(self.depth - 1):
            keepers += children(keepers[-1])[:1]
        return [pid for pid in family(self.pid) if pid not in keepers]

    def _terminate(self) -> bool:
        """SIGTERM to the program's group; False while the program is not there yet."""
        pid = self.pid
        for _ in range(self.depth):
            below = children(pid)
            if not below:
                return False
            pid = below[0]
        try:
            group = os.getpgid(pid)
            # Before the program is on its own, its group is the outermost process's.
            if group == self.pid:
                return False
            os.killpg(group, signal.SIGTERM)
        except ProcessLookupError:
            return False
        return True


class _Output:
    """The lines of one program, as they come."""

    def __init__(self, running: Running, descriptor: int, on_line: Callable[[str], None]) -> None:
        self.running = running
        self.descriptor = descriptor
        self.pidfd = -1
        self.has_ended = False
        self.give_up_at = 0.0
        self._on_line = on_line
        self._rest = b""

    def read(self) -> bool:
        """Take what is there; False at the end."""
        try:
            data = os.read(self.descriptor, _READ_BYTES)
        except BlockingIOError:
            return True
        if not data:
            return False
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._tell(line)
        while len(self._rest) > LINE_BYTES:
            cut = _character_start(self._rest, LINE_BYTES)
            self._tell(self._rest[:cut])
            self._rest = self._rest[cut:]
        return True

    def flush(self) -> None:
        if self._rest:
            self._tell(self._rest)
            self._rest = b""

    def _tell(self, line: bytes) -> None:
        while len(line) > LINE_BYTES:
            cut = _character_start(line, LINE_BYTES)
            self._tell(line[:cut])
            line = line[cut:]
        if line.startswith(_MISSING) and self.running.isolation == "bwrap":
            self.running.is_missing = True
            line = line.removeprefix(_MISSING)
        try:
            self._on_line(line.removesuffix(b"\r").decode(errors="replace"))
        except Exception:  # one listener's bug must not silence every other program
            log.exception("a listener to the output of process %d failed", self.running.pid)


class _Loop:
    """The one thread."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_reader, False)
        os.set_blocking(self._wake_writer, False)
        self._selector.register(self._wake_reader, selectors.EVENT_READ, None)
        self._calls: deque[Callable[[], None]] = deque()
        self._outputs: set[_Output] = set()
        self._is_closing = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="pilvi-compute", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        with self._lock:
            if not self._is_closing:
                self._poke()

    def _poke(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it is full of wake-ups already
            os.write(self._wake_writer, b"x")

    def call(self, work: Callable[[], Running]) -> Running:
        """Do something on the thread and wait for its result."""
        if threading.current_thread() is self._thread:
            return work()
        future: Future[Running] = Future()

        def run() -> None:
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001 - it is raised again where the work was asked for
                future.set_exception(error)

        with self._lock:
            if self._is_closing:
                raise Unavailable("The server is stopping.")
            self._calls.append(run)
            self._poke()
        return future.result()

    def start(self, prepared: _Prepared, isolation: str, memory_mib: int | None, on_line: Callable[[str], None]) -> Running:
        reader, writer = os.pipe()
        try:
            child = _spawn(prepared, writer)
        except OSError as error:
            os.close(reader)
            raise Unavailable(f"The program could not be started: {error}") from error
        finally:
            os.close(writer)
            _close_all(prepared.files)
        _prefer_for_oom(child.pid)
        os.set_blocking(reader, False)
        running = Running(self, child, isolation, memory_mib)
        output = _Output(running, reader, on_line)
        output.pidfd = os.pidfd_open(child.pid)
        self._selector.register(reader, selectors.EVENT_READ, (output, self._read))
        self._selector.register(output.pidfd, selectors.EVENT_READ, (output, self._ended))
        self._outputs.add(output)
        return running

    def close(self) -> None:
        with self._lock:
            self._is_closing = True
            self._poke()
        self._thread.join()

    # -- on the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        is_ending = False
        while not (self._is_closing and not self._outputs and not self._calls):
            for key, _ in self._selector.select(self._patience()):
                if key.data is None:
                    self._take_calls()
                else:
                    output, act = key.data
                    self._guarded(output, act)
            if self._is_closing and not is_ending:
                is_ending = True
                self._take_calls()
                for output in self._outputs:
                    output.running.end("stopped")
            self._look()
        self._selector.close()
        os.close(self._wake_reader)
        os.close(self._wake_writer)

    def _patience(self) -> float | None:
        now = time.monotonic()
        times = [
            output.give_up_at if output.has_ended else output.running.next_look
            for output in self._outputs
            if output.has_ended or output.running.memory_bytes is not None or output.running.kill_at is not None
        ]
        return max(0.0, min(times) - now) if times else None

    def _take_calls(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_reader, 4096)
        while self._calls:
            self._calls.popleft()()

    def _guarded(self, output: _Output, act: Callable[[_Output], None]) -> None:
        """Trouble with one program must not end the thread that all others need: whoever waits for them would wait for ever."""
        try:
            act(output)
        except Exception:
            log.exception("process %d could not be followed and is ended", output.running.pid)
            self._lose(output)

    def _read(self, output: _Output) -> None:
        if not output.read():
            self._close_output(output)
            self._maybe_finish(output)

    def _ended(self, output: _Output) -> None:
        self._close_pidfd(output)
        output.running.reap()
        output.has_ended = True
        output.give_up_at = time.monotonic() + _DRAIN_S
        self._maybe_finish(output)

    def _maybe_finish(self, output: _Output, *, now: bool = False) -> None:
        """Tell the end once the output has ended too; all that held it dies with the program, a moment later at most."""
        if output.has_ended and (output.descriptor < 0 or now):
            self._close_output(output)
            output.flush()
            self._outputs.discard(output)
            output.running.finish()

    def _lose(self, output: _Output) -> None:
        """Forget a program, and tell that it was lost as soon as it is gone."""
        self._outputs.discard(output)
        self._close_output(output)
        self._close_pidfd(output)
        threading.Thread(target=output.running.lose, name="pilvi-lost", daemon=True).start()

    def _close_output(self, output: _Output) -> None:
        descriptor, output.descriptor = output.descriptor, -1
        self._close(descriptor)

    def _close_pidfd(self, output: _Output) -> None:
        descriptor, output.pidfd = output.pidfd, -1
        self._close(descriptor)

    def _close(self, descriptor: int) -> None:
        if descriptor >= 0:
            self._selector.unregister(descriptor)
            os.close(descriptor)

    def _look(self) -> None:
        now = time.monotonic()
        for output in list(self._outputs):
            if output.has_ended:
                if now >= output.give_up_at:
                    self._guarded(output, lambda output: self._maybe_finish(output, now=True))
            elif (
                output.running.memory_bytes is not None or output.running.kill_at is not None
            ) and now >= output.running.next_look:
                self._guarded(output, lambda output: output.running.look(now))


def _spawn(prepared: _Prepared, output: int) -> subprocess.Popen[bytes]:
    """Start it, in an empty environment; a guard's pipe stays open for as long as it shall live."""
    child = subprocess.Popen(
        prepared.command,
        stdin=subprocess.DEVNULL if prepared.plan is None else subprocess.PIPE,
        stdout=output,
        stderr=subprocess.STDOUT,
        env={},
        cwd="/",
        start_new_session=True,
        pass_fds=prepared.files,
        bufsize=0,
    )
    if child.stdin is not None and prepared.plan is not None:
        child.stdin.write(prepared.plan)
    return child


def _character_start(data: bytes, position: int) -> int:
    """The nearest place at or before `position` where a UTF-8 character starts."""
    for back in range(4):
        if data[position - back] & 0xC0 != 0x80:
            return position - back
    return position


def _prefer_for_oom(pid: int) -> None:
    """When the machine runs out of memory, the kernel shall take the program, not the server."""
    with contextlib.suppress(OSError):  # it has ended already
        Path(f"/proc/{pid}/oom_score_adj").write_text("800")


def _close_all(files: Sequence[int]) -> None:
    for descriptor in files:
        os.close(descriptor)
