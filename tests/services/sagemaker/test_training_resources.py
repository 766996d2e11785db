"""What an instance type means for a job here: its place in the queue, and what the program sees of the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pilvi.compute import Gpu, Node
from pilvi.testing.server import TestServer, eventually


@pytest.fixture(scope="module")
def small_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestServer]:
    """A server that runs two jobs at a time, however big the machine is."""
    with TestServer(tmp_path_factory.mktemp("small")) as running:
        running.cloud.jobs._queue._slots = 2
        yield running


@pytest.fixture(scope="module")
def small_lab(small_server: TestServer, lab: Any) -> Any:
    return type(lab)(small_server.account("710000000099"))


def resources(instance_type: str) -> dict[str, Any]:
    return {"InstanceType": instance_type, "InstanceCount": 1, "VolumeSizeInGB": 1}


def cores() -> int:
    return len(os.sched_getaffinity(0))


def test_jobs_queue_when_the_machine_is_full_and_start_in_order(small_lab: Any, small_server: TestServer) -> None:
    names = [f"queued-{number}" for number in range(5)]
    for name in names:
        small_lab.start(name, "sleep 0.3")
    found = [small_lab.wait(name) for name in names]
    assert {job["TrainingJobStatus"] for job in found} == {"Completed"}
    starts = [job["TrainingStartTime"] for job in found]
    # Two that start at the same moment have threads of their own.
    assert all(later > earlier - timedelta(seconds=0.2) for earlier, later in pairwise(starts))
    for job in found:
        others = [other for other in found if other["TrainingStartTime"] < job["TrainingStartTime"] < other["TrainingEndTime"]]
        assert len(others) <= 1
    listed = small_lab.sagemaker.list_training_jobs(NameContains="queued-", SortBy="CreationTime", SortOrder="Ascending")
    assert [job["TrainingJobName"] for job in listed["TrainingJobSummaries"]] == names


def test_describe_training_job_says_why_it_waits(small_lab: Any, small_server: TestServer) -> None:
    for number in range(4):
        small_lab.start(f"why-{number}", "sleep 600")
    eventually(lambda: small_lab.describe("why-1")["SecondaryStatus"] == "Training")
    message = small_lab.describe("why-3")["SecondaryStatusTransitions"][-1]["StatusMessage"]
    assert message.startswith("Starting the training job. Waiting for a place: 1 job is ahead of it; 2 jobs run on this machine; ")
    assert "it needs 1 core, 0 cores free" in message
    assert small_server.cloud.jobs.queue_facts()["waiting"] == 2
    small_lab.sagemaker.stop_training_job(TrainingJobName="why-2")
    assert small_lab.wait("why-2")["TrainingJobStatus"] == "Stopped"
    assert "ahead" not in small_lab.describe("why-3")["SecondaryStatusTransitions"][-1]["StatusMessage"]
    small_lab.sagemaker.stop_training_job(TrainingJobName="why-0")
    eventually(lambda: small_lab.describe("why-3")["SecondaryStatus"] == "Training")
    assert small_lab.describe("why-3")["SecondaryStatusTransitions"][0]["StatusMessage"] == "Preparing the instances for training"
    for name in ("why-1", "why-3"):
        small_lab.sagemaker.stop_training_job(TrainingJobName=name)
        small_lab.wait(name)


def test_program_sees_the_types_cores(lab: Any) -> None:
    lab.run("cores", "echo nproc $(nproc) threads $OMP_NUM_THREADS memory $PILVI_MEMORY_MIB")
    (line,) = [line for line in lab.lines("cores") if line.startswith("nproc")]
    words = line.split()
    assert (words[1], words[3]) == (str(min(2, cores())),) * 2
    assert 128 <= int(words[5]) <= 8192


def test_log_says_when_the_machine_is_smaller_than_the_type(lab: Any) -> None:
    lab.run("huge", "echo nproc $(nproc)", ResourceConfig=resources("ml.m5.24xlarge"))
    if cores() >= 96:
        pytest.skip("this machine has the type's cores")
    assert f"nproc {cores()}" in lab.lines("huge")
    first = lab.all_lines("huge")[0]
    assert first.startswith(f"this machine gives {cores()} of 96 cores and ")
    assert first.endswith(" of 384.0 GiB memory of ml.m5.24xlarge")


def test_gpu_type_without_a_gpu_runs_on_the_cpu_and_says_so(small_lab: Any, small_server: TestServer, monkeypatch: Any) -> None:
    monkeypatch.setattr(small_server.cloud.jobs._queue, "_nodes", lambda: (Node("", 2, 4096),))
    assert small_lab.run("no-gpu", "echo gpus ${CUDA_VISIBLE_DEVICES-none}", ResourceConfig=resources("ml.p3.2xlarge"))
    assert "gpus none" in small_lab.lines("no-gpu")
    said = "ml.p3.2xlarge has 1 GPU with 16.0 GiB; this machine has none, so the program runs on the CPU"
    assert said in small_lab.all_lines("no-gpu")


def test_gpu_type_gets_a_gpu_and_others_do_not(small_lab: Any, small_server: TestServer, monkeypatch: Any) -> None:
    node = Node("", 2, 4096, (Gpu("GPU-a", "NVIDIA H100", 81559), Gpu("GPU-b", "NVIDIA H100", 81559)))
    monkeypatch.setattr(small_server.cloud.jobs._queue, "_nodes", lambda: (node,))
    script = "echo gpus [$CUDA_VISIBLE_DEVICES] $XLA_PYTHON_CLIENT_MEM_FRACTION"
    small_lab.run("t4", script, ResourceConfig=resources("ml.g4dn.xlarge"))
    assert "gpus [GPU-a] 0.20" in small_lab.lines("t4")
    small_lab.run("cpu", script)
    assert "gpus []" in [line.strip() for line in small_lab.lines("cpu")]


def test_too_much_memory_ends_the_job_with_words_to_act_on(small_lab: Any, small_server: TestServer, monkeypatch: Any) -> None:
    monkeypatch.setattr(small_server.cloud.jobs._queue, "_nodes", lambda: (Node("", 2, 512),))
    hungry = "x=$(head -c 400000000 /dev/zero | tr '\\0' x); echo ${#x}"
    found = small_lab.run("hungry", hungry)
    assert found["TrainingJobStatus"] == "Failed"
    assert found["FailureReason"].startswith("ClientError: Please use an instance type with more memory")


def test_more_instances_than_fit_fail_with_words(small_lab: Any, small_server: TestServer, monkeypatch: Any) -> None:
    monkeypatch.setattr(small_server.cloud.jobs._queue, "_nodes", lambda: (Node("", 2, 512),))
    found = small_lab.run("crowd", "true", ResourceConfig={**resources("ml.m5.large"), "InstanceCount": 9})
    assert found["FailureReason"].startswith("ClientError: CapacityError: 9 instances do not fit on this machine")


def test_server_on_some_cores_gives_programs_these(tmp_path: Path) -> None:
    if cores() < 2:
        pytest.skip("this machine has a single core")
    from pilvi.compute.process import ProcessCompute
    from pilvi.testing.contracts.compute import python, run

    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        compute = ProcessCompute(folder=tmp_path)
        _, lines = run(compute, python("import os; print(os.cpu_count(), len(os.sched_getaffinity(0)))"))
        isolation = compute.isolation
        compute.close()
    finally:
        os.sched_setaffinity(0, before)
    assert lines == (["1 1"] if isolation != "none" else [f"{os.cpu_count()} 1"])
