"""One server for one data directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pilvi.core.errors import Unavailable
from pilvi.storage.lock import lock_data_dir

HOLD = "import sys, pathlib; from pilvi.storage.lock import lock_data_dir; lock_data_dir(pathlib.Path(sys.argv[1]), 'http://127.0.0.1:4566'); print('held', flush=True); sys.stdin.read()"


def test_a_second_server_is_told_who_holds_the_directory(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "data"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(Unavailable, match=rf"in use by another server \(process {holder.pid}, http://127.0.0.1:4566\)"):
        lock_data_dir(tmp_path / "data", "second")
    holder.kill()
    holder.wait()
    holder.stdin.close()
    holder.stdout.close()
    lock_data_dir(tmp_path / "data", "third").release()


def test_a_released_directory_is_free(tmp_path: Path) -> None:
    lock = lock_data_dir(tmp_path / "new" / "data")
    with pytest.raises(Unavailable, match=f"process {os.getpid()}"):
        lock_data_dir(tmp_path / "new" / "data")
    lock.note("http://127.0.0.1:9")
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9"):
        lock_data_dir(tmp_path / "new" / "data")
    lock.release()
    lock.release()
    lock_data_dir(tmp_path / "new" / "data").release()
