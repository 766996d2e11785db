"""What the framework images answer with: scripts and defaults of scikit-learn, XGBoost and PyTorch, equal to the library's own predictions."""

from __future__ import annotations

import io
import itertools
import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pilvi.compute.environments import Environments
from pilvi.testing.server import TestServer
from tests.services.sagemaker_runtime.conftest import Desk

REGISTRY = "683313688378.dkr.ecr.us-east-1.amazonaws.com"
DEEP = "763104351884.dkr.ecr.us-east-1.amazonaws.com"
_numbers = itertools.count(736000000001)
SKLEARN = """
import joblib, numpy as np
from sklearn.ensemble import RandomForestClassifier
x = np.random.default_rng(0).normal(size=(200, 3)); y = (x[:, 0] > 0).astype(int)
model = RandomForestClassifier(10, random_state=0).fit(x, y)
joblib.dump(model, "model.joblib")
import json; print(json.dumps([model.predict(x[:4].astype("float32")).tolist(), x[:4].tolist()]))
"""
XGBOOST = """
import numpy as np, xgboost
x = np.random.default_rng(0).normal(size=(200, 3)); y = x @ [1, 2, 3]
model = xgboost.train({"objective": "reg:squarederror"}, xgboost.DMatrix(x, label=y), 10)
import os; model.save_model("model.ubj"); os.rename("model.ubj", "xgboost-model")
import json; print(json.dumps([model.predict(xgboost.DMatrix(x[:4].astype("float32"))).tolist(), x[:4].tolist()]))
"""
TORCH = """
import torch
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1)).eval()
torch.jit.script(model).save("model.pth")
x = torch.randn(4, 3)
import json; print(json.dumps([model(x).tolist(), x.tolist()]))
"""
SCRIPTS = {
    "sklearn": 'import joblib, os\ndef model_fn(folder):\n    return joblib.load(os.path.join(folder, "model.joblib"))\n',
    "xgboost": "def predict_fn(data, model):\n    return model.predict(data) + 100\n",
    "": "",
}


@pytest.fixture(scope="module")
def desk(server: TestServer) -> Desk:
    return Desk(server.account(str(next(_numbers))))


@pytest.fixture
def made(server: TestServer, tmp_path: Path) -> Callable[..., tuple[bytes, Any, Any]]:
    """A model made by the library itself, as model.tar.gz; its own predictions, and what they are of."""

    def make(environment: str, program: str, script: str) -> tuple[bytes, Any, Any]:
        found = Environments(server.config.runtimes_dir).find(environment)
        if found is None:
            pytest.skip(f"the runtime is not installed: pilvi runtimes install {environment}")
        done = subprocess.run([found.python, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
        expected, rows = json.loads(done.stdout.strip().splitlines()[-1])
        if script:
            (tmp_path / "code").mkdir()
            (tmp_path / "code" / "inference.py").write_text(script)
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w:gz") as tar:
            tar.add(tmp_path, ".")
        return data.getvalue(), expected, rows

    return make


@pytest.mark.parametrize(
    ("name", "image", "environment", "program", "script", "added"),
    [
        ("forest", f"{REGISTRY}/sagemaker-scikit-learn:1.4-2-cpu-py3", "scikit-learn", SKLEARN, "sklearn", 0.0),
        ("booster", f"{REGISTRY}/sagemaker-xgboost:1.7-1", "algorithms", XGBOOST, "", 0.0),
        ("script", f"{REGISTRY}/sagemaker-xgboost:1.7-1", "algorithms", XGBOOST, "xgboost", 100.0),
        ("torch", f"{DEEP}/pytorch-inference:2.3.0-cpu-py311", "pytorch", TORCH, "", 0.0),
    ],
)
def test_endpoint_answers_as_the_library(
    desk: Desk,
    made: Callable[..., tuple[bytes, Any, Any]],
    name: str,
    image: str,
    environment: str,
    program: str,
    script: str,
    added: float,
) -> None:
    data, expected, rows = made(environment, program, SCRIPTS[script])
    desk.s3.put_object(Bucket=desk.bucket, Key=f"{name}.tar.gz", Body=data)
    variables = {"SAGEMAKER_MODEL_SERVER_WORKERS": "1", **({"SAGEMAKER_PROGRAM": "inference.py"} if script else {})}
    container = {"Image": image, "ModelDataUrl": f"s3://{desk.bucket}/{name}.tar.gz", "Environment": variables}
    desk.sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=desk.role)
    desk.endpoint(name, desk.variant(name))
    body = "\n".join(",".join(map(str, row)) for row in rows)
    text = desk.ask(name, body, ContentType="text/csv", Accept="text/csv").decode()
    answered = [float(line) for line in text.split()]
    wanted = [value[0] if isinstance(value, list) else value for value in expected]
    assert answered == pytest.approx([value + added for value in wanted], abs=1e-4)
    desk.remove(name)
