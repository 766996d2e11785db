"""Programs in a file tree of their own: what they see, what they change, who they are."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilvi.compute import Bind, ProcessSpec, Root
from pilvi.compute.podman import PodmanCompute
from pilvi.compute.process import ProcessCompute
from pilvi.core.errors import Unavailable


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shell and what it needs, by the names that this machine has them under."""
    folder = tmp_path_factory.mktemp("tree")
    programs = [str(shutil.which(name)) for name in ("bash", "cat", "id", "ls")]
    said = subprocess.run(("ldd", *programs), capture_output=True, text=True, check=True).stdout
    libraries = {word for word in said.split() if word.startswith("/") and not word.endswith(":")}
    for path in (*programs, *libraries):
        place = Path(f"{folder}{path}")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(os.path.realpath(path), place)
    (folder / "bin").mkdir(exist_ok=True)
    shutil.copy(str(shutil.which("bash")), folder / "bin" / "sh")
    (folder / "kept").write_text("as it was\n")
    (folder / "etc").mkdir(exist_ok=True)
    return folder


@pytest.fixture(params=["bwrap", "unshare", "copy", "podman"])
def compute(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ProcessCompute | PodmanCompute]:
    """Each way that there is: laid over by our guard, copied where the kernel does not do that, and by a container engine."""
    if request.param == "podman":
        yield from podman(tmp_path)
        return
    if request.param != "unshare" and shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed: apt-get install bubblewrap")
    made = ProcessCompute("unshare" if request.param == "unshare" else "bwrap")
    if request.param == "copy":
        made._can_overlay = lambda _changes: False  # type: ignore[method-assign]
    yield made
    made.close()


def podman(tmp_path: Path) -> Iterator[PodmanCompute]:
    """podman, where it is installed and can run something."""
    try:
        made = PodmanCompute("auto", (), tmp_path / "server")
        made.launch(ProcessSpec(("/-",), {}, root=Root(tmp_path, tmp_path / "tried")), lambda _: None).wait(60)
    except Unavailable as error:
        pytest.skip(error.message)
    yield made
    made.close()


def run(compute: ProcessCompute | PodmanCompute, root: Root, script: str, **more: object) -> tuple[int, list[str]]:
    lines: list[str] = []
    spec = ProcessSpec(("/bin/sh", "-c", script), {"PATH": "/bin:/usr/bin"}, root=root, **more)  # type: ignore[arg-type]
    ended = compute.launch(spec, lines.append).wait(60)
    assert ended is not None
    return ended.code, lines


def test_a_tree_is_all_it_sees_and_its_changes_are_its_own(
    compute: ProcessCompute | PodmanCompute, tree: Path, tmp_path: Path
) -> None:
    shown = tmp_path / "shown"
    shown.mkdir()
    (shown / "file").write_text("shown\n")
    script = "cat /kept /mine/file; echo changed > /kept; echo new > /new; echo out > /mine/out; cat /kept; ls -d /root /home /var 2>/dev/null; id -u"
    code, lines = run(
        compute, Root(tree, tmp_path / "one"), script, binds=(Bind(shown, "/mine", writable=True),), cwd="/not/there/yet"
    )
    assert (code, lines) == (0, ["as it was", "shown", "changed", "0"])
    assert (shown / "out").read_text() == "out\n"
    assert (tree / "kept").read_text() == "as it was\n"
    assert not (tree / "new").exists()
    assert run(compute, Root(tree, tmp_path / "two"), "cat /kept; ls /new")[1][0] == "as it was"


def test_it_has_names_devices_and_a_user(compute: ProcessCompute | PodmanCompute, tree: Path, tmp_path: Path) -> None:
    script = (
        "cat /etc/hostname; cat /etc/hosts; id -u; id -g; echo x > /dev/null; ls /proc/self/status; echo t > /tmp/t; cat /tmp/t"
    )
    root = Root(tree, tmp_path / "one", uid=33, gid=44)
    code, lines = run(compute, root, script, hostname="algo-1", hosts={"algo-2": "127.0.0.5"})
    assert code == 0, lines
    assert lines[0] == "algo-1"
    assert "127.0.0.5\talgo-2" in lines
    assert lines[-4:] == ["33", "44", "/proc/self/status", "t"]


def test_links_in_the_tree_lead_nowhere_outside(compute: ProcessCompute | PodmanCompute, tree: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    evil = tmp_path / "evil"
    shutil.copytree(tree, evil, symlinks=True)
    shutil.rmtree(evil / "etc")
    (evil / "etc").symlink_to(outside)
    (evil / "mine").symlink_to("/old" + str(outside))
    (evil / "proc").symlink_to(outside)
    (evil / "dev").symlink_to("../../../../old/dev")
    shown = tmp_path / "shown"
    shown.mkdir()
    (shown / "file").write_text("shown\n")
    code, lines = run(
        compute, Root(evil, tmp_path / "one"), "cat /mine/file; cat /etc/hostname", binds=(Bind(shown, "/mine"),), hostname="me"
    )
    # An engine may refuse such a tree.
    assert (code, lines) == (0, ["shown", "me"]) or isinstance(compute, PodmanCompute)
    assert list(outside.iterdir()) == []


def test_it_gains_no_powers(compute: ProcessCompute | PodmanCompute, tree: Path, tmp_path: Path) -> None:
    _, lines = run(compute, Root(tree, tmp_path / "one"), "cat /proc/self/status")
    found = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert (int(found["CapEff"], 16), int(found["CapBnd"], 16), found["NoNewPrivs"]) == (0, 0, "1")


def test_without_namespaces_it_is_refused(tree: Path, tmp_path: Path) -> None:
    compute = ProcessCompute("none")
    try:
        with pytest.raises(Unavailable, match="no namespaces"):
            run(compute, Root(tree, tmp_path / "one"), "true")
    finally:
        compute.close()
