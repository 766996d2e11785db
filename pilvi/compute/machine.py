"""This machine as a place for programs: its cores, its memory, its GPUs. Linux's /proc and /sys, and NVIDIA's own tool."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from pilvi.compute import Gpu, Node

_KEPT_SHARE = 0.1
"""Of the memory, for the server and everything else that runs here."""
_UNLIMITED_BYTES = 1 << 60
_TOOL_S = 20.0


def this_machine(name: str = "") -> Node:
    """As it is now."""
    return Node(name, cpus=len(os.sched_getaffinity(os.getpid())), memory_mib=usable_memory_mib(), gpus=tuple(gpus()))


def own_address() -> str:
    """Where other machines reach this one: the address it would speak to them from. No packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


# -- memory ---------------------------------------------------------------------------------------------------------------


def usable_memory_mib(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """What programs may use together: nine tenths of what there is, less what others already use (of that at most half)."""
    facts = dict(_memory_facts(proc / "meminfo"))
    total = min([facts["MemTotal"], *_limits(proc, cgroups)])
    return int(min(total * (1 - _KEPT_SHARE), max(facts.get("MemAvailable", total), total / 2))) >> 20


def _memory_facts(path: Path) -> Iterator[tuple[str, int]]:
    for line in path.read_text().splitlines():
        name, _, rest = line.partition(":")
        if rest.endswith(" kB"):
            yield name, int(rest.split()[0]) * 1024


def _limits(proc: Path, cgroups: Path) -> Iterator[int]:
    """The memory limits of the control groups this process is in, version 1 and 2."""
    groups = [("memory/", "/", "memory.limit_in_bytes"), ("", "/", "memory.max")]
    with contextlib.suppress(OSError):
        for line in (proc / "self" / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                groups.append(("", path, "memory.max"))
            elif "memory" in controllers.split(","):
                groups.append(("memory/", path, "memory.limit_in_bytes"))
    for prefix, path, file in groups:
        with contextlib.suppress(OSError, ValueError):
            limit = int((cgroups / prefix / path.strip("/") / file).read_text())
            if limit < _UNLIMITED_BYTES:
                yield limit


# -- GPUs -----------------------------------------------------------------------------------------------------------------


def gpus(proc: Path = Path("/proc")) -> list[Gpu]:
    """The NVIDIA GPUs here: as nvidia-smi tells them, else as the driver lists them (then without their memory)."""
    if not (proc / "driver" / "nvidia" / "gpus").is_dir() and shutil.which("nvidia-smi") is None:
        return []
    return _told_by_tool() or list(_told_by_driver(proc / "driver" / "nvidia" / "gpus"))


def _told_by_tool() -> list[Gpu]:
    if (program := shutil.which("nvidia-smi")) is None:
        return []
    command = [program, "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=_TOOL_S, check=True, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return []
    found = []
    for line in told.stdout.splitlines():
        with contextlib.suppress(ValueError):
            index, uuid, name, memory = (part.strip() for part in line.split(","))
            found.append(Gpu(uuid, name, int(memory), _device(uuid) or f"/dev/nvidia{int(index)}"))
    return found


def _device(uuid: str) -> str:
    """The device file of a GPU: its minor number need not be its index."""
    for entry in Path("/proc/driver/nvidia/gpus").glob("*/information"):
        facts = _facts(entry)
        if facts.get("GPU UUID") == uuid:
            return f"/dev/nvidia{facts['Device Minor']}"
    return ""


def _told_by_driver(folder: Path) -> Iterator[Gpu]:
    for entry in sorted(folder.glob("*/information")) if folder.is_dir() else ():
        facts = _facts(entry)
        if "Device Minor" in facts:
            minor = facts["Device Minor"]
            yield Gpu(facts.get("GPU UUID", minor), facts.get("Model", "GPU"), 0, f"/dev/nvidia{minor}")


def _facts(path: Path) -> dict[str, str]:
    with contextlib.suppress(OSError):
        return dict(re.findall(r"^([^:\n]+):\s*(.*?)\s*$", path.read_text(), re.MULTILINE))
    return {}
