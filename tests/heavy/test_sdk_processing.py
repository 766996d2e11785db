"""The SageMaker Python SDK's processors, both majors, unmodified: what they upload, ask for and wait for, against a real server."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pilvi.compute.environments import Environments
from pilvi.testing.server import Account, TestServer

ROOT = Path(__file__).parent.parent.parent
ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["s3:*", "logs:*"], "Resource": "*"}]}

SPLIT = """
import os
import sys

import pandas as pd
from sklearn.model_selection import train_test_split

print("arguments", sys.argv[1:], os.environ["COLOR"])
frame = pd.read_csv("/opt/ml/processing/input/data.csv")
for name, part in zip(("train", "test"), train_test_split(frame, test_size=0.25, random_state=0)):
    part.to_csv(f"/opt/ml/processing/{name}/{name}.csv", index=False)
"""
V2 = """
import sys

import sagemaker
from sagemaker.processing import FrameworkProcessor, ProcessingInput, ProcessingOutput, ScriptProcessor
from sagemaker.sklearn.estimator import SKLearn
from sagemaker.sklearn.processing import SKLearnProcessor

role, out = sys.argv[1:3]
common = {"role": role, "instance_type": "ml.m5.xlarge", "instance_count": 1, "sagemaker_session": sagemaker.Session()}
outputs = lambda: [ProcessingOutput(output_name=n, source=f"/opt/ml/processing/{n}", destination=f"{out}/{n}") for n in ("train", "test")]
data = ProcessingInput(source="data.csv", destination="/opt/ml/processing/input")

first = SKLearnProcessor(framework_version="1.2-1", env={"COLOR": "red"}, **common)
first.run(code="split.py", inputs=[data], outputs=outputs(), arguments=["--ratio", "0.25"])
print("SKLEARN", first.jobs[-1].describe()["ProcessingJobStatus"])

second = FrameworkProcessor(estimator_cls=SKLearn, framework_version="1.2-1", **common)
target = ProcessingOutput(output_name="word", source="/opt/ml/processing/word", destination=f"{out}/word")
second.run(code="main.py", source_dir="source", outputs=[target], arguments=["a"])
print("FRAMEWORK", second.jobs[-1].describe()["ProcessingJobStatus"])

third = ScriptProcessor(image_uri=first.image_uri, command=["python3"], **common)
try:
    third.run(code="bad.py", logs=False)
except Exception as error:
    print("FAILED", type(error).__name__, error)
"""
V3 = """
import sys

from sagemaker.core import image_uris
from sagemaker.core.helper.session_helper import Session
from sagemaker.core.processing import FrameworkProcessor, ScriptProcessor
from sagemaker.core.shapes import ProcessingInput, ProcessingOutput, ProcessingS3Input, ProcessingS3Output

role, out = sys.argv[1:3]
session = Session()
uri = session.upload_data("data.csv", session.default_bucket(), "lake")
image = image_uris.retrieve("sklearn", "us-east-1", version="1.2-1", py_version="py3", instance_type="ml.m5.xlarge")
common = {
    "role": role, "image_uri": image, "command": ["python3"], "instance_type": "ml.m5.xlarge", "instance_count": 1,
    "sagemaker_session": session,
}
def output(name):
    s3 = ProcessingS3Output(s3_uri=f"{out}/{name}", local_path=f"/opt/ml/processing/{name}", s3_upload_mode="EndOfJob")
    return ProcessingOutput(output_name=name, s3_output=s3)

s3 = ProcessingS3Input(s3_uri=uri, local_path="/opt/ml/processing/input", s3_data_type="S3Prefix", s3_input_mode="File")
first = ScriptProcessor(env={"COLOR": "red"}, **common)
data = ProcessingInput(input_name="data", s3_input=s3)
first.run(code="split.py", inputs=[data], outputs=[output("train"), output("test")], arguments=["--ratio", "0.25"])
print("SKLEARN Completed")
second = FrameworkProcessor(**common)
second.run(code="main.py", source_dir="source", outputs=[output("word")], arguments=["a"])
print("FRAMEWORK Completed")
try:
    first.run(code="bad.py")
except Exception as error:
    print("FAILED", type(error).__name__, error)
"""

SPARK_V2 = """
import sys

import sagemaker
from sagemaker.spark.processing import PySparkProcessor

