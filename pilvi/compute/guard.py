"""The program between the server and a user's program where bubblewrap is not to be had. Runs by itself: imports nothing of pilvi.

    server -- guard -- (namespaces only: first, process 1 of its own world) -- the user's program

The plan is JSON on standard input, ended by a newline; the pipe then stays open for as long as the server wants the program
to live. The program's environment is in the plan and never this program's own: it runs outside, where the user's LD_PRELOAD would
load files into it. Whatever ends the server closes it, and the guard ends every descendant, daemons too: in namespaces by ending their
process 1, without them by being the sub-reaper that orphans fall to.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

_Plan = dict[str, Any]

_libc = ctypes.CDLL(None, use_errno=True)
# Source: linux/sched.h, linux/mount.h, linux/prctl.h, linux/capability.h, asm/unistd.h (the same numbers on x86_64 and arm64, but pivot_root).
_NEW_NETWORK, _SIOCSIFFLAGS, _IFF_UP = 0x40000000, 0x8914, 1
_NEW_ALL = 0x00020000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000  # mount, UTS, IPC, user, pid
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
_MNT_DETACH = 2
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 24, 36, 38
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41}
_OLD, _NEW = "/old", "/new"
_POLITE = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_LOCKED = {0x0002: _MS_NOSUID, 0x0004: _MS_NODEV, 0x0008: 8, 0x0400: 1024, 0x0800: 2048, 0x1000: 1 << 21}
"""Flags of statvfs that a bind must keep when it is made read-only -> flags of mount."""


def main() -> None:
    plan = json.loads(_read_line(0))
    for polite in _POLITE:
        signal.signal(polite, signal.SIG_IGN)
    status = _in_namespaces(plan) if plan["isolate"] else _in_the_open(plan)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.pause()
    os._exit(os.WEXITSTATUS(status))


def _read_line(descriptor: int) -> bytes:
    """The bytes up to a newline, read in whatever pieces they come."""
    data = b""
    while not data.endswith(b"\n"):
        piece = os.read(descriptor, 65536)
        if not piece:
            os._exit(125)
        data += piece
    return data


# -- without namespaces ---------------------------------------------------------------------------------------------------


def _in_the_open(plan: _Plan) -> int:
    """Start the program, wait for its end or the server's, then end all it left."""
    _check(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
    program = _fork(plan, os.setsid)
    status = _watch(program, lambda: _end_descendants(os.getpid()))
    _end_descendants(os.getpid())
    return status


def _end_descendants(root: int) -> None:
    """SIGKILL until nobody is left; who forks meanwhile is found in the next round."""
    while True:
        found = list(_descendants(root))
        if not found:
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return


def _descendants(pid: int) -> Iterator[int]:
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return
    for task in tasks:
        try:
            with open(f"/proc/{pid}/task/{task}/children") as file:
                children = [int(number) for number in file.read().split()]
        except OSError:
            continue
        for child in children:
            yield child
            yield from _descendants(child)


# -- with namespaces ------------------------------------------------------------------------------------------------------


def _in_namespaces(plan: _Plan) -> int:
    """Build the view as process 1 of new namespaces and run the program there."""
    uid, gid = os.getuid(), os.getgid()
    _check(_libc.unshare(_NEW_ALL if plan["network"] else _NEW_ALL | _NEW_NETWORK))
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{plan['uid']} {uid} 1")
    _write("/proc/self/gid_map", f"{plan['gid']} {gid} 1")
    reader, writer = os.pipe()
    first = os.fork()
    if first == 0:
        os.close(reader)
        _be_first(plan, writer)
    os.close(writer)
    ended = _watch(first, lambda: os.kill(first, signal.SIGKILL))
    raw = os.read(reader, 64)
    return int(raw) if raw else ended


def _be_first(plan: _Plan, writer: int) -> NoReturn:
    """Process 1: dies with the guard, and everything inside dies with it."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    os.setsid()
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    name = plan["hostname"].encode()
    _check(_libc.sethostname(name, len(name)))
    if not plan["network"]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as loopback:
            fcntl.ioctl(loopback, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))
    _build(plan)
    _drop_powers()
    program = _fork(plan, lambda: os.close(writer))
    while True:
        pid, status = os.wait()
        if pid == program:
            os.write(writer, str(status).encode())
            os._exit(0)


def _build(plan: _Plan) -> None:
    """The file tree on a memory file system, which then becomes the root. The old root stands aside until it is done."""
    _mount("none", "/", flags=_MS_REC | _MS_PRIVATE)
    _mount("tmpfs", "/tmp", kind="tmpfs", flags=_MS_NOSUID | _MS_NODEV, data="mode=755,size=64k")
    os.mkdir("/tmp/old")
    os.mkdir("/tmp" + _NEW)
    _pivot("/tmp", "/tmp" + _OLD)
    if plan["root"]:
        _lay_over(plan["root"])
    else:
        _mount("tmpfs", _NEW, kind="tmpfs", flags=_MS_NOSUID | _MS_NODEV, data="mode=755,size=16m")
    for step in plan["system"]:
        _make(step)
    _own_folder("/proc")
    _mount("proc", _NEW + "/proc", kind="proc", flags=_MS_NOSUID | _MS_NODEV | 8)
    _devices(plan["devices"], has_root=bool(plan["root"]))
    if not plan["root"]:
        for path in ("/run", "/var"):
            os.makedirs(_NEW + path, exist_ok=True)
        os.symlink("/tmp", _NEW + "/var/tmp")
    if plan["tmp_bytes"]:
        _own_folder("/tmp")
        _mount("tmpfs", _NEW + "/tmp", kind="tmpfs", flags=_MS_NOSUID | _MS_NODEV, data=f"mode=1777,size={plan['tmp_bytes']}")
    for step in plan["own"]:
        _make(step)
    _check(_libc.umount2(_OLD.encode(), _MNT_DETACH))
    os.chdir(_NEW)
    _pivot(".", ".")
    _check(_libc.umount2(b".", _MNT_DETACH))
    if not plan["root"]:
        _mount("none", "/", flags=_MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | _MS_NODEV)
    elif not os.path.isdir(plan["cwd"]):
        os.makedirs(plan["cwd"], exist_ok=True)


def _lay_over(root: dict[str, str]) -> None:
    """A tree of the program's own: the shared one, and over it a layer that takes all it writes."""
    if root["folder"].startswith(root["changes"] + "/"):
        _mount(_OLD + root["folder"], _NEW, flags=_MS_BIND)  # a copy of its own
        return
    for name in ("upper", "work"):
        os.makedirs(f"{_OLD}{root['changes']}/{name}", exist_ok=True)
    lower, changes = _escaped(_OLD + root["folder"]), _escaped(_OLD + root["changes"])
    data = f"lowerdir={lower},upperdir={changes}/upper,workdir={changes}/work,userxattr"
    _mount("overlay", _NEW, kind="overlay", flags=_MS_NOSUID | _MS_NODEV, data=data)


def _escaped(path: str) -> str:
    return "".join("\\" + letter if letter in "\\:," else letter for letter in path)


def _own_folder(path: str) -> None:
    """A real folder to mount on, whatever an image may have put there."""
    if os.path.islink(_NEW + path) or (os.path.lexists(_NEW + path) and not os.path.isdir(_NEW + path)):
        os.unlink(_NEW + path)
    os.makedirs(_NEW + path, exist_ok=True)


def _pivot(root: str, old: str) -> None:
    _check(_libc.syscall(_PIVOT_ROOT[os.uname().machine], root.encode(), old.encode()), "pivot_root")
    os.chdir("/")


def _make(step: tuple[str, str, str, bool]) -> None:
    kind, path, value, writable = step
    place = _NEW + path
    os.makedirs(os.path.dirname(place), exist_ok=True)
    if kind == "link":
        os.symlink(value, place)
    elif kind == "file":
        with open(place, "w") as file:
            file.write(value)
    elif kind == "mask":
        _mount("tmpfs", place, kind="tmpfs", flags=_MS_RDONLY | _MS_NOSUID | _MS_NODEV, data="mode=555,size=4k")
    else:
        _bind(_OLD + value, place, writable)


def _bind(source: str, place: str, writable: bool) -> None:
    if os.path.isdir(source):
        os.makedirs(place, exist_ok=True)
    elif not os.path.lexists(place):
        os.close(os.open(place, os.O_CREAT | os.O_WRONLY, 0o644))
    _mount(source, place, flags=_MS_BIND | _MS_REC)
    kept = os.statvfs(place).f_flag
    flags = _MS_BIND | _MS_REMOUNT | _MS_NOSUID
    for seen, flag in _LOCKED.items():
        flags |= flag if kept & seen else 0
    _mount("none", place, flags=flags if writable and not kept & 1 else flags | _MS_RDONLY)
    if not writable:
        _make_rest_read_only(place)


def _make_rest_read_only(place: str) -> None:
    """What was mounted below the source came along and needs the same."""
    with open(_OLD + "/proc/self/mountinfo") as file:
        below = [line.split()[4] for line in file]
    for path in below:
        if path.startswith(place + "/"):
            kept = os.statvfs(path).f_flag
            flags = _MS_BIND | _MS_REMOUNT | _MS_RDONLY | _MS_NOSUID
            for seen, flag in _LOCKED.items():
                flags |= flag if kept & seen else 0
            _mount("none", path, flags=flags)


def _devices(more: list[str], *, has_root: bool) -> None:
    _own_folder("/dev")
    if has_root:
        _mount("tmpfs", _NEW + "/dev", kind="tmpfs", flags=_MS_NOSUID, data="mode=755,size=64k")
    for path in ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", *more):
        if os.path.exists(_OLD + path):
            os.close(os.open(_NEW + path, os.O_CREAT | os.O_WRONLY, 0o644))
            _mount(_OLD + path, _NEW + path, flags=_MS_BIND)
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        os.symlink(target, f"{_NEW}/dev/{name}")
    os.mkdir(_NEW + "/dev/shm")
    _mount("tmpfs", _NEW + "/dev/shm", kind="tmpfs", flags=_MS_NOSUID | _MS_NODEV, data="mode=1777")


def _drop_powers() -> None:
    """No capability survives an exec, for good: without them the mounts cannot be undone."""
    for capability in range(64):
        if _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            break
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    _check(_libc.capset(header, (ctypes.c_uint32 * 6)()))
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


# -- both -----------------------------------------------------------------------------------------------------------------


def _fork(plan: _Plan, prepare: Callable[[], None]) -> int:
    """The user's program as a child of this process."""
    # Held back, not ignored, until the child can die of it: who is asked to end at once must hear it.
    signal.pthread_sigmask(signal.SIG_BLOCK, _POLITE)
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _POLITE)
        return pid
    try:
        for number in (*_POLITE, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _POLITE)
        prepare()
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.chdir(plan["cwd"])
        os.execvpe(plan["command"][0], plan["command"], plan["env"])
    except OSError as error:
        os.write(2, f"{plan['command'][0]}: {error.strerror}\n".encode())
    finally:
        os._exit(127)


def _watch(child: int, end: Callable[[], None]) -> int:
    """The child's wait status; `end` is called once when the server goes or asks for it by closing the pipe."""
    pidfd = os.pidfd_open(child)
    waited = [0, pidfd]
    while True:
        ready, _, _ = select.select(waited, [], [])
        if pidfd in ready:
            return os.waitpid(child, 0)[1]
        waited = [pidfd]
        end()
        try:
            return os.waitpid(child, 0)[1]
        except ChildProcessError:
            return signal.SIGKILL


def _mount(source: str, target: str, kind: str | None = None, flags: int = 0, data: str | None = None) -> None:
    _check(
        _libc.mount(source.encode(), target.encode(), kind and kind.encode(), ctypes.c_ulong(flags), data and data.encode()),
        target,
    )


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def _check(result: int, what: str = "") -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        print(f"The program could not be started: {error}", file=sys.stderr, flush=True)
        os._exit(126)
