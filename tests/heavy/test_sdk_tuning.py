"""The SageMaker Python SDK's HyperparameterTuner, both majors, unmodified, against a real server."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pilvi.compute.environments import Environments
from pilvi.testing.server import Account, TestServer

ROOT = Path(__file__).parent.parent.parent
ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}

TRAIN = """
import argparse
import time

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--rate", type=float, default=0.1)
parser.add_argument("--kind", default="plain")
known, _ = parser.parse_known_args()
for epoch in range(1, known.epochs + 1):
    print(f"epoch={epoch} loss={abs(known.rate - 0.3) + 1 / epoch + (known.kind != 'plain')}", flush=True)
    time.sleep(0.05)
"""
V2 = """
import sys

import sagemaker
from sagemaker.sklearn.estimator import SKLearn
from sagemaker.tuner import CategoricalParameter, ContinuousParameter, HyperbandStrategyConfig, HyperparameterTuner, StrategyConfig

role, out = sys.argv[1:3]
session = sagemaker.Session()
metrics = [{"Name": "loss", "Regex": "loss=([0-9.]+)"}]
rate, kind = ContinuousParameter(0.01, 1, scaling_type="Logarithmic"), CategoricalParameter(["plain", "other"])

def tuner(strategy, ranges, jobs, **more):
    estimator = SKLearn(
        entry_point="train.py", source_dir="source", framework_version="1.2-1", role=role, instance_type="ml.m5.large", instance_count=1,
        output_path=out, hyperparameters={"epochs": 3}, sagemaker_session=session,
    )
    return HyperparameterTuner(
        estimator, "loss", ranges, metrics, strategy=strategy, objective_type="Minimize", max_jobs=jobs, max_parallel_jobs=2,
        base_tuning_job_name=strategy.lower(), **more,
    )

band = StrategyConfig(hyperband_strategy_config=HyperbandStrategyConfig(max_resource=3, min_resource=1))
for strategy, ranges, jobs, more in (
    ("Random", {"rate": rate, "kind": kind}, 2, {"random_seed": 3}),
    ("Bayesian", {"rate": rate}, 3, {"early_stopping_type": "Auto"}),
    ("Grid", {"kind": kind}, 2, {}),
    ("Hyperband", {"rate": rate}, 2, {"strategy_config": band}),
):
    run = tuner(strategy, ranges, jobs, **more)
    run.fit(wait=False)
    run.wait()
    frame = run.analytics().dataframe()
    best = frame.sort_values("FinalObjectiveValue").iloc[0]["TrainingJobName"]
    assert run.best_training_job() == best, frame
    assert run.best_estimator().latest_training_job.name == best
    print(strategy.upper(), run.describe()["HyperParameterTuningJobStatus"], len(frame), sorted(set(frame.columns) & {"rate", "kind"}))
    if strategy == "Bayesian":
        parent = run

again = parent.identical_dataset_and_algorithm_tuner()
again.metric_definitions = metrics  # the SDK does not take them over
again.fit()
print("WARM", again.describe()["OverallBestTrainingJob"]["TrainingJobName"] != "")
attached = HyperparameterTuner.attach(parent.latest_tuning_job.name, sagemaker_session=session)
print("ATTACHED", attached.best_training_job() == parent.best_training_job())

several = HyperparameterTuner.create(
    base_tuning_job_name="several",
    estimator_dict={"one": tuner("Random", {"rate": rate}, 2).estimator, "two": tuner("Random", {"rate": rate}, 2).estimator},
    objective_metric_name_dict={"one": "loss", "two": "loss"},
    hyperparameter_ranges_dict={"one": {"rate": rate}, "two": {"kind": kind}},
    metric_definitions_dict={"one": metrics, "two": metrics},
    strategy="Random", objective_type="Minimize", max_jobs=2, max_parallel_jobs=2,
)
several.fit(inputs={"one": None, "two": None}, include_cls_metadata={"one": False, "two": False})
print("SEVERAL", sorted(several.analytics().dataframe()["TrainingJobDefinitionName"]))
"""
V3 = """
import sys

