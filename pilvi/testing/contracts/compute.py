"""What every Compute adapter promises. Each function takes a Compute and an empty folder and proves one promise.

`CONTRACT` holds for all; `APART` only where programs have namespaces of their own (`isolation != "none"`).
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pilvi.compute import Bind, Compute, Exit, Process, ProcessSpec
from pilvi.compute.environments import interpreter
from pilvi.core.errors import Unavailable

PATIENCE_S = 30.0
_ENV = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}


def shell(script: str, *, env: dict[str, str] | None = None) -> ProcessSpec:
    return ProcessSpec(("/bin/sh", "-c", script), {**_ENV, **(env or {})}, cwd="/tmp")


def python(script: str) -> ProcessSpec:
    """A program for the server's own interpreter, which has to be shown to it."""
    base = interpreter()
    return ProcessSpec((str(base.python), "-I", "-S", "-u", "-c", script), dict(_ENV), binds=base.binds, cwd="/tmp")


class Heard:
    """The lines of one program."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._came = threading.Condition()

    def __call__(self, line: str) -> None:
        with self._came:
            self.lines.append(line)
            self._came.notify_all()

    def wait_for(self, line: str) -> None:
        with self._came:
            assert self._came.wait_for(lambda: line in self.lines, PATIENCE_S), f"{line!r} never came: {self.lines}"


def run(compute: Compute, spec: ProcessSpec) -> tuple[Exit, list[str]]:
    heard = Heard()
    return _end(compute.launch(spec, heard)), heard.lines


def _end(process: Process) -> Exit:
    ended = process.wait(PATIENCE_S)
    assert ended is not None, "it did not end"
    assert process.poll() == ended
    return ended


def eventually(is_so: Callable[[], bool]) -> None:
    """Wait, but not for ever, for what another process brings about."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def is_alive(marker: str) -> bool:
    """Whether any process on this machine has these words in its command line."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (
                    marker.encode() in (entry / "cmdline").read_bytes()
                    and (entry / "stat").read_text().rsplit(")")[1].split()[0] != "Z"
                ):
                    return True
            except OSError:
                continue
    return False


# -- output and exit ------------------------------------------------------------------------------------------------------


def lines_come_in_order_from_both_streams(compute: Compute, _folder: Path) -> None:
    ended, lines = run(compute, shell("echo one; echo two >&2; echo; printf last"))
    assert (ended, lines) == (Exit(0), ["one", "two", "", "last"])


def lines_come_while_it_runs(compute: Compute, _folder: Path) -> None:
    heard = Heard()
    process = compute.launch(shell("echo started; sleep 600"), heard)
    heard.wait_for("started")
    assert process.poll() is None
    process.kill()
    assert _end(process).reason == "stopped"


def all_lines_are_there_when_the_exit_is_told(compute: Compute, _folder: Path) -> None:
    ended, lines = run(compute, shell("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done"))
    assert ended == Exit(0)
    assert lines == [f"line {number}" for number in range(20000)]


def invalid_utf8_is_replaced(compute: Compute, _folder: Path) -> None:
    _, lines = run(compute, shell(r"printf 'a\377b\n\303\244\n'"))
    assert lines == ["a\ufffdb", "ä"]


def overlong_lines_are_cut_but_nothing_is_lost(compute: Compute, _folder: Path) -> None:
    _, lines = run(compute, python("print('ä' * 500000); print('end')"))
    assert all(len(line.encode()) <= 256 << 10 for line in lines)
    assert "".join(lines[:-1]) == "ä" * 500000
    assert lines[-1] == "end"


def a_failing_listener_disturbs_nobody(compute: Compute, _folder: Path) -> None:
    def fail(line: str) -> None:
        raise RuntimeError(line)

    assert _end(compute.launch(shell("echo one; exit 4"), fail)) == Exit(4)
    assert run(compute, shell("echo two"))[1] == ["two"]


def exit_codes_and_signals_are_told(compute: Compute, _folder: Path) -> None:
    assert run(compute, shell("exit 3"))[0] == Exit(3)
    assert run(compute, shell("kill -SEGV $$"))[0] == Exit(-11)
    assert run(compute, shell("kill -KILL $$"))[0] == Exit(-9)


def a_missing_command_ends_at_once(compute: Compute, _folder: Path) -> None:
    ended, lines = run(compute, ProcessSpec(("/no/such/program",), dict(_ENV)))
    assert ended.code == 127
    assert "/no/such/program" in "\n".join(lines)


def nothing_is_inherited(compute: Compute, _folder: Path) -> None:
    os.environ["PILVI_CONTRACT_CANARY"] = "seen"
    try:
        _, lines = run(compute, shell("env | grep -v -E '^(PWD|SHLVL|_|OLDPWD)='; ls /proc/self/fd | wc -l", env={"OWN": "a b=c"}))
    finally:
        del os.environ["PILVI_CONTRACT_CANARY"]
    assert sorted(lines[:-1]) == ["LANG=C.UTF-8", "OWN=a b=c", "PATH=/usr/bin:/bin"]
    assert int(lines[-1]) == 4, "only the three standard streams, and the folder that ls reads"


def many_run_at_once(compute: Compute, _folder: Path) -> None:
    heard = [Heard() for _ in range(12)]
    processes = [compute.launch(shell(f"echo {number}; read x; exit {number}"), heard[number]) for number in range(12)]
    assert [_end(process).code for process in processes] == list(range(12))
    assert [one.lines for one in heard] == [[str(number)] for number in range(12)]


# -- its own files --------------------------------------------------------------------------------------------------------


def binds_are_where_the_spec_says(compute: Compute, folder: Path) -> None:
    (folder / "given").mkdir()
    (folder / "made").mkdir()
    (folder / "given" / "in.txt").write_text("hello\n")
    spec = shell("cat $GIVEN/in.txt; cat /opt/ml/in/in.txt > /opt/ml/out/out.txt; pwd", env={"GIVEN": "/opt/ml/in"})
    binds = (Bind(folder / "made", "/opt/ml/out", writable=True), Bind(folder / "given", "/opt/ml/in"))
    ended, lines = run(compute, replace(spec, binds=binds, cwd="/opt/ml/out"))
    assert ended == Exit(0)
    assert lines[0] == "hello"
    assert Path(lines[1]).name in {"out", "made"}
    assert (folder / "made" / "out.txt").read_text() == "hello\n"


# -- its end --------------------------------------------------------------------------------------------------------------


def stop_asks_first(compute: Compute, _folder: Path) -> None:
    heard = Heard()
    process = compute.launch(shell("trap 'echo asked; exit 5' TERM; echo ready; while :; do sleep 0.05; done"), heard)
    heard.wait_for("ready")
    process.stop(PATIENCE_S)
    assert _end(process) == Exit(5, "stopped")
    assert "asked" in heard.lines


def stop_reaches_the_whole_group(compute: Compute, _folder: Path) -> None:
    heard = Heard()
    child = "trap 'echo child asked; exit' TERM; echo ready; while :; do sleep 0.05; done"
    script = f"trap 'wait; exit 6' TERM; ({child}) & wait"
    process = compute.launch(shell(script), heard)
    heard.wait_for("ready")
    process.stop(PATIENCE_S)
    assert _end(process) == Exit(6, "stopped")
    assert "child asked" in heard.lines


def stop_insists_after_the_grace(compute: Compute, _folder: Path) -> None:
    heard = Heard()
    process = compute.launch(shell("trap '' TERM; echo ready; while :; do sleep 0.05; done"), heard)
    heard.wait_for("ready")
    process.stop(0.1)
    assert _end(process) == Exit(-9, "stopped")


def stop_right_after_launch_works(compute: Compute, _folder: Path) -> None:
    process = compute.launch(shell("sleep 600"), Heard())
    process.stop(PATIENCE_S * 2)
    assert _end(process).reason == "stopped"


def kill_ends_daemons_too(compute: Compute, folder: Path) -> None:
    heard = Heard()
    marker = f"6{folder.stat().st_ino}"
    process = compute.launch(shell(f"setsid sh -c 'setsid sleep {marker} & echo away' & sleep {marker}"), heard)
    heard.wait_for("away")
    eventually(lambda: is_alive(f"sleep\0{marker}"))
    process.kill()
    assert _end(process).reason == "stopped"
    eventually(lambda: not is_alive(f"sleep\0{marker}"))


def what_a_program_leaves_behind_ends_with_it(compute: Compute, folder: Path) -> None:
    marker = f"7{folder.stat().st_ino}"
    ended, lines = run(compute, shell(f"setsid sleep {marker} & echo done; exit 0"))
    assert (ended, lines) == (Exit(0), ["done"])
    eventually(lambda: not is_alive(f"sleep\0{marker}"))


def stop_and_kill_after_the_end_are_harmless(compute: Compute, _folder: Path) -> None:
    process = compute.launch(shell("exit 0"), Heard())
    _end(process)
    process.stop(1)
    process.kill()
    assert process.poll() == Exit(0)


def too_much_memory_ends_it(compute: Compute, _folder: Path) -> None:
    hungry = "import time\nkept = []\nwhile True:\n    kept.append(bytearray(b'x' * (8 << 20)))\n    time.sleep(0.005)"
    process = compute.launch(replace(python(hungry), memory_mib=128), Heard())
    assert _end(process).reason == "memory"
    assert process.peak_memory_mib() >= 128


def children_count_as_memory(compute: Compute, _folder: Path) -> None:
    hungry = "import os, time\nfor _ in range(3): os.fork()\nkept = bytearray(b'x' * (40 << 20))\ntime.sleep(600)"
    process = compute.launch(replace(python(hungry), memory_mib=128), Heard())
    assert _end(process).reason == "memory"


def memory_used_is_told(compute: Compute, _folder: Path) -> None:
    heard = Heard()
    process = compute.launch(python("kept = bytearray(b'x' * (60 << 20)); print('full'); import time; time.sleep(600)"), heard)
    heard.wait_for("full")
    assert 60 <= process.peak_memory_mib() < 140
    process.kill()
    _end(process)


def it_sees_as_many_cores_as_it_is_given(compute: Compute, _folder: Path) -> None:
    everything = run(compute, shell("nproc"))[1]
    assert run(compute, replace(shell("nproc"), cpus=1)) == (Exit(0), ["1"])
    assert run(compute, replace(shell("nproc"), cpus=1 << 20)) == (Exit(0), everything)
    assert run(compute, shell("nproc"))[1] == everything


def nodes_are_told(compute: Compute, _folder: Path) -> None:
    for node in compute.nodes():
        assert node.cpus >= 1
        assert node.memory_mib >= 128
        assert run(compute, replace(shell("echo there"), node=node.name)) == (Exit(0), ["there"])


# -- apart ----------------------------------------------------------------------------------------------------------------


def other_files_are_out_of_sight(compute: Compute, folder: Path) -> None:
    (folder / "canary").write_text("secret")
    (folder / "own").mkdir()
    spec = shell(f"cat {folder}/canary; cat /own/../canary; find / -name canary 2>/dev/null; ls /home /root; ls /")
    _, lines = run(compute, replace(spec, binds=(Bind(folder / "own", "/own", writable=True),)))
    assert not [line for line in lines if "secret" in line or line == f"{folder}/canary"]
    assert {"home", "root", "srv", "mnt", "work"}.isdisjoint(lines)


def other_processes_are_out_of_sight(compute: Compute, _folder: Path) -> None:
    script = f"ls -d /proc/{os.getpid()}; cat /proc/*/environ | tr '\\0' '\\n'; kill -0 {os.getpid()} && echo reached"
    os.environ["PILVI_CONTRACT_CANARY"] = "seen"
    try:
        _, lines = run(compute, shell(script))
    finally:
        del os.environ["PILVI_CONTRACT_CANARY"]
    assert f"/proc/{os.getpid()}" not in lines
    assert "reached" not in lines
    assert not [line for line in lines if "CANARY" in line]


def what_is_given_to_read_cannot_be_written(compute: Compute, folder: Path) -> None:
    (folder / "given").mkdir()
    spec = shell(
        "for place in /given/x /usr/x /etc/x /x; do echo x > $place && echo wrote $place; done; echo x > /tmp/pilvi-x && echo tmp"
    )
    _, lines = run(compute, replace(spec, binds=(Bind(folder / "given", "/given"),)))
    assert [line for line in lines if line.startswith("wrote")] == []
    assert lines[-1] == "tmp"
    assert not Path("/tmp/pilvi-x").exists()


def the_mounts_cannot_be_undone(compute: Compute, folder: Path) -> None:
    (folder / "canary").write_text("secret")
    script = (
        "grep -E '^Cap(Prm|Eff)' /proc/self/status; umount /tmp && echo undone; umount -l /proc && echo undone;"
        "mount -o remount,rw / && echo undone; mount -t tmpfs none /usr && echo undone;"
        f"unshare -Urm sh -c 'umount -l /tmp; umount -l /; mount -o remount,rw,bind /usr; echo x > /usr/x; cat {folder}/canary';"
        f"chroot /proc/1/root cat {folder}/canary; cat /proc/1/root{folder}/canary"
    )
    _, lines = run(compute, shell(script))
    assert [line for line in lines if line.startswith("Cap")] == ["CapPrm:\t0000000000000000", "CapEff:\t0000000000000000"]
    assert "undone" not in lines
    assert not [line for line in lines if "secret" in line]
    assert not Path("/usr/x").exists()


def it_has_its_own_names(compute: Compute, _folder: Path) -> None:
    script = (
        "import os, socket; print(socket.gethostname(), socket.gethostbyname('algo-1'), socket.gethostbyname('algo-2'));"
        "print(socket.gethostbyname('localhost'), os.getuid() != 0)"
    )
    ended, lines = run(compute, replace(python(script), hostname="algo-1", hosts={"algo-2": "127.0.0.2"}))
    assert (ended.code, lines) == (0, ["algo-1 127.0.0.1 127.0.0.2", "127.0.0.1 True"])


def the_network_can_be_taken_away(compute: Compute, _folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        script = (
            "import socket\n"
            f"def reach(port):\n  try: socket.create_connection(('127.0.0.1', port), 5); return 'reached'\n  except OSError: return 'not'\n"
            f"own = socket.create_server(('127.0.0.1', 0))\nprint(reach({port}), reach(own.getsockname()[1]))"
        )
        assert run(compute, python(script)) == (Exit(0), ["reached reached"])
        assert run(compute, replace(python(script), network=False)) == (Exit(0), ["not reached"])


def a_python_program_starts(compute: Compute, _folder: Path) -> None:
    script = "import os, ssl, sqlite3, multiprocessing; multiprocessing.Lock(); print(open('/etc/passwd').read().count('user:'))"
    assert run(compute, python(script)) == (Exit(0), ["1"])


def close_ends_everything(compute: Compute, folder: Path) -> None:
    marker = f"8{folder.stat().st_ino}"
    process = compute.launch(shell(f"trap '' TERM; setsid sleep {marker} & sleep {marker}"), Heard())
    eventually(lambda: is_alive(f"sleep\0{marker}"))
    compute.close()
    assert process.poll() is not None
    assert process.poll().reason == "stopped"  # type: ignore[union-attr]
    eventually(lambda: not is_alive(f"sleep\0{marker}"))
    try:
        compute.launch(shell("exit 0"), Heard())
    except Unavailable:
        return
    raise AssertionError("it launches although it is closed")


CONTRACT: list[Callable[[Compute, Path], None]] = [
    lines_come_in_order_from_both_streams,
    lines_come_while_it_runs,
    all_lines_are_there_when_the_exit_is_told,
    invalid_utf8_is_replaced,
    overlong_lines_are_cut_but_nothing_is_lost,
    a_failing_listener_disturbs_nobody,
    exit_codes_and_signals_are_told,
    a_missing_command_ends_at_once,
    nothing_is_inherited,
    many_run_at_once,
    binds_are_where_the_spec_says,
    stop_asks_first,
    stop_reaches_the_whole_group,
    stop_insists_after_the_grace,
    stop_right_after_launch_works,
    kill_ends_daemons_too,
    what_a_program_leaves_behind_ends_with_it,
    stop_and_kill_after_the_end_are_harmless,
    too_much_memory_ends_it,
    children_count_as_memory,
    memory_used_is_told,
    it_sees_as_many_cores_as_it_is_given,
    nodes_are_told,
    close_ends_everything,
]
APART: list[Callable[[Compute, Path], None]] = [
    other_files_are_out_of_sight,
    other_processes_are_out_of_sight,
    what_is_given_to_read_cannot_be_written,
    the_mounts_cannot_be_undone,
    it_has_its_own_names,
    the_network_can_be_taken_away,
    a_python_program_starts,
]
