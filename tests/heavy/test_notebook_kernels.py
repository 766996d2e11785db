"""What lesson notebooks import is there in the default kernel, and frameworks of further environments in theirs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import pilvi.runtimes.notebook
from pilvi.compute.environments import Environment, Environments
from pilvi.core.config import Config

SUPPORT = Path(pilvi.runtimes.notebook.__file__).parent


def environment(name: str) -> Environment:
    found = Environments(Config.runtimes_dir_default()).find(name)
    if found is None:
        pytest.skip(f"the runtime is not installed: pilvi runtimes install {name}")
    return found


def printed(base: Environment, behind: Environment, code: str) -> str:
    """What the code prints under one environment with another's packages behind its own, as notebooks have it."""
    packages = next(behind.path.glob("lib/python3*/site-packages"))
    env = {"PATH": os.environ["PATH"], "HOME": "/tmp", "PYTHONPATH": str(SUPPORT), "PILVI_PACKAGES_BEHIND": str(packages)}
    done = subprocess.run([str(base.python), "-c", code], env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_default_kernel_has_what_lessons_import() -> None:
    code = "import sklearn, torch, boto3, sagemaker, pandas; print(torch.ones(3).sum().item(), pandas.__version__[0], sagemaker.__version__[0])"
    assert printed(environment("notebook"), environment("pytorch"), code).splitlines()[-1] == "3.0 2 2"


def test_the_tensorflow_kernel_starts_with_jupyters_packages_behind() -> None:
    code = "import tensorflow as tf, ipykernel.kernelapp, boto3; print(float(tf.reduce_sum(tf.ones(3))))"
    assert printed(environment("tensorflow"), environment("notebook"), code) == "3.0\n"
