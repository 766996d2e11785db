"""Container images by an engine that is there: programs with a tree of their own run under podman, all others as on this machine.

    PodmanCompute -- ProcessCompute            programs without a tree
          \\-------- ProcessCompute("none") -- guard -- podman run --rootfs TREE:O
                                                          conmon -- the program

The images are the server's own unpacked trees, so the engine pulls, keeps and knows none. podman's monitor leaves its parent, so our
guard is the reaper of all orphans below it: whatever ends the server ends the container. What podman remembers of containers that
were ended so is cleared at the first launch and at the end.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from pilvi.compute import Bind, Node, Process, ProcessSpec, Root
from pilvi.compute.process import Isolation, ProcessCompute
from pilvi.compute.sandbox import TMP_BYTES, File, view_for
from pilvi.core.errors import Unavailable
from pilvi.core.trees import inside

log = logging.getLogger("pilvi.compute")

_WAYS = (("--cgroups=disabled",), ("--runtime=runc",), ())
"""Memory and cores are ours to watch, so no control groups are needed; not every runtime does without."""
_TRY_S = 60.0
_INIT = ("catatonit", "/usr/libexec/podman/catatonit", "/usr/libexec/catatonit/catatonit")
"""The little process 1 that podman can start; without it a program that does not listen to SIGTERM is process 1 itself, and deaf."""


class PodmanCompute:
    """Runs programs on this machine. Unavailable when podman is not installed, or cannot run a tree here."""

    def __init__(self, isolation: Isolation, hidden: Sequence[Path], folder: Path, program: str = "podman") -> None:
        """folder: where small files for containers are kept, and what tells our containers from other servers'."""
        found = shutil.which(program)
        if found is None:
            raise Unavailable(f"--compute podman: {program} is not installed (Debian package podman).")
        self._program = found
        self._inside = ProcessCompute(isolation, hidden, folder)
        self._outside = ProcessCompute("none", folder=folder)
        self._folder = folder / "podman"
        self._label = f"pilvi={folder.absolute()}"
        self._way: tuple[str, ...] | None = None
        self._choosing = threading.Lock()

    @property
    def isolation(self) -> str:
        return self._inside.isolation

    def nodes(self) -> Sequence[Node]:
        return self._inside.nodes()

    def launch(self, spec: ProcessSpec, on_line: Callable[[str], None]) -> Process:
        if spec.root is None:
            return self._inside.launch(spec, on_line)
        with self._choosing:
            self._way = self._way if self._way is not None else self._choose()
        return self._outside.launch(self._outer(spec, spec.root, self._way), on_line)

    def close(self) -> None:
        self._inside.close()
        self._outside.close()
        if self._way is not None:
            self._clear()

    # -- private ------------------------------------------------------------------------------------------------------

    def _choose(self) -> tuple[str, ...]:
        """The first way that works here, by trying with an empty tree; said once."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True, mode=0o700)
        self._clear()
        reasons: list[str] = []
        for way in _WAYS:
            with tempfile.TemporaryDirectory(dir=self._folder) as place:
                root = Root(Path(place, "tree"), Path(place, "changes"))
                root.folder.mkdir()
                said: list[str] = []
                process = self._outside.launch(self._outer(ProcessSpec(("/-",), {}), root, way), said.append)
                how = process.wait(_TRY_S)
                process.kill()
            if how is not None and how.code == 127:
                log.info("container images are run by %s", " ".join((self._program, *way)))
                return way
            reasons.append(" ".join(said) or "it does not come to an end")
        raise Unavailable(f"{self._program} runs no image here: {'; '.join(dict.fromkeys(reasons))}")

    def _outer(self, spec: ProcessSpec, root: Root, way: tuple[str, ...]) -> ProcessSpec:
        """podman as the program, with everything the inner one is to see."""
        root.changes.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix="run-", dir=root.changes))
        settings = place / "containers.conf"
        settings.write_text(_settings(spec))
        env = {name: os.environ[name] for name in ("PATH", "HOME", "XDG_RUNTIME_DIR", "TMPDIR") if name in os.environ}
        command = (self._program, "run", *way, f"--label={self._label}", *self._options(spec, root, place))
        return ProcessSpec(
            (*command, "--rootfs", f"{root.folder}:O", *spec.command),
            {**env, "CONTAINERS_CONF": str(settings)},
            cwd=str(place),
            memory_mib=spec.memory_mib,
            cpus=spec.cpus,
        )

    def _options(self, spec: ProcessSpec, root: Root, place: Path) -> list[str]:
        options = [
            "--rm", "--log-driver=none", "--pull=never", "--no-hosts", "--cap-drop=ALL", "--security-opt=no-new-privileges",
            f"--user={root.uid}:{root.gid}", f"--hostname={spec.hostname}", f"--workdir={spec.cwd}", "--entrypoint=",
            f"--network={'host' if spec.network else 'none'}", f"--shm-size={self.nodes()[0].memory_mib // 2}m",
        ]  # fmt: skip
        if any(shutil.which(path) for path in _INIT):
            options.append("--init")
        foreign = {gpu.device for gpu in self.nodes()[0].gpus if spec.gpus is not None and gpu.id not in spec.gpus}
        view = view_for(ProcessSpec((), {}, binds=spec.binds, hostname=spec.hostname, hosts=spec.hosts, root=root))
        if not view.has_tmp:
            options.append(f"--tmpfs=/tmp:rw,exec,nosuid,nodev,mode=1777,size={TMP_BYTES}")
        cwd = inside(root.folder, spec.cwd)
        if not Path(root.folder, cwd.lstrip("/")).is_dir() and not any(
            PurePosixPath(cwd).is_relative_to(bind.target) for bind in spec.binds
        ):
            # podman makes no folder to begin in.
            (place / "cwd").mkdir()
            (place / "cwd").chmod(0o777)
            options.append(_mount(place / "cwd", cwd, True))
        if spec.gpus != ():
            options += [f"--device={device}" for device in view.devices if device not in foreign]
        for number, step in enumerate(view.own):
            if isinstance(step, Bind):
                options.append(_mount(step.source, step.target, step.writable))
            elif isinstance(step, File):
                file = place / f"file-{number}"
                file.write_text(step.text)
                file.chmod(0o644)
                options.append(_mount(file, step.path, False))
        return options

    def _clear(self) -> None:
        """Forget containers that were ended from outside."""
        command = (self._program, "rm", "--force", "--time=0", "--filter", f"label={self._label}")
        try:
            subprocess.run(command, capture_output=True, timeout=_TRY_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            log.warning("containers that ended stay in podman's books: %s", error)


def _mount(source: Path, target: str, writable: bool) -> str:
    return f"--mount=type=bind,source={source},destination={target},readonly={'false' if writable else 'true'}"


def _settings(spec: ProcessSpec) -> str:
    """podman's own settings for this run. The program's environment stands here, because a command line is for everybody to read.

    No limits of its own: it would raise them above this machine's.
    """
    env = json.dumps([f"{name}={value}" for name, value in spec.env.items()], ensure_ascii=False)
    return f"[containers]\nenv = {env}\ndefault_ulimits = []\nenv_host = false\nhttp_proxy = false\n"
