"""What podman runs ends as everything else does, and keeps its secrets."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilvi.compute import ProcessSpec, Root
from pilvi.compute.podman import PodmanCompute
from pilvi.core.errors import Unavailable
from tests.compute.test_root import podman, tree

__all__ = ["tree"]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[PodmanCompute]:
    yield from podman(tmp_path)


def spec(tree: Path, folder: Path, script: str, **more: object) -> ProcessSpec:
    return ProcessSpec(("/bin/sh", "-c", script), root=Root(tree, folder), **({"env": {"PATH": "/bin"}} | more))  # type: ignore[arg-type]


def commands() -> bytes:
    """Every command line of this machine."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(file.read_bytes())
        except OSError:
            continue
    return b"\n".join(found)


def test_kill_and_close_end_the_container(engine: PodmanCompute, tree: Path, tmp_path: Path) -> None:
    for number, end in enumerate(("kill", "close")):
        lines: list[str] = []
        word = f"marked-{tmp_path.name}-{number}"
        process = engine.launch(spec(tree, tmp_path / end, f"echo up; : {word}; read forever < /dev/zero"), lines.append)
        while "up" not in lines and process.wait(0.05) is None:
            pass
        assert lines == ["up"]
        assert word.encode() in commands()
        process.kill() if end == "kill" else engine.close()
        how = process.wait(30)
        assert how is not None
        assert how.reason == "stopped"
        assert word.encode() not in commands()
    label = f"label=pilvi={(tmp_path / 'server').absolute()}"
    said = subprocess.run(("podman", "ps", "--all", "--quiet", "--filter", label), capture_output=True, text=True, check=True)
    assert said.stdout == ""


def test_the_environment_is_exact_and_not_on_a_command_line(engine: PodmanCompute, tree: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    env = {"SECRET": 'two\nlines "quoted" \\ and ü', "PATH": "/bin"}
    process = engine.launch(spec(tree, tmp_path / "one", 'echo "$SECRET"; read line < /dev/zero', env=env), lines.append)
    while len(lines) < 2 and process.wait(0.05) is None:
        pass
    assert lines == env["SECRET"].split("\n")
    assert b"quoted" not in commands()
    process.kill()
    process.wait(30)


def test_too_much_memory_ends_it(engine: PodmanCompute, tree: Path, tmp_path: Path) -> None:
    script = "word=x; while :; do word=$word$word; done"
    how = engine.launch(spec(tree, tmp_path / "one", script, memory_mib=200), lambda _: None).wait(120)
    assert how is not None
    assert how.reason == "memory"


def test_what_is_not_installed_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no-such-engine is not installed"):
        PodmanCompute("auto", (), tmp_path, "no-such-engine")