from sagemaker.core import image_uris
from sagemaker.core.helper.session_helper import Session
from sagemaker.core.parameter import CategoricalParameter, ContinuousParameter
from sagemaker.core.training.configs import Compute, OutputDataConfig, SourceCode
from sagemaker.train import ModelTrainer
from sagemaker.train.tuner import HyperparameterTuner

role, out = sys.argv[1:3]
session = Session()
image = image_uris.retrieve("sklearn", "us-east-1", version="1.2-1", py_version="py3", instance_type="ml.m5.large")
metrics = [{"Name": "loss", "Regex": "loss=([0-9.]+)"}]
rate, kind = ContinuousParameter(0.01, 1, scaling_type="Logarithmic"), CategoricalParameter(["plain", "other"])
for strategy, ranges, jobs in (("Random", {"rate": rate, "kind": kind}, 2), ("Bayesian", {"rate": rate}, 3), ("Grid", {"kind": kind}, None)):
    trainer = ModelTrainer(
        training_image=image, role=role, sagemaker_session=session, source_code=SourceCode(source_dir="source", entry_script="train.py"),
        compute=Compute(instance_type="ml.m5.large", instance_count=1, volume_size_in_gb=10), hyperparameters={"epochs": 3},
        output_data_config=OutputDataConfig(s3_output_path=out), base_job_name="tune",
    )
    tuner = HyperparameterTuner(
        trainer, "loss", ranges, metrics, strategy=strategy, objective_type="Minimize", max_jobs=jobs, max_parallel_jobs=2,
        base_tuning_job_name=strategy.lower(),
    )
    tuner.tune(wait=False)
    tuner.wait()
    frame = tuner.analytics().dataframe()
    best = frame.sort_values("FinalObjectiveValue").iloc[0]["TrainingJobName"]
    assert tuner.best_training_job() == best, frame
    print(strategy.upper(), tuner.describe().hyper_parameter_tuning_job_status, len(frame), sorted(set(frame.columns) & {"rate", "kind"}))
"""


@pytest.fixture
def sdk(server: TestServer, aws: Account, tmp_path: Path) -> Callable[[int, str], str]:
    """Runs a program under an SDK of the given major, as the account's root; gives what it says."""
    if Environments(server.config.runtimes_dir).find("scikit-learn") is None:
        pytest.skip("the runtime is not installed: pilvi runtimes install scikit-learn")
    bucket = f"sdk-{aws.account}"
    aws.client("s3").create_bucket(Bucket=bucket)
    defaults = f"TelemetryOptOut: true\n      Session:\n        DefaultS3Bucket: {bucket}\n"
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "train.py").write_text(TRAIN)
    (tmp_path / "defaults.yaml").write_text(f"SchemaVersion: '1.0'\nSageMaker:\n  PythonSDK:\n    Modules:\n      {defaults}")

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
        done = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
        return done.stdout

    return run


def test_v2_tuner_runs_every_strategy(sdk: Callable[[int, str], str]) -> None:
    said = sdk(2, V2)
    assert "RANDOM Completed 2 ['kind', 'rate']" in said
    assert "BAYESIAN Completed 3 ['rate']" in said
    assert "GRID Completed 2 ['kind']" in said
    assert "HYPERBAND Completed 2 ['rate']" in said
    assert "WARM True" in said
    assert "ATTACHED True" in said
    assert "SEVERAL ['one', 'two']" in said


def test_v3_tuner_runs(sdk: Callable[[int, str], str]) -> None:
    said = sdk(3, V3)
    assert "RANDOM Completed 2 ['kind', 'rate']" in said
    assert "BAYESIAN Completed 3 ['rate']" in said
    assert "GRID Completed 2 ['kind']" in said


def test_the_sdk_program_of_the_guide_runs(sdk: Callable[[int, str], str], tmp_path: Path) -> None:
    programs = dict(re.findall(r"```python title=(\S+)\n(.*?)```", (ROOT / "docs" / "tune.md").read_text(), re.DOTALL))
    (tmp_path / "train.py").write_text(programs["train.py"])
    said = sdk(2, programs["tune_sdk.py"])
    assert "FinalObjectiveValue" in said
