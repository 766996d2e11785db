"""kill -9 in the middle of everything: what was acknowledged is there, nothing is half there, nothing is left running."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from pilvi.compute.environments import Environments
from pilvi.core.config import Config as Settings
from pilvi.testing.server import Account, eventually
from pilvi.testing.up import Up

PUTS = 200
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
SCRIPT = "import time\nprint('working', flush=True)\nwhile True:\n    time.sleep(0.1)\n"
"""A job that never ends by itself, recognisable among the processes."""


def body_of(number: int) -> bytes:
    """Some small (kept beside the rows), some large (files), each its own."""
    seed = hashlib.sha256(str(number).encode()).digest()
    return seed * (40 if number % 2 else 40_000)


def put_all(server: Up, acknowledged: set[int], begun: threading.Event) -> None:
    s3 = server.root.client("s3", config=Config(max_pool_connections=PUTS, retries={"total_max_attempts": 1}))

    def put(number: int) -> None:
        try:
            s3.put_object(Bucket="crash-bucket", Key=f"k{number:04}", Body=body_of(number))
        except (BotoCoreError, ClientError):
            return
        acknowledged.add(number)
        if len(acknowledged) >= PUTS // 4:
            begun.set()

    with ThreadPoolExecutor(PUTS) as pool:
        list(pool.map(put, range(PUTS)))
    begun.set()


def start_endless_job(root: Account) -> None:
    role = root.role(
        "trainer",
        "sagemaker.amazonaws.com",
        {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]},
    )
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo("endless.py")
        member.size = len(SCRIPT)
        archive.addfile(member, io.BytesIO(SCRIPT.encode()))
    root.client("s3").put_object(Bucket="crash-bucket", Key="source.tar.gz", Body=buffer.getvalue())
    root.client("sagemaker").create_training_job(
        TrainingJobName="endless",
        RoleArn=role,
        AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        HyperParameters={
            "sagemaker_program": json.dumps("endless.py"),
            "sagemaker_submit_directory": json.dumps("s3://crash-bucket/source.tar.gz"),
        },
        OutputDataConfig={"S3OutputPath": "s3://crash-bucket/out"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
    )
    eventually(lambda: root.client("sagemaker").describe_training_job(TrainingJobName="endless")["SecondaryStatus"] == "Training")
    eventually(lambda: running_programs("endless.py"))


def running_programs(word: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if word in command and "python" in command:
            found.append(command)
    return found


@pytest.mark.skipif(
    Environments(Settings.runtimes_dir_default()).find("scikit-learn") is None, reason="needs: pilvi runtimes install scikit-learn"
)
def test_kill_during_puts_and_training_loses_nothing_acknowledged(up: Callable[..., Up]) -> None:
    server = up()
    server.root.client("s3").create_bucket(Bucket="crash-bucket")
    start_endless_job(server.root)
    acknowledged: set[int] = set()
    begun = threading.Event()
    writer = threading.Thread(target=put_all, args=(server, acknowledged, begun))
    writer.start()
    assert begun.wait(60)
    server.kill()
    writer.join()
    assert acknowledged
    eventually(lambda: not running_programs("endless.py"))

    again = up()
    s3, sagemaker = again.root.client("s3"), again.root.client("sagemaker")
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket="crash-bucket", Prefix="k")
    listed = {item["Key"]: item["Size"] for page in pages for item in page.get("Contents", [])}
    assert {f"k{number:04}" for number in acknowledged} <= set(listed)
    for key, size in listed.items():
        body = s3.get_object(Bucket="crash-bucket", Key=key)["Body"].read()
        assert body == body_of(int(key[1:])), f"{key} is not what was sent"
        assert size == len(body)
    job = sagemaker.describe_training_job(TrainingJobName="endless")
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("InternalServerError")
    assert job["SecondaryStatusTransitions"][-1]["Status"] == "Failed"
    assert list((again.data_dir / "jobs").glob("*")) == []
