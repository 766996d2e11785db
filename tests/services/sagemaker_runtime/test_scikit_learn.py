"""The scikit-learn image: a customer's model_fn, and the framework's own input, prediction and output for the rest."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

from pilvi.compute.environments import Environments
from pilvi.testing.server import TestServer
from tests.services.sagemaker_runtime.conftest import Desk

IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.4-2-cpu-py3"
SCRIPT = """\
import numpy as np
from sklearn.linear_model import LinearRegression

def model_fn(model_dir):
    features = np.arange(20.0).reshape(10, 2) ** 2
    return LinearRegression().fit(features, features @ [1, 2])
"""


@pytest.fixture(scope="module")
def endpoint(desk: Desk, server: TestServer) -> str:
    if Environments(server.config.runtimes_dir).find("scikit-learn") is None:
        pytest.skip("the runtime is not installed: pilvi runtimes install scikit-learn")
    return desk.endpoint("sklearn", desk.variant(desk.model("sklearn", script=SCRIPT, Image=IMAGE)))


def test_scikit_learn_reads_and_writes_what_its_container_does(desk: Desk, endpoint: str) -> None:
    assert json.loads(desk.ask(endpoint, "[[1, 2], [3, 4]]")) == pytest.approx([5.0, 11.0], abs=1e-3)
    lines = desk.ask(endpoint, "1,2\n3,4\n", ContentType="text/csv", Accept="text/csv").decode().split()
    assert [float(line) for line in lines] == pytest.approx([5.0, 11.0], abs=1e-3)
    assert json.loads(desk.ask(endpoint, "1,2", ContentType="text/csv")) == pytest.approx([5.0], abs=1e-3)
    data = io.BytesIO()
    np.save(data, np.array([[1.0, 2.0]]))
    answer = desk.ask(endpoint, data.getvalue(), ContentType="application/x-npy", Accept="application/x-npy")
    assert np.load(io.BytesIO(answer)).tolist() == pytest.approx([5.0], abs=1e-3)
    with pytest.raises(Exception, match=r"Received client error \(406\) from primary"):
        desk.ask(endpoint, "[[1, 2]]", Accept="image/png")
