"""Asynchronous inference: requests wait in a durable queue, their bodies and answers lie in S3.

    accepted (a row) --> its body from S3 --> the model --> <S3OutputPath>/<id>.out --> the success topic --> the row goes
                                                   \\--> <S3FailurePath>/<id>-error.out --> the error topic

A row goes when its answer is written, so a server that was killed does the request again: an answer may be written twice, none is lost.

Source: developer guide, "Asynchronous inference", "Check prediction results" (the notifications).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pilvi.core.errors import NotFound, PilviError, ServiceError
from pilvi.core.service import Context
from pilvi.core.streams import ByteStream
from pilvi.jobs.transfer import split_uri
from pilvi.services.sagemaker.job_check import SESSION
from pilvi.serving import Call

if TYPE_CHECKING:
    from pilvi.services.sagemaker.serving_live import Endpoint

log = logging.getLogger("pilvi.sagemaker")

NOUN = "AsyncRequest"
MOST_BYTES = 1 << 30
"""Source: developer guide: payloads up to 1 GB."""
_TTL_S = 6 * 3600
_TIMEOUT_S = 900
_RETRY_S = 1.0
_UNTOLD = "binary/octet-stream"
"""What S3 says of an object that was put without a type."""


class Queue:
    """Of one endpoint; on the event loop."""

    def __init__(self, endpoint: Endpoint, config: Mapping[str, Any], role_arn: str) -> None:
        self.endpoint = endpoint
        self._ctx: Context = endpoint.ctx
        self._output: Mapping[str, Any] = config["OutputConfig"]
        self._role_arn = role_arn
        self._per_instance = (config.get("ClientConfig") or {}).get("MaxConcurrentInvocationsPerInstance")
        self._waiting: deque[dict[str, Any]] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._rows = self._ctx.records(NOUN)

    @property
    def backlog(self) -> int:
        return len(self._waiting) + len(self._running)

    async def recover(self) -> None:
        """What was accepted before a restart."""
        prefix = f"{self.endpoint.name.lower()}/"
        records = await asyncio.to_thread(lambda: [record for record in self._rows.all() if record["_id"].startswith(prefix)])
        self._waiting.extend(sorted(records, key=lambda record: record["received"]))
        self._go_on()

    async def accept(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        if not (asked.get("InputLocation") or "").startswith("s3://"):
            raise ServiceError("ValidationError", "InputLocation must be given as s3://bucket/key.", 400)
        if not self._output.get("S3OutputPath"):
            raise ServiceError("ValidationError", "The endpoint's AsyncInferenceConfig has no S3OutputPath.", 400)
        for member in ("S3OutputPathExtension", "Filename", "Body"):
            if asked.get(member):
                raise ServiceError("ValidationError", f"{member} is not supported by this server yet.", 400)
        id, inference = self._ctx.ids.uuid(), asked.get("InferenceId") or self._ctx.ids.uuid()
        output = f"{self._output['S3OutputPath'].rstrip('/')}/{id}.out"
        failures = self._output.get("S3FailurePath")
        record = {
            "_id": f"{self.endpoint.name.lower()}/{id}",
            "input": asked["InputLocation"],
            "output": output,
            "failure": f"{failures.rstrip('/')}/{id}-error.out" if failures else "",
            "inference_id": inference,
            "content_type": asked.get("ContentType") or "",
            "accept": asked.get("Accept") or "",
            "custom_attributes": asked.get("CustomAttributes") or "",
            "timeout_s": asked.get("InvocationTimeoutSeconds") or _TIMEOUT_S,
            "received": self._ctx.clock.now(),
            "until_s": self._ctx.clock.time_s() + (asked.get("RequestTTLSeconds") or _TTL_S),
        }
        await asyncio.to_thread(self._ctx.write, self._rows.insertion(record["_id"], record))
        self._waiting.append(record)
        self._go_on()
        answer = {"InferenceId": inference, "OutputLocation": output}
        return {**answer, "FailureLocation": record["failure"]} if record["failure"] else answer

    def close(self) -> None:
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._running:
            task.cancel()

    async def forget(self) -> None:
        """The endpoint goes, and what waits with it."""
        self.close()
        prefix = f"{self.endpoint.name.lower()}/"

        def forgotten() -> None:
            for record in list(self._rows.all()):
                if record["_id"].startswith(prefix):
                    self._dropped(record)

        await asyncio.to_thread(forgotten)

    # -- private ------------------------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Begin as many as there is room for; look again while there is none."""
        self._timer = None
        while self._waiting and not self._is_closed and len(self._running) < self._room():
            task = asyncio.get_running_loop().create_task(self._carried_out(self._waiting.popleft()))
            self._running.add(task)
            task.add_done_callback(self._ended)
        if self._waiting and not self._running and not self._is_closed:
            self._timer = asyncio.get_running_loop().call_later(_RETRY_S, self._go_on)

    def _room(self) -> int:
        instances = [
            one
            for deployment in self.endpoint.deployments[-1:]
            for variant in deployment.variants.values()
            for one in variant.instances
        ]
        up = [instance for instance in instances if instance.is_up]
        return sum(int(self._per_instance or instance.servers[0].spec.most) for instance in up)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("an asynchronous request of endpoint %s broke: %r", self.endpoint.name, error)
        if not self._is_closed:
            self._go_on()

    async def _carried_out(self, record: dict[str, Any]) -> None:
        content_type, failure = "", ""
        if self._ctx.clock.time_s() > record["until_s"]:
            failure = "The request's time to live was over before it was processed."
        else:
            try:
                body, kind = await asyncio.to_thread(self._read, record["input"])
                call = Call(
                    body,
                    record["content_type"] or kind,
                    record["accept"],
                    record["custom_attributes"],
                    inference_id=record["inference_id"],
                    timeout_s=float(record["timeout_s"]),
                )
                answered = await self.endpoint.answer(call)
                content_type = answered.content_type
                await asyncio.to_thread(self._write, record["output"], answered.body, content_type)
            except ServiceError as error:
                failure = str(error.fields.get("OriginalMessage") or error.message) if error.code == "ModelError" else error.message
            except PilviError as error:
                failure = str(error)
        await asyncio.to_thread(self._settled, record, content_type, failure)

    def _read(self, uri: str) -> tuple[bytes, str]:
        """A request's body, and its type: that of the object, where the request says none."""
        bucket, key = split_uri(uri)
        found = self._role().call("s3", "GetObject", Bucket=bucket, Key=key)
        if found.get("ContentLength", 0) > MOST_BYTES:
            raise ServiceError("ValidationError", f"The request's body {uri} is larger than 1 GB.", 400)
        kind = str(found.get("ContentType") or "")
        return ByteStream.of(found["Body"]).read_now(), "" if kind == _UNTOLD else kind

    def _write(self, uri: str, body: bytes, content_type: str) -> None:
        bucket, key = split_uri(uri)
        more = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self._output["KmsKeyId"]} if self._output.get("KmsKeyId") else {}
        kind = {"ContentType": content_type} if content_type else {}
        self._role().call("s3", "PutObject", Bucket=bucket, Key=key, Body=body, **kind, **more)

    def _settled(self, record: dict[str, Any], content_type: str, failure: str) -> None:
        """Tell how it ended, and forget it."""
        if failure and record["failure"]:
            try:
                self._write(record["failure"], failure.encode(), "text/plain")
            except PilviError as error:
                log.warning("a failure of endpoint %s cannot be written: %s", self.endpoint.name, error)
        topics = self._output.get("NotificationConfig") or {}
        if topic := topics.get("ErrorTopic" if failure else "SuccessTopic"):
            try:
                self._role().call("sns", "Publish", TopicArn=topic, Message=json.dumps(self._told(record, content_type, failure)))
            except PilviError as error:
                log.warning("a notification of endpoint %s cannot be sent: %s", self.endpoint.name, error)
        self._dropped(record)

    def _told(self, record: dict[str, Any], content_type: str, failure: str) -> dict[str, Any]:
        found: dict[str, Any] = {
            "awsRegion": self._ctx.region,
            "eventTime": f"{self._ctx.clock.now():%Y-%m-%dT%H:%M:%S.000Z}",
            "receivedTime": f"{record['received']:%Y-%m-%dT%H:%M:%S.000Z}",
            "invocationStatus": "Failed" if failure else "Completed",
            "requestParameters": {
                "contentType": record["content_type"],
                "accept": record["accept"],
                "endpointName": self.endpoint.name,
                "inputLocation": record["input"],
            },
            "inferenceId": record["inference_id"],
            "eventVersion": "1.0",
            "eventSource": "aws:sagemaker",
            "eventName": "InferenceResult",
        }
        if failure:
            return {**found, "failureReason": failure, "responseParameters": {"outputLocation": record["failure"]}}
        return {**found, "responseParameters": {"contentType": content_type, "outputLocation": record["output"]}}

    def _dropped(self, record: dict[str, Any]) -> None:
        try:
            self._ctx.write(self._rows.deletion(record["_id"]))
        except NotFound:
            return

    def _role(self) -> Context:
        return self._ctx.as_role(self._role_arn, SESSION)
