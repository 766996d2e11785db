"""Data capture: a share of an endpoint's requests and answers, as JSON lines in S3.

<destination>/<endpoint>/<variant>/yyyy/mm/dd/hh/MM-SS-mmm-<uuid>.jsonl

Source: developer guide, "Capture data from real-time endpoint". Nothing here is waited for by a request. Differs: a file is closed after
a few seconds or 1 MiB; what a killed server had not written yet is lost.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import PilviError
from pilvi.core.service import Context
from pilvi.jobs.transfer import split_uri
from pilvi.serving import Call

log = logging.getLogger("pilvi.sagemaker")

LINGER_S = 3.0
_FILE_BYTES = 1 << 20


class Capture:
    """Of one endpoint; on the event loop."""

    def __init__(self, ctx: Context, config: Mapping[str, Any], name: str, role_arn: str) -> None:
        self.percentage = int(config["InitialSamplingPercentage"])
        self._ctx = ctx
        self._config = config
        self._name = name
        self._role_arn = role_arn
        types = config.get("CaptureContentTypeHeader") or {}
        self._csv = {one.lower() for one in types.get("CsvContentTypes") or ("text/csv",)}
        self._json = {one.lower() for one in types.get("JsonContentTypes") or ("application/json",)}
        self._modes = {option["CaptureMode"] for option in config["CaptureOptions"]}
        self._credit = 0
        self._lines: dict[str, list[str]] = {}
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, variant: str, call: Call, body: bytes, content_type: str) -> None:
        """Note an answered request, if it is one of the share."""
        self._credit += self.percentage
        if self._credit < 100:
            return
        self._credit -= 100
        data: dict[str, Any] = {}
        if self._modes & {"Input", "InputAndOutput"}:
            data["endpointInput"] = self._side("INPUT", call.body, call.content_type)
        if self._modes & {"Output", "InputAndOutput"}:
            data["endpointOutput"] = self._side("OUTPUT", body, content_type)
        now = self._ctx.clock.now()
        metadata: dict[str, Any] = {"eventId": self._ctx.ids.uuid(), "inferenceTime": f"{now:%Y-%m-%dT%H:%M:%SZ}"}
        if call.inference_id:
            metadata["inferenceId"] = call.inference_id
        if call.custom_attributes:
            metadata["customAttributes"] = [call.custom_attributes]
        line = json.dumps({"captureData": data, "eventMetadata": metadata, "eventVersion": "0"}, separators=(",", ":"))
        self._lines.setdefault(variant, []).append(line)
        self._bytes += len(line)
        if self._bytes > _FILE_BYTES:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LINGER_S, self.flush)

    def flush(self) -> None:
        """Write what there is."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines, self._bytes = self._lines, {}, 0
        for variant, some in lines.items():
            task = asyncio.get_running_loop().create_task(asyncio.to_thread(self._write, variant, some))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        self.flush()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- private ------------------------------------------------------------------------------------------------------

    def _side(self, mode: str, body: bytes, content_type: str) -> dict[str, Any]:
        kind = content_type.partition(";")[0].strip().lower()
        encoding = "CSV" if kind in self._csv else "JSON" if kind in self._json else "BASE64"
        if encoding != "BASE64":
            try:
                return {"observedContentType": content_type, "mode": mode, "data": body.decode(), "encoding": encoding}
            except UnicodeDecodeError:
                pass
        return {"observedContentType": content_type, "mode": mode, "data": base64.b64encode(body).decode(), "encoding": "BASE64"}

    def _write(self, variant: str, lines: list[str]) -> None:
        bucket, prefix = split_uri(self._config["DestinationS3Uri"])
        now = self._ctx.clock.now()
        name = f"{now:%M-%S}-{now.microsecond // 1000:03d}-{self._ctx.ids.uuid()}.jsonl"
        key = "/".join(part for part in (prefix.strip("/"), self._name, variant, f"{now:%Y/%m/%d/%H}", name) if part)
        more = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self._config["KmsKeyId"]} if self._config.get("KmsKeyId") else {}
        try:
            role = self._ctx.as_role(self._role_arn, "SageMaker")
            role.call("s3", "PutObject", Bucket=bucket, Key=key, Body=("\n".join(lines) + "\n").encode(), **more)
        except PilviError as error:
            log.warning("captured data of endpoint %s cannot be written: %s", self._name, error)
