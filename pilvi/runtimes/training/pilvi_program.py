"""A customer's program: run to its end, and its last words."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
from pathlib import Path
from types import FrameType

from pilvi_environment import OUTPUT

TAIL_BYTES = 64 << 10
OTHER_LINES = 3


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
    while piece := os.read(child.stderr.fileno(), 65536):
        os.write(2, piece)
        tail = (tail + piece)[-TAIL_BYTES:]
    code = child.wait()
    # A signal is told as shells tell it, and as AWS does: 137 for SIGKILL.
    return (code if code >= 0 else 128 - code), tail


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
