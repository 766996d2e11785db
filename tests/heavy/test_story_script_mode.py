"""The story of one's own scripts, with both majors of the SageMaker SDK: XGBoost and scikit-learn that equal a run by hand, data
parallel TensorFlow on four instances, model parallel PyTorch on two, and the faulty forms, which fail as on AWS."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pilvi.compute.environments import Environments
from pilvi.testing.server import Account
from tests.heavy.script_lab import ENVIRONMENT, need
from tests.heavy.test_distributed import SMP, TENSORFLOW
from tests.heavy.test_sdk_tuning import sdk  # noqa: F401 - a fixture

XGBOOST = """
import argparse, os
import pandas as pd
import xgboost
from sklearn.metrics import roc_auc_score

parser = argparse.ArgumentParser()
parser.add_argument("--max_depth", type=int)
parser.add_argument("--eta", type=float)
parser.add_argument("--objective")
parser.add_argument("--num_round", type=int)
asked = parser.parse_args()
train, test = (pd.read_csv(os.path.join(os.environ[f"SM_CHANNEL_{name}"], "rows.csv"), header=None) for name in ("TRAIN", "TEST"))
settings = {"max_depth": asked.max_depth, "eta": asked.eta, "objective": asked.objective}
model = xgboost.train(settings, xgboost.DMatrix(train[train.columns[1:]], train[0]), asked.num_round)
print("SAYS AUC", roc_auc_score(test[0], model.predict(xgboost.DMatrix(test[test.columns[1:]]))))
model.save_model(os.path.join(os.environ["SM_MODEL_DIR"], "xgboost-model.json"))
"""
SKLEARN = """
import argparse, os
import joblib
import pandas as pd
from sklearn.ensemble import RandomForestClassifier

parser = argparse.ArgumentParser()
parser.add_argument("--n_estimators", type=int)
train = pd.read_csv(os.path.join(os.environ["SM_CHANNEL_TRAIN"], "rows.csv"), header=None)
model = RandomForestClassifier(parser.parse_args().n_estimators, random_state=0).fit(train[train.columns[1:]], train[0])
joblib.dump(model, os.path.join(os.environ["SM_MODEL_DIR"], "model.joblib"))
"""
LABELS = """
import sys
import joblib
import pandas as pd

test = pd.read_csv(sys.argv[2], header=None)
print(joblib.load(sys.argv[1]).predict(test[test.columns[1:]]).tolist())
"""
# No distribution is asked for: the script tells TensorFlow who is there, from what SageMaker tells it. TensorFlow listens on all
# addresses, and hosts on one machine share its ports: each takes another.
FOUR = (
    b"import json, os, zlib\nhosts = json.loads(os.environ['SM_HOSTS'])\n"
    b"task = {'type': 'worker', 'index': hosts.index(os.environ['SM_CURRENT_HOST'])}\n"
    b"first = 20000 + zlib.crc32(os.environ['TRAINING_JOB_NAME'].encode()) % 10000\n"
    b"workers = [f'{host}:{first + number}' for number, host in enumerate(hosts)]\n"
    b"os.environ['TF_CONFIG'] = json.dumps({'cluster': {'worker': workers}, 'task': task})\n"
) + TENSORFLOW
TREES = {"max_depth": 5, "eta": 0.2, "objective": "binary:logistic", "num_round": 100}

COMMON = """
import sys, time
role, out = sys.argv[1:3]
bucket = out.split("/")[2]

def wait(session, name):
    sagemaker, logs = session.sagemaker_client, session.boto_session.client("logs")
    while (found := sagemaker.describe_training_job(TrainingJobName=name))["TrainingJobStatus"] == "InProgress":
        time.sleep(0.3)
    group = "/aws/sagemaker/TrainingJobs"
    streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=name + "/")["logStreams"]
    read = [logs.get_log_events(logGroupName=group, logStreamName=s["logStreamName"], startFromHead=True)["events"] for s in streams]
    said = [event["message"] for events in read for event in events]
    assert found["TrainingJobStatus"] == "Completed", (found.get("FailureReason"), said[-15:])
    print("MODEL", name.split("-")[0], found["ModelArtifacts"]["S3ModelArtifacts"])
    for line in said:
        for word in ("SAYS ", "RANK ", "CURVE ", "Partition "):
            if word in line and "SM_" not in line:
                print(name.split("-")[0], word + line.split(word, 1)[1])
"""
V2 = (
    COMMON
    + """
import botocore.exceptions
import sagemaker
from sagemaker.pytorch import PyTorch
from sagemaker.sklearn import SKLearn
from sagemaker.tensorflow import TensorFlow
from sagemaker.xgboost import XGBoost

session = sagemaker.Session()
data = {name: session.upload_data(f"data/{name}", bucket, f"data/{name}") for name in ("train", "test")}

