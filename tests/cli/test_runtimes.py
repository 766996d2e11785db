"""`pilvi runtimes` in a folder where nothing is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilvi.cli.main import main


def test_list_shows_versions_images_and_the_command_that_installs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runtimes", "list", "--runtimes-dir", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "not installed: pilvi runtimes install algorithms" in said
    assert "xgboost-cpu 3.0.5" in said
    assert "images: sagemaker-xgboost, xgboost, linear-learner" in said
    assert "torch 2.13.0+cpu" in said


def test_prune_says_that_there_is_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runtimes", "prune", "--runtimes-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "nothing to remove: no environment has been replaced\n"


def test_remove_of_what_is_not_there_is_fine(tmp_path: Path) -> None:
    assert main(["runtimes", "remove", "scikit-learn", "--runtimes-dir", str(tmp_path)]) == 0
