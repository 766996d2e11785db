"""Queue, recovery and endings, with memory records, real programs, and a cloud that has no services."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pilvi.compute.process import ProcessCompute
from pilvi.core.clock import SystemClock
from pilvi.core.config import Config
from pilvi.core.errors import AlreadyExists, Conflict, NotFound, ServiceError, Unavailable
from pilvi.core.ids import Ids
from pilvi.jobs import Jobs, JobSpec, runner
from pilvi.jobs.record import JOBS, OPEN, new_record
from pilvi.jobs.spec import Input, Member, Output, Resources, spec_from_record, spec_to_record
from pilvi.storage.records import Insert, Table, Update
from pilvi.storage.records.memory import MemoryRecords
from pilvi.testing.server import eventually


class Cloud(SimpleNamespace):
    """The ports a job needs, without a server."""

    def call(self, ctx: Any, service: str, operation: str, params: Any) -> dict[str, Any]:
        self.calls.append((service, operation, params))
        if service == "cloudwatch":
            raise ServiceError("NotImplemented", "not built", 501)
        return {}

    def client_side(self, account: str, region: str) -> SimpleNamespace:
        return SimpleNamespace(env={}, binds=())


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    made = Cloud(
        config=Config(tmp_path / "data", runtimes_dir=tmp_path / "runtimes"),
        clock=SystemClock(),
        ids=Ids(),
        store=MemoryRecords(),
        job_compute=ProcessCompute(),
        endpoint="http://127.0.0.1:1",
        calls=[],
    )
    yield made
    made.job_compute.close()


@pytest.fixture
def jobs(cloud: Cloud) -> Iterator[Jobs]:
    made = Jobs(cloud, parallel=2)  # type: ignore[arg-type]
    yield made
    made.close()


def spec(id: str, script: str, **changes: Any) -> JobSpec:
    base = JobSpec(
        id=id,
        kind="test",
        name=id,
        account="111122223333",
        region="us-east-1",
        service="sagemaker",
        principal="sagemaker.amazonaws.com",
        arn="",
        role_arn="",
        session_name="x",
        runtime="",
        command=("/bin/sh", "-c", script),
        grace_s=30,
    )
    return replace(base, **changes)


def ended(jobs: Jobs, id: str) -> dict[str, Any]:
    return eventually(lambda: (record := jobs.get(id)).get("ended") and record)


def test_submit_runs_it_and_cleans_up(jobs: Jobs, cloud: Cloud) -> None:
    jobs.submit(spec("a", "exit 0"))
    record = ended(jobs, "a")
    assert record["status"] == "Completed"
    assert (record["exit_code"], record["exit_reason"]) == (0, "exit")
    assert [entry["status"] for entry in record["transitions"]] == [
        "Queued",
        "Starting",
        "Downloading",
        "Running",
        "Uploading",
        "Completed",
    ]
    eventually(lambda: not (cloud.config.data_dir / "jobs" / "a").exists())
    assert cloud.store.scan(OPEN) == []


def test_submit_is_all_or_nothing(jobs: Jobs, cloud: Cloud) -> None:
    table = Table("1", "", "x", "Y")
    cloud.store.write(Insert(table, "taken", {}))
    with pytest.raises(AlreadyExists):
        jobs.submit(spec("a", "exit 0"), Insert(table, "taken", {}))
    with pytest.raises(NotFound):
        jobs.get("a")


def test_queue_is_bounded_and_in_order(jobs: Jobs, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        jobs.submit(spec(name, "while [ ! -e /opt/ml/go ]; do sleep 0.02; done"))
    eventually(lambda: [jobs.get(name)["status"] for name in ("a", "b")] == ["Running", "Running"])
    assert jobs.get("c")["status"] == "Queued"
    jobs.stop("c")
    assert jobs.get("c")["status"] == "Stopped"
    jobs.stop("a")
    assert ended(jobs, "a")["status"] == "Stopped"
    jobs.submit(spec("d", "exit 0"))
    assert ended(jobs, "d")["status"] == "Completed"
    assert jobs.get("b")["status"] == "Running"


def test_memory_limit_is_told(jobs: Jobs) -> None:
    hungry = "import time\nkept=[]\nwhile True:\n    kept.append(bytearray(b'x' * (8 << 20))); time.sleep(0.005)"
    jobs.submit(spec("a", "", command=("python3", "-c", hungry), memory_mib=100))
    record = ended(jobs, "a")
    assert (record["status"], record["exit_reason"]) == ("Failed", "memory")


def test_disk_limit_is_told(jobs: Jobs) -> None:
    hungry = "head -c 4000000 /dev/urandom > /opt/ml/big; sleep 600"
    jobs.submit(spec("a", hungry, disk_mib=2))
    record = ended(jobs, "a")
    assert (record["status"], record["exit_reason"]) == ("Failed", "disk")
    jobs.submit(spec("b", "rm -f /opt/ml/x; head -c 1000000 /dev/urandom > /tmp/x; sleep 1.5", disk_mib=2))
    assert ended(jobs, "b")["status"] == "Completed"


def test_a_failure_file_that_nobody_writes_holds_nobody_up(jobs: Jobs) -> None:
    jobs.submit(spec("a", "mkfifo /opt/ml/failure; exit 3", failure_file="/opt/ml/failure"))
    record = ended(jobs, "a")
    assert (record["exit_code"], record["failure_text"]) == (3, "")


def test_interrupt_puts_a_job_back_into_the_queue(jobs: Jobs, tmp_path: Path) -> None:
    script = "echo n=1; trap 'exit 0' TERM; for i in $(seq 400); do sleep 0.05; [ -e /opt/ml/go ] && exit 0; done; exit 1"
    jobs.submit(spec("a", script, is_interruptible=True, metrics=(("n", "n=(.)"),)))
    jobs.submit(spec("steady", "sleep 600"))
    eventually(lambda: len(jobs.points("a")) == 1)
    jobs.interrupt("a")
    eventually(lambda: len(jobs.points("a")) == 2)
    (tmp_path / "data" / "jobs" / "a" / "localhost" / "root" / "go").touch()
    record = ended(jobs, "a")
    assert record["status"] == "Completed"
    way = ["Starting", "Downloading", "Running"]
    assert [entry["status"] for entry in record["transitions"]] == ["Queued", *way, "Interrupted", *way, "Uploading", "Completed"]
    assert [point["Value"] for point in jobs.points("a")] == [1.0, 1.0]
    for id in ("a", "steady"):
        with pytest.raises(Conflict):
            jobs.interrupt(id)
    for call in (jobs.interrupt, jobs.points):
        with pytest.raises(NotFound):
            call("none")


def test_a_job_waits_no_longer_than_it_may(jobs: Jobs) -> None:
    for name in ("a", "b"):
        jobs.submit(spec(name, "sleep 600"))
    jobs.submit(spec("c", "exit 0", max_pending_s=1))
    jobs.submit(spec("d", "exit 0", max_pending_s=600, max_wait_s=1))
    assert (ended(jobs, "c")["status"], ended(jobs, "d")["status"]) == ("Stopped", "WaitedOut")


def test_members_are_hosts_of_their_own(jobs: Jobs) -> None:
    members = tuple(Member(name, env={"ME": name}, files={"me": name}) for name in ("h1", "h2", "h3"))
    script = "set -e; [ $(cat /opt/ml/me) = $ME ]; [ $(hostname) = $ME ]; getent hosts h1 h2 h3 | sort -u | wc -l | grep -q 3"
    jobs.submit(spec("a", script, members=members))
    assert ended(jobs, "a")["status"] == "Completed"


def test_missing_runtime_names_the_command(jobs: Jobs) -> None:
    jobs.submit(spec("a", "exit 0", runtime="scikit-learn"))
    record = ended(jobs, "a")
    assert (record["status"], record["broke_at"]) == ("Failed", "Starting")
    assert "pilvi runtimes install scikit-learn" in record["reason"]


class Moody(MemoryRecords):
    """A store that refuses to write jobs while it is in a bad mood."""

    refusals = 0
    is_broken = False

    def write(self, *changes: Any) -> None:
        if self.is_broken and any(isinstance(change, Update) and change.table == JOBS for change in changes):
            self.refusals += 1
            raise Unavailable("The disk is full.")
        super().write(*changes)


def test_a_job_whose_state_cannot_be_written_goes_on_as_soon_as_it_can(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "RETRY_S", 0.05)
    cloud.store = store = Moody()
    jobs = Jobs(cloud, parallel=1)  # type: ignore[arg-type]
    try:
        store.is_broken = True
        jobs.submit(spec("begins", "true"))
        eventually(lambda: store.refusals > 2)
        assert jobs.get("begins")["status"] == "Queued"
        store.is_broken = False
        assert ended(jobs, "begins")["status"] == "Completed"
        jobs.submit(spec("ends", "sleep 1"))
        eventually(lambda: jobs.get("ends")["status"] == "Running")
        store.is_broken, store.refusals = True, 0
        eventually(lambda: store.refusals > 2)
        store.is_broken = False
        assert ended(jobs, "ends")["status"] == "Completed"
    finally:
        jobs.close()


def test_a_job_that_its_runner_loses_has_failed(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(runner, "Work", broken)
    jobs = Jobs(cloud, parallel=1)  # type: ignore[arg-type]
    try:
        jobs.submit(spec("lost", "true"))
        found = ended(jobs, "lost")
        assert (found["status"], found["is_internal"]) == ("Failed", True)
        assert found["reason"].startswith("InternalServerError")
    finally:
        jobs.close()


def test_metrics_are_published_until_it_is_known_that_nobody_takes_them(jobs: Jobs, cloud: Cloud) -> None:
    script = "echo n=1; sleep 0.7; echo n=2"
    jobs.submit(spec("a", script, metrics=(("n", "n=(.)"),), metric_namespace="N", metric_dimensions={"D": "d"}))
    assert [point["Value"] for point in ended(jobs, "a")["metrics"]] == [2.0]
    assert [operation for service, operation, _ in cloud.calls if service == "cloudwatch"] == ["PutMetricData"]


def test_close_fails_what_runs_and_keeps_the_queue(cloud: Cloud) -> None:
    jobs = Jobs(cloud, parallel=1)  # type: ignore[arg-type]
    jobs.submit(spec("running", "sleep 600"))
    jobs.submit(spec("waiting", "exit 0"))
    eventually(lambda: jobs.get("running")["status"] == "Running")
    jobs.close()
    record = jobs.get("running")
    assert (record["status"], record["reason"]) == ("Failed", "the server stopped while the job was running")
    assert jobs.get("waiting")["status"] == "Queued"
    again = Jobs(cloud, parallel=1)  # type: ignore[arg-type]
    again.recover()
    assert ended(again, "waiting")["status"] == "Completed"
    again.close()


@pytest.mark.parametrize("status", ["Starting", "Downloading", "Running", "Stopping", "Uploading"])
def test_recover_tells_lost_jobs_honestly(cloud: Cloud, status: str) -> None:
    record = {**new_record(spec("lost", "exit 0"), cloud.clock.now()), "status": status}
    cloud.store.write(Insert(JOBS, "lost", record), Insert(OPEN, "lost", {}))
    left = cloud.config.data_dir / "jobs" / "lost" / "root"
    left.mkdir(parents=True)
    jobs = Jobs(cloud)  # type: ignore[arg-type]
    jobs.recover()
    found = jobs.get("lost")
    assert (found["status"], found["reason"]) == ("Failed", "the server stopped while the job was running")
    assert found["transitions"][-1]["status"] == "Failed"
    assert cloud.store.scan(OPEN) == []
    eventually(lambda: not left.exists())
    jobs.close()


def test_a_lost_job_ended_when_it_was_last_seen(cloud: Cloud) -> None:
    created = cloud.clock.now() - timedelta(days=3)
    for name in ("seen", "unseen", "touched-early"):
        record = {**new_record(spec(name, "exit 0"), created), "status": "Running"}
        cloud.store.write(Insert(JOBS, name, record), Insert(OPEN, name, {}))
    for name, hours in (("seen", 1), ("touched-early", -1)):
        left = cloud.config.data_dir / "jobs" / name
        left.mkdir(parents=True)
        seen_s = (created + timedelta(hours=hours)).timestamp()
        os.utime(left, (seen_s, seen_s))
    jobs = Jobs(cloud)  # type: ignore[arg-type]
    jobs.recover()
    assert abs(jobs.get("seen")["ended"] - created - timedelta(hours=1)) < timedelta(seconds=1)
    assert jobs.get("touched-early")["ended"] == created
    assert cloud.clock.now() - jobs.get("unseen")["ended"] < timedelta(minutes=1)
    jobs.close()


def test_a_running_job_leaves_signs_of_life(jobs: Jobs, cloud: Cloud) -> None:
    jobs.submit(spec("a", "sleep 600"))
    eventually(lambda: jobs.get("a")["status"] == "Running")
    folder = cloud.config.data_dir / "jobs" / "a"
    os.utime(folder, (1000, 1000))
    eventually(lambda: cloud.clock.time_s() - folder.stat().st_mtime < 60)
    jobs.stop("a")


def test_recover_starts_whatever_earlier_starts_left(cloud: Cloud) -> None:
    folder = cloud.config.data_dir / "jobs"
    for name in ("a", "left-a", "left-b"):
        (folder / name / "ml").mkdir(parents=True)
    jobs = Jobs(cloud)  # type: ignore[arg-type]
    jobs.recover()
    eventually(lambda: not any(folder.iterdir()))
    jobs.close()


def test_reset_forgets_what_runs(jobs: Jobs) -> None:
    jobs.submit(spec("a", "sleep 600"))
    eventually(lambda: jobs.get("a")["status"] == "Running")
    jobs.reset()
    assert jobs.get("a")["status"] == "Failed"
    jobs.submit(spec("b", "exit 0"))
    assert ended(jobs, "b")["status"] == "Completed"


def test_spec_comes_back_from_its_record() -> None:
    made = spec(
        "a",
        "exit 0",
        inputs=(Input("p", "s3://b/k", shard=(0, 2)), Input("q", "s3://b/m", "manifest")),
        outputs=(Output("m", "s3://b/o", "tar.gz", ("Completed",), True),),
        metrics=(("n", "x"),),
        folders=("f",),
        files={"a": "b"},
    )
    assert spec_from_record(spec_to_record(made)) == made
    several = replace(made, members=(Member("h1", {"a": "b"}, resources=Resources(2)), Member("h2")), resources=Resources(1, 5))
    assert spec_from_record(spec_to_record(several)) == several


def test_spec_of_an_older_server_comes_back() -> None:
    record = spec_to_record(spec("a", "exit 0", inputs=(Input("p", "s3://b/k"),), outputs=(Output("m", "s3://b/o"),)))
    for name in (
        "members",
        "resources",
        "image",
        "disk_mib",
        "max_wait_s",
        "is_interruptible",
        "restarts",
        "pool_key",
        "keep_alive_s",
    ):
        del record[name]
    for name in ("is_sharded", "mode", "attributes", "members", "shuffle_seed", "record_wrapper"):
        del record["inputs"][0][name]
    del record["outputs"][0]["mode"]
    found = spec_from_record({**record, "of_a_newer_server": 1})
    assert found == spec("a", "exit 0", inputs=(Input("p", "s3://b/k"),), outputs=(Output("m", "s3://b/o"),))


def test_wait_changes_tells_states_and_metric_points(jobs: Jobs, cloud: Cloud) -> None:
    script = "echo loss=1; while [ ! -e /opt/ml/go ]; do sleep 0.02; done; echo loss=2"
    jobs.submit(spec("watched", script, metrics=(("loss", "loss=(.*)"),)))
    seen, found = 0, []
    while not found or found[-1] != ("Completed", 2.0):
        seen = jobs.wait_changes(["watched"], 30, seen)
        record = jobs.get("watched")
        found.append((record["status"], record["metrics"][0]["Value"] if record.get("metrics") else None))
        if found[-1] == ("Running", 1.0):
            (cloud.config.data_dir / "jobs" / "watched" / "localhost" / "root" / "go").touch()
    assert ("Running", 1.0) in found
