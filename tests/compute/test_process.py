"""The compute contract against every isolation this machine has, and what happens when the server dies."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from pilvi.compute import Compute, ProcessSpec
from pilvi.compute.process import ProcessCompute
from pilvi.core.errors import Unavailable
from pilvi.testing.contracts.compute import APART, CONTRACT, Heard, eventually, is_alive, run, shell

ISOLATIONS = ("bwrap", "unshare", "none")


@cache
def trouble(isolation: str) -> str:
    try:
        return "" if ProcessCompute(isolation).isolation else "?"
    except Unavailable as error:
        return error.message


@pytest.fixture(params=ISOLATIONS)
def compute(request: pytest.FixtureRequest) -> Iterator[Compute]:
    if reason := trouble(request.param):
        pytest.skip(reason)
    compute = ProcessCompute(request.param)
    yield compute
    compute.close()


@pytest.mark.parametrize("promise", CONTRACT, ids=lambda promise: promise.__name__)
def test_adapter_keeps(promise: Callable[[Compute, Path], None], compute: Compute, tmp_path: Path) -> None:
    promise(compute, tmp_path)


@pytest.mark.parametrize("promise", APART, ids=lambda promise: promise.__name__)
def test_namespaces_keep(promise: Callable[[Compute, Path], None], compute: Compute, tmp_path: Path) -> None:
    if compute.isolation == "none":
        pytest.skip("no namespaces, no privacy")
    promise(compute, tmp_path)


def test_environment_is_the_programs_only(compute: Compute, tmp_path: Path) -> None:
    """What keeps the program apart runs outside: the program's loader variables must not reach it."""
    (tmp_path / "trace").mkdir()
    env = {"PATH": "/usr/bin:/bin", "LD_DEBUG": "libs", "LD_DEBUG_OUTPUT": str(tmp_path / "trace" / "loaded"), "WORD": "grüß\nGott"}
    lines: list[str] = []
    process = compute.launch(ProcessSpec(("/bin/sh", "-c", 'printf %s "$WORD"'), env), lines.append)
    ended = process.wait(20)
    assert ended is not None
    assert ended.code == 0
    assert lines[-2:] == ["grüß", "Gott"]
    if compute.isolation != "none":
        assert not list((tmp_path / "trace").iterdir())


@pytest.mark.parametrize("env", [{"A": "b\0--bind\0/\0/host"}, {"A=B": "c"}, {"": "c"}], ids=repr)
def test_environment_that_cannot_be_is_refused(compute: Compute, env: dict[str, str]) -> None:
    with pytest.raises(Unavailable, match="environment variable"):
        compute.launch(ProcessSpec(("/bin/true",), env), print)


