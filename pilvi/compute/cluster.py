"""The compute adapter for machines that an engine leads to: an agent on each node runs the programs (agent.py).

    ClusterCompute -- Member (a node) -- Hand: calls the node's agent -- ...
         |               +- a thread that fetches what happens there
         +- Program, Program, ...

What the engine is stands in its own file (ray.py); it only has to lead calls to agents and to say which nodes there are.
Nodes that share the server's file system use its files in place; to others files are shipped, and brought back at the end.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from pilvi.compute import Bind, Exit, Node, ProcessSpec
from pilvi.compute.agent import Event, Facts, packed, unpacked
from pilvi.core.errors import Unavailable

log = logging.getLogger("pilvi.compute")

_POLL_S = 10.0
_LOOK_S = 2.0
"""How old the list of nodes may be."""
_CLOSE_S = 10.0
_WEAKEST = ("none", "unshare", "bwrap")


class NodeLost(Exception):
    """The node, or the way to it, is gone."""


class Hand(Protocol):
    """The way to one node's agent."""

    def call(self, method: str, *arguments: Any) -> Any:
        """The agent's answer. NodeLost when there will be none."""

    def send(self, method: str, *arguments: Any) -> None:
        """The same without an answer; returns at once."""


class Engine(Protocol):
    """Leads to nodes."""

    def hands(self) -> Mapping[str, Hand]:
        """By node name, those that are there now; the same hand for a node every time."""

    def limits(self, name: str) -> Node | None:
        """What the engine says of a node; None when it says nothing."""

    def close(self) -> None: ...


class ClusterCompute:
    def __init__(self, engine: Engine, folder: Path, own_address: str = "") -> None:
        """folder: of the server, to see which nodes share its files. own_address: where nodes reach the server's machine."""
        self._engine = engine
        self._own_address = own_address
        folder.mkdir(parents=True, exist_ok=True)
        self._probe = folder / "shared-probe"
        self._probe.write_text(uuid.uuid4().hex)
        self._members: dict[str, _Member] = {}
        self._known: tuple[Node, ...] = ()
        self._looked = -_LOOK_S
        self._lock = threading.Lock()
        self._is_closed = False
        if not self.nodes():
            engine.close()
            raise Unavailable("The cluster has no node that programs could run on.")

    @property
    def isolation(self) -> str:
        kinds = [member.facts.isolation for member in self._members.values()]
        return min(kinds, key=_WEAKEST.index, default="none")

    def nodes(self) -> Sequence[Node]:
        """The nodes as they are; the last known ones while there are none."""
        with self._lock:
            if not self._is_closed and time.monotonic() - self._looked >= _LOOK_S:
                self._look()
                self._looked = time.monotonic()
            return self._known

    def launch(self, spec: ProcessSpec, on_line: Callable[[str], None]) -> Program:
        self.nodes()
        with self._lock:
            if self._is_closed:
                raise Unavailable("The server is stopping.")
            member = self._members.get(spec.node or next(iter(self._members), ""))
        if member is None:
            raise Unavailable(f"The node {spec.node or 'of the cluster'} is not there any more.")
        return member.launch(spec, on_line)

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            members = list(self._members.values())
        for member in members:
            member.close()
        deadline = time.monotonic() + _CLOSE_S
        for member in members:
            member.thread.join(max(0.0, deadline - time.monotonic()))
            member.lose("stopped")
        self._engine.close()
        self._probe.unlink(missing_ok=True)

    # -- private ------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        hands = self._engine.hands()
        for name in self._members.keys() - hands.keys():
            self._members.pop(name).lose("lost")
        for name in [name for name, member in self._members.items() if member.is_lost]:
            del self._members[name]  # whoever still leads there gets a new one
        for name, hand in hands.items():
            if name not in self._members:
                try:
                    self._members[name] = _Member(name, hand, self._probe, self._own_address)
                except NodeLost:
                    log.warning("node %s went before it could be used", name)
        if found := tuple(self._node(name, member) for name, member in sorted(self._members.items())):
            self._known = found

    def _node(self, name: str, member: _Member) -> Node:
        """As the agent sees it, within what the engine says may be used."""
        limits = self._engine.limits(name)
        found = replace(member.facts.node, name=name)
        if limits is not None:
            found = replace(
                found,
                cpus=min(found.cpus, limits.cpus) or 1,
                memory_mib=min(found.memory_mib, limits.memory_mib),
                gpus=found.gpus[: len(limits.gpus)],
                address=limits.address,
            )
        # On one machine every program has a loopback address of its own.
        machines = {other.facts.machine for other in self._members.values()}
        return replace(found, address="") if len(machines) == 1 else found


