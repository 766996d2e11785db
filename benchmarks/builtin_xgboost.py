"""The built-in XGBoost beside XGBoost called directly, on the same data and cores.

    .venv/bin/python benchmarks/builtin_xgboost.py [--rows 400000] [--rounds 3]

Needs the runtime algorithms. By hand means: that runtime's own interpreter, xgboost's own reader of the same CSV file, the same
parameters, the model saved; no server. The job's time is from CreateTrainingJob to Completed: download, upload and all.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pilvi.compute.environments import Environments
from pilvi.testing.server import TestServer

IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1"
FEATURES, TREES = 20, 200
PARAMETERS = {"objective": "binary:logistic", "max_depth": "6", "eta": "0.2", "tree_method": "hist"}
BY_HAND = """
import json, sys
import numpy, pandas, xgboost
data = pandas.read_csv(sys.argv[1], header=None, dtype=numpy.float32).to_numpy()
matrix = xgboost.DMatrix(data[:, 1:], data[:, 0])
parameters = json.loads(sys.argv[2])
xgboost.train(parameters, matrix, int(sys.argv[3]), evals=[(matrix, "train")]).save_model(sys.argv[4])
"""
POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": ["s3:*", "logs:*", "cloudwatch:*"], "Resource": "*"}],
}


def write_data(path: Path, rows: int) -> None:
    chance = random.Random(0)
    with path.open("w") as file:
        for _ in range(rows):
            values = [chance.random() for _ in range(FEATURES)]
            label = int(values[0] * values[1] + 0.3 * values[2] + 0.2 * chance.random() > 0.5)
            file.write(f"{label},{','.join(f'{value:.5f}' for value in values)}\n")


def by_hand(python: Path, data: Path, parameters: str) -> float:
    env = {
        **os.environ,
        "OMP_WAIT_POLICY": "PASSIVE",
    }  # as jobs have it: threads that spin while they wait slow each other on a busy machine
    began = time.monotonic()
    with tempfile.NamedTemporaryFile(suffix=".json") as model:
        subprocess.run([python, "-c", BY_HAND, data, parameters, str(TREES), model.name], check=True, capture_output=True, env=env)
    return time.monotonic() - began


def built_in(aws: Any, role: str, name: str) -> float:
    sagemaker = aws.client("sagemaker")
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://bench/data/", "S3DataDistributionType": "FullyReplicated"}}
    began = time.monotonic()
    sagemaker.create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        HyperParameters={**PARAMETERS, "num_round": str(TREES)},
        RoleArn=role,
        InputDataConfig=[{"ChannelName": "train", "ContentType": "text/csv", "DataSource": source}],
        OutputDataConfig={"S3OutputPath": "s3://bench/out"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
        StoppingCondition={"MaxRuntimeInSeconds": 3600},
    )
    while (job := sagemaker.describe_training_job(TrainingJobName=name))["TrainingJobStatus"] == "InProgress":
        time.sleep(0.05)
    if job["TrainingJobStatus"] != "Completed":
        raise SystemExit(f"{name} failed: {job.get('FailureReason')}")
    return time.monotonic() - began


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    asked.add_argument("--rows", type=int, default=400_000)
    asked.add_argument("--rounds", type=int, default=3)
    options = asked.parse_args()
    folder = Path(tempfile.mkdtemp())
    with TestServer(folder / "server") as server:
        environment = Environments(server.config.runtimes_dir).find("algorithms")
        if environment is None:
            raise SystemExit("the runtime is not installed: pilvi runtimes install algorithms")
        data = folder / "train.csv"
        write_data(data, options.rows)
        aws = server.account("111122223333")
        role = aws.role("Bench", "sagemaker.amazonaws.com", POLICY)
        aws.client("s3").create_bucket(Bucket="bench")
        aws.client("s3").upload_file(str(data), "bench", "data/train.csv")
        hands, jobs = [], []
        for number in range(options.rounds):  # in turn, so that a busy minute of the machine meets both
            hands.append(by_hand(environment.python, data, json.dumps(PARAMETERS)))
            jobs.append(built_in(aws, role, f"xgboost-{number}"))
        ratio = min(jobs) / min(hands)
        print(
            f"XGBoost, {options.rows:,} rows, {TREES} trees: by hand {min(hands):.1f} s, the built-in {min(jobs):.1f} s: {ratio:.2f}"
        )


if __name__ == "__main__":
    sys.exit(main())
