"""The job's hosts as one Spark standalone cluster.

    first host: master, a worker, and the application (submit.py)      other hosts: a worker each

The other hosts stay for as long as the first keeps a connection open with each of them. When the application has ended the first
sends a byte; a connection that closes without it means that the first host was lost.

Other jobs of the machine can reach these ports, too: Spark's programs talk only to those that know the job's secret.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from types import TracebackType

MASTER_PORT = 7077
PRESENCE_PORT = 7070
_PATIENCE_S = 120.0
_TICK_S = 0.2
_ENDED = b"."


class Head:
    """The first host's part. Use it with `with`: nothing of it outlives the block."""

    def __init__(self, me: str, hosts: list[str], memory_mib: int, env: dict[str, str]) -> None:
        self.settings = {
            "spark.master": f"spark://{me}:{MASTER_PORT}",
            "spark.driver.host": me,
            "spark.driver.bindAddress": socket.gethostbyname(me),
            # Work starts when every host is there, or when the first has waited long enough.
            "spark.scheduler.minRegisteredResourcesRatio": "1.0",
            "spark.scheduler.maxRegisteredResourcesWaitingTime": f"{int(_PATIENCE_S)}s",
            "spark.authenticate": "true",
            "spark.authenticate.secret": secret(env),
        }
        self._me = me
        self._others = len(hosts) - 1
        self._memory_mib = memory_mib
        self._env = env
        self._programs: list[subprocess.Popen[bytes]] = []
        self._peers: list[socket.socket] = []
        self._door = socket.create_server((socket.gethostbyname(me), PRESENCE_PORT), backlog=len(hosts))

    def __enter__(self) -> Head:
        threading.Thread(target=self._welcome, daemon=True).start()
        line = [spark_class(), "org.apache.spark.deploy.master.Master", "--host", self._me, "--port", str(MASTER_PORT)]
        self._programs.append(subprocess.Popen(line, env=_daemon(self._env)))
        wait_for_port(self._me, MASTER_PORT, self._programs[0])
        self._programs.append(worker(self._me, self._me, self._memory_mib, self._env))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for program in reversed(self._programs):
            end(program)
        self._door.close()
        for peer in self._peers:
            peer.close()

    def ended(self, code: int) -> int:
        """Tell the others that the application is done, however it went; gives its status on."""
        for peer in self._peers:
            with contextlib.suppress(OSError):
                peer.sendall(_ENDED)
        return code

    def _welcome(self) -> None:
        for _ in range(self._others):
            try:
                self._peers.append(self._door.accept()[0])
            except OSError:
                return


def serve(me: str, first: str, memory_mib: int, env: dict[str, str]) -> int:
    """Another host's part: a worker for as long as the first host is there."""
    with connected(first, PRESENCE_PORT) as presence:
        wait_for_port(first, MASTER_PORT, None)
        program = worker(me, first, memory_mib, env)
        told: list[bytes] = []
        listener = threading.Thread(target=lambda: told.append(presence.recv(1)), daemon=True)
        listener.start()
        while listener.is_alive() and program.poll() is None:
            listener.join(_TICK_S)
        end(program)
    if listener.is_alive():
        print(f"smspark-submit: the Spark worker of {me} ended with status {program.returncode}", file=sys.stderr)
        return 1
    return 0 if told == [_ENDED] else 1


def worker(me: str, first: str, memory_mib: int, env: dict[str, str]) -> subprocess.Popen[bytes]:
    """A worker that lends the application what one executor wants of this host (settings.py)."""
    share = max(512, memory_mib * 3 // 10)
    line = [
        spark_class(),
        "org.apache.spark.deploy.worker.Worker",
        "--host",
        me,
        "--memory",
        f"{share}M",
        "--work-dir",
        "/tmp/spark-work",
    ]
    return subprocess.Popen([*line, f"spark://{first}:{MASTER_PORT}"], env=_daemon(env))


def _daemon(env: dict[str, str]) -> dict[str, str]:
    """Master and worker only talk; their own pages would be seen by everybody on the machine."""
    return {
        **env,
        "SPARK_DAEMON_MEMORY": "256m",
        "SPARK_MASTER_OPTS": "-Dspark.ui.enabled=false -Dspark.authenticate=true",
        "SPARK_WORKER_OPTS": "-Dspark.ui.enabled=false -Dspark.authenticate=true",
        "_SPARK_AUTH_SECRET": secret(env),
    }


def secret(env: Mapping[str, str]) -> str:
    """What all hosts of the job know and nobody else: made from its keys, which are the same on every host."""
    return hashlib.sha256(f"spark {env.get('AWS_SECRET_ACCESS_KEY', '')}".encode()).hexdigest()


def connected(host: str, port: int) -> socket.socket:
    """A connection, as soon as there is somebody."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            found = socket.create_connection((host, port), timeout=5)
            found.settimeout(None)
            return found
        except OSError:
            if time.monotonic() > deadline:
                sys.exit(f"smspark-submit: {host} cannot be reached on port {port}.")
            time.sleep(_TICK_S)


def wait_for_port(host: str, port: int, program: subprocess.Popen[bytes] | None) -> None:
    """Until somebody listens there; ends the program when who should listen has ended."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=5):
            return
        if time.monotonic() > deadline or (program is not None and program.poll() is not None):
            sys.exit(f"smspark-submit: Spark's master on {host} does not come up.")
        time.sleep(_TICK_S)


def end(program: subprocess.Popen[bytes]) -> None:
    """At once: nothing of it is needed any more, and its folder goes with the job."""
    program.kill()
    program.wait()


def spark_class() -> str:
    return shutil.which("spark-class", path=os.environ.get("PATH")) or "spark-class"
