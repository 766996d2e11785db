"""What a program of a user may see of this machine: pure data, which bwrap.py and unshare.py turn into mounts.

The view is built from nothing: a folder that is not named here is not there. That is what keeps the data directory, other
jobs and home folders out of sight, without a list of things to hide having to be complete.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from pilvi.compute import Bind, ProcessSpec, Root
from pilvi.core.trees import inside

USER_ID = 1000
"""Inside, the program is an ordinary user: as a root without powers, tar and pip would try to change owners and fail."""

TMP_BYTES = 512 << 20
"""Size of /tmp when the spec brings none. Source: Lambda's default ephemeral storage."""

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store")
_ETC = (
    "alternatives", "ca-certificates", "ca-certificates.conf", "fonts", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime",
    "locale.alias", "magic", "mime.types", "os-release", "pip.conf", "pki", "protocols", "resolv.conf", "services", "ssl",
    "timezone",
)  # fmt: skip
_ETC_PATTERNS = ("java-*", "python3*")


@dataclass(frozen=True, slots=True)
class Link:
    path: str
    points_to: str


@dataclass(frozen=True, slots=True)
class Mask:
    """A folder that lies inside something shown and must look empty."""

    path: str


@dataclass(frozen=True, slots=True)
class File:
    path: str
    text: str


@dataclass(frozen=True, slots=True)
class View:
    """A file tree to build: the system's steps in order, then /proc, /dev, /tmp, then the spec's own steps in order."""

    system: tuple[Link | Bind | Mask, ...]
    devices: tuple[str, ...]
    """Beyond the harmless ones: accelerators."""
    has_tmp: bool
    """Whether the spec brings its own /tmp."""
    own: tuple[File | Bind | Mask, ...]
    root: Root | None = None
    """The tree that all this is put into, where the spec brings one."""


def view_for(spec: ProcessSpec, hidden: Sequence[Path] = ()) -> View:
    """The tree for one program; what lies in `hidden` folders is shown only where a bind names something in them."""
    binds = sorted(spec.binds, key=lambda bind: len(PurePosixPath(bind.target).parts))
    if spec.root is not None:
        return _rooted(spec, spec.root, binds)
    return View(
        system=tuple(_system(hidden)),
        devices=_devices(),
        has_tmp=any(bind.target == "/tmp" for bind in binds),
        own=(*_files(spec), *(step for bind in binds for step in _masked(bind, hidden))),
    )


def _rooted(spec: ProcessSpec, root: Root, binds: Sequence[Bind]) -> View:
    """The view of a program with a tree of its own: nothing of this machine but what is bound, and the names it answers to."""
    cpus = Path("/sys/devices/system")
    files = [file for file in _files(spec) if file.path in ("/etc/hosts", "/etc/hostname")]
    resolver = Path("/etc/resolv.conf")
    if resolver.is_file():
        files.append(File("/etc/resolv.conf", resolver.read_text(errors="replace")))
    return View(
        system=(),
        devices=_devices(),
        has_tmp=any(bind.target == "/tmp" for bind in binds),
        own=(
            *(replace(file, path=inside(root.folder, file.path)) for file in files),
            *([Bind(cpus, inside(root.folder, str(cpus)))] if cpus.is_dir() else []),
            *(replace(bind, target=inside(root.folder, bind.target)) for bind in binds),
        ),
        root=root,
    )


def _devices() -> tuple[str, ...]:
    return tuple(str(path) for path in sorted(Path("/dev").glob("nvidia*")) if path.is_char_device())


def _system(hidden: Sequence[Path]) -> Iterator[Link | Bind | Mask]:
    for name in _SYSTEM:
        path = Path(name)
        if path.is_symlink():
            yield Link(name, str(path.readlink()))
        elif path.is_dir():
            yield from _masked(Bind(path, name), hidden)
    found = [Path("/etc", name) for name in _ETC] + [path for pattern in _ETC_PATTERNS for path in Path("/etc").glob(pattern)]
    for path in found:
        if path.exists():
            yield Bind(path.resolve(), str(path))
    # Numeric libraries ask here how many cores there are; nothing in it is secret.
    cpus = Path("/sys/devices/system")
    if cpus.is_dir():
        yield Bind(cpus, str(cpus))


def _masked(bind: Bind, hidden: Sequence[Path]) -> Iterator[Bind | Mask]:
    """A bind, and masks over what it would show by accident."""
    yield bind
    for path in hidden:
        if path.is_relative_to(bind.source) and path.is_dir():
            yield Mask(str(PurePosixPath(bind.target, path.relative_to(bind.source))))


def _files(spec: ProcessSpec) -> Iterator[File]:
    """/etc as a fresh container has it, with the program's own names."""
    hosts = {"localhost": "127.0.0.1", spec.hostname: "127.0.0.1", **spec.hosts}
    yield File("/etc/hosts", "".join(f"{address}\t{name}\n" for name, address in hosts.items()) + "::1\tlocalhost\n")
    yield File("/etc/hostname", f"{spec.hostname}\n")
    yield File("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")
    yield File("/etc/passwd", f"root:x:0:0:root:/root:/bin/bash\nuser:x:{USER_ID}:{USER_ID}::/tmp:/bin/bash\n")
    yield File("/etc/group", f"root:x:0:\nuser:x:{USER_ID}:\n")
