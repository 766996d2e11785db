"""A pipe's log: one record a step of an execution, to CloudWatch Logs, as the pipe's log level says.

Source: EventBridge User Guide, "EventBridge Pipes log schema reference", "EventBridge Pipes execution steps", "Including execution data".
Differs: the records of an execution are written together, at its end; a log group that refuses them misses them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pilvi.core.arn import Arn
from pilvi.core.errors import PilviError
from pilvi.core.service import Context
from pilvi.events.targets import code_of, compact, text_of
from pilvi.services.pipes.sending import put_lines

log = logging.getLogger("pilvi.pipes")

LEVELS: Final = {"OFF": 0, "ERROR": 1, "INFO": 2, "TRACE": 3}
_INFO: Final = frozenset(
    {
        "EXECUTION_STARTED",
        "EXECUTION_SUCCEEDED",
        "ENRICHMENT_STAGE_ENTERED",
        "ENRICHMENT_STAGE_SUCCEEDED",
        "TARGET_STAGE_ENTERED",
        "TARGET_STAGE_SUCCEEDED",
    }
)
"""Steps that INFO shows; ERROR shows those that failed, TRACE all."""
_WITH_DATA: Final = ("_FAILED", "_SUCCEEDED", "_STARTED", "_ENTERED")
FIELD_BYTES: Final = 128 << 10


class Journal:
    """The records of one execution."""

    def __init__(self, ctx: Context, pipe: Mapping[str, Any]) -> None:
        """ctx: Pipes itself, in the pipe's account."""
        settings = pipe.get("LogConfiguration") or {}
        self._ctx = ctx
        self._pipe = pipe
        self._level = LEVELS[settings.get("Level") or "OFF"]
        self._with_data = "ALL" in (settings.get("IncludeExecutionData") or ())
        self._group = (settings.get("CloudwatchLogsLogDestination") or {}).get("LogGroupArn")
        self._id = ctx.ids.uuid()
        self._lines: list[dict[str, Any]] = []

    def step(
        self, name: str, *, payload: Sequence[Any] | None = None, answer: Any = None, error: BaseException | None = None
    ) -> None:
        """One step. payload: the events as they are then."""
        level = _level_of(name)
        if self._group is None or LEVELS[level] > self._level:
            return
        now_ms = int(self._ctx.clock.time_s() * 1000)
        found: dict[str, Any] = {
            "resourceArn": self._pipe["Arn"],
            "timestamp": now_ms,
            "executionId": self._id,
            "messageType": name,
            "logLevel": level,
        }
        if self._with_data:
            found |= _cut({"payload": payload, "awsResponse": answer})
        if error is not None:
            found["error"] = {"message": text_of(error), "details": code_of(error), **_status(error)}
        self._lines.append({"timestamp": now_ms, "message": compact(found)})

    async def write(self) -> None:
        """Send what there is."""
        lines, self._lines = self._lines, []
        if not lines or self._group is None:
            return
        arn = Arn.parse(self._group)
        assert arn is not None
        where = self._ctx.at(arn.account, arn.region)
        group = arn.resource.removeprefix("log-group:").removesuffix(":*")
        try:
            await put_lines(where, group, self._pipe["Name"], lines)
        except PilviError as error:
            log.warning("pipe %s: its log group refuses records: %s", self._pipe["Arn"], error.message)


def _level_of(name: str) -> str:
    if "FAILED" in name or "THROTTLED" in name or "TIMEOUT" in name:
        return "ERROR"
    return "INFO" if name in _INFO else "TRACE"


def _cut(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields as text, those that are too long cut."""
    found: dict[str, Any] = {}
    for name, value in fields.items():
        if value is None:
            continue
        text = compact(value)
        if len(text.encode()) > FIELD_BYTES:
            text = text.encode()[:FIELD_BYTES].decode(errors="ignore")
            found.setdefault("truncatedFields", []).append(name)
        found[name] = text
    return found


def _status(error: BaseException) -> dict[str, Any]:
    status = getattr(error, "status", None)
    return {} if status is None else {"httpStatusCode": status}
