"""One run of a notebook instance: JupyterLab as a process of its own, from its start until it has ended.

What it sees: /home/ec2-user/SageMaker (the volume), a home and a /tmp of this run, /opt/ml/metadata, the `notebook` environment.
"""

from __future__ import annotations

import importlib.resources
import ipaddress
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pilvi.compute import Bind, Exit, Process, ProcessSpec
from pilvi.compute.environments import Environment, Environments
from pilvi.core.errors import Unavailable
from pilvi.core.principal import Principal
from pilvi.core.service import Context
from pilvi.jobs.logs import JobLog
from pilvi.services.sagemaker.access import PRINCIPAL
from pilvi.services.sagemaker.notebook_ticket import PATH, entry
from pilvi.services.sagemaker.notebook_volume import Volume

if TYPE_CHECKING:
    from pilvi.auth.identity import Identity
    from pilvi.core.service import Cloud

ENVIRONMENT = "notebook"
LOG_GROUP = "/aws/sagemaker/NotebookInstances"
SESSION = "SageMaker"
"""The role session's name inside notebook instances."""
START_S = 240.0
"""A machine that is busy with other things may take its time."""
STOP_S = 10.0
SCRIPT_S = 300.0
"""How long a lifecycle script may take. Source: developer guide, "Customization of a SageMaker notebook instance using an LCC script"."""
_FLUSH_S = 0.5
_ASK_S = 0.2
_PORTS = 3
"""Ports to try: between choosing one and Jupyter's taking it, another program may come first."""
_HOME = "/home/ec2-user"
_FILES = f"{_HOME}/SageMaker"
_SUPPORT = "/opt/pilvi"
_METADATA = "/opt/ml/metadata"
_LIFECYCLE = "/opt/lifecycle"
_KERNEL = "conda_python3"
"""The name that notebooks written on AWS ask for."""


