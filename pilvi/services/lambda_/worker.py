"""A worker: one process that runs one version of a function, one invocation at a time.

    starting --(asks for its first invocation)--> idle <--> busy --> ended
        |                                                     ^
        +---- init error, or exit --------------------------- +

The worker asks for work over the Lambda runtime API (runtime_api.py), under a path only it knows. Everything here runs on
the event loop, but for `_prepare` and the watcher, which wait in threads.
"""

from __future__ import annotations

import asyncio
import importlib.resources
import ipaddress
import json
import logging
import threading
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pilvi.compute import Bind, Exit, Process, ProcessSpec
from pilvi.compute.environments import Environment, Environments
from pilvi.core.errors import Invalid, PilviError, ServiceError
from pilvi.core.service import Context
from pilvi.jobs.image import Unpacked, unpack
from pilvi.services.lambda_.catalog import Target
from pilvi.services.lambda_.invocation import Invocation, Outcome, Platform, exited, timed_out
from pilvi.services.lambda_.journal import Journal, LogStream
from pilvi.services.lambda_.languages import IMAGE, PYTHON, MissingBootstrap, command_for, deprecation_of, language_of
from pilvi.services.lambda_.precompile import compile_modules, modules_in
from pilvi.services.lambda_.settings import variables_of

if TYPE_CHECKING:
    from pilvi.services.lambda_.pool import Pool

log = logging.getLogger("pilvi.lambda")

INIT_S = 10.0
"""How long starting may take before it counts against the function's timeout. Source: developer guide, "Init phase"."""

_TASK_ROOT = "/var/task"
_RUNTIME_DIR = "/var/runtime"


