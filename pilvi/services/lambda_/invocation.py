"""One invocation on its way: what goes in, what came out, and the lines its log gets."""

from __future__ import annotations

import json
import math
import re
from asyncio import AbstractEventLoop, Future
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pilvi.services.lambda_.catalog import Target

RESPONSE_BYTES = 6291556
"""Largest answer of a synchronous invocation. Source: Lambda quotas; the number as AWS's own error states it."""
TAIL_BYTES = 4096
"""What LogType=Tail gives. Source: Lambda API reference, Invoke."""


@dataclass(frozen=True, slots=True)
class Outcome:
    payload: bytes
    error: str = ""
    """'' or what X-Amz-Function-Error says."""
    tail: bytes = b""


class Invocation:
    """Lives on the event loop; the journal of its worker adds lines from another thread."""

    __slots__ = (
        "arn",
        "client_context",
        "delivered_s",
        "done",
        "ended_s",
        "init_ms",
        "is_delivered",
        "loop",
        "payload",
        "reported",
        "request_id",
        "status",
        "tail",
        "target",
        "trace",
        "wants_tail",
    )

    def __init__(
        self,
        loop: AbstractEventLoop,
        target: Target,
        request_id: str,
        arn: str,
        payload: bytes,
        client_context: str,
        wants_tail: bool,
    ) -> None:
        self.loop = loop
        self.target = target
        self.request_id = request_id
        self.arn = arn
        """As invoked, with the qualifier."""
        self.payload = payload
        self.client_context = client_context
        self.wants_tail = wants_tail
        self.trace = ""
        """What the runtime shows as _X_AMZN_TRACE_ID."""
        self.done: Future[Outcome | None] = loop.create_future()
        """None: the worker went before it took the invocation; try another."""
        self.is_delivered = False
        self.delivered_s = 0.0
        self.ended_s = 0.0
        """When it was answered, where the worker's output does not say."""
        self.init_ms = 0.0
        """How long the worker took to start, when it was started for this invocation."""
        self.status = ""
        """timeout, error, or '' when the handler came to an end."""
        self.tail: deque[str] = deque(maxlen=1000)
        self.reported: Future[None] | None = loop.create_future() if wants_tail else None

    def settle(self, outcome: Outcome | None) -> None:
        if not self.done.done():
            self.done.set_result(outcome)

    def report_written(self) -> None:
        """The last line is there. From any thread."""
        if self.reported is not None:
            self.loop.call_soon_threadsafe(self._release_tail)

    def _release_tail(self) -> None:
        if self.reported is not None and not self.reported.done():
            self.reported.set_result(None)

    def tail_bytes(self) -> bytes:
        return "".join(self.tail).encode()[-TAIL_BYTES:]


def failure(kind: str, message: str) -> Outcome:
    """What AWS answers when the runtime itself fails."""
    return Outcome(json.dumps({"errorType": kind, "errorMessage": message}, separators=(",", ":")).encode(), "Unhandled")


def timed_out(request_id: str, timeout_s: float) -> Outcome:
    return failure("Sandbox.Timedout", f"RequestId: {request_id} Error: Task timed out after {timeout_s:.2f} seconds")


def exited(request_id: str, how: str) -> Outcome:
    return failure("Runtime.ExitError", f"RequestId: {request_id} Error: {how}")


class Platform:
    """The lines Lambda itself writes, as text or (LogFormat JSON) as events of the Telemetry API.

    Source: developer guide, "Lambda function logs"; "Lambda Telemetry API Event schema reference".
    """

    def __init__(self, target: Target, stamp: Callable[[], datetime]) -> None:
        self._version = target.version
        self._memory_mib = target.memory_mib
        self._timeout_s = target.timeout_s
        self._runtime = str(target.record.get("Runtime", ""))
        self._is_json = target.record["LoggingConfig"]["LogFormat"] == "JSON"
        self._stamp = stamp

    def init_start(self) -> str:
        if not self._runtime:
            return ""  # an image has no runtime of Lambda's
        version = re.sub(r"^(python|nodejs|provided)\.?(?=.)", r"\1:", self._runtime).removesuffix(".x")
        if self._is_json:
            return self._event("platform.initStart", initializationType="on-demand", phase="init", runtimeVersion=version)
        return f"INIT_START Runtime Version: {version}\n"

    def start(self, request_id: str) -> str:
        if self._is_json:
            return self._event("platform.start", requestId=request_id, version=self._version)
        return f"START RequestId: {request_id} Version: {self._version}\n"

    def end(self, request_id: str) -> str:
        return "" if self._is_json else f"END RequestId: {request_id}\n"

    def timeout(self, request_id: str) -> str:
        if self._is_json:
            return ""
        return f"{iso_z(self._stamp())} {request_id} Task timed out after {self._timeout_s:.2f} seconds\n\n"

    def failed(self, request_id: str, message: str) -> str:
        return "" if self._is_json else f"RequestId: {request_id} Error: {message}\nRuntime.ExitError\n"

    def report(self, request_id: str, duration_ms: float, init_ms: float, peak_mib: int, status: str) -> str:
        peak_mib = min(peak_mib, self._memory_mib)
        billed_ms = math.ceil(duration_ms + init_ms)
        if self._is_json:
            metrics = {
                "durationMs": round(duration_ms, 3),
                "billedDurationMs": billed_ms,
                "memorySizeMB": self._memory_mib,
                "maxMemoryUsedMB": peak_mib,
            }
            if init_ms:
                metrics["initDurationMs"] = round(init_ms, 3)
            return self._event("platform.report", requestId=request_id, metrics=metrics, status=status or "success")
        init = f"Init Duration: {init_ms:.2f} ms\t" if init_ms else ""
        ending = f"Status: {status}" if status else ""
        return (
            f"REPORT RequestId: {request_id}\tDuration: {duration_ms:.2f} ms\tBilled Duration: {billed_ms} ms\t"
            f"Memory Size: {self._memory_mib} MB\tMax Memory Used: {peak_mib} MB\t{init}{ending}\n"
        )

    def _event(self, kind: str, **record: Any) -> str:
        event: Mapping[str, Any] = {"time": iso_z(self._stamp()), "type": kind, "record": record}
        return json.dumps(event, separators=(",", ":")) + "\n"


def iso_z(now: datetime) -> str:
    return f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03d}Z"
