"""One run of a notebook: JupyterLab or Code Editor as a process of its own, from its start until it has ended.

What it sees: the volume (/home/ec2-user/SageMaker), a home and a /tmp of this run, /opt/ml/metadata, the `notebook` environment,
and the packages of further environments where they are installed: PyTorch in the default kernel, TensorFlow in one of its own.
What differs between the programs is in notebook_program.py.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pilvi.compute import Bind, Exit, Process, ProcessSpec
from pilvi.compute.environments import Environment, Environments
from pilvi.core.errors import Unavailable
from pilvi.core.principal import Principal
from pilvi.core.service import Context
from pilvi.jobs.logs import JobLog
from pilvi.services.sagemaker.access import PRINCIPAL
from pilvi.services.sagemaker.instance_types import instance_type
from pilvi.services.sagemaker.notebook_git import CLONE_S, clone_script
from pilvi.services.sagemaker.notebook_program import JUPYTER, KERNEL, PYTHON, SUPPORT
from pilvi.services.sagemaker.notebook_seat import Seat
from pilvi.services.sagemaker.notebook_ticket import PATH, entry
from pilvi.services.sagemaker.notebook_volume import Volume

if TYPE_CHECKING:
    from pilvi.auth.identity import Identity
    from pilvi.core.service import Cloud

ALONGSIDE = "pytorch"
"""The environment whose packages the default kernel has, too, when it is installed."""
KERNELS = {"conda_tensorflow2_p310": "tensorflow"}
"""Kernels of further environments, where those are installed: name -> environment. Jupyter's own packages stand behind theirs."""
START_S = 240.0
"""A machine that is busy with other things may take its time."""
STOP_S = 10.0
SCRIPT_S = 300.0
"""How long a lifecycle script may take. Source: developer guide, "Customization of a SageMaker notebook instance using an LCC script"."""
_FLUSH_S = 0.5
_ASK_S = 0.2
_PORTS = 3
"""Ports to try: between choosing one and Jupyter's taking it, another program may come first."""
_SUPPORT = "/opt/pilvi"
_METADATA = "/opt/ml/metadata"
_LIFECYCLE = "/opt/lifecycle"
_PACKAGES = "/opt/packages"
"""What a notebook installs is its own, until it stops."""
_JUPYTER = "/opt/jupyter"
"""The kernels of this run."""
_BEHIND = "PILVI_PACKAGES_BEHIND"
"""A folder of packages that Python looks into last (pilvi/runtimes/notebook/sitecustomize.py)."""
_LAB_DEFAULTS = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}
"""What JupyterLab does unless its user says otherwise: it looks for no news elsewhere."""


