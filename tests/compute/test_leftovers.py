"""What a killed server may leave behind is ended by the next one on its folder, and by nobody else's."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from pilvi.compute.leftovers import end_leftovers

pytestmark = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed: apt-get install bubblewrap")


def test_end_leftovers_kills_sandboxes_of_the_folder_only(tmp_path: Path) -> None:
    mine, other = tmp_path / "mine", tmp_path / "mine-too"
    for folder in (mine, other):
        (folder / "jobs").mkdir(parents=True)
    sandboxes = [
        subprocess.Popen(
            [
                "bwrap",
                "--unshare-user",
                "--unshare-pid",
                "--die-with-parent",
                "--dev-bind",
                "/",
                "/",
                "--bind",
                folder / "jobs",
                "/mnt",
                "--",
                "sleep",
                "600",
            ]
        )
        for folder in (mine, other)
    ]
    try:
        assert end_leftovers(mine)
        assert sandboxes[0].wait(timeout=10) == -signal.SIGKILL
        assert sandboxes[1].poll() is None
    finally:
        for sandbox in sandboxes:
            sandbox.kill()
            sandbox.wait()