class _Member:
    """A node in use."""

    def __init__(self, name: str, hand: Hand, probe: Path, own_address: str) -> None:
        self.name = name
        self.hand = hand
        self.facts: Facts = hand.call("facts")
        self.is_shared: bool = hand.call("sees", str(probe), probe.read_text())
        boot = Path("/proc/sys/kernel/random/boot_id")
        is_here = boot.exists() and boot.read_text().strip() == self.facts.machine
        self._own_address = "" if is_here else own_address
        self.programs: dict[str, Program] = {}
        self._lock = threading.Lock()
        self._shipping = threading.Lock()
        self.is_lost = False
        self._is_closing = False
        self.thread = threading.Thread(target=self._follow, name=f"pilvi-node-{name}", daemon=True)
        self.thread.start()

    def launch(self, spec: ProcessSpec, on_line: Callable[[str], None]) -> Program:
        program = Program(self, uuid.uuid4().hex, spec, on_line)
        with self._lock:
            if self.is_lost or self._is_closing:
                raise Unavailable(f"The node {self.name} is not there any more.")
            self.programs[program.id] = program
        try:
            if not self.is_shared:
                with self._shipping:
                    self._ship(program.id, spec.binds)
            pid, trouble = self.hand.call("launch", program.id, self._sent(spec))
        except NodeLost as error:
            self.lose("lost")
            raise Unavailable(f"The node {self.name} was lost: {error}") from error
        except Unavailable:
            self.programs.pop(program.id, None)
            raise
        if trouble:
            self.programs.pop(program.id, None)
            raise Unavailable(f"{trouble} (on node {self.name})")
        program.pid = pid
        return program

    def lose(self, reason: str) -> None:
        """The node is gone, and with it its programs."""
        with self._lock:
            self.is_lost = True
            left = list(self.programs.values())
            self.programs.clear()
        for program in left:
            program.finish(Exit(-9, reason))

    def close(self) -> None:
        self._is_closing = True
        self.hand.send("close")

    # -- private ------------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Fetch what happens there until the node is gone, or everything has ended after `close`."""
        after = 0
        try:
            while not (self._is_closing and not self.programs):
                events: list[Event] = self.hand.call("events", after, 0.5 if self._is_closing else _POLL_S)
                for number, id, kind, what in events:
                    after = number
                    if (program := self.programs.get(id)) is not None:
                        self._tell(program, kind, what)
        except NodeLost:
            self.lose("stopped" if self._is_closing else "lost")
        except Exception:  # without this thread nobody would hear of the node's programs any more
            log.exception("node %s could not be followed; its programs are ended", self.name)
            for id in list(self.programs):
                self.hand.send("kill", id)
            self.lose("lost")

    def _tell(self, program: Program, kind: str, what: Any) -> None:
        if kind == "line":
            program.say(what)
            return
        code, reason, peak = what
        program.peak_mib = peak
        ended = Exit(code, reason)
        if self.is_shared or self._is_closing:
            self._finish(program, ended)
        else:
            threading.Thread(target=self._bring_back, args=(program, ended), name="pilvi-bring", daemon=True).start()

    def _finish(self, program: Program, ended: Exit) -> None:
        with self._lock:
            self.programs.pop(program.id, None)
        self.hand.send("forget", program.id)
        program.finish(ended)

    def _sent(self, spec: ProcessSpec) -> ProcessSpec:
        """As it is said there: the loopback address of this machine leads nowhere on another."""
        if not self._own_address:
            return spec
        env = {name: value.replace("//127.0.0.1:", f"//{self._own_address}:") for name, value in spec.env.items()}
        return replace(spec, env=env)

    # -- files, for nodes that share none -----------------------------------------------------------------------------

    def _ship(self, id: str, binds: Sequence[Bind]) -> None:
        """What a program may write goes with it alone; what it only reads is left there for the next."""
        lacking = set(self.hand.call("lacks", [str(bind.source) for bind in binds if not bind.writable]))
        for bind in binds:
            source = str(bind.source)
            if bind.writable or source in lacking:
                lacking.discard(source)
                owner = id if bind.writable else ""
                try:
                    for data in packed(bind.source):
                        self.hand.call("receive", owner, source, data)
                except Unavailable:
                    self.hand.send("abandon", owner, source)
                    self.hand.send("forget", id)
                    raise
                self.hand.call("receive", owner, source, b"")

    def _bring_back(self, program: Program, ended: Exit) -> None:
        try:
            for bind in program.spec.binds:
                if bind.writable:
                    unpacked(self._pieces(program.id, str(bind.source)), bind.source)
        except NodeLost:
            self.lose("lost")
            return
        except Exception as error:
            log.exception("the files of program %s could not be brought back from node %s", program.id, self.name)
            program.say(f"The files of the program could not be brought back from node {self.name}: {error}")
            ended = Exit(ended.code or 1, "lost")
        self._finish(program, ended)

    def _pieces(self, id: str, path: str) -> Iterator[bytes]:
        while data := self.hand.call("give", id, path):
            yield data


class Program:
    """A program on a node. Made by its member."""

    def __init__(self, member: _Member, id: str, spec: ProcessSpec, on_line: Callable[[str], None]) -> None:
        self.pid = 0
        self.id = id
        self.spec = spec
        self.peak_mib = 0
        self._member = member
        self._on_line = on_line
        self._exit: Exit | None = None
        self._ended = threading.Event()

    def poll(self) -> Exit | None:
        return self._exit

    def wait(self, timeout_s: float | None = None) -> Exit | None:
        self._ended.wait(timeout_s)
        return self._exit

    def stop(self, grace_s: float) -> None:
        self._member.hand.send("stop", self.id, grace_s)

    def kill(self) -> None:
        self._member.hand.send("kill", self.id)

    def peak_memory_mib(self) -> int:
        if self._exit is None:
            with contextlib.suppress(NodeLost):  # the end tells it
                self.peak_mib = max(self.peak_mib, self._member.hand.call("peak_memory_mib", self.id))
        return self.peak_mib

    # -- for the member -----------------------------------------------------------------------------------------------

    def say(self, line: str) -> None:
        try:
            self._on_line(line)
        except Exception:  # one listener's bug must not silence every other program
            log.exception("a listener to the output of program %s failed", self.id)

    def finish(self, ended: Exit) -> None:
        if self._exit is None:
            self._exit = ended
            self._ended.set()
