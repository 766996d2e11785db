"""A batch transform on one host: the model's own server is started here, and every input file goes through it.

    file -> records (pilvi_transform_split) -> batches -> requests, several at once -> answers in order -> <name>.out

/opt/ml/input/config/transform.json says what to do. A file whose records cannot be transformed has no output; the others go on, and the job
fails at the end with the names of those files. Standard library only: what it imports is the time before the first request.
"""

from __future__ import annotations

import collections
import concurrent.futures
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pilvi_transform_join as joining
import pilvi_transform_split as splitting

BASE = Path(os.environ.get("SAGEMAKER_BASE_DIR") or "/opt/ml")
_SOCKET = "model.sock"
_START_S = 600
_LOOK_S = 0.02
_FAILURE_CHARACTERS = 1000


class ClientError(Exception):
    """The job's owner can mend it."""


class BadFile(Exception):
    """One input file cannot be transformed."""


def main() -> int:
    config = json.loads((BASE / "input/config/transform.json").read_text())
    servers: list[Server] = []
    try:
        servers = [Server(number, one) for number, one in enumerate(config["containers"])]
        for server in servers:
            server.start()
        for server in servers:
            server.until_answering()
        failed = Transform(config, servers).run()
        if failed:
            names = "; ".join(failed)
            raise ClientError(f"{len(failed)} of the input files could not be transformed: {names}")
    except ClientError as error:
        print(f"[sagemaker logs]: {error}", flush=True)
        _leave(f"ClientError: {error}")
        return 2
    except ServerEnded as error:
        _leave(f"AlgorithmError: {error}")
        return 1
    finally:
        for server in servers:
            server.stop()
    return 0


def _leave(text: str) -> None:
    (BASE / "output").mkdir(parents=True, exist_ok=True)
    (BASE / "output/failure").write_text(text[:_FAILURE_CHARACTERS])


# -- the model ------------------------------------------------------------------------------------------------------------


class ServerEnded(Exception):
    """The container did not come up, or went."""


class Server:
    """One container: its files unpacked, its program running."""

    def __init__(self, number: int, config: dict[str, Any]) -> None:
        self.name: str = config["name"]
        self._config = config
        self._sockets = Path(tempfile.mkdtemp(prefix=f"model-{number}-"))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        config = self._config
        for source, target in config["unpack"]:
            unpack(BASE / source, BASE / target)
        folders = {name: str(BASE / place) for name, place in config["folders"].items()}
        environment = {**os.environ, **folders, **config["env"], "PILVI_SERVING_SOCKETS": str(self._sockets)}
        python = os.environ.get(f"PILVI_PYTHON_{config['runtime']}") or sys.executable
        environment["PATH"] = f"{Path(python).parent}:{environment.get('PATH', '')}"
        self._process = subprocess.Popen([python, *config["command"]], env=environment)

    def until_answering(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if (code := self._process.poll()) is not None:
                raise ServerEnded(
                    f"The {self.name} container ended with exit status {code} before it answered /ping. See job logs for more information"
                )
            try:
                if self.connect().ask("GET", "/ping", b"", {}, 5)[0] == 200:
                    return
            except OSError:
                time.sleep(_LOOK_S)
        raise ServerEnded(f"The {self.name} container did not answer /ping in time. See job logs for more information")

    def parameters(self) -> dict[str, Any]:
        """What /execution-parameters says, if it says anything."""
        try:
            status, body, _ = self.connect().ask("GET", "/execution-parameters", b"", {}, 30)
            found = json.loads(body) if status == 200 else {}
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def connect(self) -> Connection:
        return Connection(self._sockets)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()


class Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, folder: Path) -> None:
        super().__init__("model")
        self._folder = folder

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        # The name of a socket has at most 107 characters, and folders may have more.
        folder = os.open(self._folder, os.O_PATH | os.O_DIRECTORY)
        try:
            self.sock.connect(f"/proc/self/fd/{folder}/{_SOCKET}")
        finally:
            os.close(folder)

    def ask(self, method: str, path: str, body: bytes, headers: dict[str, str], timeout_s: float) -> tuple[int, bytes, str]:
        self.timeout = timeout_s
        if self.sock is not None:
            self.sock.settimeout(timeout_s)
        try:
            self.request(method, path, body, headers)
            answer = self.getresponse()
            return answer.status, answer.read(), answer.getheader("Content-Type") or ""
        except (http.client.HTTPException, OSError) as error:
            self.close()
            raise error if isinstance(error, OSError) else OSError(str(error)) from error


