"""Slurm as the place of programs: the compute contract, with stand-ins for Slurm's commands that run batch scripts on this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pilvi.compute import Compute, Exit, ProcessSpec
from pilvi.compute import slurm as slurm_module
from pilvi.compute.slurm import SlurmCompute, options
from pilvi.compute.slurm_step import away
from pilvi.core.errors import Unavailable
from pilvi.testing.contracts import compute as promises
from pilvi.testing.contracts.compute import CONTRACT, Heard, eventually, is_alive, shell

SBATCH = """#!/bin/sh
cd "$SLURM_FOLDER" || exit 1
[ -e refuse ] && { echo 'sbatch: error: invalid partition specified' >&2; exit 1; }
for option; do case "$option" in --output=*) lines=${option#--output=};; --cpus-per-task=*) cpus=${option#*=};; esac; done
id=$(($(ls jobs | wc -l) + 100))
cat > jobs/$id
chmod +x jobs/$id
setsid ${cpus:+taskset -c 0-$((cpus - 1 < $(nproc) - 1 ? cpus - 1 : $(nproc) - 1))} jobs/$id >> "$lines" 2>&1 < /dev/null &
echo $! > jobs/$id.pid
echo "$id;cluster"
"""
SQUEUE = """#!/bin/sh
cd "$SLURM_FOLDER" || exit 1
[ -e pending ] && { for job in jobs/*.pid; do echo "$(basename $job .pid)|PENDING|Resources"; done; rm pending; exit 0; }
for job in jobs/*.pid; do
    id=$(basename $job .pid)
    if kill -0 $(cat $job) 2>/dev/null; then echo "$id|RUNNING|None"; else echo "$id|COMPLETED|None"; fi
done
"""
SCANCEL = """#!/bin/sh
cd "$SLURM_FOLDER" || exit 1
signal=KILL
for option; do case "$option" in --signal=*) signal=${option#--signal=};; --state=*) exit 0;; esac; id=$option; done
kill -$signal $(cat jobs/$id.pid)
"""


@pytest.fixture
def commands(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("slurm")
    (folder / "jobs").mkdir()
    for name, text in (("sbatch", SBATCH), ("squeue", SQUEUE), ("scancel", SCANCEL)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_FOLDER", str(folder))
    monkeypatch.setattr(slurm_module, "_READ_S", 0.02)
    monkeypatch.setattr(slurm_module, "_ASK_S", 0.1)
    monkeypatch.setattr(slurm_module, "_GONE_S", 1.0)
    return folder


@pytest.fixture
def compute(commands: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compute]:
    made = SlurmCompute("", "auto", (), tmp_path_factory.mktemp("server"))
    yield made
    made.close()


NOT_HERE = {
    promises.memory_used_is_told: "told at the end only",
    promises.too_much_memory_ends_it: "told at the end, after the promise asks",
    promises.stop_right_after_launch_works: "the step may be asked before it listens; shown below",
}


@pytest.mark.parametrize("promise", [one for one in CONTRACT if one not in NOT_HERE], ids=lambda promise: promise.__name__)
def test_adapter_keeps(promise: Callable[[Compute, Path], None], compute: Compute, tmp_path: Path) -> None:
    promise(compute, tmp_path)


def test_too_much_memory_is_told(compute: Compute) -> None:
    hungry = promises.python("kept = []\nwhile True: kept.append(bytearray(b'x' * (8 << 20)))")
    process = compute.launch(replace(hungry, memory_mib=128), Heard())
    ended = process.wait(30)
    assert ended is not None
    assert ended.reason == "memory"
    assert process.peak_memory_mib() >= 128


def test_a_program_stopped_at_once_is_stopped(compute: Compute) -> None:
    process = compute.launch(shell("sleep 600"), Heard())
    process.stop(0.5)
    ended = process.wait(30)
    assert ended is not None
    assert ended.reason == "stopped"


def test_why_it_waits_is_said(compute: Compute, commands: Path) -> None:
    (commands / "pending").touch()
    heard = Heard()
    process = compute.launch(shell("sleep 0.5; echo on"), heard)
    assert process.wait(30) == Exit(0)
    assert heard.lines == ["Waiting for Slurm: Resources", "on"]


def test_what_slurm_does_not_take_is_told(compute: Compute, commands: Path) -> None:
    (commands / "refuse").touch()
    with pytest.raises(Unavailable, match="invalid partition specified"):
        compute.launch(shell("true"), Heard())


def test_a_job_that_slurm_lost_is_lost(compute: Compute, commands: Path) -> None:
    heard = Heard()
    process = compute.launch(shell("echo on; sleep 600"), heard)
    heard.wait_for("on")
    os.kill(int((commands / "jobs" / "100.pid").read_text()), 9)
    assert process.wait(30) == Exit(-9, "lost")


def test_trouble_with_one_program_ends_that_one_only(compute: Compute) -> None:
    heard = Heard()
    broken, other = compute.launch(shell("echo on; sleep 600"), heard), compute.launch(shell("sleep 1; echo well"), heard)
    heard.wait_for("on")
    assert isinstance(broken, slurm_module.BatchJob)
    (broken._folder / "exit.json").write_text("no json")
    assert broken.wait(30) == Exit(-9, "lost")
    assert other.wait(30) == Exit(0)
    heard.wait_for("well")


def test_a_step_whose_server_is_gone_ends(tmp_path: Path) -> None:
    import pickle
    import subprocess
    import sys

    marker = f"3{tmp_path.stat().st_ino}"
    (tmp_path / "job").mkdir()
    (tmp_path / "alive").touch()
    (tmp_path / "job" / "spec.pickle").write_bytes(
        pickle.dumps(("auto", (), shell(f"sleep {marker}"), os.uname().nodename, "10.0.0.1"))
    )
    step = subprocess.Popen([sys.executable, "-m", "pilvi.compute.slurm_step", str(tmp_path / "job"), "0.5"])
    eventually(lambda: is_alive(f"sleep\0{marker}"))
    os.utime(tmp_path / "alive", (time.time() - 60, time.time() - 60))
    assert step.wait(30) == 0
    assert not is_alive(f"sleep\0{marker}")


def test_programs_elsewhere_are_led_to_the_server() -> None:
    spec = shell("true", env={"AWS_ENDPOINT_URL": "http://127.0.0.1:4566"})
    assert away(spec, "10.0.0.1").env["AWS_ENDPOINT_URL"] == "http://10.0.0.1:4566"


def test_jobs_on_several_hosts_are_refused(compute: Compute) -> None:
    with pytest.raises(Unavailable, match="several instances"):
        compute.launch(replace(shell("true"), hosts={"algo-1": "127.0.0.2", "algo-2": "127.0.0.3"}), Heard())


def test_options_ask_for_what_the_program_needs() -> None:
    spec = ProcessSpec(("true",), {}, hostname="algo-1", cpus=4, memory_mib=1024, gpus=("0", "1"))
    found = options(Path("/f"), spec, "gpu")
    assert {"--cpus-per-task=4", "--mem=1280M", "--gres=gpu:2", "--partition=gpu", "--output=/f/lines"} <= set(found)
    assert not [option for option in options(Path("/f"), ProcessSpec(("true",), {}), "") if "mem" in option or "gres" in option]


def test_slurm_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="sbatch"):
        SlurmCompute("", "auto", (), tmp_path)
