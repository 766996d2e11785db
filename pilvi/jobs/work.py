"""One job being carried out, by one thread: each instruction is a method, its answer the next event.

Work -- Surroundings         what every program of the job finds around itself
     +- Host, Host, ...      one for each member: folder, program, log
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilvi.compute import Exit
from pilvi.core.errors import NotFound, PilviError, Unavailable, Unsupported
from pilvi.core.service import Context
from pilvi.jobs.addresses import LOOPBACK
from pilvi.jobs.disk import DiskWatch
from pilvi.jobs.host import Host, is_bad, remove_folder
from pilvi.jobs.limits import limited
from pilvi.jobs.logs import JobLog
from pilvi.jobs.pipes import Feed
from pilvi.jobs.placement import Grant
from pilvi.jobs.points import Points
from pilvi.jobs.record import seconds_in, service_context
from pilvi.jobs.spec import Input, JobSpec, Output
from pilvi.jobs.states import SERVER_LOST, Do, Event, Status
from pilvi.jobs.surroundings import Surroundings
from pilvi.jobs.sync import Sync, Syncing
from pilvi.jobs.transfer import Cancelled, TransferFailed, download, upload

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
    from pilvi.jobs.runner import Jobs

log = logging.getLogger("pilvi.jobs")

Answer = tuple[Event | None, str, dict[str, Any] | None]

FLUSH_S = 0.5
PEER_GRACE_S = 10
"""How long the other hosts have after SIGTERM when one has failed."""
KEPT_POINTS = 2000
"""Of the metric points, so many are kept when a job has ended: its record is read often."""
INTERNAL = "InternalServerError: We encountered an internal error. Please try again."


def last_seen(data_dir: Path, id: str) -> datetime | None:
    """When a server that has died last looked at a job it ran; None where nothing is left of that."""
    try:
        return datetime.fromtimestamp((data_dir / "jobs" / id).stat().st_mtime, UTC)
    except OSError:
        return None


class Work:
    def __init__(
        self,
        cloud: Cloud,
        jobs: Jobs,
        spec: JobSpec,
        record: dict[str, Any] | None = None,
        grants: tuple[Grant, ...] = (),
        cache: Path | None = None,
    ) -> None:
        """record: the job as it stands (what it did before an interruption counts). grants: what each host gets of the machine.
        cache: the files of the warm pool that the job took over."""
        self._cloud = cloud
        self._jobs = jobs
        self._cache = cache
        self._spec = spec
        self._folder = cloud.config.data_dir / "jobs" / spec.id
        self._hosts = [Host(self._folder, spec, member) for member in spec.all_members]
        self._surroundings = Surroundings(cloud, spec, gpus=max((len(grant.gpus or ()) for grant in grants), default=0))
        self._grants = dict(zip(self._hosts, grants or [Grant()] * len(self._hosts), strict=True))
        self._addresses: tuple[str, ...] = ()
        self._lock = threading.Lock()
        self._is_cancelled = False
        self._news = threading.Event()
        """One of several programs has ended."""
        self._said: list[str] = []
        self._feeds: list[Feed] = []
        self._syncing: Syncing | None = None
        self._points = Points((record or {}).get("points", ()))
        self._has_cloudwatch = bool(spec.metric_namespace)
        now = cloud.clock.now()
        self._wait_until = None if spec.max_wait_s is None or record is None else record["created"].timestamp() + spec.max_wait_s
        self._ran_s = 0.0 if record is None else seconds_in(record, (Status.RUNNING,), now)
        self._disk = DiskWatch(spec.disk_mib)

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
            return Event.FAULT, INTERNAL, {"is_internal": True}

    # -- from other threads -------------------------------------------------------------------------------------------

    def terminate(self) -> None:
        """Ask for the end: the programs get their grace, a transfer is given up."""
        with self._lock:
            self._is_cancelled = True
            for host in self._hosts:
                if host.process is not None:
                    host.process.stop(self._spec.grace_s)

    def give_up(self) -> None:
        """End at once: the server goes."""
        with self._lock:
            self._is_cancelled = True
            self._kill()

    def latest_metrics(self) -> list[dict[str, Any]]:
        return self._points.latest()

    def points(self) -> list[dict[str, Any]]:
        return self._points.all()

    def say(self, line: str) -> None:
        """A line of the server's own in the log of each host, before the program's."""
        self._said.append(line)

    # -- instructions -------------------------------------------------------------------------------------------------

    def _prepare(self) -> Answer:
        self._surroundings.prepare()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        for host in self._hosts:
            host.prepare()
            if self._cache is not None:
                host.inherit(self._cache / host.name)
        return Event.PREPARED, "", None

    def _download(self) -> Answer:
        self._check()
        if files := [source for source in self._spec.inputs if source.mode == "file"]:
            ctx = self._as_role()
            for source in files:
                self._fetch(ctx, source)
        return Event.DOWNLOADED, "", None

    def _fetch(self, ctx: Context, source: Input) -> None:
        folders = [host.outside(source.path) for host in self._hosts if host.gets(source)]
        download(ctx, source, folders, self._check)

    def _run(self) -> Answer:
        ctx = service_context(self._cloud, self._spec)
        self._syncing = Syncing(self._syncs(), self._as_role, self._tell_owner)
        try:
            self._open_pipes()
            return self._run_programs(ctx)
        finally:
            for feed in self._feeds:
                feed.stop()
            self._feeds = []
            self._syncing.stop()
            if not self._jobs.is_closed:
                self._sync_before_it_is_known()

    def _run_programs(self, ctx: Context) -> Answer:
        if not self._launch(ctx):
            return (Event.SERVER_LOST, SERVER_LOST, None) if self._jobs.is_closed else (Event.EXITED_BADLY, "", None)
        until = None
        if self._spec.max_runtime_s is not None:
            until = ctx.clock.real_s() + self._spec.max_runtime_s - self._ran_s
        failed: Host | None = None
        while not self._have_ended():
            self._flush(ctx)
            failed = failed or self._end_with_first_failed()
            until = self._look_at_clock(ctx, until)
            self._leave_sign()
            self._look_at_disk()
            self._look_at_pipes()
        self._flush(ctx)
        if self._jobs.is_closed:
            return Event.SERVER_LOST, SERVER_LOST, None
        if trouble := self._pipe_trouble():
            return Event.BROKE, f"Data download failed:{trouble}", {"log_stream": self._hosts[0].stream}
        return self._exit_of(failed or next((host for host in self._hosts if host.has_failed()), self._hosts[0]))

    def _exit_of(self, host: Host) -> Answer:
        """What the job's end is: that of the host which failed first, if any."""
        assert host.process is not None
        ended = host.process.poll() or Exit(-9)
        facts = {
            "exit_code": ended.code,
            "exit_reason": self._disk.reason or ended.reason,
            "failure_text": host.failure_text(),
            "texts": [text for one in self._hosts if (text := one.failure_text())],
            "metrics": self.latest_metrics(),
            "points": self.points()[-KEPT_POINTS:],
            "log_stream": host.stream,
            "peak_memory_mib": max(host.process.peak_memory_mib() for host in self._hosts if host.process is not None),
        }
        if ended.reason == "lost":
            return Event.FAULT, INTERNAL, {**facts, "is_internal": True}
        return Event.EXITED_BADLY if is_bad(ended) else Event.EXITED_WELL, "", facts

    def _launch(self, ctx: Context) -> bool:
        """Start the programs, unless the end was asked for meanwhile."""
        self._addresses = LOOPBACK.take(len(self._hosts))
        own = zip(self._hosts, self._addresses, strict=True)
        names = {host.name: self._grants[host].address or address for host, address in own}
        if len(self._hosts) > 1 and self._cloud.job_compute.isolation == "none":
            raise Unavailable("This machine has no namespaces, so it cannot give the hosts of a job names and files of their own.")
        started = str(int(ctx.clock.time_s()))
        for host in self._hosts:
            host.stream = (host.member.log_stream or self._spec.log_stream).replace("{started}", started)
            host.log = JobLog(ctx, self._spec.log_group, host.stream, self._spec.metrics)
            for line in (*self._said, *self._spec.notes, *self._grants[host].notes):
                host.log.add(line)
            command = limited(self._surroundings.process_spec(host, names, self._spec.memory_mib), self._grants[host])
            with self._lock:
                if self._is_cancelled:
                    break
                host.process = self._cloud.job_compute.launch(command, host.log.add)
            if len(self._hosts) > 1:
                threading.Thread(target=self._await, args=(host,), name="pilvi-job-host", daemon=True).start()
        launched = [host for host in self._hosts if host.process is not None]
        if len(launched) < len(self._hosts):
            for host in launched:
                if host.process is not None:
                    host.process.kill()
                    host.process.wait()
        return len(launched) == len(self._hosts)

    def _upload(self) -> Answer:
        outcome = self._outcome()
        wanted = [target for target in self._spec.outputs if outcome in target.after]
        if wanted:
            ctx = self._as_role()
            for target in wanted:
                if target.mode == "end":
                    self._bring(ctx, target)
            if self._syncing is not None:
                self._syncing.finish()
        return Event.UPLOADED, "", None

    def _bring(self, ctx: Context, target: Output) -> None:
        upload(ctx, target, [host.own(target.path) for host in self._hosts], self._folder / "archive.tar.gz")

    def clean(self, cache: Path | None = None) -> None:
        """Let go of everything. cache: where the files for the next job of a warm pool go."""
        with self._lock:
            self._kill()
        if cache is not None:
            for host in self._hosts:
                host.leave(cache / host.name)
        LOOPBACK.give_back(self._addresses)
        self._addresses = ()
        remove_folder(self._folder)
        self._surroundings.clean()

    # -- while it runs ------------------------------------------------------------------------------------------------

    def _have_ended(self) -> bool:
        """Wait a moment; whether all programs have ended."""
        if len(self._hosts) == 1:
            process = self._hosts[0].process
            return process is None or process.wait(FLUSH_S) is not None
        if any(host.ended() is None for host in self._hosts):
            self._news.wait(FLUSH_S)
            self._news.clear()
        return all(host.ended() is not None for host in self._hosts)

    def _await(self, host: Host) -> None:
        if host.process is not None:
            host.process.wait()
            self._news.set()

    def _end_with_first_failed(self) -> Host | None:
        """One failing host ends the others: they would wait for it."""
        failed = next((host for host in self._hosts if host.has_failed()), None)
        if failed is not None:
            with self._lock:
                for host in self._hosts:
                    if host.process is not None and host.ended() is None:
                        host.process.stop(PEER_GRACE_S)
        return failed

    def _look_at_clock(self, ctx: Context, until: float | None) -> float | None:
        """Tell a deadline that is over, once."""
        if self._wait_until is not None and ctx.clock.time_s() >= self._wait_until:
            self._wait_until = None
            self._tell(Event.WAITED)
        if until is not None and ctx.clock.real_s() >= until:
            self._tell(Event.DEADLINE)
            return None
        return until

    def _leave_sign(self) -> None:
        """For the next start, if this server dies: until when the job ran (`last_seen`)."""
        now = self._cloud.clock.time_s()
        with contextlib.suppress(OSError):
            os.utime(self._folder, (now, now))

    def _look_at_disk(self) -> None:
        if self._is_disk_over():
            with self._lock:
                self._kill()

    def _is_disk_over(self) -> bool:
        return self._disk.is_over([host.folder for host in self._hosts], self._cloud.clock.real_s())

    def _look_at_pipes(self) -> None:
        """Whoever reads a pipe that gets nothing more would wait for ever."""
        if self._pipe_trouble():
            with self._lock:
                self._kill()

    def _pipe_trouble(self) -> str:
        return next((feed.trouble for feed in self._feeds if feed.trouble), "")

    def _open_pipes(self) -> None:
        nodes = self._cloud.job_compute.nodes()
        is_elsewhere = not nodes or any(node.name for node in nodes)
        if is_elsewhere and any(source.mode == "pipe" for source in self._spec.inputs):
            raise TransferFailed(
                "Data comes by pipe only on the server's own machine, and jobs run on a cluster here: use File mode."
            )
        for source in self._spec.inputs:
            hosts = [host for host in self._hosts if host.gets(source)]
            for number, host in enumerate(hosts if source.mode == "pipe" else ()):
                place = host.outside(source.path)
                place.parent.mkdir(parents=True, exist_ok=True)
                share = (number, len(hosts))
                self._feeds.append(Feed(source, place.parent, share, self._as_role, self._folder))

    def _syncs(self) -> list[Sync]:
        continuous = [target for target in self._spec.outputs if target.mode == "continuous"]
        return [
            Sync(host.folder, host.outside(target.path), target.uri, target.kms_key)
            for target in continuous
            for host in self._hosts
        ]

    def _sync_before_it_is_known(self) -> None:
        """Checkpoints are in S3 before the job is seen to go on elsewhere. What fails here fails again, and is told, at the upload."""
        if self._syncing is not None:
            with contextlib.suppress(TransferFailed, PilviError):
                self._syncing.finish()

    def _tell_owner(self, line: str) -> None:
        if self._hosts[0].log is not None:
            self._hosts[0].log.add(line)

    def _tell(self, event: Event) -> None:
        if Do.TERMINATE in self._jobs.apply(self._spec.id, event):
            self.terminate()

    def _flush(self, ctx: Context) -> None:
        points = [point for host in self._hosts if host.log is not None for point in host.log.flush()]
        if points:
            self._points.add(points)
            self._jobs.tell(self._spec.id)
            self._publish(ctx, points)

    def _publish(self, ctx: Context, points: list[dict[str, Any]]) -> None:
        """All numbers go to CloudWatch where that is built."""
        if not self._has_cloudwatch:
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

    # -- private ------------------------------------------------------------------------------------------------------

    def _kill(self) -> None:
        for host in self._hosts:
            if host.process is not None and host.process.poll() is None:
                host.process.kill()

    def _as_role(self) -> Context:
        ctx = service_context(self._cloud, self._spec)
        return ctx.as_role(self._spec.role_arn, self._spec.session_name) if self._spec.role_arn else ctx

    def _check(self) -> None:
        if self._is_cancelled:
            raise Cancelled
        if self._is_disk_over():
            raise TransferFailed("No space left on device: the data is larger than the storage volume of the job.")
        if self._wait_until is not None and self._cloud.clock.time_s() >= self._wait_until:
            self._wait_until = None
            self._jobs.apply(self._spec.id, Event.WAITED)
            raise Cancelled

    def _outcome(self) -> str:
        return str(self._jobs.get(self._spec.id)["outcome"] or Status.FAILED)
