"""`serve`: listen, and keep as many workers as requests come at once.

    pilvi_serve script                 a customer's model_fn, input_fn, predict_fn, output_fn (pilvi_serve_script)
    pilvi_serve models                 many of such scripts' models, by name (pilvi_serve_models)
    pilvi_serve builtin <repository>   a built-in algorithm (pilvi_serve_builtin)

This process imports nothing heavy: it opens the socket, forks the first worker, and another one whenever a connection waits for longer than a
moment and there may be more. A worker loads the model itself and then serves one connection after the other, one request at a time. It is
replaced when it goes; one that works on a request for too long is ended by the kernel's alarm.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from typing import Any

SOCKET = "model.sock"
_MOMENT_S = 0.01
_BACKLOG = 256
_QUICK_ENDS = 3
"""So many workers in a row that ended before they were ready, and the server gives up."""


def main(arguments: list[str]) -> int:
    listener = _listening(os.environ["PILVI_SERVING_SOCKETS"])
    most = _number("PILVI_SERVING_WORKERS", 1)
    return Supervisor(listener, most, arguments).run()


class Supervisor:
    def __init__(self, listener: socket.socket, most: int, arguments: list[str]) -> None:
        self.listener = listener
        self.most = most
        self.arguments = arguments
        self.workers: dict[int, int] = {}
        """Process id -> the pipe that tells that it is ready; -1 once it has."""
        self.failed_in_a_row = 0
        self.code = 0
        self.is_ending = False

    def run(self) -> int:
        """Until somebody ends it, or no worker comes up any more; the exit status."""
        signal.signal(signal.SIGTERM, self._end)
        # Whoever waits in select hears of a worker's end.
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self.spawn()
        while not self.is_ending:
            watched: list[Any] = [reader, *(pipe for pipe in self.workers.values() if pipe >= 0)]
            may_grow = len(self.workers) < self.most and all(pipe < 0 for pipe in self.workers.values())
            ready = select.select([*watched, *([self.listener] if may_grow else [])], [], [])[0]
            if reader in ready:
                os.read(reader, 4096)
            self.reap()
            self.hear(ready)
            if self.listener in ready and not self.is_ending:
                time.sleep(_MOMENT_S)
                if select.select([self.listener], [], [], 0)[0]:
                    self.spawn()
        self.stop()
        return self.code

    def spawn(self) -> None:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid:
            os.close(writer)
            self.workers[pid] = reader
            return
        os.close(reader)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        code = 1
        try:
            import pilvi_serve_worker

            code = pilvi_serve_worker.work(self.listener, self.arguments, writer)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def hear(self, ready: list[object]) -> None:
        """Workers that have become ready."""
        for pid, pipe in list(self.workers.items()):
            if pipe >= 0 and pipe in ready and os.read(pipe, 1):
                self.failed_in_a_row = 0
                os.close(pipe)
                self.workers[pid] = -1

    def reap(self) -> None:
        """Workers that have ended: others come in their place, unless they cannot."""
        while self.workers:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            pipe = self.workers.pop(pid, -1)
            code = os.waitstatus_to_exitcode(status)
            if pipe >= 0:
                os.close(pipe)
                self.failed_in_a_row += 1
            else:
                print(f"A worker {_words(code)}. Another one takes its place.", flush=True)
            if self.failed_in_a_row and (not self.workers or self.failed_in_a_row >= _QUICK_ENDS):
                self.code, self.is_ending = code if code > 0 else 1, True
            elif not self.workers:
                self.spawn()

    def stop(self) -> None:
        for pid in self.workers:
            os.kill(pid, signal.SIGTERM)

    def _end(self, *_: object) -> None:
        self.is_ending = True


def _words(code: int) -> str:
    if code == -signal.SIGALRM:
        return f"took longer than {_number('SAGEMAKER_MODEL_SERVER_TIMEOUT', 60)} seconds for a request, and was ended"
    return f"was ended by signal {-code}" if code < 0 else f"ended with exit status {code}"


def _listening(folder: str) -> socket.socket:
    """The socket in the folder. Its name is relative: paths of sockets are short."""
    listener = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(folder)
    listener.bind(SOCKET)
    os.chmod(SOCKET, 0o666)
    os.chdir(here)
    listener.listen(_BACKLOG)
    return listener


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() and int(text) > 0 else default


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
