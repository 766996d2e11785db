"""Training jobs that do harm or cannot work: each ends in AWS's state, says why, and leaves nothing behind."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pilvi.testing.contracts.compute import is_alive
from pilvi.testing.server import eventually
from tests.services.sagemaker.conftest import SKLEARN_IMAGE


@pytest.fixture(autouse=True)
def nothing_left(server: Any) -> Any:
    folder = server.config.data_dir / "jobs"
    others = set(folder.glob("*"))
    yield
    eventually(lambda: not set(folder.glob("*")) - others)


def script_mode(lab: Any, name: str, archive: bytes, program: str = "train.py") -> Any:
    uri = lab.put(f"bad/{name}/sourcedir.tar.gz", archive)
    parameters = {"sagemaker_submit_directory": json.dumps(uri), "sagemaker_program": json.dumps(program)}
    return lab.run(name, algorithm={"TrainingImage": SKLEARN_IMAGE}, HyperParameters=parameters)


def test_a_source_that_is_no_archive(lab: Any, scikit_learn: Path) -> None:
    job = script_mode(lab, "no-archive", b"this is no archive")
    assert job["TrainingJobStatus"] == "Failed"
    assert "not a gzip file" in job["FailureReason"] or "archive" in job["FailureReason"], job["FailureReason"]


def test_a_source_without_the_program(lab: Any, scikit_learn: Path, source_archive: Any) -> None:
    job = script_mode(lab, "no-program", source_archive({"other.py": "print(1)"}))
    assert job["TrainingJobStatus"] == "Failed"
    assert "train.py" in job["FailureReason"]


def test_a_script_that_throws(lab: Any, scikit_learn: Path, source_archive: Any) -> None:
    job = script_mode(lab, "throws", source_archive({"train.py": "raise KeyError('Survived')"}))
    assert job["FailureReason"].startswith("AlgorithmError: ExecuteUserScriptError")
    assert "KeyError: 'Survived'" in job["FailureReason"]


def test_a_script_that_leaves_children_behind(lab: Any, scikit_learn: Path, source_archive: Any) -> None:
    job = script_mode(lab, "parent", source_archive({"train.py": "import os, time\nos.fork() or time.sleep(600)\n"}))
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")


def test_a_program_that_is_not_there(lab: Any) -> None:
    job = lab.run("nowhere", algorithm={"ContainerEntrypoint": ["/no/such/program"]})
    assert job["FailureReason"].startswith("AlgorithmError: A program was not found, or cannot be run here")
    assert job["FailureReason"].endswith(", exit code: 127")
    assert "/no/such/program: No such file or directory" in lab.lines("nowhere")


def test_a_script_that_hangs(lab: Any) -> None:
    job = lab.run("hangs", "sleep 600", StoppingCondition={"MaxRuntimeInSeconds": 1})
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")


def test_a_script_that_forks_and_leaves(lab: Any) -> None:
    marker = f"7{os.getpid()}"
    script = f"for i in 1 2 3; do setsid nohup sleep {marker} >/dev/null 2>&1 & done; sleep 0.2; exit 0"
    job = lab.run("forks", script)
    assert job["TrainingJobStatus"] == "Completed"
    eventually(lambda: not is_alive(f"sleep\0{marker}"))


def test_a_script_that_closes_its_output_and_goes_on(lab: Any) -> None:
    job = lab.run("silent", "exec >&- 2>&-; sleep 0.3; echo x > /opt/ml/model/x")
    assert job["TrainingJobStatus"] == "Completed"
    assert lab.members("out/silent/output/model.tar.gz") == {"x": b"x\n"}


def test_a_script_that_fills_memory(lab: Any) -> None:
    hungry = "import time\nkept = []\nwhile True:\n    kept.append(bytearray(64 << 20)); time.sleep(0.01)\n"
    script = f"python3 - <<'END'\n{hungry}END\n"
    resources = {"InstanceType": "ml.t3.medium", "InstanceCount": 1, "VolumeSizeInGB": 1}
    job = lab.run_file("hungry", script, ResourceConfig=resources)
    assert job["TrainingJobStatus"] == "Failed"
    assert "more memory" in job["FailureReason"]


def test_links_out_of_the_model_folder_take_nothing_along(lab: Any) -> None:
    job = lab.run("linker", "cd /opt/ml; rm -r model; ln -s /etc model; exit 0")
    assert job["TrainingJobStatus"] == "Failed"
    assert "leads out of /opt/ml" in job["FailureReason"]


def test_data_larger_than_the_volume(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from pilvi.jobs import disk

    uri = lab.put("large/x", os.urandom(1 << 20))
    used_bytes = disk.used_bytes
    monkeypatch.setattr(disk, "used_bytes", lambda _: (2 << 30, 1))
    resources = {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1}
    job = lab.run("too-large", "exit 0", InputDataConfig=[lab.channel("train", uri)], ResourceConfig=resources)
    assert job["FailureReason"] == (
        "ClientError: Data download failed:No space left on device: the data is larger than the storage volume of the job."
    )
    monkeypatch.setattr(disk, "used_bytes", lambda folder: (used_bytes(folder)[0] << 10, 1))
    job = lab.run("filler", "head -c 2000000 /dev/urandom > /tmp/x; sleep 60", ResourceConfig=resources)
    assert job["FailureReason"].startswith("ClientError: The job wrote more than its storage volume holds (VolumeSizeInGB).")


def test_a_name_that_would_break_paths_stays_a_name(lab: Any) -> None:
    lab.put("odd/..a/.hidden", "1")
    lab.put("odd/sp ace/ü$x;.csv", "2")
    script = "cd /opt/ml/input/data/train; find . -type f | sort"
    lab.run("odd", script, InputDataConfig=[lab.channel("train", f"s3://{lab.bucket}/odd/")])
    assert lab.lines("odd") == ["./..a/.hidden", "./sp ace/ü$x;.csv"]
