"""A tuning job beside the same scripts run by hand: eight training jobs, all in parallel, against two processes at a time.

    .venv/bin/python benchmarks/tuning.py [--jobs 8] [--rounds 3]

Needs the runtime scikit-learn. By hand means: the runtime's own interpreter, the script and its arguments, as many at a time as
there are cores; no server, no isolation, no logs, no model brought anywhere.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pilvi.compute.environments import Environments
from pilvi.testing.server import TestServer

IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
SCRIPT = """
import argparse

from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score

parser = argparse.ArgumentParser()
parser.add_argument("--share", type=float, default=0.5)
chosen, _ = parser.parse_known_args()
features, truth = make_classification(2000, 20, random_state=0)
model = RandomForestClassifier(40, max_features=chosen.share, random_state=0, n_jobs=1)
print(f"accuracy={cross_val_score(model, features, truth, cv=3).mean()}")
"""
POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["s3:*", "logs:*"], "Resource": "*"}]}


def by_hand(python: Path, script: Path, values: list[str]) -> float:
    began = time.monotonic()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda value: subprocess.run([python, script, "--share", value], check=True, capture_output=True), values))
    return time.monotonic() - began


def tuned(aws: Any, role: str, name: str, jobs: int) -> tuple[float, list[str]]:
    """Seconds, and the values that were tried."""
    sagemaker = aws.client("sagemaker")
    began = time.monotonic()
    sagemaker.create_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=name,
        HyperParameterTuningJobConfig={
            "Strategy": "Random",
            "RandomSeed": 1,
            "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "accuracy"},
            "ResourceLimits": {"MaxNumberOfTrainingJobs": jobs, "MaxParallelTrainingJobs": jobs},
            "ParameterRanges": {"ContinuousParameterRanges": [{"Name": "share", "MinValue": "0.2", "MaxValue": "0.8"}]},
        },
        TrainingJobDefinition={
            "AlgorithmSpecification": {
                "TrainingImage": IMAGE,
                "TrainingInputMode": "File",
                "MetricDefinitions": [{"Name": "accuracy", "Regex": "accuracy=([0-9.]+)"}],
            },
            "StaticHyperParameters": {
                "sagemaker_program": json.dumps("train.py"),
                "sagemaker_submit_directory": json.dumps("s3://bench/sourcedir.tar.gz"),
            },
            "RoleArn": role,
            "OutputDataConfig": {"S3OutputPath": "s3://bench/out"},
            "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 5},
            "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
        },
    )
    while (job := sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name))[
        "HyperParameterTuningJobStatus"
    ] == "InProgress":
        time.sleep(0.05)
    took = time.monotonic() - began
    if job["TrainingJobStatusCounters"]["Completed"] != jobs:
        raise SystemExit(f"the tuning job did not complete: {job.get('FailureReason')}")
    children = sagemaker.list_training_jobs_for_hyper_parameter_tuning_job(HyperParameterTuningJobName=name, MaxResults=100)
    return took, [child["TunedHyperParameters"]["share"] for child in children["TrainingJobSummaries"]]


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    asked.add_argument("--jobs", type=int, default=8)
    asked.add_argument("--rounds", type=int, default=3)
    options = asked.parse_args()
    folder = Path(tempfile.mkdtemp())
    (folder / "train.py").write_text(SCRIPT)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.add(folder / "train.py", "train.py")
    with TestServer(folder / "data") as server:
        environment = Environments(server.config.runtimes_dir).find("scikit-learn")
        if environment is None:
            raise SystemExit("the runtime is not installed: pilvi runtimes install scikit-learn")
        aws = server.account("111122223333")
        aws.client("s3").create_bucket(Bucket="bench")
        aws.client("s3").put_object(Bucket="bench", Key="sourcedir.tar.gz", Body=archive.getvalue())
        role = aws.role("Bench", "sagemaker.amazonaws.com", POLICY)
        ratios = []
        for number in range(options.rounds):
            took, values = tuned(aws, role, f"round-{number}", options.jobs)
            hand = by_hand(environment.bin / "python3", folder / "train.py", values)
            ratios.append(took / hand)
            print(f"tuning job {took:.2f} s, by hand {hand:.2f} s, ratio {ratios[-1]:.2f}", flush=True)
        print(f"median ratio {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    sys.exit(main())
