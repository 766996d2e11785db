"""Training on machines that offer less: script mode under every isolation that works here."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pilvi.compute.process import ProcessCompute
from pilvi.core.errors import Unavailable
from pilvi.testing.server import TestServer
from tests.services.sagemaker.conftest import SKLEARN_IMAGE, Lab

SCRIPT = """
import os
channel = os.environ["SM_CHANNEL_TRAIN"]
print("read:", open(os.path.join(channel, "a.csv")).read().strip())
open(os.path.join(os.environ["SM_MODEL_DIR"], "model"), "w").write("made")
open("/tmp/scratch", "w").write("x") if os.environ["SM_OUTPUT_DATA_DIR"].startswith("/opt/ml") else None
print("size: 3")
"""


@pytest.mark.usefixtures("scikit_learn")
@pytest.mark.parametrize("isolation", ["unshare", "none"])
def test_script_mode_runs(isolation: str, tmp_path: Path, source_archive: Callable[[Mapping[str, str]], bytes]) -> None:
    try:
        assert ProcessCompute(isolation).isolation == isolation  # type: ignore[arg-type]
    except Unavailable as error:
        pytest.skip(error.message)
    with TestServer(tmp_path / "data", isolation=isolation) as server:
        lab = Lab(server.account("123456789012"))
        code = lab.put("code/sourcedir.tar.gz", source_archive({"train.py": SCRIPT}))
        channel = lab.channel("train", lab.put("in/a.csv", "1,2\n"))
        parameters = {"sagemaker_program": json.dumps("train.py"), "sagemaker_submit_directory": json.dumps(code)}
        algorithm = {"TrainingImage": SKLEARN_IMAGE, "TrainingInputMode": "File"}
        job = lab.run("apart", algorithm=algorithm, HyperParameters=parameters, InputDataConfig=[channel])
        assert job["TrainingJobStatus"] == "Completed", (job.get("FailureReason"), lab.lines("apart"))
        assert "read: 1,2" in lab.lines("apart")
        assert lab.members("out/apart/output/model.tar.gz") == {"model": b"made"}