def fit(kind, base, entry, inputs=None, count=1, instance_type="ml.c5.xlarge", **more):
    estimator = kind(
        entry_point=entry, source_dir="code", role=role, instance_type=instance_type, instance_count=count, output_path=out,
        base_job_name=base, sagemaker_session=session, **more,
    )
    estimator.fit(inputs, wait=False)
    wait(session, estimator.latest_training_job.name)

def fails(what, kind, **more):
    try:
        kind(entry_point="code/sklearn_script.py", role=role, sagemaker_session=session, **more).fit(data, wait=False)
    except (ValueError, botocore.exceptions.ClientError) as error:
        print("FAULT", what, type(error).__name__, str(error)[:400].replace("\\n", " "))

part = PART
if part == "trees":
    fit(XGBoost, "xgboost", "xgboost_script.py", data, framework_version="1.5-1", hyperparameters=TREES)
    fit(SKLearn, "sklearn", "sklearn_script.py", data, framework_version="0.23-1", hyperparameters={"n_estimators": 20})
    fails("no-type", XGBoost, framework_version="1.5-1", hyperparameters=TREES, instance_count=1)
    fails("tensorflow", TensorFlow, instance_type="ml.p3.2xlarge", instance_count=4)
    fails("pytorch", PyTorch, instance_type="ml.p4d.24xlarge", instance_count=2, distribution={"model_parallel": {"enabled": True}})
    versions = {"framework_version": "2.14", "py_version": "py310"}
    fails("p3.xlarge", TensorFlow, instance_type="ml.p3.xlarge", instance_count=4, **versions)
if part == "four":
    fit(TensorFlow, "four", "four.py", None, 4, "ml.p3.2xlarge", framework_version="2.14", py_version="py310")
if part == "parts":
    torch = {"framework_version": "2.0.0", "py_version": "py310", "instance_type": "ml.p4d.24xlarge"}
    fit(PyTorch, "one", "parts.py", None, 1, **torch)
    fit(PyTorch, "short", "parts.py", None, 2, distribution={"model_parallel": {"enabled": True}}, **torch)
    asked = {"smdistributed": {"modelparallel": {"enabled": True, "parameters": {"partitions": 2, "microbatches": 4, "ddp": True}}}}
    fit(PyTorch, "hybrid", "parts.py", None, 2, distribution=asked | {"mpi": {"enabled": True, "processes_per_host": 2}}, **torch)
"""
)
V3 = (
    COMMON
    + """
from sagemaker.core import image_uris
from sagemaker.core.helper.session_helper import Session
from sagemaker.core.training.configs import Compute, InputData, OutputDataConfig, SourceCode
from sagemaker.train import ModelTrainer
from sagemaker.train.distributed import MPI

session = Session()

def train(base, framework, version, python, entry, count=1, inputs=(), hyperparameters=None, distributed=None):
    image = image_uris.retrieve(
        framework, "us-east-1", version=version, py_version=python, instance_type="ml.c5.xlarge", image_scope="training"
    )
    trainer = ModelTrainer(
        training_image=image, role=role, sagemaker_session=session, source_code=SourceCode(source_dir="code", entry_script=entry),
        compute=Compute(instance_type="ml.c5.xlarge", instance_count=count, volume_size_in_gb=10), base_job_name=base,
        hyperparameters=hyperparameters or {}, output_data_config=OutputDataConfig(s3_output_path=out), distributed=distributed,
        input_data_config=[InputData(channel_name=name, data_source=f"data/{name}") for name in inputs],
    )
    trainer.train(wait=False)
    wait(session, trainer._latest_training_job.training_job_name)

if PART == "trees":
    train("xgboost", "xgboost", "1.7-1", "py3", "xgboost_script.py", 1, ("train", "test"), TREES)
    train("sklearn", "sklearn", "1.2-1", "py3", "sklearn_script.py", 1, ("train", "test"), {"n_estimators": 20})
if PART == "four":
    train("four", "tensorflow", "2.14", "py310", "four.py", 4)
if PART == "parts":
    train("one", "pytorch", "2.3.0", "py311", "parts.py", 1)
    train("mpi", "pytorch", "2.3.0", "py311", "parts.py", 2, distributed=MPI(process_count_per_node=1))
"""
)

Tell = Callable[[int, str], list[str]]


def rows(seed: int, count: int) -> Iterator[str]:
    """A label, and eight numbers that tell it, not quite."""
    chance = random.Random(seed)
    for _ in range(count):
        x = [chance.gauss(0, 1) for _ in range(8)]
        label = int(x[0] * x[1] + x[2] ** 2 - x[3] + chance.gauss(0, 1) > 1)
        yield ",".join([str(label), *(f"{value:.5f}" for value in x)])


@pytest.fixture
def tell(sdk: Any, tmp_path: Path) -> Tell:  # noqa: F811
    """What the story's part says under an SDK of that major."""
    for name, seed, count in (("train", 1, 800), ("test", 2, 400)):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "rows.csv").write_text("\n".join(rows(seed, count)) + "\n")
    (tmp_path / "code").mkdir()
    for entry, text in (("xgboost_script", XGBOOST.encode()), ("sklearn_script", SKLEARN.encode()), ("four", FOUR), ("parts", SMP)):
        (tmp_path / "code" / f"{entry}.py").write_bytes(text)
    programs = {2: V2, 3: V3}
    return lambda major, part: sdk(major, programs[major].replace("PART", repr(part)).replace("TREES", repr(TREES))).splitlines()


