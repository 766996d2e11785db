"""The guide to tuning (docs/tune.md): its boto3 program runs as it stands there. The SDK's runs in tests/heavy."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pilvi.testing.server import Account

GUIDE = Path(__file__).parent.parent.parent.parent / "docs" / "tune.md"


@pytest.mark.usefixtures("scikit_learn")
def test_the_boto3_program_of_the_guide_runs(aws: Account, tmp_path: Path) -> None:
    programs = dict(re.findall(r"```python title=(\S+)\n(.*?)```", GUIDE.read_text(), re.DOTALL))
    assert set(programs) == {"train.py", "tune.py", "tune_sdk.py"}
    for name, text in programs.items():
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        [sys.executable, "tune.py"], cwd=tmp_path, env=aws.environ(), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Completed {'Completed': 4")
    values = [float(line.rsplit(" ", 1)[1]) for line in lines[2:]]
    assert len(values) == 4
    assert values == sorted(values, reverse=True)
    assert lines[1].endswith(lines[2].rsplit(" ", 1)[0]), "the best one stands first"
