"""A base image from this machine: its own Python, a shell and the usual small commands, with the libraries they load.

For machines without a network, where `FROM python:3.11` would reach nobody. It is not Docker's official image and says so: its
label `org.pilvi.base` names what it is made of. Packages of this machine's Python are left out, but for pip.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pilvi.core.errors import Invalid
from pilvi.images.build import Image, empty_config
from pilvi.images.diff import Entry, write_layer

COMMANDS = (
    "sh", "bash", "awk", "basename", "cat", "chmod", "chown", "cp", "cut", "date", "df", "dirname", "du", "echo", "env", "expr", "false", "find",
    "grep", "gzip", "head", "hostname", "id", "install", "kill", "ln", "ls", "mkdir", "mktemp", "mv", "nproc", "printf", "ps", "pwd", "readlink",
    "realpath", "rm", "rmdir", "sed", "seq", "sha256sum", "sleep", "sort", "stat", "tail", "tar", "tee", "test", "touch", "tr", "true",
    "uname", "uniq", "wc", "which", "whoami", "xargs",
)  # fmt: skip
_NEEDED = re.compile(r"(?:=> )?(/\S+) \(0x")
_LEFT_OUT = frozenset(
    {"__pycache__", "test", "tests", "idlelib", "tkinter", "turtledemo", "site-packages", "dist-packages", "lib2to3"}
)
VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"


def python_base(name: str, work: Path) -> Image:
    """The image that `FROM python:TAG` means where no registry is reachable. Invalid when the tag asks for another Python."""
    tag = name.partition(":")[2].partition("@")[0] or VERSION
    wanted = re.match(r"\d+(?:\.\d+)?", tag)
    if wanted and wanted[0] not in (VERSION, VERSION.partition(".")[0]):
        raise Invalid(
            f"{name} is in no registry here, and this machine has Python {VERSION} to make a base image of, not {wanted[0]}"
        )
    layer = write_layer(_entries().values(), work / "python-base.tar.gz")
    config: dict[str, Any] = empty_config()
    config["config"] |= {
        "Env": ["PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"],
        "Cmd": ["python3"],
        "Labels": {"org.pilvi.base": f"Python {VERSION} of the machine it was built on"},
    }
    config["rootfs"]["diff_ids"] = [layer.diff_id]
    config["history"] = [{"created": config["created"], "created_by": f"base of this machine's Python {VERSION}"}]
    return Image(config, (layer,))


def _entries() -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for folder in ("tmp", "root", "etc", "home", "var/tmp", "run", "proc", "dev", "sys", "opt"):
        found[folder] = Entry(folder, mode=0o1777 if folder.endswith("tmp") else 0o755)
    _add_system_links(found)
    programs = [Path(place) for command in COMMANDS if (place := shutil.which(command, path="/usr/bin:/bin"))]
    python = Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
    for program in programs:
        _add(found, program)
    modules = list(_library())
    for own in (python, *modules):
        found[_home_of(own)] = Entry(_home_of(own), own)
    for library in _libraries([*programs, python, *(module for module in modules if module.suffix == ".so")]):
        _add(found, library)
    for name in ("python", "python3", f"python{VERSION}"):
        found.setdefault(f"usr/local/bin/{name}", Entry(f"usr/local/bin/{name}", target=f"/{_home_of(python)}"))
    for extra in (Path("/etc/ssl/certs/ca-certificates.crt"), Path("/etc/nsswitch.conf")):
        if extra.is_file():
            _add(found, extra)
    found |= _pip() | _texts()
    return found


def _home_of(place: Path) -> str:
    """Where a file of Python's lies in the image: under /usr/local, wherever this machine keeps it, or where the system has it."""
    if sys.base_prefix == "/usr" or not place.is_relative_to(os.path.realpath(sys.base_prefix)):
        return str(_without_system_links(place)).lstrip("/")
    return f"usr/local/{place.relative_to(os.path.realpath(sys.base_prefix))}"


def _add_system_links(found: dict[str, Entry]) -> None:
    """/bin -> usr/bin and its like, where this machine has them: libraries are found by both names."""
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        place = Path("/", name)
        if place.is_symlink():
            found[name] = Entry(name, place)


def _add(found: dict[str, Entry], place: Path) -> None:
    """A file under its own path, and the file it is a link to."""
    path = str(_without_system_links(place)).lstrip("/")
    if path in found or not place.exists():
        return
    if place.is_symlink():
        found[path] = Entry(path, place)
        _add(found, Path(os.path.normpath(place.parent / os.readlink(place))))
    else:
        found[path] = Entry(path, place)


def _without_system_links(place: Path) -> Path:
    """/lib/x -> /usr/lib/x where /lib is a link."""
    first = Path("/", place.parts[1])
    return Path(os.path.realpath(first), *place.parts[2:]) if first.is_symlink() else place


def _library() -> Iterator[Path]:
    """Python's own modules."""
    base = {"base": sys.base_prefix, "platbase": sys.base_exec_prefix, "installed_base": sys.base_prefix}
    roots = {Path(os.path.realpath(sysconfig.get_path(name, "posix_prefix", base))) for name in ("stdlib", "platstdlib")}
    for root in sorted(roots):
        yield from _files(root, _LEFT_OUT)


def _pip() -> dict[str, Entry]:
    """pip, from wherever this machine has it, where the image's Python looks for packages."""
    spec = importlib.util.find_spec("pip")
    if spec is None or spec.origin is None:
        return {}
    source = Path(spec.origin).parent
    home = f"usr/local/lib/python{VERSION}/{'dist' if sys.base_prefix == '/usr' else 'site'}-packages"
    found = {}
    for place in _files(source, frozenset({"__pycache__"})):
        path = f"{home}/pip/{place.relative_to(source)}"
        found[path] = Entry(path, place)
    return found


def _files(folder: Path, left_out: frozenset[str]) -> Iterator[Path]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name in left_out or entry.name.endswith((".pyc", ".a")):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path), left_out)
        else:
            yield Path(entry.path)


def _libraries(programs: list[Path]) -> list[Path]:
    """What the loader would load for programs and modules."""
    found: set[Path] = set()
    for start in range(0, len(programs), 100):
        said = subprocess.run(("ldd", *map(str, programs[start : start + 100])), capture_output=True, text=True, check=False).stdout
        found |= {Path(match[1]) for match in _NEEDED.finditer(said)}
    return sorted(found)


def _texts() -> dict[str, Entry]:
    """/etc as an image has it, made from this machine's files where content does not matter."""
    found = {}
    for name in ("passwd", "group", "os-release"):
        place = Path("/etc", name)
        if place.is_file():
            found[f"etc/{name}"] = Entry(f"etc/{name}", place)
    cache = Path("/etc/ld.so.cache")
    if cache.is_file():
        found["etc/ld.so.cache"] = Entry("etc/ld.so.cache", cache)
    return found
