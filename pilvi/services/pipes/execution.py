"""One batch on its way through a pipe: enrichment, target; and what is left in the source because it was not taken.

Source: EventBridge User Guide, "Amazon EventBridge Pipes event enrichment", "Partial batch failure", "EventBridge Pipes execution steps".
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pilvi.core.errors import Invalid
from pilvi.core.service import Context
from pilvi.events.poller import Busy, Record
from pilvi.events.targets import code_of, text_of
from pilvi.metering.figures import by
from pilvi.services.pipes.figures import FIGURES
from pilvi.services.pipes.record import Journal
from pilvi.services.pipes.sending import PipeError, Sent, call_out, invoke, send
from pilvi.services.pipes.stages import TARGETS, kind_name
from pilvi.services.pipes.template import filled_in
from pilvi.services.pipes.template import text_of as plain

log = logging.getLogger("pilvi.pipes")


class Execution:
    """A batch of a pipe."""

    def __init__(self, own: Context, acting: Context, pipe: Mapping[str, Any], records: Sequence[Record]) -> None:
        """own: Pipes itself; acting: the pipe's role."""
        self._own = own
        self._acting = acting
        self._pipe = pipe
        self._records = records
        self._journal = Journal(own, pipe)
        now = datetime.fromtimestamp(own.clock.time_s(), UTC)
        self._facts = {
            "pipe-arn": pipe["Arn"],
            "pipe-name": pipe["Name"],
            "source-arn": pipe["Source"],
            "enrichment-arn": pipe.get("Enrichment") or "",
            "target-arn": pipe["Target"],
            "event.ingestion-time": f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03d}Z",
        }

    async def run(self) -> Sequence[Record]:
        """Gives the records that stay in the source. Raises when all of them do."""
        events: list[Any] = [record.event for record in self._records]
        began_s = self._own.clock.real_s()
        self._count("Invocations", 1)
        self._count("EventCount", len(events))
        self._count("EventSize", sum(record.size for record in self._records))
        self._journal.step("EXECUTION_STARTED", payload=events)
        try:
            if self._pipe.get("Enrichment"):
                events = await self._enriched(events)
            failed = await self._targeted(events) if events else self._skipped()
        except Busy as error:
            self._count("ExecutionThrottled", 1)
            self._journal.step("EXECUTION_THROTTLED", error=error)
            raise
        except Exception as error:
            self._count("ExecutionFailed", 1)
            self._journal.step("EXECUTION_FAILED", error=error)
            log.info("pipe %s: %s: %s", self._pipe["Arn"], code_of(error), text_of(error))
            raise
        else:
            self._count("ExecutionPartiallyFailed", 1 if failed else 0)
            self._journal.step("EXECUTION_PARTIALLY_FAILED" if failed else "EXECUTION_SUCCEEDED")
            return failed
        finally:
            self._took("Duration", began_s)
            await self._journal.write()

    # -- enrichment -----------------------------------------------------------------------------------------------------------

    async def _enriched(self, events: Sequence[Any]) -> list[Any]:
        """What the enrichment made of the events: fewer, more, or none."""
        began_s = self._own.clock.real_s()
        self._journal.step("ENRICHMENT_STAGE_ENTERED", payload=events)
        try:
            texts = self._transformed("ENRICHMENT", self._pipe.get("EnrichmentParameters") or {}, events)
            self._journal.step("ENRICHMENT_INVOCATION_STARTED", payload=texts)
            try:
                answer = await self._asked(events, texts)
            except Exception as error:
                self._journal.step("ENRICHMENT_INVOCATION_FAILED", error=error)
                raise
            self._journal.step("ENRICHMENT_INVOCATION_SUCCEEDED", answer=answer)
        except Exception as error:
            self._count("EnrichmentStageFailed", 1)
            self._journal.step("ENRICHMENT_STAGE_FAILED", error=error)
            raise
        self._took("EnrichmentStageDuration", began_s)
        found = answer if isinstance(answer, list) else [] if answer in (None, "", {}) else [answer]
        self._journal.step("ENRICHMENT_STAGE_SUCCEEDED", payload=found)
        return found

    async def _asked(self, events: Sequence[Any], texts: Sequence[str]) -> Any:
        """What the enrichment says of a batch; one that knows no batches is given one event."""
        enrichment = self._pipe["Enrichment"]
        if kind_name(enrichment) == "lambda":
            return await invoke(self._acting, enrichment, texts, "RequestResponse")
        return await call_out(self._acting, enrichment, self._pipe.get("EnrichmentParameters") or {}, events[0], texts[0])

    # -- target ---------------------------------------------------------------------------------------------------------------

    def _skipped(self) -> Sequence[Record]:
        self._count("TargetStageSkipped", 1)
        self._journal.step("TARGET_STAGE_SKIPPED")
        return ()

    async def _targeted(self, events: Sequence[Any]) -> Sequence[Record]:
        began_s = self._own.clock.real_s()
        self._journal.step("TARGET_STAGE_ENTERED", payload=events)
        kind = kind_name(self._pipe["Target"])
        try:
            if len(events) > TARGETS[kind].most:
                raise PipeError(
                    "BatchTooLarge", f"The enrichment gave {len(events)} events; the target takes {TARGETS[kind].most}."
                )
            texts = self._transformed("TARGET", self._pipe.get("TargetParameters") or {}, events)
            self._journal.step("TARGET_INVOCATION_STARTED", payload=texts)
            try:
                sent = await send(self._acting, self._pipe, kind, events, texts)
                failed = self._left(sent, len(events))
                if len(failed) == len(self._records):
                    raise PipeError("TargetFailed", "The target took none of the events.")
            except Exception as error:
                self._journal.step("TARGET_INVOCATION_FAILED", error=error)
                raise
        except Exception as error:
            self._count("TargetStageFailed", 1)
            self._journal.step("TARGET_STAGE_FAILED", error=error)
            raise
        self._journal.step("TARGET_INVOCATION_PARTIALLY_FAILED" if failed else "TARGET_INVOCATION_SUCCEEDED", answer=sent.answer)
        self._count("TargetStagePartiallyFailed", 1 if failed else 0)
        self._took("TargetStageDuration", began_s)
        self._journal.step("TARGET_STAGE_PARTIALLY_FAILED" if failed else "TARGET_STAGE_SUCCEEDED")
        return failed

    def _left(self, sent: Sent, many: int) -> Sequence[Record]:
        """The records behind what the target did not take: all of them where an enrichment left no telling."""
        if sent.failed_ids:
            by_id = {record.event["messageId"]: record for record in self._records}
            if not all(id in by_id for id in sent.failed_ids):
                raise PipeError("InvalidResponse", "The target names events in its batchItemFailures that it was not given.")
            return [by_id[id] for id in dict.fromkeys(sent.failed_ids)]
        if not sent.failed:
            return ()
        if many != len(self._records):
            return self._records
        return [self._records[number] for number in sent.failed]

    def _transformed(self, stage: str, parameters: Mapping[str, Any], events: Sequence[Any]) -> list[str]:
        template = parameters.get("InputTemplate")
        if not template:
            return [plain(event) for event in events]
        self._journal.step(f"{stage}_TRANSFORMATION_STARTED", payload=events)
        try:
            texts = [filled_in(template, event, self._facts) for event in events]
        except Invalid as error:
            self._journal.step(f"{stage}_TRANSFORMATION_FAILED", error=error)
            raise
        self._journal.step(f"{stage}_TRANSFORMATION_SUCCEEDED", payload=texts)
        return texts

    def _count(self, name: str, many: int) -> None:
        if many:
            FIGURES.add(self._own.cloud, self._own.account, self._own.region, by(PipeName=self._pipe["Name"]), name, many)

    def _took(self, name: str, began_s: float) -> None:
        took_ms = (self._own.clock.real_s() - began_s) * 1000
        FIGURES.took(self._own.cloud, self._own.account, self._own.region, by(PipeName=self._pipe["Name"]), name, took_ms)
