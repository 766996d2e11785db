"""Spark processing jobs: a script that reads the lake and writes Parquet, on one host and on two."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pilvi.compute.environments import Environments
from pilvi.runtimes.spark import build_jar
from pilvi.testing.server import Account, TestServer, eventually

IMAGE = "173754725891.dkr.ecr.us-east-1.amazonaws.com/sagemaker-spark-processing:3.5-cpu"
GROUP = "/aws/sagemaker/ProcessingJobs"
ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["s3:*", "logs:*"], "Resource": "*"}]}
SCRIPT = """
import sys
from pyspark.sql import SparkSession

import helper

spark = SparkSession.builder.getOrCreate()
source, target = sys.argv[1:3]
frame = spark.read.csv(source, header=True, inferSchema=True)
frame.groupBy("kind").count().coalesce(1).write.mode("overwrite").parquet(target)
hosts = spark.sparkContext.parallelize(range(8), 8).map(helper.host).distinct().collect()
print("rows", spark.read.parquet(target).count(), "partitions", spark.conf.get("spark.sql.shuffle.partitions"))
print("hosts", *sorted(hosts))
"""
HELPER = """
import socket
import time


def host(number):
    time.sleep(0.2)
    return socket.gethostname()
"""


@pytest.fixture(scope="module")
def spark(server: TestServer) -> Path:
    found = Environments(server.config.runtimes_dir).find("spark")
    if found is None:
        pytest.skip("the runtime is not installed: pilvi runtimes install spark")
    return found.path


def run(aws: Account, name: str, hosts: int, *arguments: str) -> tuple[Mapping[str, Any], list[str]]:
    """One Spark job to its end, as PySparkProcessor asks for it; its description and its log."""
    s3, bucket = aws.client("s3"), f"lake-{aws.account}"
    s3.create_bucket(Bucket=bucket)
    configuration = [{"Classification": "spark-defaults", "Properties": {"spark.sql.shuffle.partitions": "3"}}]
    for key, text in {
        "code/app.py": SCRIPT,
        "py-files/helper.py": HELPER,
        "conf/configuration.json": json.dumps(configuration),
        "in/part one+1.csv": "kind,n\na,1\nb,2\n",
        "in/part-2.csv": "kind,n\na,3\n",
    }.items():
        s3.put_object(Bucket=bucket, Key=key, Body=text.encode())
    inputs = [
        {
            "InputName": part,
            "S3Input": {
                "S3Uri": f"s3://{bucket}/{part}/",
                "LocalPath": f"/opt/ml/processing/input/{part}",
                "S3DataType": "S3Prefix",
                "S3InputMode": "File",
            },
        }
        for part in ("code", "py-files", "conf")
    ]
    events = {"S3Uri": f"s3://{bucket}/events", "LocalPath": "/opt/ml/processing/spark-events/", "S3UploadMode": "Continuous"}
    sagemaker = aws.client("sagemaker")
    sagemaker.create_processing_job(
        ProcessingJobName=name,
        RoleArn=aws.role("Spark", "sagemaker.amazonaws.com", ALL),
        AppSpecification={
            "ImageUri": IMAGE,
            "ContainerEntrypoint": [
                "smspark-submit", "--py-files", "/opt/ml/processing/input/py-files", "--local-spark-event-logs-dir",
                "/opt/ml/processing/spark-events/", "/opt/ml/processing/input/code/app.py",
            ],
            "ContainerArguments": [*arguments] or [f"s3a://{bucket}/in/", f"s3://{bucket}/out/table"],
        },
        ProcessingInputs=inputs,
        ProcessingOutputConfig={"Outputs": [{"OutputName": "events", "S3Output": events}]},
        ProcessingResources={"ClusterConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": hosts, "VolumeSizeInGB": 10}},
    )  # fmt: skip

    def ended() -> Any:
        found = sagemaker.describe_processing_job(ProcessingJobName=name)
        return found if found["ProcessingJobStatus"] in ("Completed", "Failed", "Stopped") else None

    job = eventually(ended, within_s=400)
    said = aws.client("logs").filter_log_events(logGroupName=GROUP, logStreamNamePrefix=f"{name}/")["events"]
    return job, [event["message"] for event in said]


@pytest.mark.usefixtures("spark")
@pytest.mark.parametrize("hosts", [1, 2])
def test_a_spark_script_writes_parquet_from_the_lake(aws: Account, hosts: int) -> None:
    job, lines = run(aws, f"spark-{hosts}", hosts)
    assert job["ProcessingJobStatus"] == "Completed", lines
    assert "rows 2 partitions 3" in lines
    assert "hosts " + " ".join(f"algo-{number + 1}" for number in range(hosts)) in lines
    s3, bucket = aws.client("s3"), f"lake-{aws.account}"
    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket, Prefix="out/")["Contents"]]
    assert len(keys) == 2, "the data and _SUCCESS: no folder markers, nothing temporary"
    data = next(key for key in keys if key.endswith(".snappy.parquet"))
    body = s3.get_object(Bucket=bucket, Key=data)["Body"].read()
    assert (body[:4], body[-4:]) == (b"PAR1", b"PAR1")
    events = [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket, Prefix="events/")["Contents"]]
    log = s3.get_object(Bucket=bucket, Key=events[0])["Body"].read()
    assert b"SparkListenerApplicationEnd" in log


@pytest.mark.usefixtures("spark")
def test_a_spark_script_that_cannot_read_fails_with_its_own_words(aws: Account) -> None:
    job, lines = run(aws, "spark-none", 1, f"s3a://lake-{aws.account}/nowhere/", "s3a://x/y")
    assert job["ProcessingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("AlgorithmError: See job logs")
    assert any("PATH_NOT_FOUND" in line for line in lines)


def test_the_jar_comes_out_the_same_again(spark: Path, tmp_path: Path) -> None:
    if shutil.which("javac") is None:
        pytest.skip("there is no javac: install the Debian package openjdk-17-jdk-headless")
    jars = next(spark.glob("lib/python3*/site-packages/pyspark/jars"))
    build_jar.build(jars, tmp_path / "again.jar")
    assert (tmp_path / "again.jar").read_bytes() == build_jar.JAR.read_bytes()