def unpack(source: Path, target: Path) -> None:
    """The archive that lies in a folder."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.iterdir()) if source.is_dir() else []:
        try:
            with tarfile.open(path) as archive:
                archive.extractall(target, filter=_inside)
        except (tarfile.TarError, EOFError, OSError) as error:
            why = "it is no tar archive, compressed or not" if "\n" in str(error) else str(error)
            raise ClientError(f"Failed to extract model data archive {path.name}: {why}") from error


def _inside(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
    try:
        return tarfile.data_filter(member, folder)
    except tarfile.FilterError:
        return None


# -- the data -------------------------------------------------------------------------------------------------------------


class Transform:
    def __init__(self, config: dict[str, Any], servers: list[Server]) -> None:
        self._servers = servers
        said = servers[0].parameters()
        self.concurrency = int(config["concurrency"] or said.get("MaxConcurrentTransforms") or 1)
        workers = os.environ.get("SAGEMAKER_MODEL_SERVER_WORKERS") or config["containers"][0]["env"].get("PILVI_SERVING_WORKERS")
        if workers:
            self.concurrency = min(self.concurrency, int(workers))
        payload_mb = config["payload_mb"] if config["payload_mb"] is not None else said.get("MaxPayloadInMB", 6)
        self.payload_bytes = int(payload_mb) << 20
        strategy = config["strategy"] or said.get("BatchStrategy") or "MULTI_RECORD"
        self.is_multi = strategy.replace("_", "").lower() == "multirecord"
        self.split: str = config["split"]
        self.assemble: str = config["assemble"]
        self.content_type: str = config["content_type"]
        self.accept: str = config["accept"]
        self.timeout_s = float(config["timeout_s"])
        self.retries = int(config["retries"])
        self.join = joining.plan_for(config["processing"], self.content_type, self.accept)
        self._local = threading.local()
        print(
            f"[sagemaker logs]: MaxConcurrentTransforms={self.concurrency}, MaxPayloadInMB={payload_mb}, "
            f"BatchStrategy={'MULTI_RECORD' if self.is_multi else 'SINGLE_RECORD'}",
            flush=True,
        )

    def run(self) -> list[str]:
        """Every file of this host; gives what went wrong, file by file."""
        source, target = BASE / "input/data", BASE / "output/transform"
        failed: list[str] = []
        with concurrent.futures.ThreadPoolExecutor(self.concurrency) as pool:
            for path in sorted(path for path in source.rglob("*") if path.is_file()):
                name = str(path.relative_to(source))
                place = target / f"{name}.out"
                place.parent.mkdir(parents=True, exist_ok=True)
                try:
                    self.transform(pool, path, place)
                except BadFile as error:
                    place.unlink(missing_ok=True)
                    print(f"[sagemaker logs]: {name}: {error}", flush=True)
                    failed.append(f"{name}: {error}")
        return failed

    def transform(self, pool: concurrent.futures.ThreadPoolExecutor, path: Path, place: Path) -> None:
        waiting: collections.deque[tuple[Any, concurrent.futures.Future[bytes]]] = collections.deque()
        part = place.with_name(f"{place.name}.part")
        try:
            with part.open("wb") as out:
                for records, body in self.batches(path):
                    waiting.append((records, pool.submit(self.ask, body)))
                    if len(waiting) > 2 * self.concurrency:
                        self.write(out, *waiting.popleft())
                while waiting:
                    self.write(out, *waiting.popleft())
            part.rename(place)
        except BaseException:
            for _, future in waiting:
                future.cancel()
            part.unlink(missing_ok=True)
            raise

    def batches(self, path: Path) -> Iterator[tuple[Any, bytes]]:
        """(records as they were, a request's body). Records are kept only where they are to be joined."""
        try:
            if self.join is None:
                for body in splitting.batches(path, self.split, self.is_multi, self.payload_bytes):
                    yield None, body
                return
            for records in splitting.grouped(path, self.split, self.is_multi, self.payload_bytes):
                yield records, self.join.into(records)
        except splitting.Bad as error:
            raise BadFile(str(error)) from error
        except joining.Bad as error:
            raise BadFile(str(error)) from error

    def ask(self, body: bytes) -> bytes:
        """The answer of the last container."""
        content_type = self.content_type
        for number, server in enumerate(self._servers):
            headers = {"Content-Type": content_type} if content_type else {}
            if self.accept and number == len(self._servers) - 1:
                headers["Accept"] = self.accept
            body, content_type = self._asked(number, server, body, headers)
        return body

    def _asked(self, number: int, server: Server, body: bytes, headers: dict[str, str]) -> tuple[bytes, str]:
        connections: dict[int, Connection] = self._local.__dict__.setdefault("connections", {})
        for attempt in range(self.retries + 1):
            connection = connections.get(number) or connections.setdefault(number, server.connect())
            is_last = attempt == self.retries
            try:
                status, answer, content_type = connection.ask("POST", "/invocations", body, headers, self.timeout_s)
            except TimeoutError as error:
                if is_last:
                    raise BadFile(
                        f"Model server did not respond to /invocations request within {self.timeout_s:g} seconds"
                    ) from error
                continue
            except OSError as error:
                if is_last:
                    raise BadFile(f"The {server.name} container closed the connection before it had answered: {error}") from error
                continue
            if 200 <= status < 300:
                return answer, content_type
            if status < 500 or is_last:
                words = answer[:400].decode(errors="replace")
                raise BadFile(f"Bad HTTP status received from algorithm: {status}. Message: {words}")
        raise AssertionError

    def write(self, out: Any, records: Any, answer: concurrent.futures.Future[bytes]) -> None:
        body = answer.result()
        if self.join is not None:
            try:
                body = self.join.out_of(records, body)
            except joining.Bad as error:
                raise BadFile(str(error)) from error
        if self.assemble == "Line" and not body.endswith(b"\n"):
            body += b"\n"
        out.write(body)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
