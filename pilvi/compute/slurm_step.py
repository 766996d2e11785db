"""The program inside a Slurm job: runs one program of a server that shares its file system, apart like on the server's own machine.

    python -m pilvi.compute.slurm_step FOLDER      FOLDER/spec.pickle -> lines on standard output, FOLDER/exit.json at the end

SIGTERM asks the program to end; a sign of life that grows old (FOLDER/../alive) ends it: its server is gone.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from pilvi.compute import ProcessSpec
from pilvi.compute.process import ProcessCompute

OLD_S = 180.0
_LOOK_S = 5.0


def main(folder: Path, old_s: float = OLD_S) -> int:
    isolation, hidden, spec, host, address = pickle.loads(
        (folder / "spec.pickle").read_bytes()
    )  # written by our own server, mode 0600
    compute = ProcessCompute(isolation, hidden=hidden, folder=folder)
    ended = None
    try:
        process = compute.launch(spec if os.uname().nodename == host else away(spec, address), _say)
        signal.signal(signal.SIGTERM, lambda *_: process.stop(float((folder / "grace").read_text() or 30)))
        sign = folder.parent / "alive"
        while (ended := process.wait(min(_LOOK_S, old_s))) is None:
            if not sign.exists() or time.time() - sign.stat().st_mtime > old_s:
                process.kill()
        _tell(folder, {"code": ended.code, "reason": ended.reason, "peak_mib": process.peak_memory_mib()})
    finally:
        compute.close()
    return 0


def away(spec: ProcessSpec, address: str) -> ProcessSpec:
    """On another machine the server's loopback address leads nowhere."""
    return replace(spec, env={name: value.replace("//127.0.0.1:", f"//{address}:") for name, value in spec.env.items()})


def _say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def _tell(folder: Path, facts: dict[str, Any]) -> None:
    fresh = folder / f"exit.{threading.get_ident()}"
    fresh.write_text(json.dumps(facts))
    fresh.replace(folder / "exit.json")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *map(float, sys.argv[2:])))
