"""One job being carried out, by one thread: each instruction is a method, its answer the next event."""

from __future__ import annotations

import importlib.resources
import logging
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilvi.compute import Bind, Exit, Process, ProcessSpec
from pilvi.compute.environments import Environment, Environments, interpreter
from pilvi.core.errors import Invalid, LimitExceeded, NotFound, PilviError, ServiceError, Unavailable, Unsupported
from pilvi.core.service import Context
from pilvi.jobs.logs import JobLog
from pilvi.jobs.record import service_context
from pilvi.jobs.spec import JobSpec
from pilvi.jobs.states import SERVER_LOST, Do, Event, Status
from pilvi.jobs.transfer import Cancelled, TransferFailed, download, upload

if TYPE_CHECKING:
    from pilvi.auth.identity import Identity
    from pilvi.core.service import Cloud
    from pilvi.jobs.runner import Jobs

log = logging.getLogger("pilvi.jobs")

Answer = tuple[Event | None, str, dict[str, Any] | None]

FLUSH_S = 0.5
FAILURE_CHARACTERS = 1024
_LONG_SESSION_S = 43200
_SESSION_S = 3600
_PACKAGES = "/tmp/packages"
_SUPPORT = "/opt/pilvi"


class Work:
    def __init__(self, cloud: Cloud, jobs: Jobs, spec: JobSpec) -> None:
        self._cloud = cloud
        self._jobs = jobs
        self._spec = spec
        self._folder = cloud.config.data_dir / "jobs" / spec.id
        self._lock = threading.Lock()
        self._is_cancelled = False
        self._process: Process | None = None
        self._environment: Environment | None = None
        self._metrics: dict[str, dict[str, Any]] = {}
        self._has_cloudwatch = bool(spec.metric_namespace)

    def perform(self, instruction: Do) -> Answer:
        """Do it; whatever goes wrong is an event too."""
        try:
            if instruction is Do.PREPARE:
                return self._prepare()
            if instruction is Do.DOWNLOAD:
                return self._download()
            if instruction is Do.RUN:
                return self._run()
            if instruction is Do.UPLOAD:
                return self._upload()
            if instruction is Do.TERMINATE:
                self.terminate()
            return None, "", None
        except Cancelled:
            return (Event.SERVER_LOST, SERVER_LOST, None) if self._jobs.is_closed else (Event.DOWNLOADED, "", None)
        except (TransferFailed, PilviError) as error:
            return Event.BROKE, str(error), None
        except Exception:  # the job must end, and honestly
            log.exception("job %s (%s) broke at %s", self._spec.id, self._spec.name, instruction)
            return Event.BROKE, "InternalServerError: We encountered an internal error. Please try again.", {"is_internal": True}

    # -- from other threads -------------------------------------------------------------------------------------------

    def terminate(self) -> None:
        """Ask for the end: the program gets its grace, a transfer is given up."""
        with self._lock:
            self._is_cancelled = True
            if self._process is not None:
                self._process.stop(self._spec.grace_s)

    def give_up(self) -> None:
        """End at once: the server goes."""
        with self._lock:
            self._is_cancelled = True
            if self._process is not None:
                self._process.kill()

    def latest_metrics(self) -> list[dict[str, Any]]:
        return list(self._metrics.values())

    # -- instructions -------------------------------------------------------------------------------------------------

    def _prepare(self) -> Answer:
        self._environment = self._find_environment()
        for path in (self._outside(""), self._folder / "tmp" / "packages"):
            path.mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        for folder in self._spec.folders:
            self._outside(folder).mkdir(parents=True, exist_ok=True)
        for name, text in self._spec.files.items():
            path = self._outside(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return Event.PREPARED, "", None

    def _find_environment(self) -> Environment:
        if not self._spec.runtime:
            return interpreter()
        found = Environments(self._cloud.config.runtimes_dir).find(self._spec.runtime)
        if found is None:
            raise Unavailable(
                f"The runtime {self._spec.runtime} is not installed. Install it with: pilvi runtimes install {self._spec.runtime}"
            )
        return found

    def _download(self) -> Answer:
        self._check()
        if self._spec.inputs:
            ctx = self._as_role()
            for source in self._spec.inputs:
                download(ctx, source, self._outside(source.path), self._check)
        return Event.DOWNLOADED, "", None

    def _run(self) -> Answer:
        spec = self._spec
        ctx = service_context(self._cloud, spec)
        stream = spec.log_stream.replace("{started}", str(int(ctx.clock.time_s())))
        output = JobLog(ctx, spec.log_group, stream, spec.metrics)
        process = self._launch(output)
        if process is None:
            return (Event.SERVER_LOST, SERVER_LOST, None) if self._jobs.is_closed else (Event.EXITED_BADLY, "", None)
        deadline = None if spec.max_runtime_s is None else ctx.clock.time_s() + spec.max_runtime_s
        while (ended := process.wait(FLUSH_S)) is None:
            self._keep(ctx, output.flush())
            if deadline is not None and ctx.clock.time_s() >= deadline:
                deadline = None
                if Do.TERMINATE in self._jobs.apply(spec.id, Event.DEADLINE):
                    self.terminate()
        self._keep(ctx, output.flush())
        if self._jobs.is_closed:
            return Event.SERVER_LOST, SERVER_LOST, None
        facts = {
            "exit_code": ended.code,
            "exit_reason": ended.reason,
            "failure_text": self._failure_text(),
            "metrics": self.latest_metrics(),
            "log_stream": stream,
            "peak_memory_mib": process.peak_memory_mib(),
        }
        return _event_of(ended), "", facts

    def _launch(self, output: JobLog) -> Process | None:
        """Start the program, unless the end was asked for meanwhile."""
        command = self._process_spec()
        with self._lock:
            if self._is_cancelled:
                return None
            self._process = self._cloud.compute.launch(command, output.add)
            return self._process

    def _upload(self) -> Answer:
        with self._lock:
            self._process = None
        outcome = self._outcome()
        wanted = [target for target in self._spec.outputs if outcome in target.after]
        if wanted:
            ctx = self._as_role()
            for target in wanted:
                upload(ctx, target, self._own(target.path), self._folder / "archive.tar.gz")
        return Event.UPLOADED, "", None

    def clean(self) -> None:
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                self._process.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    # -- the program's surroundings -----------------------------------------------------------------------------------

    def _process_spec(self) -> ProcessSpec:
        environment, spec = self._environment, self._spec
        assert environment is not None
        binds = [
            *environment.binds,
            Bind(self._outside(""), spec.root, writable=True),
            Bind(self._folder / "tmp", "/tmp", writable=True),
        ]
        paths = [_PACKAGES]
        if spec.support:
            binds.append(Bind(Path(str(importlib.resources.files(spec.support))), _SUPPORT))
            paths.insert(0, _SUPPORT)
        env = {
            "PATH": f"{environment.bin}:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
            "HOME": "/tmp",
            "TMPDIR": "/tmp",
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "TRUE",
            # The environment is shared and read-only; what a job installs is its own.
            "PYTHONPATH": ":".join(paths),
            "PIP_TARGET": _PACKAGES,
            **(self._client_environment() if spec.network else {"AWS_REGION": spec.region}),
            **spec.env,
            **(spec.open_env if self._cloud.compute.isolation == "none" else {}),
        }
        return ProcessSpec(
            spec.command,
            env,
            tuple(binds),
            cwd=spec.cwd,
            hostname=spec.hostname,
            hosts=spec.hosts,
            network=spec.network,
            memory_mib=spec.memory_mib,
        )

    def _client_environment(self) -> dict[str, str]:
        """How AWS clients inside find this server, as the job's role."""
        found = {
            "AWS_ENDPOINT_URL": self._cloud.endpoint,
            "AWS_REGION": self._spec.region,
            "AWS_DEFAULT_REGION": self._spec.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
        }
        if self._spec.role_arn:
            identity = self._credentials()
            found |= {
                "AWS_ACCESS_KEY_ID": identity.access_key_id,
                "AWS_SECRET_ACCESS_KEY": identity.secret,
                "AWS_SESSION_TOKEN": identity.session_token,
            }
        return found

    def _credentials(self) -> Identity:
        """The role's keys, for as long as the role allows."""
        caller = service_context(self._cloud, self._spec).principal
        assume = self._cloud.identities.assume_role
        try:
            return assume(caller, self._spec.role_arn, self._spec.session_name, duration_s=_LONG_SESSION_S)
        except (Invalid, LimitExceeded, ServiceError):
            return assume(caller, self._spec.role_arn, self._spec.session_name, duration_s=_SESSION_S)

    def _as_role(self) -> Context:
        ctx = service_context(self._cloud, self._spec)
        return ctx.as_role(self._spec.role_arn, self._spec.session_name) if self._spec.role_arn else ctx

    # -- private ------------------------------------------------------------------------------------------------------

    def _outside(self, path: str) -> Path:
        """Where a path inside the job's root really is."""
        return self._folder / "root" / path.removeprefix(self._spec.root).lstrip("/")

    def _own(self, path: str) -> Path:
        """The same for what the program left. It may have put links there, which must not make us read what is not its own."""
        place = self._outside(path)
        if not place.resolve().is_relative_to(self._outside("").resolve()):
            raise TransferFailed(f"{path} leads out of {self._spec.root}.")
        return place

    def _check(self) -> None:
        if self._is_cancelled:
            raise Cancelled

    def _outcome(self) -> str:
        return str(self._jobs.get(self._spec.id)["outcome"] or Status.FAILED)

    def _failure_text(self) -> str:
        """The first characters of what the program left about its failure."""
        if not self._spec.failure_file:
            return ""
        try:
            with self._own(self._spec.failure_file).open("rb") as file:
                return file.read(FAILURE_CHARACTERS * 4).decode(errors="replace")[:FAILURE_CHARACTERS]
        except (OSError, TransferFailed):
            return ""

    def _keep(self, ctx: Context, points: list[dict[str, Any]]) -> None:
        """The latest value of each metric; all of them go to CloudWatch where that is built."""
        self._metrics |= {point["MetricName"]: point for point in points}
        if points:
            self._jobs.tell(self._spec.id)
        if not points or not self._has_cloudwatch:
            return
        dimensions = [{"Name": name, "Value": value} for name, value in self._spec.metric_dimensions.items()]
        data = [{**point, "Dimensions": dimensions} for point in points]
        try:
            for start in range(0, len(data), 500):
                ctx.call("cloudwatch", "PutMetricData", Namespace=self._spec.metric_namespace, MetricData=data[start : start + 500])
        except (Unsupported, NotFound):
            self._has_cloudwatch = False
        except PilviError as error:
            self._has_cloudwatch = getattr(error, "code", "") != "NotImplemented"
            if self._has_cloudwatch:
                log.warning("metrics of job %s could not be published: %s", self._spec.id, error)


def _event_of(ended: Exit) -> Event:
    return Event.EXITED_WELL if ended.code == 0 and ended.reason != "memory" else Event.EXITED_BADLY
