"""The SageMaker Python SDK's estimators of built-in algorithms, unmodified: what they upload and send, and that models come out."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from pilvi.compute.environments import Environments
from pilvi.testing.server import Account, TestServer

ROOT = Path(__file__).parent.parent.parent
ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["s3:*", "logs:*", "cloudwatch:*"], "Resource": "*"}]}
DEFAULTS = """SchemaVersion: '1.0'
SageMaker:
  PythonSDK:
    Modules:
      TelemetryOptOut: true
      Session:
        DefaultS3Bucket: {}
"""
PROGRAM = """
import sys

import numpy as np
import sagemaker
from sagemaker import KNN, PCA, FactorizationMachines, KMeans, LinearLearner, RandomCutForest, image_uris
from sagemaker.estimator import Estimator
from sagemaker.inputs import TrainingInput

role, out = sys.argv[1:3]
session = sagemaker.Session()
generator = np.random.default_rng(0)
x = generator.normal(size=(300, 4)).astype("float32")
y = (x @ [1, 2, 3, 4]).astype("float32")
common = dict(role=role, instance_count=1, instance_type="ml.m5.large", output_path=out, sagemaker_session=session)

def fit(name, estimator, *labels):
    estimator.fit(estimator.record_set(x, *labels), logs=False)
    print(name, estimator.latest_training_job.describe()["TrainingJobStatus"])

fit("KMEANS", KMeans(k=3, **common))
fit("LINEAR", LinearLearner(predictor_type="regressor", **common), y)
fit("PCA", PCA(num_components=2, **common))
fit("FOREST", RandomCutForest(num_trees=50, num_samples_per_tree=64, **common))
fit("NEIGHBOURS", KNN(k=3, sample_size=200, predictor_type="regressor", **common), y)
fit("MACHINES", FactorizationMachines(num_factors=4, predictor_type="regressor", **common), y)

boosted = Estimator(image_uris.retrieve("xgboost", "us-east-1", version="1.7-1"), **common)
boosted.set_hyperparameters(num_round=5, objective="reg:squarederror")
np.savetxt("rows.csv", np.c_[y, x], delimiter=",")
rows = TrainingInput(session.upload_data("rows.csv", key_prefix="xgb"), content_type="text/csv")
boosted.fit({"train": rows, "validation": rows})
print("BOOSTED", boosted.latest_training_job.describe()["TrainingJobStatus"])
"""


def test_estimators_of_the_sdk_train(server: TestServer, aws: Account, tmp_path: Path) -> None:
    python = ROOT / ".venv-sdk2" / "bin" / "python"
    if not python.exists():
        pytest.skip("the SageMaker SDKs are not installed: make sdk-venvs")
    if Environments(server.config.runtimes_dir).find("algorithms") is None:
        pytest.skip("the runtime is not installed: pilvi runtimes install algorithms")
    bucket = f"sdk-{aws.account}"
    aws.client("s3").create_bucket(Bucket=bucket)
    (tmp_path / "defaults.yaml").write_text(DEFAULTS.format(bucket))
    (tmp_path / "program.py").write_text(PROGRAM)
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
    role = aws.role("Sdk", "sagemaker.amazonaws.com", ALL)
    line = [str(python), "program.py", role, f"s3://{bucket}/out"]
    done = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    for name in ("KMEANS", "LINEAR", "PCA", "FOREST", "NEIGHBOURS", "MACHINES", "BOOSTED"):
        assert f"{name} Completed" in done.stdout