class Worker:
    def __init__(self, pool: Pool, target: Target, token: str, *, is_provisioned: bool = False) -> None:
        self.pool = pool
        self.target = target
        self.language = language_of(target.record)
        self._image: Unpacked | None = None
        self.token = token
        self.is_provisioned = is_provisioned
        """Started before anybody called."""
        self.is_counted = False
        """The pool knows that it has started."""
        self.current: Invocation | None = None
        self.has_ended = False
        self.is_retired = False
        """Its version is no longer what it was: finish, then go."""
        self.is_ready = False
        self.idle_since_s = 0.0
        self.expires: datetime | None = None
        """Of its credentials."""
        self.journal: Journal | None = None
        self._process: Process | None = None
        self._held: list[tuple[str, ...]] = []
        self._started_s = pool.loop.time()
        self._wanted: asyncio.Future[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._init_error: bytes | None = None

    # -- life -------------------------------------------------------------------------------------------------------

    async def launch(self) -> None:
        """Start the process. Errors: ServiceException - the environment is not installed, nothing can be started here."""
        try:
            await asyncio.to_thread(self._prepare)
        except BaseException:
            self._release_folders()
            raise
        process = self._process
        assert process is not None
        threading.Thread(target=self._watch, args=(process,), name="lambda-worker", daemon=True).start()
        if self.has_ended:
            process.kill()

    def give(self, invocation: Invocation) -> None:
        """Hand over work; it goes out when the worker asks. For a worker that still starts, its time begins to count."""
        self.current = invocation
        if not self.is_ready:
            self._arm(INIT_S + self.target.timeout_s)
        self._end_poll()

    def end(self) -> None:
        """End the process now. What it was doing is settled by `_exited`."""
        if not self.has_ended:
            self.has_ended = True
            self.pool.forget(self)
            self._end_poll()
        if self._process is not None:
            self._process.kill()

    def kill(self) -> None:
        """End the process, from any thread, while the server stops. Its long poll is answered, too."""
        self.has_ended = True
        with suppress(RuntimeError):
            self.pool.loop.call_soon_threadsafe(self._end_poll)
        if self._process is not None:
            self._process.kill()

    def is_fresh(self, now: datetime) -> bool:
        """Whether its credentials outlast another invocation."""
        margin = timedelta(seconds=self.target.timeout_s + 60)
        return not self.has_ended and not self.is_retired and (self.expires is None or self.expires - now > margin)

    # -- the runtime API --------------------------------------------------------------------------------------------

    async def next(self) -> Invocation | None:
        """The next invocation, whenever there is one; None when the worker shall end."""
        if not self.is_ready:
            self.is_ready = True
            self._disarm()
            self.pool.started(self)
            if self.current is None and self.is_provisioned:
                self.pool.release(self)
            if self.current is not None:
                self.current.init_ms = (self.pool.loop.time() - self._started_s) * 1000
        while not self.has_ended:
            invocation = self.current
            if invocation is not None and not invocation.is_delivered:
                invocation.is_delivered = True
                invocation.delivered_s = self.pool.loop.time()
                assert self.journal is not None
                self.journal.expect(invocation)
                if not self.language.is_marked:
                    self.journal.begin(invocation)
                self._arm(self.target.timeout_s)
                return invocation
            self._wanted = self.pool.loop.create_future()
            try:
                await self._wanted
            finally:
                self._wanted = None
        return None

    def answer(self, request_id: str, outcome: Outcome) -> bool:
        """The handler's answer (or its error); False when this invocation is not the worker's."""
        invocation = self.current
        if invocation is None or invocation.request_id != request_id or not invocation.is_delivered:
            return False
        self._disarm()
        self.current = None
        invocation.settle(outcome)
        if not self.language.is_marked and self.journal is not None:
            self.journal.end_soon(invocation)
        self.pool.release(self)
        return True

    def failed_to_start(self, error: bytes) -> None:
        """What the runtime says before it gives up."""
        self._init_error = error

    # -- private ----------------------------------------------------------------------------------------------------

    def _end_poll(self) -> None:
        """Let `next` look again."""
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._deadline = self.pool.loop.call_later(seconds, self._time_is_over)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _time_is_over(self) -> None:
        invocation = self.current
        if invocation is not None:
            invocation.status = "timeout"
            if not invocation.is_delivered:
                invocation.delivered_s = self._started_s + INIT_S
            invocation.settle(timed_out(invocation.request_id, self.target.timeout_s))
        self.end()

    def _watch(self, process: Process) -> None:
        """Wait in a thread for the end, and tell the loop."""
        how = process.wait()
        assert how is not None
        try:
            self.pool.loop.call_soon_threadsafe(self._exited, how)
        except RuntimeError:
            self._release_folders()  # the loop has gone before us

    def _exited(self, how: Exit) -> None:
        """The process has ended, and every line of it has been read."""
        self._disarm()
        invocation, self.current = self.current, None
        if invocation is not None:
            self._settle_crashed(invocation, how)
        self.end()
        self._release_folders()

    def _settle_crashed(self, invocation: Invocation, how: Exit) -> None:
        journal = self.journal
        assert journal is not None
        if self.is_ready and not invocation.is_delivered:
            invocation.settle(None)
            return
        if not invocation.is_delivered:
            invocation.delivered_s = invocation.delivered_s or self.pool.loop.time()
            journal.expect(invocation)
            journal.start_late(invocation)
        if invocation.status == "timeout":
            journal.timed_out(invocation)
            return
        invocation.status = "error"
        if self._init_error is not None:
            invocation.settle(Outcome(with_request_id(self._init_error, invocation.request_id), "Unhandled"))
            journal.finish(invocation)
            return
        message = describe_exit(how)
        invocation.settle(exited(invocation.request_id, message))
        journal.crashed(invocation, message)

    def _prepare(self) -> None:
        """Everything that blocks: environment, folders, credentials, the start itself. In a thread."""
        cloud, target = self.pool.cloud, self.target
        environment = self._environment()
        roots = {} if self.language is IMAGE else {_TASK_ROOT: self._hold((target.record["_code"],))}
        if target.record["_layers"]:
            roots["/opt"] = self._hold(tuple(layer["blob"] for layer in target.record["_layers"]))
        service = self.pool.context(target).as_service("lambda.amazonaws.com", source_arn=target.arn)
        try:
            identity = cloud.identities.assume_role(service.principal, target.record["Role"], target.name[:64])
        except PilviError as error:
            raise ServiceError(
                "AccessDeniedException", "The role defined for the function cannot be assumed by Lambda.", 403
            ) from error
        self.expires = identity.expires
        role = Context(
            cloud,
            principal=identity.principal,
            account=target.account,
            region=target.region,
            service="lambda",
            identity=identity,
        )
        now = cloud.clock.now()
        group = target.record["LoggingConfig"]["LogGroup"]
        stream = f"{now:%Y/%m/%d}/[{target.version}]{cloud.ids.hex(32)}"
        self.journal = Journal(LogStream(self.pool.logs, role, group, stream), Platform(target, cloud.clock.now), cloud.clock.now)
        credentials = {
            "AWS_ACCESS_KEY_ID": identity.access_key_id,
            "AWS_SECRET_ACCESS_KEY": identity.secret,
            "AWS_SESSION_TOKEN": identity.session_token,
        }
        client = cloud.client_side(target.account, target.region)
        env = {**client.env, **variables_of(role, target.record)}
        env |= environment_of(target, environment, group, stream) | credentials
        if self.is_provisioned:
            env["AWS_LAMBDA_INITIALIZATION_TYPE"] = "provisioned-concurrency"
        door, hosts, port = self._door()
        env |= {
            "AWS_ENDPOINT_URL": cloud.endpoint,
            "AWS_LAMBDA_RUNTIME_API": f"{door}:{port}"
            if door
            else f"{cloud.endpoint.partition('://')[2]}/_pilvi/lambda/{self.token}",
        }
        binds = [
            *(environment.binds if environment is not None else ()),
            *client.binds,
            Bind(runtime_dir(), _RUNTIME_DIR),
            *(Bind(path, root) for root, path in roots.items()),
        ]
        if (
            environment is not None
            and self.language is PYTHON
            and not all(self.pool.unpacked.is_compiled(packages) for packages in self._held)
        ):
            env["PILVI_LAMBDA_MODULES"] = "1"
            self.journal.on_modules = partial(self._compile_later, environment, roots, tuple(self._held))
        if "/opt" in roots:
            env["PILVI_LAMBDA_OPT"] = "/opt"  # the program inside is told, as it may lie elsewhere where nothing can be mounted
        if cloud.compute.isolation == "none":
            binds.append(Bind(self.pool.scratch(self.token), "/tmp", writable=True))
            env["TMPDIR"] = "/tmp"
        spec = ProcessSpec(
            command=self._command(environment, roots),
            env=env,
            binds=tuple(binds),
            cwd=_TASK_ROOT,
            hosts=hosts,
            memory_mib=target.memory_mib,
        )
        if self.language is IMAGE:
            spec = self._in_image(spec, service)
        self.journal.init_start(deprecation_of(str(target.record.get("Runtime", ""))))
        self._process = process = cloud.compute.launch(spec, self.journal.line)
        self.journal.measure = process.peak_memory_mib

    def _door(self) -> tuple[str, dict[str, str], int]:
        """The name under which the worker finds the runtime API, its table of hosts, and the port. '' for the address with a path.

        Clients of others (AWS's for Node, Rust, ...) take a host and a port only. Ours know the path, and save themselves the look-up.
        """
        url = urlsplit(self.pool.cloud.endpoint)
        address = url.hostname or ""
        if self.language.is_marked or self.pool.cloud.compute.isolation == "none" or not is_address(address):
            return "", {}, 0
        name = f"{self.token}.lambda-runtime.localhost"
        return name, {name: address}, url.port or 80

    def _in_image(self, spec: ProcessSpec, service: Context) -> ProcessSpec:
        """The same program as its image says, in the image's own tree. Errors: ServiceException - it cannot be pulled or started."""
        wanted = (self.target.record.get("ImageConfigResponse") or {}).get("ImageConfig") or {}
        try:
            self._image = image = unpack(service, self.target.record["_resolved"])
            entry = tuple(wanted.get("EntryPoint") or image.config.entrypoint)
            command = (*entry, *(wanted.get("Command") or image.config.cmd))
            if not command:
                raise Invalid("The image has no entry point and no command.")
        except PilviError as error:
            raise ServiceError("ServiceException", f"The function's image cannot be run: {error.message}", 500) from error
        ours = {name: value for name, value in spec.env.items() if name not in ("PATH", "LD_LIBRARY_PATH", "NODE_PATH", "HOME")}
        return replace(
            spec,
            command=command,
            env={**image.config.environment("/tmp"), **ours, "_HANDLER": " ".join(wanted.get("Command") or image.config.cmd)},
            binds=tuple(bind for bind in spec.binds if bind.target != _RUNTIME_DIR),
            cwd=wanted.get("WorkingDirectory") or image.config.working_dir,
            root=image.root(self.pool.scratch(f"{self.token}-changes")),
        )

    def _environment(self) -> Environment | None:
        """What the function's language needs of this machine."""
        name = self.language.environment
        if not name:
            return None
        found = Environments(self.pool.cloud.config.runtimes_dir).find(name)
        if found is None:
            raise ServiceError(
                "ServiceException", f"The {name} environment is not installed here: pilvi runtimes install {name}", 500
            )
        return found

    def _command(self, environment: Environment | None, roots: dict[str, Path]) -> tuple[str, ...]:
        target = self.target
        if self.language is IMAGE:
            return ()
        try:
            return command_for(self.language, environment, str(target.record.get("Handler", "")), target.memory_mib, roots)
        except MissingBootstrap as error:
            # What is started in its place ends at once, and the invocation hears why.
            self._init_error = json.dumps({"errorType": "Runtime.InvalidEntrypoint", "errorMessage": f"Error: {error}"}).encode()
            return ("/bin/false",)

    def _compile_later(
        self, environment: Environment, roots: dict[str, Path], packages: tuple[tuple[str, ...], ...], named: list[str]
    ) -> None:
        """The worker has said what it imported; called from compute's thread, which must not wait."""
        # Not every claim is won: another worker may have been first with the code, or with the layers.
        mine = {
            root: path
            for (root, path), held in zip(roots.items(), packages, strict=True)
            if self.pool.unpacked.claim_compiling(held)
        }
        modules = modules_in(named, mine)
        if modules:
            threading.Thread(
                target=self._compile, args=(environment, mine, packages, modules), name="lambda-compile", daemon=True
            ).start()

    def _compile(
        self, environment: Environment, roots: dict[str, Path], packages: tuple[tuple[str, ...], ...], modules: dict[str, list[str]]
    ) -> None:
        token = f"{self.token}-modules"
        held = [one for one in packages if self.pool.unpacked.hold(one)]
        try:
            scratch = self.pool.scratch(token)
            compile_modules(self.pool.cloud.compute, environment, runtime_dir(), scratch, roots, modules)
        except (PilviError, OSError) as error:
            log.debug("modules of %s stay uncompiled: %s", self.target.name, error)
        finally:
            for one in held:
                self.pool.unpacked.release(one)
            self.pool.drop_scratch(token)

    def _hold(self, packages: tuple[str, ...]) -> Path:
        path = self.pool.unpacked.hold(packages)
        self._held.append(packages)
        return path

    def _release_folders(self) -> None:
        image, self._image = self._image, None
        if image is not None:
            image.lease.end()
            self.pool.drop_scratch(f"{self.token}-changes")
        held, self._held = self._held, []
        for packages in held:
            self.pool.unpacked.release(packages)
        self.pool.drop_scratch(self.token)


def is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def environment_of(target: Target, environment: Environment | None, group: str, stream: str) -> dict[str, str]:
    """What Lambda defines. Source: developer guide, "Defined runtime environment variables"."""
    record = target.record
    env = {
        "_HANDLER": str(record.get("Handler", "")),
        "AWS_REGION": target.region,
        "AWS_DEFAULT_REGION": target.region,
        "AWS_LAMBDA_FUNCTION_NAME": target.name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(target.memory_mib),
        "AWS_LAMBDA_FUNCTION_VERSION": target.version,
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": group,
        "AWS_LAMBDA_LOG_STREAM_NAME": stream,
        "LAMBDA_TASK_ROOT": _TASK_ROOT,
        "LAMBDA_RUNTIME_DIR": _RUNTIME_DIR,
        "LANG": "C.UTF-8",
        "TZ": ":UTC",
        "HOME": "/tmp",
        "PATH": ":".join(([str(environment.bin)] if environment is not None else []) + ["/usr/local/bin:/usr/bin:/bin:/opt/bin"]),
        "NODE_PATH": "/opt/nodejs/node_modules:/var/task/node_modules",
        "LD_LIBRARY_PATH": "/var/task:/var/task/lib:/opt/lib",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
    }
    if "Runtime" in record:
        env["AWS_EXECUTION_ENV"] = f"AWS_Lambda_{record['Runtime']}"
    logging: dict[str, Any] = record["LoggingConfig"]
    if logging["LogFormat"] == "JSON":
        env |= {"AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": logging["ApplicationLogLevel"]}
    return env


def runtime_dir() -> Path:
    """Where the program that runs inside lies."""
    return Path(str(importlib.resources.files("pilvi.runtimes") / "lambda_"))


def describe_exit(how: Exit) -> str:
    """How AWS says that a runtime went."""
    if how.reason == "memory" or how.code == -9:
        return "Runtime exited with error: signal: killed"
    if how.code < 0:
        return f"Runtime exited with error: signal: {_SIGNALS.get(-how.code, str(-how.code))}"
    if how.code == 0:
        return "Runtime exited without providing a reason"
    return f"Runtime exited with error: exit status {how.code}"


_SIGNALS = {1: "hangup", 2: "interrupt", 4: "illegal instruction", 6: "aborted", 8: "floating point exception", 11: "segmentation fault", 15: "terminated"}  # fmt: skip
"""Go's words for signals, which Lambda's own are."""


def with_request_id(error: bytes, request_id: str) -> bytes:
    """A runtime's init error, which cannot know yet for which request it started."""
    try:
        content = json.loads(error)
    except ValueError:
        return error
    if isinstance(content, dict) and not content.get("requestId"):
        content["requestId"] = request_id
    return json.dumps(content, separators=(",", ":")).encode()
