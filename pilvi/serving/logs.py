"""What model servers say, on its way to CloudWatch Logs: one thread for all of them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from pilvi.jobs.logs import JobLog

if TYPE_CHECKING:
    from pilvi.core.service import Context

_LINGER_S = 0.5


class Scribe:
    """Its thread begins with the first log, and goes with `close`."""

    def __init__(self) -> None:
        self._logs: dict[int, JobLog] = {}
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def log(self, ctx: Context, group: str, stream: str) -> JobLog:
        """A stream that is written down as lines come."""
        found = JobLog(ctx, group, stream)
        with self._lock:
            self._logs[id(found)] = found
            if self._thread is None and not self._end.is_set():
                self._thread = threading.Thread(target=self._run, name="pilvi-model-logs", daemon=True)
                self._thread.start()
        return found

    def finish(self, log: JobLog) -> None:
        """No more lines will come. For threads."""
        with self._lock:
            self._logs.pop(id(log), None)
        log.flush()

    def close(self) -> None:
        self._end.set()
        thread = self._thread
        if thread is not None:
            thread.join(5)

    def _run(self) -> None:
        is_over = False
        while not is_over:
            is_over = self._end.wait(_LINGER_S)
            with self._lock:
                logs = list(self._logs.values())
            for log in logs:
                log.flush()
