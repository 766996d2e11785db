"""Ranks of one host: the same program started several times, each told its place, as torchrun tells it or as Open MPI does.

    pilvi_ranks {torch|mpi} FIRST COUNT SIZE -- python train.py ...

Takes no package, so ranks start as soon as they are asked for (torchrun would import PyTorch once more in front of them).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from types import FrameType

GRACE_S = 30
_LOOK_S = 0.05


def torch_place(first: int, local: int, count: int, size: int) -> dict[str, str]:
    """Source: PyTorch, docs/source/elastic/run.rst, "Environment Variables"."""
    rank = first + local
    found = {
        "RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(local), "LOCAL_WORLD_SIZE": str(count),
        "GROUP_RANK": str(first // count), "GROUP_WORLD_SIZE": str(size // count),
        "ROLE_RANK": str(rank), "ROLE_WORLD_SIZE": str(size), "ROLE_NAME": "default",
        "TORCHELASTIC_RUN_ID": os.environ.get("TRAINING_JOB_NAME", "none"), "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
    }  # fmt: skip
    if count > 1 and "OMP_NUM_THREADS" not in os.environ:
        found["OMP_NUM_THREADS"] = "1"
    return found


def mpi_place(first: int, local: int, count: int, size: int) -> dict[str, str]:
    """The variables that Open MPI's ranks have."""
    return {
        "OMPI_COMM_WORLD_RANK": str(first + local), "OMPI_COMM_WORLD_SIZE": str(size),
        "OMPI_COMM_WORLD_LOCAL_RANK": str(local), "OMPI_COMM_WORLD_LOCAL_SIZE": str(count),
        "OMPI_COMM_WORLD_NODE_RANK": str(local),
    }  # fmt: skip


PLACES = {"torch": torch_place, "mpi": mpi_place}


def run(kind: str, first: int, count: int, size: int, command: list[str]) -> int:
    """Start them and wait; the first bad end is everybody's end, and the answer."""
    place = PLACES[kind]
    signal.signal(signal.SIGTERM, _is_heard)
    children = [subprocess.Popen(command, env={**os.environ, **place(first, local, count, size)}) for local in range(count)]
    while any(child.poll() is None for child in children):
        if any(child.poll() for child in children):
            break
        time.sleep(_LOOK_S)
    code = next((child.returncode for child in children if child.returncode), 0)
    _end(children)
    return code if code >= 0 else 128 - code


def _is_heard(number: int, frame: FrameType | None) -> None:
    """The ranks get a request to stop themselves, as members of the process group."""
    del number, frame


def _end(children: list[subprocess.Popen[bytes]]) -> None:
    for child in children:
        if child.poll() is None:
            child.terminate()
    until = time.monotonic() + GRACE_S
    for child in children:
        try:
            child.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()


if __name__ == "__main__":
    cut = sys.argv.index("--")
    FIRST, COUNT, SIZE = map(int, sys.argv[2:cut])
    sys.exit(run(sys.argv[1], FIRST, COUNT, SIZE, sys.argv[cut + 1 :]))
