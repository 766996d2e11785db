"""How long a training job takes to begin, and what a long queue costs.

    .venv/bin/python benchmarks/training.py [--rounds 10] [--queued 1000]

Needs the runtime scikit-learn. Tells the time from CreateTrainingJob to the first line of the script (script mode: archive from S3, a
channel, the training toolkit), and what submitting, describing and listing cost with few and with many jobs in the queue.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

from pilvi.compute.environments import Environments
from pilvi.testing.server import TestServer

SKLEARN = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
BASE = "081325390199.dkr.ecr.us-east-1.amazonaws.com/sagemaker-base-python:1.0"
SCRIPT = b"import time\nprint('begun', time.time(), flush=True)\n"
POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["s3:*", "logs:*"], "Resource": "*"}]}
GROUP = "/aws/sagemaker/TrainingJobs"


class Bench:
    def __init__(self, aws: Any) -> None:
        self.sagemaker, self.logs = aws.client("sagemaker"), aws.client("logs")
        self.role = aws.role("Bench", "sagemaker.amazonaws.com", POLICY)
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz") as tar:
            member = tarfile.TarInfo("train.py")
            member.size = len(SCRIPT)
            tar.addfile(member, io.BytesIO(SCRIPT))
        s3 = aws.client("s3")
        s3.create_bucket(Bucket="bench")
        s3.put_object(Bucket="bench", Key="sourcedir.tar.gz", Body=archive.getvalue())
        s3.put_object(Bucket="bench", Key="data/train.csv", Body=b"1,2\n" * 1000)

    def start(self, name: str, algorithm: dict[str, Any], **more: Any) -> None:
        self.sagemaker.create_training_job(
            TrainingJobName=name,
            AlgorithmSpecification={"TrainingInputMode": "File", **algorithm},
            RoleArn=self.role,
            OutputDataConfig={"S3OutputPath": "s3://bench/out"},
            ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 5},
            StoppingCondition={"MaxRuntimeInSeconds": 3600},
            **more,
        )

    def begin(self, name: str) -> float:
        """Seconds from the request to the script's first line."""
        source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://bench/data/"}}
        parameters = {"sagemaker_program": '"train.py"', "sagemaker_submit_directory": json.dumps("s3://bench/sourcedir.tar.gz")}
        asked = time.time()
        channels = [{"ChannelName": "train", "DataSource": source}]
        self.start(name, {"TrainingImage": SKLEARN}, HyperParameters=parameters, InputDataConfig=channels)
        while (job := self.sagemaker.describe_training_job(TrainingJobName=name))["TrainingJobStatus"] == "InProgress":
            time.sleep(0.02)
        if job["TrainingJobStatus"] != "Completed":
            raise SystemExit(f"{name} failed: {job.get('FailureReason')}")
        events = self.logs.filter_log_events(logGroupName=GROUP, logStreamNamePrefix=f"{name}/")["events"]
        return next(float(event["message"].split()[1]) for event in events if event["message"].startswith("begun")) - asked

    def queue(self, prefix: str, count: int) -> dict[str, float]:
        """Milliseconds for each of the calls, while jobs wait."""
        program = {"TrainingImage": BASE, "ContainerEntrypoint": ["/bin/true"]}
        found = {"submit": per_call(lambda number: self.start(f"{prefix}-{number}", program), count)}
        found["describe"] = per_call(lambda _: self.sagemaker.describe_training_job(TrainingJobName=f"{prefix}-0"), 20)
        found["list"] = per_call(lambda _: self.sagemaker.list_training_jobs(SortOrder="Descending"), 20)
        return found


def per_call(call: Any, count: int) -> float:
    began = time.monotonic()
    for number in range(count):
        call(number)
    return (time.monotonic() - began) / count * 1000


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    asked.add_argument("--rounds", type=int, default=10)
    asked.add_argument("--queued", type=int, default=1000)
    options = asked.parse_args()
    with TestServer(Path(tempfile.mkdtemp()) / "data") as server:
        if Environments(server.config.runtimes_dir).find("scikit-learn") is None:
            raise SystemExit("the runtime is not installed: pilvi runtimes install scikit-learn")
        bench = Bench(server.account("111122223333"))
        bench.begin("cold")
        times = [bench.begin(f"warm-{number}") for number in range(options.rounds)]
        print(
            f"CreateTrainingJob to the first line: median {statistics.median(times):.2f} s, longest {max(times):.2f} s", flush=True
        )
        blockers = [f"blocker-{number}" for number in range(64)]
        for name in blockers:
            bench.start(name, {"TrainingImage": BASE, "ContainerEntrypoint": ["/bin/sleep", "3600"]})
            if server.cloud.jobs.queue_facts()["waiting"]:
                break
        for prefix, count in (("few", 10), ("many", options.queued)):
            costs = bench.queue(prefix, count)
            waiting = server.cloud.jobs.queue_facts()["waiting"]
            print(f"{waiting} jobs wait: " + ", ".join(f"{name} {cost:.1f} ms" for name, cost in costs.items()), flush=True)


if __name__ == "__main__":
    sys.exit(main())
