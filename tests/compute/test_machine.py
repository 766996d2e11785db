"""What a machine has, told from files and tools as they are on machines that have more than this one."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilvi.compute import Gpu
from pilvi.compute.machine import gpus, this_machine, usable_memory_mib

SMI = """#!/bin/sh
echo '0, GPU-11111111-2222-3333-4444-555555555555, NVIDIA H100 80GB HBM3, 81559'
echo '1, GPU-66666666-2222-3333-4444-555555555555, NVIDIA H100 80GB HBM3, 81559'
"""
INFORMATION = """Model: \t\t Tesla T4
IRQ:   \t\t 81
GPU UUID: \t GPU-11111111-2222-3333-4444-555555555555
Device Minor: \t 3
"""


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "meminfo").write_text(
        "MemTotal: 10485760 kB\nMemFree: 1 kB\nMemAvailable: 10000000 kB\nHugePages_Total: 0\n"
    )
    return tmp_path / "proc"


def test_memory_leaves_a_tenth(proc: Path, tmp_path: Path) -> None:
    assert usable_memory_mib(proc, tmp_path) == 9216


def test_memory_that_others_use_is_not_counted_but_half_is(proc: Path, tmp_path: Path) -> None:
    facts = (proc / "meminfo").read_text()
    (proc / "meminfo").write_text(facts.replace("MemAvailable: 10000000", "MemAvailable: 6291456"))
    assert usable_memory_mib(proc, tmp_path) == 6144
    (proc / "meminfo").write_text(facts.replace("MemAvailable: 10000000", "MemAvailable: 1000"))
    assert usable_memory_mib(proc, tmp_path) == 5120


@pytest.mark.parametrize(
    ("line", "file"),
    [
        ("0::/user.slice/a", "user.slice/a/memory.max"),
        ("0::/", "memory.max"),
        ("5:memory:/docker/b", "memory/docker/b/memory.limit_in_bytes"),
        ("5:memory:/docker/b", "memory/memory.limit_in_bytes"),
    ],
)
def test_memory_is_limited_by_control_groups(proc: Path, tmp_path: Path, line: str, file: str) -> None:
    (proc / "self" / "cgroup").write_text(f"9:name=systemd:/\n{line}\n")
    groups = tmp_path / "cgroup"
    (groups / file).parent.mkdir(parents=True)
    (groups / file).write_text("max\n" if "max" in file else f"{1 << 62}\n")
    assert usable_memory_mib(proc, groups) == 9216
    (groups / file).write_text(f"{1 << 30}\n")
    assert usable_memory_mib(proc, groups) == 921


def test_gpus_are_told_by_the_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nvidia-smi").write_text(SMI)
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = gpus(tmp_path)
    assert found[1] == Gpu("GPU-66666666-2222-3333-4444-555555555555", "NVIDIA H100 80GB HBM3", 81559, "/dev/nvidia1")
    assert len(found) == 2
    assert this_machine().gpus == tuple(found)


def test_gpus_are_told_by_the_driver_where_the_tool_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "driver" / "nvidia" / "gpus" / "0000:00:1e.0").mkdir(parents=True)
    (tmp_path / "driver" / "nvidia" / "gpus" / "0000:00:1e.0" / "information").write_text(INFORMATION)
    assert gpus(tmp_path) == [Gpu("GPU-11111111-2222-3333-4444-555555555555", "Tesla T4", 0, "/dev/nvidia3")]


def test_no_driver_no_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus(tmp_path) == []
