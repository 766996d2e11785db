"""Who is measured: how each server is started with its own defaults, and what it can be asked."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import boto3
from botocore.client import BaseClient
from botocore.config import Config
from botocore.credentials import Credentials

ROOT = Path(__file__).parent.parent
PEERS = ROOT / ".venv-bench" / "bin"
PATIENCE_S = 60.0


@dataclass
class Server:
    """A running server; `stop` ends the whole group that was started."""

    name: str
    endpoint: str
    process: subprocess.Popen[bytes]
    credentials: Credentials = field(default_factory=lambda: Credentials("123456789012", "test"))
    ready_s: float = 0.0

    @property
    def pid(self) -> int:
        return self.process.pid

    def client(self, service: str) -> BaseClient:
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.credentials.access_key,
            aws_secret_access_key=self.credentials.secret_key,
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 3}, read_timeout=30),
        )

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def launch(name: str, command: list[str], endpoint: str, folder: Path, path: str = "/", **env: str) -> Server:
    """Start a program and wait until it answers HTTP, whatever the answer."""
    begun = time.perf_counter()
    with open(folder / f"{name}.log", "wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **env}, cwd=folder, start_new_session=True
        )
    server = Server(name, endpoint, process)
    while not answers(endpoint + path):
        if process.poll() is not None or time.perf_counter() - begun > PATIENCE_S:
            server.stop()
            raise RuntimeError(f"{name} did not start: {(folder / f'{name}.log').read_text(errors='replace')[-500:]}")
        time.sleep(0.01)
    server.ready_s = time.perf_counter() - begun
    return server


def answers(url: str) -> bool:
    try:
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def pilvi(folder: Path, *options: str) -> Server:
    """Default settings: strict signatures, policies, audit, encryption at rest, every write synced."""
    port, data = free_port(), folder / "-".join(("pilvi", *options)).replace("--", "")
    program = str(ROOT / os.environ.get("PILVI_PROGRAM", ".venv/bin/pilvi"))
    begun = time.perf_counter()
    with open(folder / "pilvi.log", "ab") as log:
        process = subprocess.Popen(
            [program, "up", "--data-dir", str(data), "--port", str(port), *options],
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    server = Server("Pilvi, disk" if options else "Pilvi", f"http://127.0.0.1:{port}", process)
    assert process.stdout is not None
    try:
        if not process.stdout.readline().startswith(b"ready"):
            raise RuntimeError(f"Pilvi did not start: {(folder / 'pilvi.log').read_text(errors='replace')[-500:]}")
        server.ready_s = time.perf_counter() - begun
        exports = subprocess.run([program, "env", "--data-dir", str(data)], capture_output=True, text=True, timeout=30, check=True)
    except BaseException:
        server.stop()
        raise
    values = dict(
        word.split("=", 1) for line in exports.stdout.splitlines() for word in shlex.split(line, comments=True) if "=" in word
    )
    server.credentials = Credentials(values["AWS_ACCESS_KEY_ID"], values["AWS_SECRET_ACCESS_KEY"])
    return server


def pilvi_on_disk(folder: Path) -> Server:
    """The same for people whose disk is encrypted already."""
    return pilvi(folder, "--at-rest", "disk")


def seaweedfs(folder: Path) -> Server:
    """As it comes: no identities configured, so requests are served without a check; nothing synced."""
    port, data = free_port(), folder / "seaweedfs"
    data.mkdir()
    ports = {f"-{what}.port": free_port() for what in ("master", "volume", "filer")}
    grpc = {f"-{what}.port.grpc": free_port() for what in ("master", "volume", "filer", "s3")}
    options = [f"{name}={value}" for name, value in {**ports, **grpc, "-s3.port": port}.items()]
    command = [
        str(PEERS / "weed"),
        "server",
        "-s3",
        f"-dir={data}",
        "-ip=127.0.0.1",
        "-volume.max=20",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        *options,
    ]
    server = launch("SeaweedFS", command, f"http://127.0.0.1:{port}", folder)
    wait_for_bucket(server)
    return server


def wait_for_bucket(server: Server) -> None:
    """SeaweedFS answers before its volumes do: try until an object can be stored."""
    s3, deadline = server.client("s3"), time.perf_counter() + PATIENCE_S
    while True:
        try:
            s3.create_bucket(Bucket="probe")  # type: ignore[attr-defined]
            s3.put_object(Bucket="probe", Key="probe", Body=b"x")  # type: ignore[attr-defined]
        except Exception:
            if time.perf_counter() > deadline:
                server.stop()
                raise
            time.sleep(0.2)
        else:
            return


def ministack(folder: Path) -> Server:
    port = free_port()
    env = {"GATEWAY_PORT": str(port), "LOG_LEVEL": "WARNING"}
    return launch("MiniStack", [str(PEERS / "ministack")], f"http://127.0.0.1:{port}", folder, "/_ministack/health", **env)


def moto(folder: Path) -> Server:
    port = free_port()
    return launch("moto", [str(PEERS / "moto_server"), "-H", "127.0.0.1", "-p", str(port)], f"http://127.0.0.1:{port}", folder)


def nginx(folder: Path) -> Server:
    """Plain files without any check: what the machine itself can do."""
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if program is None:
        raise RuntimeError("nginx is not installed")
    port, home = free_port(), folder / "nginx"
    (home / "files").mkdir(parents=True)
    user = "user root;" if os.getuid() == 0 else ""
    (home / "nginx.conf").write_text(
        f"""{user} daemon off; master_process on; worker_processes 1; pid {home}/pid; error_log {home}/error.log;
        events {{ worker_connections 1024; }}
        http {{ access_log off; sendfile on; keepalive_requests 1000000000;
            client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; fastcgi_temp_path {home}/fastcgi;
            uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;
            server {{ listen 127.0.0.1:{port} backlog=512; root {home}/files; }} }}"""
    )
    return launch("nginx", [program, "-p", str(home), "-c", str(home / "nginx.conf")], f"http://127.0.0.1:{port}", folder)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
