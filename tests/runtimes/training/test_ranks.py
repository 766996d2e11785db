"""Ranks of one host, and the door of a host for MPI launches: programs by themselves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.runtimes.training.conftest import SUPPORT

ENV = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SUPPORT), "TRAINING_JOB_NAME": "job-1"}


def ranks(kind: str, first: int, count: int, size: int, program: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "pilvi_ranks", kind, str(first), str(count), str(size), "--", sys.executable, "-c", program]
    return subprocess.run(line, env=ENV, capture_output=True, text=True, timeout=60, check=False)


def test_torch_ranks_know_their_places() -> None:
    names = "'RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'LOCAL_WORLD_SIZE', 'GROUP_RANK', 'OMP_NUM_THREADS'"
    done = ranks("torch", 2, 2, 4, f"import os\nos.write(1, (' '.join(os.environ[name] for name in ({names})) + '\\n').encode())")
    assert sorted(done.stdout.splitlines()) == ["2 4 0 2 1 1", "3 4 1 2 1 1"]


def test_a_failing_rank_ends_the_others() -> None:
    done = ranks(
        "mpi", 0, 2, 2, "import os, time\nif os.environ['OMPI_COMM_WORLD_RANK'] == '1': raise SystemExit(7)\ntime.sleep(600)"
    )
    assert done.returncode == 7


def test_the_door_lets_in_who_knows_the_jobs_keys() -> None:
    env = ENV | {"SM_CURRENT_HOST": "127.0.0.1", "AWS_SECRET_ACCESS_KEY": "right"}
    with subprocess.Popen([sys.executable, "-m", "pilvi_mpi", "serve"], env=env, stdout=subprocess.PIPE, text=True) as door:
        try:
            call = [sys.executable, "-m", "pilvi_mpi", "call", "127.0.0.1", "exit", "5"]
            assert subprocess.run(call, env=env, timeout=30, check=False).returncode == 5
            stranger = subprocess.run(
                call, env=env | {"AWS_SECRET_ACCESS_KEY": "wrong"}, capture_output=True, timeout=30, check=False
            )
            assert stranger.returncode == 1
        finally:
            door.kill()


def test_a_rank_that_ends_leaves_its_group(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").touch()
    (tmp_path / "torch" / "distributed.py").write_text(
        "is_available = is_initialized = lambda: True\ndef destroy_process_group(): print('left')\n"
    )
    env = {"PYTHONPATH": f"{SUPPORT}:{tmp_path}", "RANK": "0", "WORLD_SIZE": "1"}
    for script, said in (("print('done')", "done\nleft\n"), ("raise SystemExit", "left\n"), ("1 / 0", "")):
        command = [sys.executable, "-c", f"import torch.distributed; {script}"]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout == said, done.stderr
