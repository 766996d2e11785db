"""The SageMaker SDK, unmodified, in every way a client finds the server: the endpoint, botocore's endpoints file, the proxy; and @remote."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pilvi.compute.environments import Environments
from pilvi.core.config import Config
from pilvi.testing.up import PILVI, Up

ROOT = Path(__file__).parents[2]
ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}

BUCKET = {
    2: "import sagemaker; s = sagemaker.Session(); print('BUCKET', s.default_bucket(), s.account_id())",
    3: "from sagemaker.core.helper.session_helper import Session; s = Session(); print('BUCKET', s.default_bucket(), s.account_id())",
}
REMOTE = """
import sys
from sagemaker.remote_function import remote

@remote(instance_type="ml.m5.large", role=sys.argv[1])
def add(a, b):
    import os
    print("inside", os.environ["TRAINING_JOB_NAME"])
    return a + b

@remote(instance_type="ml.m5.large", role=sys.argv[1])
def fails():
    raise LookupError("nothing here")

print("SUM", add(2, 3))
try:
    fails()
except LookupError as error:
    print("FAILED", error)
"""


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Up:
    server = Up(tmp_path_factory.mktemp("up"))
    yield server
    server.kill()


def run(up: Up, major: int, program: str, *words: str, home: Path, options: tuple[str, ...] = (), drop: str = "") -> str:
    """A program in a shell that did what `pilvi env` says."""
    python = ROOT / f".venv-sdk{major}" / "bin" / "python"
    if not python.exists():
        pytest.skip("the SageMaker SDKs are not installed: make sdk-venvs")
    exports = subprocess.run(
        [PILVI, "env", "--data-dir", str(up.data_dir), *options], capture_output=True, text=True, check=True
    ).stdout
    script = f'eval "$EXPORTS"\nunset {drop or "NOTHING"}\nexec "$0" "$@"'
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SAGEMAKER_", "HTTPS_"))}
    line = ["/bin/sh", "-c", script, str(python), "-c", program, *words]
    done = subprocess.run(
        line, env={**env, "EXPORTS": exports, "HOME": str(home)}, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    return done.stdout


@pytest.mark.parametrize("major", [2, 3])
def test_endpoint(up: Up, tmp_path: Path, major: int) -> None:
    """Alone it serves all but the SDK's own calls to STS; the defaults file names the bucket instead."""
    program = BUCKET[major].replace(", s.account_id()", "")
    assert "BUCKET sagemaker-us-east-1-123456789012" in run(up, major, program, home=tmp_path)


@pytest.mark.parametrize("major", [2, 3])
def test_endpoints_file(up: Up, tmp_path: Path, major: int) -> None:
    """STS of botocore's endpoints file is this server, over TLS."""
    models = tmp_path / ".aws" / "models"
    models.mkdir(parents=True)
    subprocess.run([PILVI, "env", "--data-dir", str(up.data_dir)], capture_output=True, check=True)
    shutil.copy(up.data_dir / "clients" / "models" / "endpoints.json", models)
    said = run(up, major, BUCKET[major], home=tmp_path, drop="SAGEMAKER_ADMIN_CONFIG_OVERRIDE")
    assert "BUCKET sagemaker-us-east-1-123456789012 123456789012" in said


@pytest.mark.parametrize("major", [2, 3])
def test_proxy(up: Up, tmp_path: Path, major: int) -> None:
    """AWS's own host names, for everything."""
    said = run(up, major, BUCKET[major], home=tmp_path, options=("--proxy",), drop="SAGEMAKER_ADMIN_CONFIG_OVERRIDE")
    assert "BUCKET sagemaker-us-east-1-123456789012 123456789012" in said


def test_remote_functions(up: Up, tmp_path: Path) -> None:
    if Environments(Config.runtimes_dir_default()).find("notebook") is None:
        pytest.skip("the runtime is not installed: pilvi runtimes install notebook")
    role = up.root.role("Remote", "sagemaker.amazonaws.com", ALL)
    program = tmp_path / "program.py"
    program.write_text(REMOTE)
    said = run(up, 2, f"import runpy; runpy.run_path({str(program)!r}, run_name='__main__')", role, home=tmp_path)
    assert "SUM 5" in said
    assert "FAILED nothing here" in said
