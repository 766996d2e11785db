"""What workers say, on its way to CloudWatch Logs.

    worker's output --(compute's thread)--> Journal --> LogWriter's thread --> logs:PutLogEvents as the function's role

A worker marks in its own output where an invocation starts and ends, so the order of lines is the order they were written
in, whatever thread reads them. Nothing here is waited for by an invocation, unless it asked for the tail.
"""

from __future__ import annotations

import logging
import threading
from asyncio import TimerHandle
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pilvi.core.errors import AlreadyExists, NotFound, PilviError, ServiceError
from pilvi.services.lambda_.invocation import Invocation, Platform

if TYPE_CHECKING:
    from pilvi.core.service import Context

log = logging.getLogger("pilvi.lambda")

MARK = "\x04"
"""Before `S <request id>` or `E <request id>`: an invocation starts or ends here; before `M`: modules. Written by runtimes/lambda_/bootstrap.py."""
FRAME = "\x1e"
"""Before a message of several lines, which are joined by carriage returns."""

LAST_LINES_S = 0.02
_LINGER_S = 0.25
_PEAK_S = 0.1
_BATCH_EVENTS = 10_000
_BATCH_BYTES = 1_048_576
_EVENT_BYTES = 256 * 1024 - 26
_EVENT_OVERHEAD = 26
_KEPT_EVENTS = 20_000
"""Lines waiting for one stream; beyond it the oldest go, so that a function that shouts cannot fill the server's memory."""

Text = str | Callable[[], str]


class LogStream:
    """A stream of CloudWatch Logs and what is still to be written to it."""

    def __init__(self, writer: LogWriter, ctx: Context, group: str, name: str) -> None:
        self.ctx = ctx
        """As the function's role."""
        self.group = group
        self.name = name
        self.waiting: deque[tuple[int, Text]] = deque(maxlen=_KEPT_EVENTS)
        self._writer = writer

    def add(self, stamp_ms: int, text: Text) -> None:
        self.waiting.append((stamp_ms, text))
        self._writer.wake(self)


