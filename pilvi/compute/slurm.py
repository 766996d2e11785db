"""Slurm as the place where programs run: each program is a batch job; Slurm decides where, and queues.

    SlurmCompute -- sbatch, squeue, scancel -- slurm_step.py on a node -- ProcessCompute -- the program
         +- one thread reads what the programs wrote and asks what became of them

The nodes share the server's file system, this installation included, at the same paths.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import pilvi
from pilvi.compute import Exit, Node, ProcessSpec
from pilvi.compute.machine import own_address
from pilvi.core.errors import Unavailable

log = logging.getLogger("pilvi.compute")

_READ_S = 0.2
_ASK_S = 2.0
"""How often squeue is asked."""
_SIGN_S = 30.0
_COMMAND_S = 60.0
_CLOSE_S = 10.0
_GONE_S = 10.0
"""A job that Slurm knows no more and that has told no end is lost; its last words may take so long to be seen here."""


class SlurmCompute:
    def __init__(self, partition: str, isolation: str, hidden: Sequence[Path], folder: Path) -> None:
        """partition: '' for Slurm's own default. Unavailable where Slurm's commands are not there."""
        for command in ("sbatch", "squeue", "scancel"):
            if shutil.which(command) is None:
                raise Unavailable(f"Programs run on Slurm only where its commands are: {command} is not there.")
        self._partition = partition
        self._isolation = isolation
        self._hidden = tuple(hidden)
        self._folder = folder / "slurm"
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True, mode=0o700)
        self._sign = self._folder / "alive"
        self._sign.touch()
        self._jobs: dict[str, BatchJob] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def isolation(self) -> str:
        """What the nodes do; they are taken to be like this machine."""
        return "none" if self._isolation == "none" else "slurm"

    def nodes(self) -> Sequence[Node]:
        return ()

    def launch(self, spec: ProcessSpec, on_line: Callable[[str], None]) -> BatchJob:
        if len(spec.hosts) > 1:
            raise Unavailable("Jobs on several instances do not run on Slurm: their hosts could not find each other.")
        folder = self._folder / uuid.uuid4().hex
        folder.mkdir(mode=0o700)
        (folder / "spec.pickle").touch(mode=0o600)
        (folder / "spec.pickle").write_bytes(
            pickle.dumps((self._isolation, self._hidden, spec, os.uname().nodename, own_address()))
        )
        (folder / "grace").write_text("30")
        (folder / "lines").touch()
        with self._lock:
            if self._closed.is_set():
                raise Unavailable("The server is stopping.")
            job = BatchJob(folder, submit(folder, spec, self._partition), on_line)
            self._jobs[job.id] = job
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="pilvi-slurm", daemon=True)
                self._thread.start()
        return job

    def close(self) -> None:
        self._closed.set()
        with self._lock:
            left = list(self._jobs.values())
        for job in left:
            job.kill()
        for job in left:
            job.wait(_CLOSE_S)
        self._sign.unlink(missing_ok=True)

    # -- private ------------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Bring every program's lines; now and then ask Slurm, and give a sign of life."""
        asked = signed = 0.0
        while not (self._closed.is_set() and not self._jobs):
            now = time.monotonic()
            if now - signed > _SIGN_S:
                self._sign.touch()
                signed = now
            with self._lock:
                jobs = dict(self._jobs)
            states = None
            if jobs and now - asked > _ASK_S:
                states, asked = states_of(list(jobs)), now
            for id, job in jobs.items():
                if self._has_ended(job, None if states is None else states.get(id, ("", ""))):
                    with self._lock:
                        self._jobs.pop(id, None)
            time.sleep(_READ_S)

    def _has_ended(self, job: BatchJob, state: tuple[str, str] | None) -> bool:
        try:
            return job.look(state)
        except Exception:  # trouble with one program must not end the thread that all others need
            log.exception("Slurm job %s could not be followed and is ended", job.id)
            job.lose()
            return True