class Run:
    def __init__(self, ctx: Context, record: dict[str, Any], volume: Volume) -> None:
        """ctx: SageMaker's own, for this instance."""
        ids = ctx.ids
        self.ctx = ctx
        self.record = record
        self.key = ids.hex(64)
        self.id = ids.hex(40)
        self.secret = ids.hex(64)
        """What the instance's AWS clients show to get their role's keys."""
        self.address = ""
        self._volume = volume
        self._log = JobLog(ctx, LOG_GROUP, f"{record['NotebookInstanceName']}/jupyter.log")
        self._last: list[str] = []
        self._environment: Environment | None = None
        self._process: Process | None = None
        self._is_killed = False

    # -- life -------------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Everything but the programs. Unavailable when the environment is not installed."""
        self._environment = Environments(self.ctx.config.runtimes_dir).find(ENVIRONMENT)
        if self._environment is None:
            raise Unavailable(f"The runtime {ENVIRONMENT} is not installed. Install it with: pilvi runtimes install {ENVIRONMENT}")
        self._lay_out(self._environment)

    def perform(self, hook: str, script: str) -> None:
        """Run a script of the lifecycle configuration to its end. Unavailable when it fails or takes too long."""
        place = self._volume.run / "lifecycle" / hook
        place.write_text(script)
        place.chmod(0o755)
        inside = f"{_LIFECYCLE}/{hook}"
        output = JobLog(self.ctx, LOG_GROUP, f"{self.record['NotebookInstanceName']}/LifecycleConfig{hook}")
        spec = self._spec((inside,) if script.startswith("#!") else ("/bin/bash", inside), cwd=_HOME)
        process = self._launch(spec, output.add)
        deadline = self.ctx.clock.time_s() + SCRIPT_S
        while (how := process.wait(_ASK_S)) is None and self.ctx.clock.time_s() < deadline:
            output.flush()
        process.kill()
        process.wait()
        output.flush()
        if how is None or how.code != 0:
            trouble = f"took longer than {SCRIPT_S // 60:.0f} minutes" if how is None else f"failed with exit status {how.code}"
            name, arn = self.record["NotebookInstanceLifecycleConfigName"], self.record["NotebookInstanceArn"]
            raise Unavailable(
                f"Notebook Instance Lifecycle Config '{name}' ({hook}) for Notebook Instance '{arn}' {trouble}. "
                "Please check your CloudWatch logs for more details."
            )

    def start(self) -> None:
        """Launch Jupyter and wait until it answers. Unavailable with a reason when it does not."""
        for _ in range(_PORTS):
            port = _free_port()
            self.address = f"127.0.0.1:{port}"
            process = self._launch(self._spec(self._jupyter(port), cwd=_FILES), self._add)
            how = self._until_answering(process)
            if how is None:
                return
            if not any("already in use" in line for line in self._last):
                raise Unavailable(f"Jupyter ended with exit status {how.code}: {' '.join(self._last)}")
        raise Unavailable("Jupyter found no free port.")

    def watch(self) -> Exit:
        """Bring what Jupyter says to its log until it ends."""
        assert self._process is not None
        while (how := self._process.wait(_FLUSH_S)) is None:
            self._log.flush()
        self._log.flush()
        return how

    def stop(self) -> None:
        """Ask Jupyter to end; it is ended after a grace."""
        if self._process is not None:
            self._process.stop(STOP_S)

    def kill(self) -> None:
        """End it now, also when it has not begun yet."""
        self._is_killed = True
        if self._process is not None:
            self._process.kill()

    def end(self) -> None:
        """Nothing of it runs and all it said is kept when this returns."""
        self.kill()
        if self._process is not None:
            self._process.wait()
        self._log.flush()

    def entrance(self, end_s: float) -> str:
        """A URL of Jupyter's own that opens a session until then."""
        return f"http://{self.address}/lab?token={entry(self.key, end_s)}"

    # -- private ----------------------------------------------------------------------------------------------------

    def _launch(self, spec: ProcessSpec, on_line: Callable[[str], None]) -> Process:
        self._process = process = self.ctx.compute.launch(spec, on_line)
        if self._is_killed:
            process.kill()
        return process

    def _add(self, line: str) -> None:
        self._last = [*self._last[-4:], line.strip()]
        self._log.add(line)

    def _until_answering(self, process: Process) -> Exit | None:
        """None as soon as Jupyter answers us; how it ended when it ends before."""
        deadline = self.ctx.clock.time_s() + START_S
        while (how := process.wait(_ASK_S)) is None:
            self._log.flush()
            if self._answers():
                return None
            if self.ctx.clock.time_s() > deadline:
                raise Unavailable(f"Jupyter did not answer within {START_S:.0f} seconds: {' '.join(self._last)}")
        self._log.flush()
        return how

    def _answers(self) -> bool:
        """Whether it is our Jupyter that listens there: only it knows the key."""
        token = entry(self.key, self.ctx.clock.time_s() + 60)
        request = urllib.request.Request(f"http://{self.address}/api/status", headers={"Authorization": f"token {token}"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError, ValueError):
            return False

    def _lay_out(self, environment: Environment) -> None:
        """The folders of this run."""
        run = self._volume.run
        kernel = run / "home/.local/share/jupyter/kernels" / _KERNEL
        for folder in (*(run / name for name in ("home/SageMaker", "home/packages", "tmp", "metadata", "lifecycle")), kernel):
            folder.mkdir(parents=True)
        command = [str(environment.python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        (kernel / "kernel.json").write_text(json.dumps({"argv": command, "display_name": _KERNEL, "language": "python"}))
        settings = run / "home/.jupyter/lab/user-settings/@jupyterlab/apputils-extension"
        settings.mkdir(parents=True)
        (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')
        record = self.record
        metadata = {
            "ResourceArn": record["NotebookInstanceArn"],
            "ResourceName": record["NotebookInstanceName"],
            "ExecutionRoleArn": record["RoleArn"],
        }
        (run / "metadata/resource-metadata.json").write_text(json.dumps(metadata))

    def _jupyter(self, port: int) -> tuple[str, ...]:
        assert self._environment is not None
        return (str(self._environment.python), "-m", "jupyterlab", *_options(port))

    def _spec(self, command: tuple[str, ...], cwd: str) -> ProcessSpec:
        """A program in this instance's surroundings."""
        run, environment = self._volume.run, self._environment
        assert environment is not None
        support = Path(str(importlib.resources.files("pilvi.runtimes") / "notebook"))
        return ProcessSpec(
            command=command,
            env=self._variables(environment),
            binds=(
                *environment.binds,
                Bind(support, _SUPPORT),
                Bind(run / "metadata", _METADATA),
                Bind(run / "lifecycle", _LIFECYCLE),
                Bind(run / "tmp", "/tmp", writable=True),
                Bind(run / "home", _HOME, writable=True),
                Bind(self._volume.files, _FILES, writable=True),
            ),
            cwd=cwd,
            hostname=f"ip-172-31-0-{int(self.id[:2], 16) % 250 + 4}",
        )

    def _variables(self, environment: Environment) -> dict[str, str]:
        return {
            "PATH": f"{environment.bin}:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
            "HOME": _HOME,
            "USER": "ec2-user",
            "SHELL": "/bin/bash",
            "TMPDIR": "/tmp",
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "TRUE",
            # The environment is shared and read-only; what a notebook installs is its own, until the instance stops.
            "PYTHONPATH": f"{_SUPPORT}:{_HOME}/packages",
            "PIP_TARGET": f"{_HOME}/packages",
            "AWS_ENDPOINT_URL": self.ctx.cloud.endpoint,
            "AWS_REGION": self.ctx.region,
            "AWS_DEFAULT_REGION": self.ctx.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
            "PILVI_NOTEBOOK_KEY": self.key,
            **self._credentials(),
        }

    def _credentials(self) -> dict[str, str]:
        """Where AWS clients get the role's keys, again and again. They go nowhere but to this machine for them."""
        endpoint = self.ctx.cloud.endpoint
        if _is_loopback(endpoint):
            return {
                "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{endpoint}{PATH}credentials/{self.id}",
                "AWS_CONTAINER_AUTHORIZATION_TOKEN": self.secret,
            }
        identity = identity_of(self.ctx, self.record["RoleArn"])
        return {
            "AWS_ACCESS_KEY_ID": identity.access_key_id,
            "AWS_SECRET_ACCESS_KEY": identity.secret,
            "AWS_SESSION_TOKEN": identity.session_token,
        }


def identity_of(ctx: Context, role_arn: str) -> Identity:
    """The role as the instance has it, for an hour."""
    return ctx.cloud.identities.assume_role(ctx.principal, role_arn, SESSION)


def _options(port: int) -> tuple[str, ...]:
    """How Jupyter is to behave: for its owner alone, without looking for news or updates elsewhere."""
    return (
        "--no-browser",
        "--allow-root",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={_FILES}",
        "--ServerApp.identity_provider_class=pilvi_notebook.Sessions",
        "--ServerApp.quit_button=False",
        f"--MultiKernelManager.default_kernel_name={_KERNEL}",
        "--FileContentsManager.delete_to_trash=False",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.news_url=None",
        "--LabApp.extension_manager=readonly",
    )


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _is_loopback(endpoint: str) -> bool:
    host = urlsplit(endpoint).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def context_for(cloud: Cloud, account: str, region: str, arn: str) -> Context:
    """SageMaker's own context, acting for one instance."""
    principal = Principal("service", account, "", PRINCIPAL, PRINCIPAL, source_arn=arn)
    return Context(cloud, principal=principal, account=account, region=region, service="sagemaker")