class Run:
    def __init__(self, ctx: Context, seat: Seat, volume: Volume) -> None:
        """ctx: SageMaker's own, for this instance."""
        ids = ctx.ids
        self.ctx = ctx
        self.seat = seat
        self._client = ctx.cloud.client_side(ctx.account, ctx.region)
        self.key = ids.hex(64)
        self.id = ids.hex(40)
        self.secret = ids.hex(64)
        """What the instance's AWS clients show to get their role's keys."""
        self.address = ""
        self._volume = volume
        self._log = JobLog(ctx, seat.log_group, seat.log_stream)
        self._last: list[str] = []
        self._environment: Environment | None = None
        self._python: Environment | None = None
        """What terminals and kernels have; JupyterLab's is the one it lives in."""
        self._others: dict[str, Environment] = {}
        self._process: Process | None = None
        self._is_killed = False
        self.on_look: Callable[[], None] = lambda: None
        """Called again and again while Jupyter runs."""

    # -- life -------------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Everything but the programs. Unavailable when the environment is not installed."""
        environments = Environments(self.ctx.config.runtimes_dir)
        needed = self.seat.program.environment
        self._environment, self._python = environments.find(needed), environments.find(PYTHON)
        if self._environment is None:
            raise Unavailable(f"The runtime {needed} is not installed. Install it with: pilvi runtimes install {needed}")
        found = {name: environments.find(name) for name in (ALONGSIDE, *KERNELS.values())}
        self._others = {name: environment for name, environment in found.items() if environment is not None}
        self._lay_out(self._python)

    def clone(self) -> None:
        """Bring the repositories that are not on the volume yet. Unavailable, in git's words, when one does not come."""
        if not self.seat.repositories:
            return
        as_role = self.ctx.as_role(self.seat.role_arn, self.seat.session)
        script = clone_script(as_role, self.seat.repositories, self.seat.files)
        said: list[str] = []
        how = self._carry_out("clone", script, said.append, CLONE_S)
        if how is None or how.code != 0:
            trouble = "Cloning took too long." if how is None else " ".join(said[-3:])
            raise Unavailable(f"Git repositories could not be cloned: {trouble}")

    def perform(self, hook: str, script: str) -> None:
        """Run a script of the lifecycle configuration to its end. Unavailable when it fails or takes too long."""
        output = JobLog(self.ctx, self.seat.log_group, self.seat.script_stream.replace("{hook}", hook))
        how = self._carry_out(hook, script, output.add, SCRIPT_S, output)
        if how is None or how.code != 0:
            trouble = f"took longer than {SCRIPT_S // 60:.0f} minutes" if how is None else f"failed with exit status {how.code}"
            raise Unavailable(self.seat.script_trouble.replace("{hook}", hook).replace("{trouble}", trouble))

    def _carry_out(
        self, name: str, script: str, on_line: Callable[[str], None], longest_s: float, output: JobLog | None = None
    ) -> Exit | None:
        """A script inside, to its end; None when it took too long."""
        place = self._volume.run / "lifecycle" / name
        place.write_text(script)
        place.chmod(0o755)
        inside = f"{_LIFECYCLE}/{name}"
        process = self._launch(
            self._spec((inside,) if script.startswith("#!") else ("/bin/bash", inside), cwd=self.seat.home), on_line
        )
        deadline = self.ctx.clock.real_s() + longest_s
        while (how := process.wait(_ASK_S)) is None and self.ctx.clock.real_s() < deadline:
            if output is not None:
                output.flush()
        process.kill()
        process.wait()
        place.unlink()
        if output is not None:
            output.flush()
        return how

    def start(self) -> None:
        """Launch the program and wait until it answers. Unavailable with a reason when it does not."""
        for _ in range(_PORTS):
            port = _free_port()
            self.address = f"127.0.0.1:{port}"
            process = self._launch(self._spec(self._program(port), cwd=self.seat.files), self._add)
            how = self._until_answering(process)
            if how is None:
                return
            if not any("already in use" in line for line in self._last):
                raise Unavailable(f"{self.seat.program.name} ended with exit status {how.code}: {' '.join(self._last)}")
        raise Unavailable(f"{self.seat.program.name} found no free port.")

    def watch(self) -> Exit:
        """Bring what the program says to its log until it ends."""
        assert self._process is not None
        while (how := self._process.wait(_FLUSH_S)) is None:
            self._log.flush()
            self.on_look()
        self._log.flush()
        return how

    def stop(self) -> None:
        """Ask it to end; it is ended after a grace."""
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

    def entrance(self, end_s: float, path: str = "", user: str = "") -> str:
        """A URL of the program's own that opens a session until then, in a folder or file of the volume."""
        page = self.seat.program.entrance(self.seat, path or self.seat.opens)
        return f"http://{self.address}{page}token={entry(self.key, end_s, user)}"

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
        """None as soon as it answers us; how it ended when it ends before."""
        deadline = self.ctx.clock.real_s() + START_S
        while (how := process.wait(_ASK_S)) is None:
            self._log.flush()
            if self._answers():
                return None
            if self.ctx.clock.real_s() > deadline:
                raise Unavailable(f"{self.seat.program.name} did not answer within {START_S:.0f} seconds: {' '.join(self._last)}")
        self._log.flush()
        return how

    def _answers(self) -> bool:
        """Whether it is our program that listens there: only it knows the key."""
        token = entry(self.key, self.ctx.clock.real_s() + 60)
        address = f"http://{self.address}{self.seat.program.status_path}"
        request = urllib.request.Request(address, headers={"Authorization": f"token {token}"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError, ValueError):
            return False

    def _lay_out(self, python: Environment | None) -> None:
        """The folders of this run. Nothing is written into the volume: its owner may have put links there that lead elsewhere."""
        run, seat = self._volume.run, self.seat
        for folder in ("packages", "tmp", "metadata", "lifecycle", "lab", "jupyter/kernels"):
            (run / folder).mkdir(parents=True)
        if python is not None:
            self._write_kernels(python)
            _lab_settings(python).mkdir(exist_ok=True)
            (run / "lab/default_setting_overrides.json").write_text(json.dumps(_LAB_DEFAULTS))
        if seat.files != seat.home:
            (run / "home" / Path(seat.files).relative_to(seat.home)).mkdir(parents=True)
        (run / "metadata/resource-metadata.json").write_text(json.dumps(seat.metadata))

    def _write_kernels(self, python: Environment) -> None:
        self._write_kernel(KERNEL, python)
        for name, other in KERNELS.items():
            if other in self._others:
                self._write_kernel(name, self._others[other], ("-m", "pilvi_kernel"), {_BEHIND: _packages(python)})

    def _write_kernel(
        self,
        name: str,
        environment: Environment,
        program: tuple[str, ...] = ("-m", "ipykernel_launcher"),
        env: dict[str, str] | None = None,
    ) -> None:
        place = self._volume.run / "jupyter/kernels" / name
        place.mkdir()
        command = [str(environment.python), *program, "-f", "{connection_file}"]
        kernel = {"argv": command, "display_name": name, "language": "python", "env": env or {}}
        (place / "kernel.json").write_text(json.dumps(kernel))

    def _program(self, port: int) -> tuple[str, ...]:
        assert self._environment is not None
        return self.seat.program.command(self._environment, port, self.seat)

    def _spec(self, command: tuple[str, ...], cwd: str) -> ProcessSpec:
        """A program in this instance's surroundings."""
        run, environment, seat = self._volume.run, self._environment, self.seat
        assert environment is not None
        kind = instance_type(seat.instance_type)
        node = next(iter(self.ctx.compute.nodes()), None)
        memory_mib = None if node is None else min(int(kind.memory_gib * 1024), node.memory_mib)
        shown = (environment, *((self._python,) if self._python else ()), *self._others.values())
        return ProcessSpec(
            command=command,
            env={**self._variables(environment), **({"PILVI_MEMORY_MIB": str(memory_mib)} if memory_mib else {})},
            binds=(
                *dict.fromkeys(bind for one in shown for bind in one.binds),
                *((Bind(run / "lab", str(_lab_settings(self._python)), writable=True),) if self._python else ()),
                Bind(JUPYTER.support_folder(), _SUPPORT),
                *((Bind(seat.program.support_folder(), SUPPORT),) if seat.program is not JUPYTER else ()),
                Bind(run / "metadata", _METADATA),
                *self._client.binds,
                Bind(run / "lifecycle", _LIFECYCLE),
                Bind(run / "tmp", "/tmp", writable=True),
                *((Bind(run / "home", seat.home, writable=True),) if seat.files != seat.home else ()),
                Bind(self._volume.files, seat.files, writable=True),
                Bind(run / "packages", _PACKAGES, writable=True),
                Bind(run / "jupyter", _JUPYTER),
            ),
            cwd=cwd,
            # As much of the type as the machine has.
            cpus=kind.vcpus if node is None else min(kind.vcpus, node.cpus),
            memory_mib=memory_mib,
            hostname=f"ip-172-31-0-{int(self.id[:2], 16) % 250 + 4}",
        )

    def _variables(self, environment: Environment) -> dict[str, str]:
        bins = (f"{self._python.bin}:" if self._python else "") + ("" if environment is self._python else f"{environment.bin}:")
        return {
            "PATH": f"{bins}/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
            "HOME": self.seat.home,
            "USER": self.seat.user,
            "SHELL": "/bin/bash",
            "TMPDIR": "/tmp",
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "TRUE",
            # The environment is shared and read-only.
            "PYTHONPATH": f"{_SUPPORT}:{_PACKAGES}",
            "PIP_TARGET": _PACKAGES,
            "JUPYTER_PATH": _JUPYTER,
            **self._client.env,
            "PILVI_NOTEBOOK_KEY": self.key,
            **({_BEHIND: _packages(self._others[ALONGSIDE])} if ALONGSIDE in self._others else {}),
            **dict(self.seat.variables),
            **self._credentials(),
        }

    def _credentials(self) -> dict[str, str]:
        """Where AWS clients get the role's keys, again and again. They go nowhere but to this machine for them."""
        endpoint = self.ctx.cloud.endpoint
        if is_loopback(endpoint):
            return {
                "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{endpoint}{PATH}credentials/{self.id}",
                "AWS_CONTAINER_AUTHORIZATION_TOKEN": self.secret,
            }
        identity = identity_of(self.ctx, self.seat)
        return {
            "AWS_ACCESS_KEY_ID": identity.access_key_id,
            "AWS_SECRET_ACCESS_KEY": identity.secret,
            "AWS_SESSION_TOKEN": identity.session_token,
        }


def identity_of(ctx: Context, seat: Seat) -> Identity:
    """The role as the instance has it, for an hour."""
    return ctx.cloud.identities.assume_role(ctx.principal, seat.role_arn, seat.session)


def _lab_settings(environment: Environment) -> Path:
    """Where JupyterLab's settings for a whole environment are; `jupyter labextension disable` writes there. Every run has its own."""
    return environment.path / "etc" / "jupyter" / "labconfig"


def _packages(environment: Environment) -> str:
    """Where an environment's packages are."""
    return str(next(iter(environment.path.glob("lib/python3*/site-packages")), environment.path))


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def is_loopback(endpoint: str) -> bool:
    host = urlsplit(endpoint).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def context_for(cloud: Cloud, account: str, region: str, arn: str) -> Context:
    """SageMaker's own context, acting for one instance."""
    principal = Principal("service", account, "", PRINCIPAL, PRINCIPAL, source_arn=arn)
    return Context(cloud, principal=principal, account=account, region=region, service="sagemaker")
