"""Named Python environments that jobs and functions run in, each apart from the server's own packages.

An environment is a venv below one folder, made from the pinned requirements in `pilvi/runtimes/environments/<name>.txt`:

    <dir>/<name>-<digest of the requirements>/     the venv; venvs hold absolute paths, so it is built where it stays
                                             .../pilvi-environment.json    written last: without it the folder counts for nothing

New requirements make a new folder beside the old one, so running programs keep what they started with. Files of ours that belong to
an environment's packages lie in `environments/site/<name>/`; a program of Node's is named in `environments/node/<name>.json` (node_packages.py). What was downloaded stays in pip's cache, so an installation that was
broken off goes on from there. `<name>-cuda` is the same environment for machines with a GPU.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.resources
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path

from pilvi.compute import Bind
from pilvi.compute.node_packages import add_package
from pilvi.core.errors import NotFound, Unavailable

_MARKER = "pilvi-environment.json"


@dataclass(frozen=True, slots=True)
class Environment:
    """An installed environment."""

    name: str
    path: Path
    python: Path
    """The interpreter to run, at the same path inside and outside."""
    binds: tuple[Bind, ...]
    """What a program needs to see for it, read-only."""

    @property
    def bin(self) -> Path:
        return self.path / "bin"


class Environments:
    """The environments below a folder. Safe to use from several threads and processes."""

    def __init__(self, folder: Path, definitions: Path | None = None, python: Path | None = None) -> None:
        """definitions: where the requirement files are; python: the base interpreter (default: the server's own)."""
        self._folder = folder.absolute()
        self._definitions = definitions
        self._python = python or Path(getattr(sys, "_base_executable", sys.executable))

    def names(self) -> list[str]:
        """Every name that can be installed."""
        return sorted(path.removesuffix(".txt") for path in self._definition_names())

    def find(self, name: str) -> Environment | None:
        """The environment as its requirements stand now, or None when it is not installed."""
        path = self._path(name)
        return _environment(name, path) if (path / _MARKER).is_file() else None

    def find_for(self, name: str, gpus: int = 0) -> Environment | None:
        """The environment for a program with so many GPUs: the one made for them, where it is installed."""
        special = f"{name}-cuda"
        found = self.find(special) if gpus and special in self.names() else None
        return found or self.find(name)

    def versions(self, name: str) -> dict[str, str]:
        """Package -> version, of everything in it."""
        lines = self._requirements(name).decode().splitlines()
        pins = [line.split(" ")[0].split("==") for line in lines if "==" in line and not line.startswith((" ", "#"))]
        found = {package.split("[")[0]: version for package, version in pins}
        if (definition := self._node_package(name)) is not None:
            wanted = json.loads(definition)
            found[wanted["package"]] = wanted["version"]
        return found

    def size_bytes(self, name: str) -> int:
        """How much of the disk it takes; 0 when it is not installed."""
        if self.find(name) is None:
            return 0
        found = 0
        for folder, _, files in os.walk(self._path(name)):
            found += sum(os.lstat(os.path.join(folder, file)).st_size for file in files)
        return found

    def install(self, name: str, on_line: Callable[[str], None] = lambda _: None) -> Environment:
        """Install unless it is there; `on_line` gets the installer's words. Unavailable with a reason when it fails."""
        with self._locked(name):
            path = self._path(name)
            if found := self.find(name):
                return found
            shutil.rmtree(path, ignore_errors=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._build(name, path, on_line)
            except BaseException:
                shutil.rmtree(path, ignore_errors=True)
                raise
            for old in self._folders(name):
                if old != path and not (old / _MARKER).is_file():
                    shutil.rmtree(old, ignore_errors=True)
            return _environment(name, path)

    def remove(self, name: str) -> bool:
        """Remove it, older versions too; whether there was anything."""
        with self._locked(name):
            found = self._folders(name)
            for path in found:
                (path / _MARKER).unlink(missing_ok=True)
                shutil.rmtree(path)
            return bool(found)

    def prune(self) -> tuple[list[Path], list[Path]]:
        """Remove what newer requirements have replaced; gives what was removed, and what programs still run in.

        A program is found by what it has open and by its command line, in namespaces of its own too: paths are the same in there.
        """
        removed: list[Path] = []
        used: list[Path] = []
        for name in self.names():
            with self._locked(name):
                for path in sorted(self._folders(name)):
                    if path == self._path(name):
                        continue
                    if _is_used(path):
                        used.append(path)
                        continue
                    (path / _MARKER).unlink(missing_ok=True)
                    shutil.rmtree(path)
                    removed.append(path)
        return removed, used

    # -- private ------------------------------------------------------------------------------------------------------

    def _build(self, name: str, path: Path, on_line: Callable[[str], None]) -> None:
        requirements = path / "requirements.txt"
        _run([str(self._python), "-m", "venv", "--copies" if os.name == "nt" else "--symlinks", str(path)], on_line)
        requirements.write_bytes(self._requirements(name))
        _run(
            [
                str(path / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", "--no-input",
                "--progress-bar", "off", "--require-hashes", "-r", str(requirements),
            ],
            on_line,
        )  # fmt: skip
        packages = Path(told_by(path / "bin" / "python", "import sysconfig; print(sysconfig.get_path('purelib'))"))
        for file, content in self._site_files(name).items():
            (packages / file).write_bytes(content)
        if (definition := self._node_package(name)) is not None:
            add_package(path, definition, lambda command, cwd, env: _run(command, on_line, cwd, env))
        # One sync of the marker after everything else: a crash before it leaves a folder that counts for nothing.
        os.sync()
        (path / _MARKER).write_text(json.dumps({"name": name, "prefixes": [str(prefix) for prefix in self._prefixes(path)]}))

    def _prefixes(self, path: Path) -> list[Path]:
        """Folders outside the venv that its interpreter lives from, as the interpreter itself tells."""
        python = path / "bin" / "python"
        return _interpreter_folders(Path(told_by(python, "import sys; print(sys.base_prefix)")), python)

    def _path(self, name: str) -> Path:
        digest = hashlib.sha256(self._requirements(name) + str(self._python).encode())
        for file, content in sorted(self._site_files(name).items()):
            digest.update(file.encode() + content)
        digest.update(self._node_package(name) or b"")
        return self._folder / f"{name}-{digest.hexdigest()[:16]}"

    def _folders(self, name: str) -> list[Path]:
        return [path for path in self._folder.glob(f"{name}-*") if len(path.name) == len(name) + 17]

    def _requirements(self, name: str) -> bytes:
        if name not in self.names():
            raise NotFound(f"There is no environment called {name}; there are: {', '.join(self.names())}.")
        return self._source().joinpath(f"{name}.txt").read_bytes()

    def _site_files(self, name: str) -> dict[str, bytes]:
        """Modules of ours that stand beside an environment's packages."""
        folder = self._source().joinpath("site", name)
        entries = folder.iterdir() if folder.is_dir() else ()
        return {entry.name: entry.read_bytes() for entry in entries if entry.name.endswith((".py", ".pth"))}

    def _node_package(self, name: str) -> bytes | None:
        """What an environment has of Node's packages, where it has any."""
        file = self._source().joinpath("node", f"{name}.json")
        return file.read_bytes() if file.is_file() else None

    def _definition_names(self) -> list[str]:
        return [entry.name for entry in self._source().iterdir() if entry.name.endswith(".txt")]

    def _source(self) -> Traversable:
        """Where the requirement files are."""
        return self._definitions or importlib.resources.files("pilvi.runtimes").joinpath("environments")

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """One installer at a time, over processes too; the kernel lets go when the holder dies."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / f".{name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _is_used(path: Path) -> bool:
    """Whether a program runs in an environment."""
    wanted = f"{path}/".encode()
    for process in Path("/proc").glob("[0-9]*"):
        for file in ("cmdline", "maps"):
            with suppress(OSError):  # it has ended, or is another user's
                if wanted in (process / file).read_bytes():
                    return True
    return False


def told_by(python: Path, program: str) -> str:
    """What an interpreter says when it runs a program by itself."""
    told = subprocess.run([str(python), "-I", "-c", program], capture_output=True, text=True, check=True)
    return told.stdout.strip()


def interpreter(python: Path | None = None) -> Environment:
    """The server's own base interpreter, without any packages, as an environment."""
    executable = Path(getattr(sys, "_base_executable", sys.executable)) if python is None else python
    prefix = Path(sys.base_prefix)
    return Environment("base", prefix, executable, _binds(_interpreter_folders(prefix, executable)))


def _environment(name: str, path: Path) -> Environment:
    prefixes = [Path(prefix) for prefix in json.loads((path / _MARKER).read_text())["prefixes"]]
    return Environment(name, path, path / "bin" / "python", _binds([path, *prefixes]))


def _interpreter_folders(prefix: Path, python: Path) -> list[Path]:
    """Where an interpreter's files are, and every link on the way there. What lies in /usr is shown to every program anyway."""
    found = [prefix]
    while python.is_symlink():
        python = python.parent / python.readlink()
        found.append(python.parent.parent)
    inside = [path for path in found if not any(path != other and path.is_relative_to(other) for other in found)]
    return [path for path in dict.fromkeys(inside) if not path.is_relative_to("/usr") and path != Path("/")]


def _binds(folders: Sequence[Path]) -> tuple[Bind, ...]:
    return tuple(Bind(path, str(path)) for path in dict.fromkeys(folders))


def _run(command: list[str], on_line: Callable[[str], None], cwd: Path | None = None, env: Mapping[str, str] | None = None) -> None:
    """Run an installer; its words go to `on_line`, its last ones into the error."""
    last: list[str] = []
    try:
        child = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    except OSError as error:
        raise Unavailable(f"{command[0]} could not be started: {error}") from error
    with child:
        for line in child.stdout or ():
            on_line(line.rstrip("\n"))
            last = [*last[-9:], line.rstrip("\n")]
    if child.returncode != 0:
        raise Unavailable("The environment could not be installed: " + "\n".join(last))
