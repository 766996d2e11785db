"""A bridge into a program's own network: a program of ours that stands beside it, with one foot inside and one outside.

    <folder>/model.sock  --(inside)-->  127.0.0.1:<port of the container>
    127.0.0.1:<port of this server>, listened to inside  --(outside)-->  this server

    python -m pilvi.compute.bridge <pid> <folder> <container port> <server host> <server port, 0 for none>

Every container of somebody's own listens on port 8080, and only one can on this machine's network. Names of Unix sockets belong to the file
system, not to a network, so they lead from one to the other. Ends with the program, or with the server. Standard library only.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Final

_SOCKET: Final = "model.sock"
_OUT: Final = "out.sock"
_NEWUSER: Final = 0x10000000
_NEWNET: Final = 0x40000000
_SET_PDEATHSIG: Final = 1
_WAIT_S: Final = 20.0
_CHUNK: Final = 1 << 18

Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


def main(arguments: list[str]) -> int:
    pid, folder, port, host, server_port = int(arguments[0]), arguments[1], int(arguments[2]), arguments[3], int(arguments[4])
    _end_with_parent()
    os.chdir(folder)
    inside = _inside(pid)
    if inside == 0:
        return 1
    child = os.fork()
    if child == 0:
        _end_with_parent()
        _enter(inside)
        asyncio.run(_serve_inside(port, server_port))
        return 0
    asyncio.run(_serve_outside(pid, host, server_port))
    os.kill(child, signal.SIGKILL)
    return 0


def _inside(pid: int) -> int:
    """A process of the program that has a network of its own; 0 when none comes."""
    mine, deadline = os.readlink("/proc/self/ns/net"), time.monotonic() + _WAIT_S
    while time.monotonic() < deadline and os.path.exists(f"/proc/{pid}"):
        for found in _family(pid):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{found}/ns/net") != mine:
                    return found
        time.sleep(0.01)
    return 0


def _family(pid: int) -> list[int]:
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{one}/task"):
                with open(f"/proc/{one}/task/{task}/children") as file:
                    found += [int(word) for word in file.read().split()]
    return found


def _enter(pid: int) -> None:
    """Into the network of a process; its user namespace owns that, so it comes first, unless it is ours."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.readlink(f"/proc/{pid}/ns/user") != os.readlink("/proc/self/ns/user"):
        _set(libc, f"/proc/{pid}/ns/user", _NEWUSER, pid)
    else:
        _set(libc, f"/proc/{pid}/ns/net", _NEWNET, pid)


def _set(libc: ctypes.CDLL, path: str, kind: int, pid: int) -> None:
    files = [(os.open(path, os.O_RDONLY), kind)]
    if kind == _NEWUSER:
        files.append((os.open(f"/proc/{pid}/ns/net", os.O_RDONLY), _NEWNET))
    for file, one in files:
        if libc.setns(file, one) != 0:
            code = ctypes.get_errno()
            raise OSError(code, f"the program's network cannot be entered: {os.strerror(code)}")
        os.close(file)


async def _serve_inside(port: int, server_port: int) -> None:
    inbound = await asyncio.start_unix_server(_bridged(lambda: asyncio.open_connection("127.0.0.1", port)), _SOCKET)
    os.chmod(_SOCKET, 0o600)
    if server_port:
        await asyncio.start_server(_bridged(lambda: asyncio.open_unix_connection(_OUT)), "127.0.0.1", server_port)
    async with inbound:
        await asyncio.Event().wait()


async def _serve_outside(pid: int, host: str, port: int) -> None:
    server = await asyncio.start_unix_server(_bridged(lambda: asyncio.open_connection(host, port)), _OUT)
    async with server:
        while os.path.exists(f"/proc/{pid}"):
            await asyncio.sleep(0.5)


def _bridged(connect: Connect) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await connect()
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pump(reader, there[1]), _pump(there[0], writer))

    return serve


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
