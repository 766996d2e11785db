"""The compute port: run a program apart from everything else. Knows nothing of AWS.

Whatever adapter runs it, the program sees its own file tree only (`binds`), gets exactly the given environment, is one
process group, and ends when it is stopped or when the server goes, however the server goes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Bind:
    """A host folder or file shown inside at an absolute path."""

    source: Path
    target: str
    writable: bool = False


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU of a machine."""

    id: str
    """As CUDA_VISIBLE_DEVICES takes it."""
    name: str
    memory_mib: int
    """0 where it cannot be told."""
    device: str = ""
    """Its device file, /dev/nvidia0."""


@dataclass(frozen=True, slots=True)
class Node:
    """A machine that programs run on, with what they may use of it together."""

    name: str
    """"" is the machine of the server."""
    cpus: int
    memory_mib: int
    gpus: tuple[Gpu, ...] = ()
    address: str = ""
    """Where the programs on it reach each other; "" where every program has a loopback address of its own."""


@dataclass(frozen=True, slots=True)
class Root:
    """A file tree that a program lives in (a container image's), instead of this machine's system folders."""

    folder: Path
    """Shared, and never changed by anybody."""
    changes: Path
    """The program's own: what it writes to its tree goes here, and it goes with the program's other folders."""
    uid: int = 0
    """Who the program is inside."""
    gid: int = 0


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """A program to run: pure data."""

    command: tuple[str, ...]
    env: Mapping[str, str]
    """The whole environment; nothing is inherited."""
    binds: tuple[Bind, ...] = ()
    """For example Bind(job/ml, "/opt/ml", True); parents come before what lies in them. Where the machine offers no isolation
    (`Compute.isolation == "none"`) paths below a target are rewritten to the source in command, cwd and environment values."""
    cwd: str = "/"
    hostname: str = "localhost"
    hosts: Mapping[str, str] = field(default_factory=dict)
    """Further names in the program's /etc/hosts: name -> address."""
    network: bool = True
    """False: it reaches nothing but itself. Unavailable where the machine has no namespaces."""
    memory_mib: int | None = None
    """Resident memory of the whole group; passing it ends the program with `Exit.reason == "memory"`."""
    cpus: int | None = None
    """How many cores it sees; None is all of the machine."""
    gpus: tuple[str, ...] | None = None
    """The ids of the GPUs it sees; None is all of the machine."""
    root: Root | None = None
    """The program's whole world but for binds, /proc, /dev and /tmp. Unavailable where the machine has no namespaces."""
    node: str = ""
    """The name of the node it runs on, one of `Compute.nodes()`."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How a program ended. `code` is the exit status, negative for a signal."""

    code: int
    reason: str = "exit"
    """exit | memory | stopped (somebody asked for the end: stop, kill or close) | lost (nobody knows how it ended)"""


class Process(Protocol):
    """A running program."""

    pid: int
    """The outermost process of the group, on this machine."""

    def poll(self) -> Exit | None:
        """How it ended, or None while it runs."""

    def wait(self, timeout_s: float | None = None) -> Exit | None:
        """Block until it ends or the time is over."""

    def stop(self, grace_s: float) -> None:
        """Ask the group to end (SIGTERM), and end it (SIGKILL) after the grace. Returns at once."""

    def kill(self) -> None:
        """End the whole group now."""

    def peak_memory_mib(self) -> int:
        """The most resident memory the group has used so far."""


class Compute(Protocol):
    """Every adapter keeps these promises; pilvi.testing.contracts.compute proves them."""

    @property
    def isolation(self) -> str:
        """How programs are kept apart: a namespace tool's name, or "none" when `hosts`, `hostname` and `binds` cannot be given."""

    def nodes(self) -> Sequence[Node]:
        """The machines there are now. None of them where the engine has a queue of its own and decides where a program runs."""

    def launch(self, spec: ProcessSpec, on_line: Callable[[str], None]) -> Process:
        """Start a program. `on_line` gets each line of its stdout and stderr (without the newline), as they come, from one thread.

        The thread is shared by all programs: `on_line` must not block. All lines have been delivered when `poll` first tells
        the exit. A command that is not there ends with code 127, and a line that says so. Unavailable when nothing can be started.
        """

    def close(self) -> None:
        """End everything that was launched."""