class BatchJob:
    """A program that Slurm runs."""

    def __init__(self, folder: Path, id: str, on_line: Callable[[str], None]) -> None:
        self.pid = 0
        self.id = id
        self._folder = folder
        self._on_line = on_line
        self._read_to = 0
        self._rest = b""
        self._said: set[str] = set()
        self._missing_since: float | None = None
        self._is_stopped = False
        self._has_to_end_at: float | None = None
        self._peak_mib = 0
        self._exit: Exit | None = None
        self._ended = threading.Event()

    def poll(self) -> Exit | None:
        return self._exit

    def wait(self, timeout_s: float | None = None) -> Exit | None:
        self._ended.wait(timeout_s)
        return self._exit

    def stop(self, grace_s: float) -> None:
        if self._exit is None and not self._is_stopped:
            self._is_stopped = True
            (self._folder / "grace").write_text(str(grace_s))
            # What waits ends at once; what runs is asked, and its step insists after the grace.
            self._cancel("--state=PENDING")
            self._cancel("--batch", "--signal=TERM")
            self._has_to_end_at = time.monotonic() + grace_s + _GONE_S

    def kill(self) -> None:
        if self._exit is None:
            self._is_stopped = True
            self._cancel("--state=PENDING")
            self._cancel("--full", "--signal=KILL")

    def peak_memory_mib(self) -> int:
        """Told when it has ended."""
        return self._peak_mib

    # -- for the watch ------------------------------------------------------------------------------------------------

    def look(self, state: tuple[str, str] | None) -> bool:
        """Bring its news; whether it has ended. state: what Slurm says, with why; ("", "") when it knows no such job."""
        told = self._folder / "exit.json"
        ended = json.loads(told.read_text()) if told.exists() else None
        self._bring_lines(is_all=ended is not None)
        if ended is not None:
            self._peak_mib = ended["peak_mib"]
            self._finish(Exit(ended["code"], "stopped" if self._is_stopped and ended["reason"] == "exit" else ended["reason"]))
        elif state is not None:
            self._heed(*state)
        if self._has_to_end_at is not None and time.monotonic() > self._has_to_end_at:
            self._has_to_end_at = None
            self.kill()
        return self._exit is not None

    def lose(self) -> None:
        """End it: nothing more can be heard of it."""
        self.kill()
        self._finish(Exit(-9, "lost"))

    def _heed(self, state: str, why: str) -> None:
        if state == "PENDING" and why not in ("", "None") and why not in self._said:
            self._said.add(why)
            self._say(f"Waiting for Slurm: {why}")
        if state:
            self._missing_since = None
        elif self._missing_since is None:
            self._missing_since = time.monotonic()
        elif self._is_stopped or time.monotonic() - self._missing_since > _GONE_S:
            self._bring_lines(is_all=True)
            self._finish(Exit(-9, "stopped" if self._is_stopped else "lost"))

    def _bring_lines(self, *, is_all: bool) -> None:
        with (self._folder / "lines").open("rb") as file:
            file.seek(self._read_to)
            data = file.read()
            self._read_to = file.tell()
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._say(line.decode(errors="replace"))
        if is_all and self._rest:
            self._say(self._rest.decode(errors="replace"))
            self._rest = b""

    def _finish(self, ended: Exit) -> None:
        self._exit = ended
        self._ended.set()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _cancel(self, *options: str) -> None:
        threading.Thread(target=_tell, args=(["scancel", *options, self.id],), name="pilvi-scancel", daemon=True).start()

    def _say(self, line: str) -> None:
        try:
            self._on_line(line)
        except Exception:  # one listener's bug must not silence every other program
            log.exception("a listener to the output of Slurm job %s failed", self.id)


# -- Slurm's commands -----------------------------------------------------------------------------------------------------


def submit(folder: Path, spec: ProcessSpec, partition: str) -> str:
    """Give a program to Slurm; its job id. Unavailable, in Slurm's words, when it does not take it."""
    told = _run(["sbatch", *options(folder, spec, partition)], batch_script(folder))
    if told.returncode != 0:
        raise Unavailable(f"Slurm does not take the program: {told.stderr.strip()}")
    return told.stdout.strip().partition(";")[0]


def options(folder: Path, spec: ProcessSpec, partition: str) -> list[str]:
    """What a program asks of Slurm."""
    found = ["--parsable", "--ntasks=1", "--no-requeue", "--export=NIL", f"--job-name=pilvi-{spec.hostname}"]
    found += [f"--output={folder}/lines", f"--error={folder}/lines", "--open-mode=append", "--chdir=/"]
    if spec.cpus is not None:
        found.append(f"--cpus-per-task={spec.cpus}")
    if spec.memory_mib is not None:
        # The program's own watch ends it first, and can tell why.
        found.append(f"--mem={spec.memory_mib + 256}M")
    if spec.gpus:
        found.append(f"--gres=gpu:{len(spec.gpus)}")
    if partition:
        found.append(f"--partition={partition}")
    return found


def batch_script(folder: Path) -> str:
    """Runs the step with this server's own interpreter and packages."""
    paths = os.pathsep.join([str(Path(pilvi.__file__).parents[1]), *(path for path in sys.path if path.endswith("site-packages"))])
    return (
        "#!/bin/sh\n"
        f"export PYTHONPATH='{paths}' PATH=/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8\n"
        f"exec '{sys.executable}' -m pilvi.compute.slurm_step '{folder}'\n"
    )


def states_of(ids: Sequence[str]) -> dict[str, tuple[str, str]] | None:
    """State and reason of jobs; those that Slurm knows no more are not there. None when it does not answer."""
    told = _run(["squeue", "--noheader", "--format=%i|%T|%r", "--states=all", f"--jobs={','.join(ids)}"])
    if told.returncode != 0 and "Invalid job id" not in told.stderr:
        return None
    found = {}
    for line in told.stdout.splitlines():
        id, state, why = (*line.strip().split("|", 2), "", "")[:3]
        if state in ("PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "RESIZING", "STAGE_OUT"):
            found[id] = (state, why)
    return found


def _tell(command: list[str]) -> None:
    _run(command)


def _run(command: list[str], text: str = "") -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=_COMMAND_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))
