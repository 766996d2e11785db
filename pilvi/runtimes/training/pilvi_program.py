"""A customer's program: run to its end, and its last words."""

from __future__ import annotations

import itertools
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from pilvi_environment import OUTPUT

TAIL_BYTES = 64 << 10
OTHER_LINES = 3
DRAIN_S, QUIET_S = 2.0, 0.2
"""After a program's end: how long the rest of its words is read at most, and which silence is the end of them."""


def run(command: list[str], env: dict[str, str], folder: Path) -> tuple[int, bytes]:
    """Run it to its end: exit status as shells tell it, and the end of what it said on stderr.

    A request to stop goes to the whole process group, so the script has it already: whoever waits for it only must not die first.
    """

    def is_heard(number: int, frame: FrameType | None) -> None:
        del number, frame

    signal.signal(signal.SIGTERM, is_heard)
    child = subprocess.Popen(command, env=env, cwd=folder, stderr=subprocess.PIPE)
    tail = b""
    assert child.stderr is not None
    for piece in _pieces(child.pid, child.stderr.fileno()):
        os.write(2, piece)
        tail = (tail + piece)[-TAIL_BYTES:]
    code = child.wait()
    # A signal is told as shells tell it, and as AWS does: 137 for SIGKILL.
    return (code if code >= 0 else 128 - code), tail


def _pieces(pid: int, said: int) -> Iterator[bytes]:
    """What a program says until its end, whoever of its children lives on and keeps the pipe open.

    Differs: AWS's toolkit waits for those children, so that a script that leaves one behind runs into MaxRuntimeInSeconds.
    """
    end = os.pidfd_open(pid)
    until = None
    try:
        while until is None or (left := until - time.monotonic()) > 0:
            waited = ([said, end], None) if until is None else ([said], min(QUIET_S, left))
            ready, _, _ = select.select(waited[0], [], [], waited[1])
            if said in ready:
                if not (piece := os.read(said, 65536)):
                    return
                yield piece
            elif until is not None:
                return
            if end in ready:
                until = time.monotonic() + DRAIN_S
    finally:
        os.close(end)


def last_words(tail: bytes) -> str:
    """The exception at the end of a traceback, or the last lines where there is no traceback."""
    lines = tail.decode(errors="replace").rstrip().splitlines()
    starts = [number for number, line in enumerate(lines) if "Traceback (most recent call last)" in line]
    if not starts:
        return "\n".join(lines[-OTHER_LINES:])
    # Ranks of a launch mark their lines ("[rank1]: ", "[1,mpirank:1,algo-2]<stderr>:"); the first that failed tells the reason.
    mark = lines[starts[0]].split("Traceback")[0]
    start = max(number for number in starts if lines[number].startswith(f"{mark}Traceback"))
    after = [line.removeprefix(mark) for line in itertools.takewhile(lambda line: line.startswith(mark), lines[start + 1 :])]
    first = next((number for number, line in enumerate(after) if line and not line[0].isspace()), 0)
    return "\n".join(itertools.takewhile(lambda line: not line.startswith("-----"), after[first:])).rstrip()


def tell_failure(text: str) -> None:
    """The failure file, unless the program has written one."""
    failure = OUTPUT / "failure"
    if not failure.exists():
        failure.parent.mkdir(parents=True, exist_ok=True)
        failure.write_text(text)
