"""The lake with Spark beside the engines of tests/journeys/test_data_lake.py: one copy, one count."""

from __future__ import annotations

from typing import Any

import pytest

from pilvi.compute.environments import Environments
from pilvi.testing.server import Account, TestServer, eventually

IMAGE = "173754725891.dkr.ecr.us-east-1.amazonaws.com/sagemaker-spark-processing:3.5-cpu"
ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["s3:*", "logs:*"], "Resource": "*"}]}
SCRIPT = """
import sys
from pyspark.sql import SparkSession

frame = SparkSession.builder.getOrCreate().read.parquet(sys.argv[1])
print("counts", frame.count(), frame.where("month = 11 and day = 5").count())
"""


def test_spark_counts_what_pyarrow_and_duckdb_count(aws: Account, server: TestServer) -> None:
    if Environments(server.config.runtimes_dir).find("spark") is None:
        pytest.skip("the runtime is not installed: pilvi runtimes install spark")
    ds, pa, duckdb, s3fs = (pytest.importorskip(name) for name in ("pyarrow.dataset", "pyarrow", "duckdb", "s3fs"))
    s3, bucket = aws.client("s3"), f"lake-{aws.account}"
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="code/app.py", Body=SCRIPT.encode())
    keys = {"key": aws.access_key_id, "secret": aws.secret, "client_kwargs": {"endpoint_url": aws.endpoint}}
    store = s3fs.S3FileSystem(**keys, skip_instance_cache=True)
    for day in (4, 5, 6):
        table = pa.table({"id": list(range(day * 100))})
        ds.write_dataset(table, f"{bucket}/sales/year=2026/month=11/day={day:02}", filesystem=store, format="parquet")
    sales = ds.dataset(f"{bucket}/sales", filesystem=store, partitioning="hive")
    with duckdb.connect() as connection:
        connection.register_filesystem(store)
        files = f"s3://{bucket}/sales/*/*/*/*.parquet"
        ((counted,),) = connection.sql(f"SELECT count(*) FROM read_parquet('{files}')").fetchall()
    assert (sales.count_rows(), counted) == (1500, 1500)
    code = {
        "S3Uri": f"s3://{bucket}/code/",
        "LocalPath": "/opt/ml/processing/input/code",
        "S3DataType": "S3Prefix",
        "S3InputMode": "File",
    }
    sagemaker = aws.client("sagemaker")
    sagemaker.create_processing_job(
        ProcessingJobName="count",
        RoleArn=aws.role("Spark", "sagemaker.amazonaws.com", ALL),
        AppSpecification={
            "ImageUri": IMAGE,
            "ContainerEntrypoint": ["smspark-submit", "/opt/ml/processing/input/code/app.py"],
            "ContainerArguments": [f"s3a://{bucket}/sales/"],
        },
        ProcessingInputs=[{"InputName": "code", "S3Input": code}],
        ProcessingResources={"ClusterConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 10}},
    )

    def ended() -> Any:
        found = sagemaker.describe_processing_job(ProcessingJobName="count")
        return found if found["ProcessingJobStatus"] in ("Completed", "Failed", "Stopped") else None

    job = eventually(ended, within_s=400)
    said = aws.client("logs").filter_log_events(logGroupName="/aws/sagemaker/ProcessingJobs", logStreamNamePrefix="count/")[
        "events"
    ]
    assert job["ProcessingJobStatus"] == "Completed", said
    assert "counts 1500 500" in [event["message"] for event in said]
