"""Environments from requirements that need no network."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pilvi.compute.environments import Environments
from pilvi.core.errors import NotFound, Unavailable


@pytest.fixture
def environments(tmp_path: Path) -> Environments:
    definitions = tmp_path / "definitions"
    (definitions / "site" / "empty").mkdir(parents=True)
    (definitions / "empty.txt").write_text("# nothing\n")
    (definitions / "empty-cuda.txt").write_text("# nothing for a GPU\n")
    (definitions / "broken.txt").write_text("no-such-package-of-anybody==1.0 --hash=sha256:00\n")
    (definitions / "pinned.txt").write_text(
        "torch==2.13.0+cpu \\\n    --hash=sha256:00\ngluonts[torch]==0.17.0 \\\n    --hash=sha256:11\n"
    )
    (definitions / "site" / "empty" / "extra.py").write_text("WORD = 'hello'\n")
    return Environments(tmp_path / "runtimes", definitions)


def test_names_are_the_requirement_files(environments: Environments) -> None:
    assert environments.names() == ["broken", "empty", "empty-cuda", "pinned"]


def test_install_puts_our_modules_beside_the_packages(environments: Environments) -> None:
    assert environments.find("empty") is None
    installed = environments.install("empty")
    assert environments.find("empty") == installed
    said = subprocess.run([installed.python, "-c", "import extra; print(extra.WORD)"], capture_output=True, text=True, check=True)
    assert said.stdout == "hello\n"
    assert environments.size_bytes("empty") > 10000
    assert environments.remove("empty")
    assert environments.find("empty") is None
    assert environments.size_bytes("empty") == 0


def test_changed_modules_make_a_new_environment(environments: Environments, tmp_path: Path) -> None:
    environments.install("empty")
    (tmp_path / "definitions" / "site" / "empty" / "extra.py").write_text("WORD = 'bye'\n")
    assert environments.find("empty") is None


def test_prune_removes_what_was_replaced_and_nobody_runs_in(environments: Environments, tmp_path: Path) -> None:
    first = environments.install("empty")
    assert environments.prune() == ([], [])
    (tmp_path / "definitions" / "site" / "empty" / "extra.py").write_text("WORD = 'bye'\n")
    second = environments.install("empty")
    with subprocess.Popen([first.python, "-c", "input()"], stdin=subprocess.PIPE) as program:
        assert environments.prune() == ([], [first.path])
        program.communicate(b"\n")
    assert environments.prune() == ([first.path], [])
    assert not first.path.exists()
    assert environments.find("empty") == second


def test_the_one_for_gpus_is_found_where_it_is_installed(environments: Environments) -> None:
    plain = environments.install("empty")
    assert environments.find_for("empty", gpus=1) == plain
    special = environments.install("empty-cuda")
    assert environments.find_for("empty", gpus=1) == special
    assert environments.find_for("empty", gpus=0) == plain


def test_versions_are_the_pins(environments: Environments) -> None:
    assert environments.versions("pinned") == {"torch": "2.13.0+cpu", "gluonts": "0.17.0"}


def test_a_failed_installation_leaves_nothing(environments: Environments, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(Unavailable, match="could not be installed"):
        environments.install("broken")
    assert environments.find("broken") is None
    with pytest.raises(NotFound, match="There is no environment called none"):
        environments.find("none")