def by_hand(server: Any, framework: str, folder: Path, script: str, *arguments: str) -> str:
    """The same script without a cloud, under the framework's own interpreter."""
    found = Environments(server.config.runtimes_dir).find(ENVIRONMENT.get(framework, framework))
    assert found is not None
    model = folder / "by-hand"
    model.mkdir(exist_ok=True)
    channels = {f"SM_CHANNEL_{name.upper()}": str(folder / "data" / name) for name in ("train", "test")}
    env = {"PATH": os.environ["PATH"], "SM_MODEL_DIR": str(model), **channels}
    (folder / "by_hand.py").write_text(script)
    line = [str(found.path / "bin" / "python3"), str(folder / "by_hand.py"), *arguments]
    return subprocess.run(line, env=env, capture_output=True, text=True, check=True).stdout


def model_of(aws: Account, said: list[str], base: str, member: str) -> bytes:
    uri = next(line for line in said if line.startswith(f"MODEL {base} ")).split()[-1]
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    body = aws.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        found = archive.extractfile(member)
        assert found is not None
        return found.read()


def after(said: list[str], start: str) -> list[str]:
    return [line.removeprefix(start) for line in said if line.startswith(start)]


@pytest.mark.parametrize("major", [2, 3])
def test_trees_equal_those_grown_by_hand(server: Any, aws: Account, tell: Tell, tmp_path: Path, major: int) -> None:
    need(server, "xgboost")
    said = tell(major, "trees")
    arguments = [word for name, value in TREES.items() for word in (f"--{name}", str(value))]
    auc = by_hand(server, "xgboost", tmp_path, XGBOOST, *arguments).removeprefix("SAYS AUC ").strip()
    assert after(said, "xgboost SAYS AUC ") == [auc]
    assert float(auc) > 0.8
    by_hand(server, "scikit-learn", tmp_path, SKLEARN, "--n_estimators", "20")
    (tmp_path / "cloud.joblib").write_bytes(model_of(aws, said, "sklearn", "model.joblib"))
    test = str(tmp_path / "data" / "test" / "rows.csv")
    models = (tmp_path / "cloud.joblib", tmp_path / "by-hand" / "model.joblib")
    cloud, hand = (by_hand(server, "scikit-learn", tmp_path, LABELS, str(model), test) for model in models)
    assert cloud == hand
    assert {"0", "1"} <= set(cloud), "it tells both"
    if major == 2:
        print(*after(said, "FAULT "), sep="\n")
        faults = {line.split()[0]: line for line in after(said, "FAULT ")}
        assert faults["no-type"].split()[1] in ("ValueError", "ClientError")
        assert "tensorflow ValueError" in faults["tensorflow"]
        assert "pytorch ValueError" in faults["pytorch"]
        assert "p3.xlarge ClientError An error occurred (ValidationException)" in faults["p3.xlarge"]
        assert "Value 'ml.p3.xlarge' at 'resourceConfig.instanceType' failed to satisfy constraint" in faults["p3.xlarge"]


@pytest.mark.parametrize("major", [2, 3])
def test_four_instances_of_tensorflow_keep_one_model(server: Any, tell: Tell, major: int) -> None:
    need(server, "tensorflow")
    ranks = sorted(line.split(" ", 4) for line in after(tell(major, "four"), "four RANK "))
    assert [rank[:4] for rank in ranks] == [[str(number), "4", f"algo-{number + 1}", "True"] for number in range(4)]
    assert len({rank[4] for rank in ranks}) == 1, "the same weights everywhere"


@pytest.mark.parametrize(("major", "split"), [(2, {"short": 2, "hybrid": 4}), (3, {"mpi": 2})])
def test_a_model_over_two_instances_learns_as_in_one_process(server: Any, tell: Tell, major: int, split: dict[str, int]) -> None:
    need(server, "pytorch")
    said = tell(major, "parts")
    (one,) = (json.loads(line) for line in after(said, "one CURVE "))
    for base, ranks in split.items():
        found = [json.loads(line) for line in after(said, f"{base} CURVE ")]
        assert len(found) == ranks
        for place in found:
            assert place["curve"] == pytest.approx(one["curve"], abs=1e-5)
            assert 0.3 < place["held"] / one["held"] < 0.7
        assert {line.split()[0] for line in after(said, f"{base} Partition ")} >= {"0", "1"}, "what each part holds"