role, out = sys.argv[1:3]
session = sagemaker.Session()
lake = session.upload_data("data.csv", session.default_bucket(), "lake").replace("s3://", "s3a://")
processor = PySparkProcessor(
    framework_version="3.3", role=role, instance_type="ml.m5.xlarge", instance_count=1, sagemaker_session=session
)
processor.run(
    submit_app="spark.py",
    submit_py_files=["source/helper.py"],
    arguments=[lake, out.replace("s3://", "s3a://") + "/counts"],
    spark_event_logs_s3_uri=out + "/events",
    configuration=[{"Classification": "spark-defaults", "Properties": {"spark.sql.shuffle.partitions": "2"}}],
)
print("SPARK", processor.jobs[-1].describe()["ProcessingJobStatus"])
"""
COUNTS = """
import sys

import helper
from pyspark.sql import SparkSession

spark = SparkSession.builder.getOrCreate()
frame = spark.read.csv(sys.argv[1], header=True, inferSchema=True)
frame.groupBy("y").count().write.mode("overwrite").parquet(sys.argv[2])
print("counted", helper.word, spark.conf.get("spark.sql.shuffle.partitions"))
"""


@pytest.fixture
def sdk(server: TestServer, aws: Account, tmp_path: Path) -> Callable[[int, str], str]:
    """Runs a program under an SDK of the given major, as the account's root; gives what it says."""
    if Environments(server.config.runtimes_dir).find("scikit-learn") is None:
        pytest.skip("the runtime is not installed: pilvi runtimes install scikit-learn")
    bucket = f"sdk-{aws.account}"
    aws.client("s3").create_bucket(Bucket=bucket)
    for name, text in {
        "split.py": SPLIT,
        "data.csv": "x,y\n" + "".join(f"{number},{number % 2}\n" for number in range(40)),
        "bad.py": "raise ValueError('no such column')",
        "source/main.py": "import sys, helper\nopen('/opt/ml/processing/word/word', 'w').write(helper.word + sys.argv[1])",
        "source/helper.py": "word = 'abc'",
        "spark.py": COUNTS,
        "defaults.yaml": "SchemaVersion: '1.0'\nSageMaker:\n  PythonSDK:\n    Modules:\n      TelemetryOptOut: true\n"
        f"      Session:\n        DefaultS3Bucket: {bucket}\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    def run(major: int, program: str) -> str:
        python = ROOT / f".venv-sdk{major}" / "bin" / "python"
        if not python.exists():
            pytest.skip("the SageMaker SDKs are not installed: make sdk-venvs")
        role = aws.role("Sdk", "sagemaker.amazonaws.com", ALL)
        env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SAGEMAKER_"))},
            "AWS_ACCESS_KEY_ID": aws.access_key_id,
            "AWS_SECRET_ACCESS_KEY": aws.secret,
            "AWS_ENDPOINT_URL": aws.endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
            "SAGEMAKER_ADMIN_CONFIG_OVERRIDE": str(tmp_path / "defaults.yaml"),
        }
        (tmp_path / "program.py").write_text(program)
        line = [str(python), "program.py", role, f"s3://{bucket}/out"]
        done = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout + done.stderr

    return run


@pytest.mark.parametrize(("major", "program"), [(2, V2), (3, V3)])
def test_processors_run_real_scripts(sdk: Callable[[int, str], str], aws: Account, major: int, program: str) -> None:
    said = sdk(major, program)
    assert "SKLEARN Completed" in said
    assert "FRAMEWORK Completed" in said
    assert "arguments ['--ratio', '0.25'] red" in said, "the program's own log is shown"
    assert "FAILED" in said
    s3, bucket = aws.client("s3"), f"sdk-{aws.account}"
    rows = {
        name: s3.get_object(Bucket=bucket, Key=f"out/{name}/{name}.csv")["Body"].read().count(b"\n") - 1
        for name in ("train", "test")
    }
    assert rows == {"train": 30, "test": 10}
    assert s3.get_object(Bucket=bucket, Key="out/word/word")["Body"].read() == b"abca"


def test_the_pyspark_processor_writes_parquet_and_event_logs(
    sdk: Callable[[int, str], str], server: TestServer, aws: Account
) -> None:
    if Environments(server.config.runtimes_dir).find("spark") is None:
        pytest.skip("the runtime is not installed: pilvi runtimes install spark")
    said = sdk(2, SPARK_V2)
    assert "SPARK Completed" in said
    assert "counted abc 2" in said
    found = aws.client("s3").list_objects_v2(Bucket=f"sdk-{aws.account}", Prefix="out/")["Contents"]
    keys = [entry["Key"] for entry in found]
    assert "out/counts/_SUCCESS" in keys
    assert any(key.startswith("out/events/local-") for key in keys)