def test_trouble_with_one_program_ends_that_one_only(
    compute: Compute, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    from pilvi.compute import process

    read = process._Output.read

    def broken(output: process._Output) -> bool:
        if output.running.memory_bytes is not None:
            raise OSError("the kernel has its reasons")
        return read(output)

    monkeypatch.setattr(process._Output, "read", broken)
    heard, marker = Heard(), f"8{tmp_path.stat().st_ino}"
    other = compute.launch(shell("sleep 1; echo still here"), heard)
    lost = compute.launch(replace(shell(f"sleep {marker} & echo word; wait"), memory_mib=500), heard)
    ended = lost.wait(20)
    assert ended is not None
    assert (ended.code, ended.reason) == (-9, "lost")
    eventually(lambda: not is_alive(f"sleep\0{marker}"))
    assert other.wait(20) is not None
    assert heard.lines == ["still here"]
    assert "could not be followed" in caplog.text


def test_hidden_folder_inside_a_shown_one_is_masked(compute: Compute, tmp_path: Path) -> None:
    if compute.isolation == "none":
        pytest.skip("no namespaces, no privacy")
    from pilvi.compute import Bind

    (tmp_path / "prefix" / "data").mkdir(parents=True)
    (tmp_path / "prefix" / "data" / "canary").write_text("secret")
    (tmp_path / "prefix" / "shown").write_text("shown\n")
    masking = ProcessCompute(compute.isolation, hidden=[tmp_path / "prefix" / "data"])  # type: ignore[arg-type]
    spec = replace(shell("cat /p/shown; cat /p/data/canary; ls -A /p/data"), binds=(Bind(tmp_path / "prefix", "/p"),))
    _, lines = run(masking, spec)
    masking.close()
    assert lines[0] == "shown"
    assert "secret" not in lines
    assert len(lines) == 2


SERVER = """
import sys, threading
from pilvi.compute.process import ProcessCompute
from pilvi.testing.contracts.compute import shell
def say(line):
    print(line, flush=True)
process = ProcessCompute(sys.argv[1]).launch(shell(f"trap '' TERM; setsid sleep {sys.argv[2]} & echo ready; sleep {sys.argv[2]}"), say)
threading.Event().wait()
"""


def test_programs_die_with_the_server_whatever_happens(compute: Compute, tmp_path: Path) -> None:
    marker = f"9{tmp_path.stat().st_ino}"
    server = subprocess.Popen([sys.executable, "-c", SERVER, compute.isolation, marker], stdout=subprocess.PIPE, text=True)
    with server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        eventually(lambda: is_alive(f"sleep\0{marker}"))
        os.kill(server.pid, signal.SIGKILL)
        eventually(lambda: not is_alive(f"sleep\0{marker}"))


def test_a_thread_that_launched_may_end(compute: Compute) -> None:
    import threading

    heard, made = Heard(), []
    thread = threading.Thread(target=lambda: made.append(compute.launch(shell("read x; echo still here; exit 0"), heard)))
    thread.start()
    thread.join()
    assert made[0].wait(30).code == 0
    assert heard.lines == ["still here"]


ORDINARY = """
import sys, tempfile
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from pilvi.compute.process import ProcessCompute
from pilvi.testing.contracts import compute as promises
for keeps in (promises.lines_come_in_order_from_both_streams, promises.kill_ends_daemons_too, promises.too_much_memory_ends_it,
              promises.binds_are_where_the_spec_says, *(promises.APART if sys.argv[2] != "none" else ())):
    compute = ProcessCompute(sys.argv[2])
    keeps(compute, Path(tempfile.mkdtemp()))
    compute.close()
print("kept")
"""


def test_runs_as_an_ordinary_user(compute: Compute) -> None:
    if os.getuid() != 0:
        pytest.skip("every other test shows it already")
    python, here = "/usr/bin/python3", str(Path(__file__).parents[2])
    become = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", python, "-B"]
    able = subprocess.run(
        [*become, "-c", f"import sys; sys.path.insert(0, {here!r}); import pilvi.compute.process"], capture_output=True
    )
    if able.returncode:
        pytest.skip("an ordinary user has no interpreter here that can read this code")
    done = subprocess.run([*become, "-c", ORDINARY, here, compute.isolation], capture_output=True, text=True, timeout=120, cwd="/")
    assert done.stdout == "kept\n", done.stderr


def test_programs_that_count_cores_find_their_own(compute: Compute, tmp_path: Path) -> None:
    from dataclasses import replace

    from pilvi.testing.contracts.compute import python

    if compute.isolation == "none":
        pytest.skip("no namespaces, no files of its own")
    mine = ProcessCompute(compute.isolation, folder=tmp_path)  # type: ignore[arg-type]
    script = "import os, multiprocessing; print(os.cpu_count(), multiprocessing.cpu_count(), len(os.sched_getaffinity(0)))"
    assert run(mine, replace(python(script), cpus=1))[1] == ["1 1 1"]
    mine.close()


def test_programs_are_spread_over_cores(tmp_path: Path) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("this machine has a single core")
    from dataclasses import replace

    mine = ProcessCompute("none", folder=tmp_path)
    heard = [Heard(), Heard()]
    for one in heard:
        mine.launch(replace(shell("grep Cpus_allowed_list /proc/self/status; sleep 600"), cpus=1), one)
        eventually(lambda one=one: bool(one.lines))
    mine.close()
    assert heard[0].lines != heard[1].lines
    assert set(mine._cores._load.values()) == {0}


def test_a_program_sees_its_own_gpus_only(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from pilvi.compute import Gpu, Node, process
    from pilvi.compute.sandbox import View

    devices = ("/dev/nvidia-uvm", "/dev/nvidia0", "/dev/nvidia1", "/dev/nvidiactl")
    monkeypatch.setattr(process, "view_for", lambda spec, hidden: View((), devices, True, ()))
    monkeypatch.setattr(
        process,
        "this_machine",
        lambda: Node("", 2, 1024, (Gpu("GPU-a", "T", 100, "/dev/nvidia0"), Gpu("GPU-b", "T", 100, "/dev/nvidia1"))),
    )
    mine, spec = ProcessCompute("none"), ProcessSpec(("true",), {})
    assert mine._view(spec).devices == devices
    assert mine._view(replace(spec, gpus=())).devices == ()
    assert mine._view(replace(spec, gpus=("GPU-b",))).devices == ("/dev/nvidia-uvm", "/dev/nvidia1", "/dev/nvidiactl")


def test_choice_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pilvi.compute")
    compute = ProcessCompute("none")
    run(compute, shell("true"))
    run(compute, shell("true"))
    compute.close()
    assert [record.message for record in caplog.records] == ["programs of users run apart by none"]


def test_paths_are_relocated_without_namespaces(tmp_path: Path) -> None:
    from pilvi.compute import Bind
    from pilvi.compute.relocate import relocated

    spec = ProcessSpec(
        ("train", "--dir=/opt/ml/model", "/opt/mlx", "/opt/ml"),
        {"A": "/opt/ml/input:/tmp", "B": "s3://x/opt/ml"},
        binds=(Bind(tmp_path, "/opt/ml", True),),
        cwd="/opt/ml/code",
    )
    moved = relocated(spec)
    assert moved.command == ("train", f"--dir={tmp_path}/model", "/opt/mlx", str(tmp_path))
    assert moved.env == {"A": f"{tmp_path}/input:/tmp", "B": "s3://x/opt/ml"}
    assert moved.cwd == f"{tmp_path}/code"