class LogWriter:
    """One thread for all streams of a cloud; started at the first line, gone with `close`."""

    def __init__(self) -> None:
        self._due: set[LogStream] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._hurry = threading.Event()

    def wake(self, stream: LogStream) -> None:
        if stream in self._due:
            return
        with self._changed:
            self._due.add(stream)
            if self._thread is None and not self._is_closed:
                self._thread = threading.Thread(target=self._run, name="lambda-logs", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        """Write what is there, then end."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._hurry.set()
        if self._thread is not None:
            self._thread.join(5)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._due and not self._is_closed:
                    self._changed.wait()
                if not self._due:
                    return
            self._hurry.wait(_LINGER_S)
            with self._changed:
                streams, self._due = self._due, set()
            for stream in streams:
                self._write(stream)

    def _write(self, stream: LogStream) -> None:
        while batch := take_batch(stream.waiting):
            try:
                put_events(stream, batch)
            except PilviError as error:
                # AWS does the same: a role without logs permissions runs, and leaves no logs.
                log.debug("no logs for %s: %s", stream.group, error)
            except Exception:
                log.exception("logs of %s could not be written", stream.group)


def take_batch(waiting: deque[tuple[int, Text]]) -> list[dict[str, Any]]:
    """The next events, within what one PutLogEvents takes. Source: its API reference."""
    batch: list[dict[str, Any]] = []
    size = 0
    last_ms = 0
    while waiting and len(batch) < _BATCH_EVENTS:
        stamp_ms, text = waiting[0]
        message = text if isinstance(text, str) else text()
        cost = len(message.encode()) + _EVENT_OVERHEAD
        if cost > _EVENT_BYTES:
            message = message.encode()[: _EVENT_BYTES - _EVENT_OVERHEAD].decode(errors="ignore")
            cost = _EVENT_BYTES
        if batch and size + cost > _BATCH_BYTES:
            break
        waiting.popleft()
        if not message:
            continue
        size += cost
        last_ms = max(last_ms, stamp_ms)
        batch.append({"timestamp": last_ms, "message": message})
    return batch


def put_events(stream: LogStream, batch: list[dict[str, Any]]) -> None:
    """Write a batch; the group and the stream are made when they are missing, with the role's own permission."""
    names = {"logGroupName": stream.group, "logStreamName": stream.name}
    try:
        stream.ctx.call("logs", "PutLogEvents", **names, logEvents=batch)
        return
    except PilviError as error:
        if not is_code(error, NotFound, "ResourceNotFoundException"):
            raise
    for operation, params in (("CreateLogGroup", {"logGroupName": stream.group}), ("CreateLogStream", names)):
        try:
            stream.ctx.call("logs", operation, **params)
        except PilviError as error:
            if not is_code(error, AlreadyExists, "ResourceAlreadyExistsException") and operation == "CreateLogStream":
                raise
    stream.ctx.call("logs", "PutLogEvents", **names, logEvents=batch)


def is_code(error: PilviError, kind: type[PilviError], code: str) -> bool:
    return isinstance(error, kind) or (isinstance(error, ServiceError) and error.code == code)


class Journal:
    """The lines of one worker, told apart by invocation. A worker that does not mark its output has `begin` and `end_soon` called."""

    def __init__(self, stream: LogStream | None, platform: Platform, now: Callable[[], datetime]) -> None:
        self._ending: tuple[Invocation, TimerHandle] | None = None
        self._stream = stream
        self._platform = platform
        self._now = now
        self._lock = threading.Lock()
        self._open: dict[str, Invocation] = {}
        """Delivered and not yet reported, by request id."""
        self._current: Invocation | None = None
        self.measure: Callable[[], int] = lambda: 0
        """The most memory (MiB) the worker has used so far."""
        self.on_modules: Callable[[list[str]], None] | None = None
        """Told once which modules the worker imported, when it was asked to say."""
        self._peak: tuple[float, int] = (-1.0, 0)

    def expect(self, invocation: Invocation) -> None:
        """The worker is about to be given this."""
        with self._lock:
            self._open[invocation.request_id] = invocation

    def line(self, text: str) -> None:
        """A line of the worker's output; called from compute's thread, one line after the other."""
        before, mark, rest = text.partition(MARK)
        if mark and not before and rest.startswith("M ") and self.on_modules is not None:
            tell, self.on_modules = self.on_modules, None
            tell(rest[2:].split("\x1f"))
            return
        if mark and (invocation := self._open.get(rest[2:])) is not None:
            if before:
                self._say(before + "\n")
            if rest[0] == "S":
                self._begin(invocation)
            else:
                self.finish(invocation)
            return
        if text.startswith(FRAME):
            text = text[1:].replace("\r", "\n")
        self._say(text + "\n")

    def init_start(self, warning: str = "") -> None:
        self._say(self._platform.init_start())
        self._say(warning)

    def begin(self, invocation: Invocation) -> None:
        """The worker takes it, and does not say so. What the one before said has been read by now. On the loop."""
        if self._ending is not None:
            self._ending[1].cancel()
            self._end(self._ending[0])
        self._begin(invocation)

    def end_soon(self, invocation: Invocation) -> None:
        """The worker has answered; its last lines may still be on their way. On the loop."""
        invocation.ended_s = invocation.loop.time()
        self._ending = (invocation, invocation.loop.call_later(LAST_LINES_S, self._end, invocation))

    def _end(self, invocation: Invocation) -> None:
        self._ending = None
        self.finish(invocation)

    def finish(self, invocation: Invocation, *lines: str) -> None:
        """END and REPORT, once; after `lines`, when the platform has to say something before."""
        with self._lock:
            if self._open.pop(invocation.request_id, None) is None:
                return
        duration_ms = ((invocation.ended_s or invocation.loop.time()) - invocation.delivered_s) * 1000
        self._current = invocation
        for text in lines:
            self._say(text)
        self._say(self._platform.end(invocation.request_id))
        report = self._report(invocation, duration_ms)
        self._say(report() if invocation.wants_tail else report)
        self._current = None
        invocation.report_written()

    def timed_out(self, invocation: Invocation) -> None:
        self.finish(invocation, self._platform.timeout(invocation.request_id))

    def crashed(self, invocation: Invocation, how: str) -> None:
        self.finish(invocation, self._platform.failed(invocation.request_id, how))

    def start_late(self, invocation: Invocation) -> None:
        """START for an invocation that its worker never got to see (it failed to start)."""
        self._begin(invocation)

    def _begin(self, invocation: Invocation) -> None:
        self._current = invocation
        self._say(self._platform.start(invocation.request_id))

    def _report(self, invocation: Invocation, duration_ms: float) -> Callable[[], str]:
        def text() -> str:
            return self._platform.report(
                invocation.request_id, duration_ms, invocation.init_ms, self._peak_mib(invocation.loop.time()), invocation.status
            )

        return text

    def _peak_mib(self, now_s: float) -> int:
        """Measured at most ten times a second: it costs more than many a handler."""
        if now_s - self._peak[0] > _PEAK_S:
            self._peak = (now_s, self.measure())
        return self._peak[1]

    def _say(self, text: Text) -> None:
        if not text:
            return
        current = self._current
        if current is not None and current.wants_tail:
            current.tail.append(text if isinstance(text, str) else text())
        if self._stream is not None:
            self._stream.add(int(self._now().timestamp() * 1000), text)
