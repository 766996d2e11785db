"""The server dies during a tuning job: the next one goes on with it, starts no trial twice and keeps to the limits."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pilvi.testing.server import eventually
from pilvi.testing.up import Up
from tests.services.sagemaker.conftest import SKLEARN_IMAGE, Lab

NAME = "goes-on"
SCRIPT = """
import argparse, time
parser = argparse.ArgumentParser()
parser.add_argument("--rate", type=float)
print("loss=%r" % abs(parser.parse_known_args()[0].rate - 0.3), flush=True)
time.sleep(1)
"""


def described(lab: Lab) -> Mapping[str, Any]:
    found: Mapping[str, Any] = lab.sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=NAME)
    return found


def children(lab: Lab) -> list[Any]:
    found = lab.sagemaker.list_training_jobs_for_hyper_parameter_tuning_job(HyperParameterTuningJobName=NAME, MaxResults=100)
    return list(found["TrainingJobSummaries"])


@pytest.mark.usefixtures("scikit_learn")
@pytest.mark.parametrize("is_retried", [False, True], ids=["lost", "retried"])
def test_a_tuning_job_goes_on_after_a_crash(
    tmp_path: Path, server: Any, source_archive: Callable[[Mapping[str, str]], bytes], is_retried: bool
) -> None:
    runtimes = str(server.config.runtimes_dir)
    up = Up(tmp_path / "data", "--runtimes-dir", runtimes)
    lab = Lab(up.root)
    request = lab.request("unused")
    del request["TrainingJobName"]
    source = lab.put("sourcedir.tar.gz", source_archive({"train.py": SCRIPT}))
    lab.sagemaker.create_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=NAME,
        HyperParameterTuningJobConfig={
            "Strategy": "Random",
            "HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "loss"},
            "ResourceLimits": {"MaxNumberOfTrainingJobs": 4, "MaxParallelTrainingJobs": 2},
            "ParameterRanges": {"ContinuousParameterRanges": [{"Name": "rate", "MinValue": "0", "MaxValue": "1"}]},
            "RandomSeed": 1,
        },
        TrainingJobDefinition={
            **request,
            "AlgorithmSpecification": {
                "TrainingImage": SKLEARN_IMAGE,
                "TrainingInputMode": "File",
                "MetricDefinitions": [{"Name": "loss", "Regex": "loss=(\\S+)"}],
            },
            "StaticHyperParameters": {
                "sagemaker_program": json.dumps("train.py"),
                "sagemaker_submit_directory": json.dumps(source),
            },
            **({"RetryStrategy": {"MaximumRetryAttempts": 3}} if is_retried else {}),
        },
    )
    try:
        eventually(lambda: sum(entry["ObjectiveStatus"] == "Succeeded" for entry in children(lab)) >= 1)
        eventually(lambda: sum(entry["TrainingJobStatus"] == "InProgress" for entry in children(lab)) == 2)
        before = {entry["TrainingJobName"]: entry["TunedHyperParameters"] for entry in children(lab)}
    finally:
        up.kill()
    again = Up(tmp_path / "data", "--runtimes-dir", runtimes)
    try:
        lab.sagemaker = again.root.client("sagemaker")
        done = eventually(
            lambda: found if (found := described(lab))["HyperParameterTuningJobStatus"] != "InProgress" else None, within_s=60
        )
        assert done["HyperParameterTuningJobStatus"] == "Completed"
        after = {entry["TrainingJobName"]: entry["TunedHyperParameters"] for entry in children(lab)}
        assert before.items() <= after.items()
        assert sorted(name[len(NAME) + 1 :][:3] for name in after) == ["001", "002", "003", "004"]
        counters = done["TrainingJobStatusCounters"]
        lost = 0 if is_retried else counters["RetryableError"]
        assert lost in ((0,) if is_retried else (1, 2))
        assert counters["Completed"] == 4 - lost
        jobs = [lab.describe(name) for name in after]
        for job in jobs:
            at = job["CreationTime"]
            assert sum(other["CreationTime"] <= at < other["TrainingEndTime"] for other in jobs) <= 2
    finally:
        again.stop()
