"""Warm pools: an ended job's place and cache wait for the next job that is alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pilvi.testing.server import TestServer, eventually
from tests.services.sagemaker.test_training_job import refusal


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestServer]:
    """A server whose machine nobody else uses: a pool gives way to whoever would have to wait."""
    with TestServer(tmp_path_factory.mktemp("pools")) as running:
        yield running


CACHE = "/opt/ml/sagemaker/warmpoolcache"


def resources(keep: int | None, **changes: Any) -> dict[str, Any]:
    found = {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10, **changes}
    return found if keep is None else {**found, "KeepAlivePeriodInSeconds": keep}


def pool(lab: Any, name: str) -> Any:
    return lab.describe(name).get("WarmPoolStatus")


def test_an_equal_job_takes_the_pool_over(fresh_lab: Any) -> None:
    lab = fresh_lab
    lab.start("pool-1", f"echo kept > {CACHE}/x; sleep 0.3", ResourceConfig=resources(60))
    assert pool(lab, "pool-1") == {"Status": "InUse"}
    assert lab.wait("pool-1")["WarmPoolStatus"] == {"Status": "Available"}
    listed = lab.sagemaker.list_training_jobs(WarmPoolStatusEquals="Available")["TrainingJobSummaries"]
    assert [(job["TrainingJobName"], job["WarmPoolStatus"]) for job in listed] == [("pool-1", {"Status": "Available"})]
    other = lab.run("other", f"ls {CACHE} || echo none", ResourceConfig=resources(None, InstanceType="ml.m5.xlarge"))
    assert "WarmPoolStatus" not in other
    second = lab.run("pool-2", f"cat {CACHE}/x; rm {CACHE}/x", ResourceConfig=resources(60))
    assert lab.lines("pool-2") == ["kept"]
    assert second["WarmPoolStatus"] == {"Status": "Available"}
    first = pool(lab, "pool-1")
    assert (first["Status"], first["ReusedByJob"]) == ("Reused", "pool-2")
    assert first["ResourceRetainedBillableTimeInSeconds"] >= 0
    third = lab.run("pool-3", f"ls {CACHE} | wc -l", ResourceConfig=resources(None))
    assert lab.lines("pool-3") == ["0"]
    assert "WarmPoolStatus" not in third
    assert pool(lab, "pool-2")["Status"] == "Reused"
    assert lab.sagemaker.list_training_jobs(WarmPoolStatusEquals="Available")["TrainingJobSummaries"] == []


def test_a_pool_starts_a_job_in_front_of_the_queue(fresh_lab: Any) -> None:
    lab = fresh_lab
    lab.run("warm", "exit 0", ResourceConfig=resources(60))
    # Everything else is taken, up to the place that is held.
    lab.start("blocker", "sleep 60", ResourceConfig=resources(None, InstanceType="ml.m5.xlarge"))
    job = lab.run("warm-again", "exit 0", ResourceConfig=resources(60))
    start, download = (entry["StartTime"] for entry in job["SecondaryStatusTransitions"][:2])
    assert (download - start).total_seconds() < 2
    # Whoever would have to wait gets the place of a pool.
    for number in range(4):
        lab.start(f"crowd-{number}", "sleep 60", ResourceConfig=resources(None, InstanceType="ml.m5.xlarge"))
    eventually(lambda: pool(lab, "warm-again")["Status"] == "Terminated")
    for name in ("blocker", *(f"crowd-{number}" for number in range(4))):
        lab.sagemaker.stop_training_job(TrainingJobName=name)
        lab.wait(name)


def test_update_training_job_changes_and_ends_pools(fresh_lab: Any, server: Any) -> None:
    lab = fresh_lab
    update = lab.sagemaker.update_training_job
    lab.run("updated", f"echo x > {CACHE}/x", ResourceConfig=resources(3600))
    arn = update(TrainingJobName="updated", ResourceConfig={"KeepAlivePeriodInSeconds": 1800})["TrainingJobArn"]
    job = lab.describe("updated")
    assert (arn, job["ResourceConfig"]["KeepAlivePeriodInSeconds"]) == (job["TrainingJobArn"], 1800)
    assert job["WarmPoolStatus"] == {"Status": "Available"}
    assert refusal(lab.sagemaker.delete_training_job, TrainingJobName="updated")[0] == "ResourceInUse"
    update(TrainingJobName="updated", ResourceConfig={"KeepAlivePeriodInSeconds": 0})
    assert pool(lab, "updated")["Status"] == "Terminated"
    eventually(lambda: not list((server.config.data_dir / "pools").glob("*")))
    code, message = refusal(update, TrainingJobName="updated", ResourceConfig={"KeepAlivePeriodInSeconds": 60})
    assert (code, "its status is Terminated" in message) == ("ValidationException", True)
    lab.run("cold", "exit 0")
    assert refusal(update, TrainingJobName="cold", ResourceConfig={"KeepAlivePeriodInSeconds": 60})[0] == "ValidationException"
    assert refusal(update, TrainingJobName="none")[0] == "ValidationException"
    assert refusal(update, TrainingJobName="cold", RemoteDebugConfig={"EnableRemoteDebug": True})[0] == "ValidationException"
    update(TrainingJobName="cold", ProfilerConfig={"DisableProfiler": True})
    assert lab.describe("cold")["ProfilerConfig"] == {"DisableProfiler": True}


def test_a_pool_ends_when_its_time_is_over_and_fails_with_its_job(fresh_lab: Any) -> None:
    lab = fresh_lab
    lab.run("brief", "exit 0", ResourceConfig=resources(1))
    eventually(lambda: pool(lab, "brief")["Status"] == "Terminated")
    assert pool(lab, "brief")["ResourceRetainedBillableTimeInSeconds"] in (1, 2)
    assert lab.run("failed", "exit 1", ResourceConfig=resources(60))["WarmPoolStatus"] == {"Status": "Terminated"}
    lab.start("shortened", "while [ ! -e /tmp/never ]; do sleep 0.05; done", ResourceConfig=resources(3600))
    eventually(lambda: lab.describe("shortened")["SecondaryStatus"] == "Training")
    lab.sagemaker.update_training_job(TrainingJobName="shortened", ResourceConfig={"KeepAlivePeriodInSeconds": 1})
    lab.sagemaker.stop_training_job(TrainingJobName="shortened")
    lab.wait("shortened")
    eventually(lambda: pool(lab, "shortened")["Status"] == "Terminated")
    spot = {"EnableManagedSpotTraining": True, "StoppingCondition": {"MaxRuntimeInSeconds": 9, "MaxWaitTimeInSeconds": 9}}
    request = lab.request("spot-pool", "exit 0", ResourceConfig=resources(60), **spot)
    assert refusal(lab.sagemaker.create_training_job, **request)[0] == "ValidationException"


def test_a_cache_that_is_a_link_is_not_kept(fresh_lab: Any) -> None:
    script = f"rmdir {CACHE}; ln -s /etc {CACHE}"
    fresh_lab.run("linked", script, ResourceConfig=resources(60))
    fresh_lab.run("after-link", f"ls -A {CACHE} | wc -l", ResourceConfig=resources(60))
    assert fresh_lab.lines("after-link") == ["0"]
