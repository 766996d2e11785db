"""A view as arguments for bubblewrap, which builds it in fresh namespaces and gives the program no powers at all."""

from __future__ import annotations

import os

from pilvi.compute import Bind, ProcessSpec
from pilvi.compute.sandbox import TMP_BYTES, USER_ID, File, Link, Mask, View
from pilvi.core.trees import inside


def command(program: str, spec: ProcessSpec, view: View, *, disable_userns: bool) -> tuple[list[str], list[int]]:
    """The command line, and the descriptors it reads files from (to be passed on, then closed)."""
    uid, gid = (USER_ID, USER_ID) if view.root is None else (view.root.uid, view.root.gid)
    args = [
        program, "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try",
        "--die-with-parent", "--new-session", "--uid", str(uid), "--gid", str(gid), "--hostname", spec.hostname,
    ]  # fmt: skip
    if not spec.network:
        args.append("--unshare-net")
    # Not as bubblewrap's own environment: it runs outside, where a program's LD_PRELOAD would load files into it.
    settings = [word for name, value in spec.env.items() for word in ("--setenv", name, value)]
    files: list[int] = [memory_file("".join(f"{word}\0" for word in settings).encode(errors="surrogateescape"))]
    args += ["--args", str(files[0])]
    if disable_userns:
        args.append("--disable-userns")
    if view.root is not None:
        # A root by name would keep powers over its own namespaces.
        args += ["--cap-drop", "ALL", "--bind", str(view.root.folder), "/"]
    for part in view.system:
        args += _arguments(part, files)
    args += ["--proc", "/proc", "--dev", "/dev"]
    for device in view.devices:
        args += ["--dev-bind", device, device]
    if view.root is None:
        args += ["--dir", "/run", "--dir", "/var", "--symlink", "/tmp", "/var/tmp"]
    if not view.has_tmp:
        args += ["--perms", "1777", "--size", str(TMP_BYTES), "--tmpfs", "/tmp"]
    for step in view.own:
        args += _arguments(step, files)
    # The root is a memory file system; read-only, so that nobody fills memory by writing beside what was given.
    args += ["--remount-ro", "/"] if view.root is None else ["--dir", inside(view.root.folder, spec.cwd)]
    args += ["--chdir", spec.cwd, "--", *spec.command]
    return args, files


def _arguments(step: Link | Bind | Mask | File, files: list[int]) -> list[str]:
    if isinstance(step, Bind):
        return ["--bind" if step.writable else "--ro-bind", str(step.source), step.target]
    if isinstance(step, Link):
        return ["--symlink", step.points_to, step.path]
    if isinstance(step, Mask):
        return ["--perms", "0555", "--size", "4096", "--tmpfs", step.path, "--remount-ro", step.path]
    files.append(memory_file(step.text.encode()))
    return ["--perms", "0644", "--file", str(files[-1]), step.path]


def memory_file(data: bytes) -> int:
    """An unnamed file in memory, ready to be read by the child that gets the descriptor."""
    descriptor = os.memfd_create("pilvi", os.MFD_CLOEXEC)
    os.write(descriptor, data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
