"""Script mode: the real training toolkit, scikit-learn, and the Titanic data."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pilvi.testing.server import eventually

pytestmark = pytest.mark.usefixtures("scikit_learn")

TRAIN = """
import argparse, os, json
import joblib
import pandas as pd
from sklearn.linear_model import LogisticRegression

parser = argparse.ArgumentParser()
parser.add_argument("--strength", type=float, default=1.0)
parser.add_argument("--name", default="")
args = parser.parse_args()
data = pd.read_csv(os.path.join(os.environ["SM_CHANNEL_TRAIN"], "train.csv"))
data = data.assign(Sex=(data["Sex"] == "male").astype(int), Age=data["Age"].fillna(data["Age"].median()))
features, label = data[["Pclass", "Sex", "Age", "Fare"]], data["Survived"]
model = LogisticRegression(C=args.strength, max_iter=500).fit(features, label)
print("name:", args.name)
print(f"accuracy: {model.score(features, label):.4f}", flush=True)
joblib.dump(model, os.path.join(os.environ["SM_MODEL_DIR"], "model.joblib"))
"""


def start(lab: Any, name: str, archive: bytes, program: str, hyperparameters: Mapping[str, Any], **changes: Any) -> None:
    from tests.services.sagemaker.conftest import SKLEARN_IMAGE

    code = lab.put(f"{name}/source/sourcedir.tar.gz", archive)
    parameters = {
        "sagemaker_program": program,
        "sagemaker_submit_directory": code,
        "sagemaker_region": "us-east-1",
    } | hyperparameters
    algorithm = {
        "TrainingImage": SKLEARN_IMAGE,
        "TrainingInputMode": "File",
        "MetricDefinitions": [{"Name": "train:accuracy", "Regex": "accuracy: ([0-9.]+)"}],
    }
    lab.start(name, algorithm=algorithm, HyperParameters={key: json.dumps(value) for key, value in parameters.items()}, **changes)


def test_titanic_is_trained(lab: Any, titanic: Path, source_archive: Callable[[Mapping[str, str]], bytes]) -> None:
    uri = lab.put("titanic/train.csv", (titanic / "train.csv").read_bytes())
    archive = source_archive({"train.py": TRAIN})
    start(lab, "titanic", archive, "train.py", {"strength": 0.5, "name": "a b"}, InputDataConfig=[lab.channel("train", uri)])
    job = lab.wait("titanic")
    assert job["TrainingJobStatus"] == "Completed", (job.get("FailureReason"), lab.lines("titanic"))
    metric = job["FinalMetricDataList"][0]
    assert metric["MetricName"] == "train:accuracy"
    assert 0.7 < metric["Value"] < 0.9
    assert "name: a b" in lab.lines("titanic")
    assert "model.joblib" in lab.members("out/titanic/output/model.tar.gz")


def test_exception_is_the_failure_reason(lab: Any, source_archive: Callable[[Mapping[str, str]], bytes]) -> None:
    archive = source_archive({"train.py": 'print("before")\nraise ValueError("no such column: Survivde")\n'})
    start(lab, "broken", archive, "train.py", {"epochs": 3})
    job = lab.wait("broken")
    assert job["TrainingJobStatus"] == "Failed"
    reason = job["FailureReason"]
    assert reason.startswith('AlgorithmError: ExecuteUserScriptError:\nExitCode 1\nErrorMessage "')
    assert "ValueError: no such column: Survivde" in reason
    assert 'train.py --epochs 3", exit code: 1' in reason
    assert "before" in lab.lines("broken")
    assert lab.keys("out/broken") == []


def test_train_may_be_named_as_the_entry_point(lab: Any, source_archive: Callable[[Mapping[str, str]], bytes]) -> None:
    from tests.services.sagemaker.conftest import SKLEARN_IMAGE

    code = lab.put("named/sourcedir.tar.gz", source_archive({"train.py": "print('named')\n"}))
    algorithm = {"TrainingImage": SKLEARN_IMAGE, "TrainingInputMode": "File", "ContainerEntrypoint": ["train"]}
    parameters = {"sagemaker_program": "train.py", "sagemaker_submit_directory": code}
    lab.start("named", algorithm=algorithm, HyperParameters=parameters)
    job = lab.wait("named")
    assert job["TrainingJobStatus"] == "Completed", (job.get("FailureReason"), lab.lines("named"))
    assert "named" in lab.lines("named")


def test_a_source_that_is_no_archive_is_named(lab: Any) -> None:
    start(lab, "no-archive", b"this is no archive", "train.py", {})
    job = lab.wait("no-archive")
    assert job["TrainingJobStatus"] == "Failed"
    assert "is not a tar archive that can be unpacked" in job["FailureReason"]


def test_a_source_that_is_gone_is_named(lab: Any, source_archive: Callable[[Mapping[str, str]], bytes]) -> None:
    start(
        lab,
        "no-source",
        source_archive({"train.py": ""}),
        "train.py",
        {"sagemaker_submit_directory": f"s3://{lab.bucket}/nowhere.tar.gz"},
    )
    job = lab.wait("no-source")
    assert job["TrainingJobStatus"] == "Failed"
    assert "An error occurred (NoSuchKey) when calling the GetObject operation" in job["FailureReason"]


def test_intermediate_output_goes_to_s3_while_it_runs(lab: Any, source_archive: Callable[[Mapping[str, str]], bytes]) -> None:
    script = (
        "import os, time\n"
        "open(os.path.join(os.environ['SM_OUTPUT_INTERMEDIATE_DIR'], 'half.txt'), 'w').write('half')\n"
        "print('written', flush=True)\ntime.sleep(600)\n"
    )
    target = {"sagemaker_s3_output": f"s3://{lab.bucket}/between"}
    start(lab, "between", source_archive({"train.py": script}), "train.py", target)
    eventually(
        lambda: lab.keys("between/between/output/intermediate/") == ["between/between/output/intermediate/half.txt"], within_s=60
    )
    lab.sagemaker.stop_training_job(TrainingJobName="between")
    assert lab.wait("between")["TrainingJobStatus"] == "Stopped"


def test_lines_come_while_it_runs(lab: Any, source_archive: Callable[[Mapping[str, str]], bytes]) -> None:
    archive = source_archive({"train.py": 'import time\nprint("started")\ntime.sleep(600)\n'})
    start(lab, "long", archive, "train.py", {})
    lab.wait_for_line("long", "started")
    assert lab.describe("long")["SecondaryStatus"] == "Training"
    lab.sagemaker.stop_training_job(TrainingJobName="long")
    assert lab.wait("long")["TrainingJobStatus"] == "Stopped"


def test_script_uses_the_roles_credentials(lab: Any, source_archive: Callable[[Mapping[str, str]], bytes]) -> None:
    script = f'''
import boto3, os
print("who:", boto3.client("sts").get_caller_identity()["Arn"])
boto3.client("s3").put_object(Bucket="{lab.bucket}", Key="from-inside", Body=b"hello")
print("host:", os.environ["SM_CURRENT_HOST"], os.environ["SM_HP_DEPTH"])
'''
    start(lab, "inside", source_archive({"train.py": script}), "train.py", {"depth": 4})
    job = lab.wait("inside")
    lines = lab.lines("inside")
    assert job["TrainingJobStatus"] == "Completed", (job.get("FailureReason"), lines)
    assert f"who: arn:aws:sts::{lab.aws.account}:assumed-role/Trainer/SageMaker" in lines
    assert "host: algo-1 4" in lines
    assert lab.get("from-inside") == b"hello"


def test_model_can_be_loaded_again(lab: Any, source_archive: Callable[[Mapping[str, str]], bytes]) -> None:
    script = 'import os, pickle\npickle.dump({"answer": 42}, open(os.path.join(os.environ["SM_MODEL_DIR"], "m.pkl"), "wb"))\n'
    start(lab, "pickled", source_archive({"train.py": script}), "train.py", {})
    assert lab.wait("pickled")["TrainingJobStatus"] == "Completed"
    assert pickle.load(io.BytesIO(lab.members("out/pickled/output/model.tar.gz")["m.pkl"])) == {"answer": 42}


def wheel(name: str, code: str) -> bytes:
    """A package as small as they get."""
    data, info = io.BytesIO(), f"{name}-1.0.dist-info"
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(f"{name}.py", code)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return data.getvalue()


def test_requirements_are_installed_for_the_job_alone(lab: Any, scikit_learn: Path) -> None:
    data = io.BytesIO()
    files = {
        "requirements.txt": b"./greeter-1.0-py3-none-any.whl\n",
        "greeter-1.0-py3-none-any.whl": wheel("greeter", "def greet(): return 'hello from a wheel'\n"),
        "sibling.py": b"NAME = 'sibling'\n",
        "train.py": b"import greeter, sibling\nprint(greeter.greet(), sibling.NAME)\n",
    }
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    start(lab, "requirements", data.getvalue(), "train.py", {})
    job = lab.wait("requirements")
    assert job["TrainingJobStatus"] == "Completed", (job.get("FailureReason"), lab.lines("requirements"))
    assert "hello from a wheel sibling" in lab.lines("requirements")
    assert not list(scikit_learn.glob("**/greeter*"))
