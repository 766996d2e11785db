"""Servers as a user starts them: `pilvi up` in a process of its own, pointed to by `pilvi env`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from pilvi.testing.server import Account

PILVI = str(Path(sys.executable).with_name("pilvi"))


class Up:
    """A `pilvi up` on a data directory; `kill` is kill -9."""

    def __init__(self, data_dir: Path, *options: str, like: Up | None = None) -> None:
        """like: an earlier server on the same directory, whose keys need not be asked for again."""
        self.data_dir = data_dir
        environ = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        self.process = subprocess.Popen(
            [PILVI, "up", "--data-dir", str(data_dir), "--port", "0", *options], stdout=subprocess.PIPE, text=True, env=environ
        )
        assert self.process.stdout is not None
        self.ready_line = self.process.stdout.readline()
        assert self.ready_line.startswith("ready"), self.ready_line
        self.exports: dict[str, str] = (
            self._exports() if like is None else {**like.exports, "AWS_ENDPOINT_URL": self.ready_line.split()[2]}
        )
        self.endpoint = self.exports["AWS_ENDPOINT_URL"]
        self.root = Account(self.endpoint, "123456789012", self.exports["AWS_ACCESS_KEY_ID"], self.exports["AWS_SECRET_ACCESS_KEY"])

    def _exports(self) -> dict[str, str]:
        done = subprocess.run([PILVI, "env", "--data-dir", str(self.data_dir)], capture_output=True, text=True, check=True)
        lines = [line.removeprefix("export ") for line in done.stdout.splitlines() if line.startswith("export ")]
        return {name: value.strip("'") for name, _, value in (line.partition("=") for line in lines)}

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def kill(self) -> None:
        self.process.kill()
        self.stop()
